//! How many processes a precision needs, from a pilot.
//!
//! Stein's two-stage procedure (C. Stein, *A two-sample test for a linear hypothesis whose power is independent of the
//! variance*, Annals of Mathematical Statistics 16, 1945): a pilot of n₀ units gives the standard deviation s; the number of
//! units is then n = max(n₀, ⌈(t·s/d)²⌉) for the half-width d, with Student's t of n₀ − 1 degrees of freedom, and the
//! interval is the mean of all n ± t·s/√n with the *pilot's* s. It covers the truth at least as often as it says, because
//! n depends on the data through s alone. Looking at the interval after each process and stopping when it is narrow does not.

use crate::stats::{Confidence, Interval};

/// Processes of a pilot at least. Its few degrees of freedom widen the interval for good: with 5 it is 1.4 times as wide as one
/// whose variance is known, with 8 it is 1.2 times.
const PILOT: usize = 8;

/// Processes of the pilot where `processes` were asked for.
pub(super) fn pilot(processes: usize) -> usize {
    processes.max(PILOT)
}

/// More processes than this are not asked for: the noise is then no matter of repetition.
const MOST: usize = 200;

/// What the pilot showed of one subject: its scatter from process to process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pilot {
    processes: usize,
    mean: f64,
    sd: f64,
}

impl Pilot {
    /// From the energy per inference of each of the pilot's processes; `None` for fewer than two.
    pub(super) fn new(per_process: &[f64]) -> Option<Pilot> {
        let n = per_process.len() as f64;
        if per_process.len() < 2 {
            return None;
        }
        let mean = per_process.iter().sum::<f64>() / n;
        let squares: f64 = per_process.iter().map(|x| (x - mean).powi(2)).sum();
        Some(Pilot { processes: per_process.len(), mean, sd: (squares / (n - 1.0)).sqrt() })
    }

    /// Processes in total for a relative half-width of `precision`.
    pub(super) fn needed(&self, precision: f64) -> usize {
        let n = (self.t() * self.sd / (precision * self.mean.abs())).powi(2).ceil();
        // NaN and infinity (a mean of zero) end at the limit.
        let n = if n <= MOST as f64 { n as usize } else { MOST };
        n.max(self.processes)
    }

    /// The interval of the procedure around `value`, the estimate from `processes` processes.
    pub(super) fn interval(&self, value: f64, processes: usize) -> Interval {
        let half = self.t() * self.sd / (processes.max(1) as f64).sqrt();
        Interval { value, lo: value - half, hi: value + half }
    }

    fn t(&self) -> f64 {
        Confidence::P95.t(self.processes - 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn steins_number_of_processes() {
        let pilot = Pilot::new(&[0.98, 0.99, 1.0, 1.01, 1.02]).unwrap();
        // s = 0.0158114, t(4) = 2.776445: (t·s/0.01)² = 19.27.
        assert_eq!(pilot.needed(0.01), 20);
        assert_eq!(pilot.needed(0.5), 5);
        assert_eq!(pilot.needed(1e-9), MOST);
        let i = pilot.interval(1.0, 20);
        assert!((i.hi - 1.0 - 2.776445 * 0.0158114 / 20f64.sqrt()).abs() < 1e-6 && i.hi - 1.0 < 0.01);
        assert_eq!(Pilot::new(&[1.0]), None);
        assert_eq!(Pilot::new(&[0.0, 0.0]).unwrap().needed(0.01), MOST);
    }
}
