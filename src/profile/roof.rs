//! The place of a part under the roofline.

use super::cost::Cost;
use crate::sys::peak::Peak;
use crate::units::Seconds;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What limits a part at best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// It does more than the ridge's operations for each byte: arithmetic.
    Compute,
    /// It does fewer: moving data.
    Memory,
}

/// Where a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Floating-point operations per second, two for each multiply–add; 0 where there are none.
    pub flops: f64,
    /// Operations for each byte moved.
    pub intensity: f64,
    /// Which edge of the roof is above it.
    pub bound: Bound,
    /// The share of that edge that is reached. Above 1 the roof is not that of this part: integers, or data nearer than the
    /// working set that the roof was measured with.
    pub share: f64,
}

impl Place {
    /// A part of known cost that takes `time`; `None` where bytes or time are not known.
    pub fn of(cost: &Cost, time: Seconds, peak: &Peak) -> Option<Place> {
        let moved = cost.moved()?.0 as f64;
        if !(time.0 > 0.0 && moved > 0.0 && peak.flops > 0.0 && peak.bytes_per_s > 0.0) {
            return None;
        }
        let operations = 2.0 * cost.macs.unwrap_or(0) as f64;
        let intensity = operations / moved;
        let (bound, share) = if intensity > peak.flops / peak.bytes_per_s {
            (Bound::Compute, operations / time.0 / peak.flops)
        } else {
            (Bound::Memory, moved / time.0 / peak.bytes_per_s)
        };
        Some(Place { flops: operations / time.0, intensity, bound, share })
    }
}

impl Bound {
    /// The name in tables, CSV and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Compute => "compute",
            Bound::Memory => "memory",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    #[test]
    fn the_ridge_divides_compute_from_memory() {
        let peak = Peak { flops: 100e9, bytes_per_s: 10e9, working_set: 1, threads: 1 };
        let cost = |macs, bytes| Cost { macs, weights: Some(Bytes(bytes)), activations: Some(Bytes(0)), alive: None };
        // 20 operations a byte, ridge at 10: half of 100 GFLOP/s.
        let dense = Place { flops: 50e9, intensity: 20.0, bound: Bound::Compute, share: 0.5 };
        assert_eq!(Place::of(&cost(Some(25_000_000), 2_500_000), Seconds(1e-3), &peak), Some(dense));
        let thin = Place { flops: 0.0, intensity: 0.0, bound: Bound::Memory, share: 0.25 };
        assert_eq!(Place::of(&cost(None, 2_500_000), Seconds(1e-3), &peak), Some(thin));
        assert_eq!(Place::of(&cost(None, 0), Seconds(1e-3), &peak), None);
        assert_eq!(Place::of(&cost(Some(1), 1), Seconds(0.0), &peak), None);
        assert_eq!(Place::of(&Cost::default(), Seconds(1.0), &peak), None);
    }
}
