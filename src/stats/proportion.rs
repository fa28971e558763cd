//! Intervals for accuracies: one proportion, and the difference of two on the same samples.

use super::{Confidence, Interval};

/// `successes` of `trials` as a share with a 95 % score interval.
///
/// Wilson, *JASA* 22 (1927) 209–212: all shares p that a two-sided test of p with the normal approximation at p does not
/// reject. It never leaves 0..=1 and is one-sided by itself at 0 and at all. `None` for no trials or more successes than trials.
///
/// ```
/// use joulefront::stats::wilson;
/// let i = wilson(9208, 10_000).unwrap();
/// assert!((i.lo - 0.91535).abs() < 1e-5 && (i.hi - 0.92593).abs() < 1e-5);
/// assert_eq!(wilson(10, 10).unwrap().hi, 1.0);
/// assert!(wilson(0, 0).is_none());
/// ```
pub fn wilson(successes: u64, trials: u64) -> Option<Interval> {
    wilson_at(Confidence::P95, successes, trials)
}

/// [`wilson`] at another confidence.
pub fn wilson_at(confidence: Confidence, successes: u64, trials: u64) -> Option<Interval> {
    if trials == 0 || successes > trials {
        return None;
    }
    let (k, n) = (successes as f64, trials as f64);
    let z2 = confidence.z().powi(2);
    let centre = (k + z2 / 2.0) / (n + z2);
    let half = (z2 * (k * (n - k) / n + z2 / 4.0)).sqrt() / (n + z2);
    // At the ends one bound is the end itself; rounding must not move it.
    let lo = if successes == 0 { 0.0 } else { centre - half };
    let hi = if successes == trials { 1.0 } else { centre + half };
    Some(Interval { value: k / n, lo, hi })
}

/// The difference of two accuracies (first − second, as a share) on the same `samples`, with a 95 % score interval, from
/// the discordant counts: `only_first` right by the first alone, `only_second` by the second alone.
///
/// Tango, *Statistics in Medicine* 17 (1998) 891–908: the paired counterpart of [`wilson`]. It keeps its coverage with few
/// or no discordant samples, where the usual ±1.96 standard errors collapses to a point, and it excludes 0 exactly when
/// McNemar's test rejects equality. `None` for no samples or more discordant samples than samples.
///
/// ```
/// use joulefront::stats::paired_difference;
/// let same = paired_difference(1000, 0, 0).unwrap();
/// assert!(same.value == 0.0 && same.hi > 0.0037 && same.hi < 0.0039);
/// ```
pub fn paired_difference(samples: u64, only_first: u64, only_second: u64) -> Option<Interval> {
    paired_difference_at(Confidence::P95, samples, only_first, only_second)
}

/// [`paired_difference`] at another confidence.
pub fn paired_difference_at(confidence: Confidence, samples: u64, only_first: u64, only_second: u64) -> Option<Interval> {
    if samples == 0 || only_first.checked_add(only_second)? > samples {
        return None;
    }
    let (n, b, c) = (samples as f64, only_first as f64, only_second as f64);
    let z2 = confidence.z().powi(2);
    let accepts = |delta: f64| (b - c - n * delta).powi(2) <= z2 * n * restricted_variance(n, b, c, delta);
    let value = (b - c) / n;
    Some(Interval { value, lo: edge(value, -1.0, accepts), hi: edge(value, 1.0, accepts) })
}

/// n times the variance of the difference's estimate were the true difference `delta`, with the nuisance parameter q (the
/// share right by the second alone) at its maximum of likelihood under that restriction (Tango 1998, eq. 4).
fn restricted_variance(n: f64, b: f64, c: f64, delta: f64) -> f64 {
    let linear = (2.0 * n - b + c) * delta - b - c;
    let constant = -c * delta * (1.0 - delta);
    let q = ((linear * linear - 8.0 * n * constant).max(0.0).sqrt() - linear) / (4.0 * n);
    (2.0 * q + delta * (1.0 - delta)).max(0.0)
}

/// The last accepted difference on the way from `inside`, which is accepted, to `outside`, by halving.
fn edge(mut inside: f64, mut outside: f64, accepts: impl Fn(f64) -> bool) -> f64 {
    if accepts(outside) {
        return outside;
    }
    for _ in 0..64 {
        let middle = 0.5 * (inside + outside);
        if accepts(middle) { inside = middle } else { outside = middle }
    }
    inside
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn impossible_counts_have_no_interval() {
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson(2, 1), None);
        assert_eq!(paired_difference(0, 0, 0), None);
        assert_eq!(paired_difference(10, 6, 5), None);
        assert_eq!(paired_difference(u64::MAX, u64::MAX, 1), None);
    }

    #[test]
    fn ends_are_exact() {
        assert_eq!(wilson(0, 5000).unwrap().lo, 0.0);
        assert_eq!(wilson(5000, 5000).unwrap().hi, 1.0);
        let all = paired_difference(20, 20, 0).unwrap();
        assert_eq!((all.value, all.hi), (1.0, 1.0));
        assert!(all.lo > 0.6 && all.lo < 1.0);
    }

    proptest! {
        #[test]
        fn a_paired_interval_is_ordered_antisymmetric_and_agrees_with_mcnemar(n in 1u64..5000, x in 0.0..1.0f64, y in 0.0..1.0f64) {
            let b = (x * n as f64) as u64;
            let c = (y * (n - b) as f64) as u64;
            let i = paired_difference(n, b, c).unwrap();
            prop_assert!(-1.0 <= i.lo && i.lo <= i.value && i.value <= i.hi && i.hi <= 1.0);
            let swapped = paired_difference(n, c, b).unwrap();
            prop_assert!((i.lo + swapped.hi).abs() < 1e-9 && (i.hi + swapped.lo).abs() < 1e-9);
            let mcnemar = (b as f64 - c as f64).powi(2) - Confidence::P95.z().powi(2) * (b + c) as f64;
            prop_assume!(mcnemar.abs() > 1e-6);
            prop_assert_eq!(!i.contains(0.0), mcnemar > 0.0);
        }

        #[test]
        fn a_wilson_interval_holds_its_estimate_within_zero_and_one(n in 1u64..100_000, x in 0.0..=1.0f64) {
            let i = wilson((x * n as f64) as u64, n).unwrap();
            prop_assert!(0.0 <= i.lo && i.lo <= i.value && i.value <= i.hi && i.hi <= 1.0);
        }
    }
}
