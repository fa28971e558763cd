//! One cumulative counter and the difference of two of its values, safe against wraps.

use super::kind::WindowEnergy;
use crate::units::{Joules, Seconds, Watts};
use std::time::Duration;

/// No single counter (one package, its memory, one platform) is assumed to draw more than this: twice the rated power of the
/// largest server packages of 2025 (500 W, AMD EPYC 9965 and Intel Xeon 6980P). It decides how long two readings may be apart
/// before a second wrap could hide between them.
pub const MAX_POWER: Watts = Watts(1000.0);

/// An update may be late by that much before a step looks impossible (firmware can stop a machine for a while).
const LATE: Seconds = Seconds(1.0);

/// A counter that only grows, from 0 to `max`, and then starts at 0 again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counter {
    max: Option<u64>,
    unit: Joules,
}

/// How far a counter went between two values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It stayed or went forward.
    Forward(u64),
    /// It wrapped once; this is the corrected difference.
    Wrapped(u64),
    /// It cannot be told; why.
    Invalid(String),
}

impl Counter {
    /// A counter in steps of `unit`, whose largest value is `max` (so that its modulus is `max + 1`); `None`: not known. A
    /// `max` of 0 means nothing and is taken as not known.
    pub fn new(max: Option<u64>, unit: Joules) -> Self {
        Counter { max: max.filter(|m| *m > 0), unit }
    }

    /// The energy of one step.
    pub fn unit(&self) -> Joules {
        self.unit
    }

    /// The difference of two values read `apart` from each other.
    ///
    /// Beyond [`longest_gap`](Self::longest_gap) even a forward step is invalid: two wraps would look the same.
    ///
    /// ```
    /// use joulefront::energy::{Counter, Step};
    /// use joulefront::units::Joules;
    /// use std::time::Duration;
    /// let counter = Counter::new(Some(262_143_328_850), Joules(1e-6));
    /// let second = Duration::from_secs(1);
    /// assert_eq!(counter.step(10, 35, second), Step::Forward(25));
    /// assert_eq!(counter.step(262_143_328_840, 14, second), Step::Wrapped(25));
    /// assert!(matches!(counter.step(10, 35, Duration::from_secs(3600)), Step::Invalid(_)));
    /// assert!(matches!(Counter::new(None, Joules(1e-6)).step(35, 10, second), Step::Invalid(_)));
    /// ```
    pub fn step(&self, start: u64, end: u64, apart: Duration) -> Step {
        if let Some(gap) = self.longest_gap().filter(|gap| apart.as_secs_f64() >= gap.0) {
            return Step::Invalid(format!(
                "the readings are {} apart, but at up to {MAX_POWER} the counter can wrap twice after {gap}",
                Seconds::from(apart)
            ));
        }
        match self.max {
            Some(max) if start.max(end) > max => {
                Step::Invalid(format!("the counter shows {}, above its own maximum of {max}", start.max(end)))
            }
            Some(max) if end < start => Step::Wrapped(max - start + end + 1),
            None if end < start => Step::Invalid(format!("the counter went backwards from {start} to {end} and its maximum is not known")),
            _ => Step::Forward(end - start),
        }
    }

    /// The energy after which it starts at 0 again; `None`: it does not, as far as known.
    pub fn modulus(&self) -> Option<Joules> {
        self.max.map(|max| self.unit * (max as f64 + 1.0))
    }

    /// How long two readings may be apart: the energy of one wrap at [`MAX_POWER`]. `None`: it does not wrap as far as known.
    pub fn longest_gap(&self) -> Option<Seconds> {
        self.modulus().map(|energy| Seconds(energy.0 / MAX_POWER.0))
    }

    /// The difference of two values as energy, with one step as its resolution.
    ///
    /// A counter that wraps may seem to have done so when it was really set back or misread; then the step is more than
    /// [`MAX_POWER`] could have given in that time (a phantom of 262 kJ in the usual range), and invalid.
    pub fn energy(&self, start: u64, end: u64, apart: Duration) -> WindowEnergy {
        let total = match self.step(start, end, apart) {
            Step::Forward(n) | Step::Wrapped(n) => self.unit * n as f64,
            Step::Invalid(reason) => return WindowEnergy::Invalid(reason),
        };
        let most = MAX_POWER * (Seconds::from(apart) + LATE);
        if self.max.is_some() && total.0 > most.0 {
            return WindowEnergy::Invalid(format!(
                "the counter went from {start} to {end} in {}: that would be {total}, which no counter can have used",
                Seconds::from(apart)
            ));
        }
        WindowEnergy::Valid { total, resolution: self.unit }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    const SOON: Duration = Duration::from_millis(1);

    fn went(counter: &Counter, start: u64, end: u64) -> u64 {
        match counter.step(start, end, Duration::ZERO) {
            Step::Forward(n) | Step::Wrapped(n) => n,
            Step::Invalid(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn backwards_without_a_maximum_is_invalid() {
        for max in [None, Some(0)] {
            assert!(matches!(Counter::new(max, Joules(1e-6)).step(5, 4, SOON), Step::Invalid(_)), "{max:?}");
        }
    }

    #[test]
    fn above_the_maximum_is_invalid_at_either_edge() {
        let counter = Counter::new(Some(99), Joules(1.0));
        for (start, end) in [(100, 5), (5, 100), (100, 100)] {
            assert!(matches!(counter.step(start, end, SOON), Step::Invalid(_)), "{start} {end}");
        }
    }

    #[test]
    fn a_second_wrap_cannot_hide() {
        // 15.3 µJ units in a 32-bit register: 65.7 kJ, 65.7 s at 1 kW.
        let counter = Counter::new(Some(u64::from(u32::MAX)), Joules(15.3e-6));
        assert!((counter.longest_gap().unwrap().0 - 65.7).abs() < 0.1);
        assert!(matches!(counter.step(0, 1, Duration::from_secs(65)), Step::Forward(1)));
        assert!(matches!(counter.step(0, 1, Duration::from_secs(66)), Step::Invalid(_)));
    }

    #[test]
    fn the_whole_range_of_64_bits_fits() {
        let counter = Counter::new(Some(u64::MAX), Joules(1e-6));
        assert_eq!(counter.step(u64::MAX, 0, SOON), Step::Wrapped(1));
        assert_eq!(counter.step(1, 0, SOON), Step::Wrapped(u64::MAX));
    }

    #[test]
    fn a_step_that_no_power_can_explain_is_no_wrap() {
        let counter = Counter::new(Some(262_143_328_850), Joules(1e-6));
        // Set back by a microjoule: it looks like a whole wrap.
        assert!(matches!(counter.energy(1_000_000, 999_999, SOON), WindowEnergy::Invalid(r) if r.contains("no counter can have used")));
        assert!(matches!(counter.energy(262_143_328_850, 100, SOON), WindowEnergy::Valid { .. }));
    }

    proptest! {
        /// Any series of true increments below the modulus, seen through any modulus, sums back exactly.
        #[test]
        fn a_series_sums_back(max in 1u64.., start in any::<u64>(), parts in prop::collection::vec(any::<u64>(), 1..40)) {
            let counter = Counter::new(Some(max), Joules(1.0));
            let modulus = u128::from(max) + 1;
            let mut truth = u128::from(start) % modulus;
            let (mut sum, mut expect) = (0u128, 0u128);
            for part in parts {
                let part = u128::from(part) % modulus;
                let next = truth + part;
                sum += u128::from(went(&counter, (truth % modulus) as u64, (next % modulus) as u64));
                expect += part;
                truth = next;
            }
            prop_assert_eq!(sum, expect);
        }

        /// The way from a to c is the way over b, whenever the whole is below one wrap.
        #[test]
        fn additive_over_splits(max in 1u64.., start in any::<u64>(), whole in any::<u64>(), split in 0.0f64..1.0) {
            let counter = Counter::new(Some(max), Joules(1.0));
            let modulus = u128::from(max) + 1;
            let whole = u128::from(whole) % modulus;
            let start = u128::from(start) % modulus;
            let middle = start + (whole as f64 * split) as u128;
            let middle = middle.min(start + whole);
            let at = |v: u128| (v % modulus) as u64;
            let direct = went(&counter, at(start), at(start + whole));
            prop_assert_eq!(direct, went(&counter, at(start), at(middle)) + went(&counter, at(middle), at(start + whole)));
        }

        /// Energy is never negative, whatever the two values are.
        #[test]
        fn never_negative(max in any::<Option<u64>>(), start in any::<u64>(), end in any::<u64>()) {
            if let WindowEnergy::Valid { total, resolution } = Counter::new(max, Joules(1e-6)).energy(start, end, Duration::ZERO) {
                prop_assert!(total.0 >= 0.0 && resolution.0 > 0.0);
            }
        }
    }
}
