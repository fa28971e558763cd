//! What a domain's raw values mean, and the energy along a chain of them.

use super::counter::Counter;
use super::kind::WindowEnergy;
use crate::units::{Joules, Seconds, Watts};
use std::time::{Duration, Instant};

/// What the raw values of a domain are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Gauge {
    /// A cumulative counter of energy.
    Counter(Counter),
    /// Power, in steps of `unit`: there is no counter, so energy is the integral of samples no more than `longest_gap` apart.
    Power {
        /// One step of the raw value.
        unit: Watts,
        /// Time between two updates of the sensor, or between two samples if that is longer.
        period: Seconds,
        /// Samples further apart than this say nothing of the time between them.
        longest_gap: Seconds,
    },
}

/// A raw value, or why there is none, and when it was read.
pub(super) type Value = (Result<u64, String>, Instant);

impl Gauge {
    /// The smallest step in energy.
    pub(super) fn unit(&self) -> Joules {
        match self {
            Gauge::Counter(counter) => counter.unit(),
            Gauge::Power { unit, period, .. } => *unit * *period,
        }
    }

    /// How long two readings may be apart.
    pub(super) fn longest_gap(&self) -> Option<Seconds> {
        match self {
            Gauge::Counter(counter) => counter.longest_gap(),
            Gauge::Power { longest_gap, .. } => Some(*longest_gap),
        }
    }

    /// The energy of one wrap.
    pub(super) fn modulus(&self) -> Option<Joules> {
        match self {
            Gauge::Counter(counter) => counter.modulus(),
            Gauge::Power { .. } => None,
        }
    }

    /// The energy along a chain of readings.
    pub(super) fn energy(&self, chain: impl Iterator<Item = Value>) -> WindowEnergy {
        let mut samples = Vec::new();
        for (value, at) in chain {
            match value {
                Ok(value) => samples.push((value, at)),
                Err(reason) => return WindowEnergy::Invalid(reason),
            }
        }
        match self {
            Gauge::Counter(counter) => count(counter, &samples),
            Gauge::Power { unit, period, longest_gap } => integrate(*unit, *period, *longest_gap, &samples),
        }
    }
}

/// The way of a counter over all readings: a long span as a sum of short ones.
fn count(counter: &Counter, samples: &[(u64, Instant)]) -> WindowEnergy {
    let mut sum = Joules(0.0);
    for pair in samples.windows(2) {
        let apart = pair[1].1.saturating_duration_since(pair[0].1);
        match counter.energy(pair[0].0, pair[1].0, apart) {
            WindowEnergy::Valid { total, .. } => sum += total,
            invalid => return invalid,
        }
    }
    WindowEnergy::Valid { total: sum, resolution: counter.unit() }
}

/// The trapezoid rule over samples of power.
///
/// The resolution is what sampling leaves open: between two samples the mean power lies between them (half of their difference
/// is the error, of independent sign from step to step), the sensor may be one period behind at both edges, and each sample
/// is rounded to a step.
fn integrate(unit: Watts, period: Seconds, longest_gap: Seconds, samples: &[(u64, Instant)]) -> WindowEnergy {
    let watts = |raw: u64| unit * raw as f64;
    let (mut sum, mut squares, mut length) = (Joules(0.0), 0.0, 0.0);
    let (mut low, mut high) = (f64::INFINITY, 0.0f64);
    for pair in samples.windows(2) {
        let apart: Duration = pair[1].1.saturating_duration_since(pair[0].1);
        let apart = Seconds::from(apart);
        if apart.0 > longest_gap.0 {
            return WindowEnergy::Invalid(format!("no sample was taken for {apart}, more than {longest_gap}"));
        }
        let (a, b) = (watts(pair[0].0), watts(pair[1].0));
        sum += (a + b) / 2.0 * apart;
        squares += ((a.0 - b.0) / 2.0 * apart.0).powi(2);
        length += apart.0;
        low = low.min(a.0).min(b.0);
        high = high.max(a.0).max(b.0);
    }
    let edges = (high - low).max(0.0) * period.0;
    WindowEnergy::Valid { total: sum, resolution: Joules(squares.sqrt() + edges + unit.0 / 2.0 * length) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    fn chain(values: &[(u64, u64)]) -> impl Iterator<Item = Value> {
        let begin = Instant::now();
        values.iter().map(move |(v, ms)| (Ok(*v), begin + Duration::from_millis(*ms))).collect::<Vec<_>>().into_iter()
    }

    fn total(energy: WindowEnergy) -> f64 {
        match energy {
            WindowEnergy::Valid { total, resolution } => {
                assert!(resolution.0 >= 0.0);
                total.0
            }
            WindowEnergy::Invalid(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn several_wraps_along_a_chain_and_none_unseen() {
        // 100 J range: a second wrap cannot hide within 100 ms.
        let gauge = Gauge::Counter(Counter::new(Some(99_999_999), Joules(1e-6)));
        let walk = [(90_000_000, 0), (40_000_000, 90), (99_000_000, 180), (1_000_000, 270)];
        assert!((total(gauge.energy(chain(&walk))) - 111.0).abs() < 1e-9);
        assert!(matches!(gauge.energy(chain(&[walk[0], walk[3]])), WindowEnergy::Invalid(_)));
        assert_eq!(gauge.modulus(), Some(Joules(100.0)));
    }

    #[test]
    fn trapezoids_and_what_they_leave_open() {
        let gauge = Gauge::Power { unit: Watts(1e-6), period: Seconds(0.05), longest_gap: Seconds(0.5) };
        let constant = gauge.energy(chain(&[(5_000_000, 0), (5_000_000, 100), (5_000_000, 200)]));
        let WindowEnergy::Valid { total: t, resolution } = constant else { panic!() };
        assert!((t.0 - 1.0).abs() < 1e-12 && resolution.0 < 1e-6);
        let ramp = gauge.energy(chain(&[(0, 0), (10_000_000, 100), (20_000_000, 200)]));
        let WindowEnergy::Valid { total: t, resolution } = ramp else { panic!() };
        assert!((t.0 - 2.0).abs() < 1e-12 && resolution.0 > 1.0, "20 W of difference and a sensor 50 ms behind: {resolution}");
        assert!(matches!(gauge.energy(chain(&[(1, 0), (1, 501)])), WindowEnergy::Invalid(r) if r.contains("no sample")));
        let broken = [(Ok(1), Instant::now()), (Err("gone".into()), Instant::now()), (Ok(1), Instant::now())];
        assert_eq!(gauge.energy(broken.into_iter()), WindowEnergy::Invalid("gone".into()));
        assert_eq!((gauge.unit(), gauge.modulus()), (Joules(5e-8), None));
    }
}
