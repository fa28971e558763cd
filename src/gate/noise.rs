//! How far runs of the same thing differ, and what may be called a change because of that. All on logarithms: costs differ by factors.

use crate::stats::{Confidence, Interval, quantile};

/// How often a gate may alarm though nothing changed, over all its gated metrics together.
pub const FAMILY_ERROR: f64 = 0.05;

/// The level of intervals of which each *end* holds so often that the ends of `statements` intervals hold together but for
/// [`FAMILY_ERROR`] (Bonferroni's inequality, one side each: an alarm has a direction).
pub(super) fn one_sided(statements: usize) -> Confidence {
    let level = 1.0 - 2.0 * FAMILY_ERROR / statements.max(1) as f64;
    // Always inside (0, 1): the error of one statement is at most 5 %.
    Confidence::new(level).unwrap_or(Confidence::P95)
}

/// The scatter from run to run of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Standard deviation of the logarithm: 0.01 is 1 %.
    pub sd: f64,
    /// Degrees of freedom it was learnt with.
    pub degrees: usize,
}

impl Noise {
    /// From the figures of groups of runs, each group of one state: the pooled variance within groups. `None` without two figures in
    /// any group, or where a figure is not above zero.
    pub fn learn<'a>(groups: impl IntoIterator<Item = &'a [f64]>) -> Option<Noise> {
        let (mut squares, mut degrees) = (0.0, 0);
        for group in groups.into_iter().filter(|g| g.len() >= 2) {
            let (mean, variance) = moments(group)?;
            debug_assert!(mean.is_finite());
            squares += variance * (group.len() - 1) as f64;
            degrees += group.len() - 1;
        }
        (degrees > 0).then(|| Noise { sd: (squares / degrees as f64).sqrt(), degrees })
    }

    /// The same, but not less than `sd`: the run at hand may have been measured with fewer processes than its history.
    pub(super) fn at_least(self, sd: f64) -> Noise {
        Noise { sd: self.sd.max(sd), ..self }
    }

    /// The ratio of the median of `now` to the median of `before` with an interval for runs that are drawn as the history was
    /// (Student's t on the logarithms; a prediction interval when there is one run on a side). Medians, because what befalls a
    /// single run, such as a neighbour on the same hardware, makes its costs larger without limit.
    pub(super) fn ratio(self, confidence: Confidence, now: &[f64], before: &[f64]) -> Option<Interval> {
        let difference = median_log(now)? - median_log(before)?;
        let half = self.allowance(confidence, now.len(), before.len());
        Some(Interval { value: difference.exp(), lo: (difference - half).exp(), hi: (difference + half).exp() })
    }

    /// The logarithm of the ratio that `now` and `before` runs reach by themselves.
    pub(super) fn allowance(self, confidence: Confidence, now: usize, before: usize) -> f64 {
        confidence.t(self.degrees) * self.sd * (variance_of_median(now) + variance_of_median(before)).sqrt()
    }
}

/// The ratio of two groups of processes, as if runs did not differ but by their processes (Welch's t on the logarithms).
pub(super) fn welch(confidence: Confidence, now: &[f64], before: &[f64]) -> Option<Interval> {
    let ((a, va), (b, vb)) = (moments(now)?, moments(before)?);
    let (ea, eb) = (va / now.len() as f64, vb / before.len() as f64);
    let weight = ea.powi(2) / (now.len() - 1) as f64 + eb.powi(2) / (before.len() - 1) as f64;
    // Welch and Satterthwaite; without any scatter there is nothing to divide.
    let degrees = if weight > 0.0 { (ea + eb).powi(2) / weight } else { 1.0 };
    let half = confidence.t(degrees.floor() as usize) * (ea + eb).sqrt();
    Some(Interval { value: (a - b).exp(), lo: (a - b - half).exp(), hi: (a - b + half).exp() })
}

/// Variance of the mean logarithm of a run, from its processes; 0 where they are not known.
pub(super) fn within(processes: &[f64]) -> f64 {
    moments(processes).map_or(0.0, |(_, variance)| variance / processes.len() as f64)
}

/// Variance of the median of `n` draws from a normal distribution with variance 1. Exact for one and two; from there on within 1 % of
/// what integration gives for up to 10 (Teichroew, *Annals of Mathematical Statistics* 27 (1956) 410–426), and π/2n for many.
fn variance_of_median(n: usize) -> f64 {
    match n {
        0 | 1 => 1.0,
        2 => 0.5,
        n => std::f64::consts::PI / (2.0 * n as f64 + if n.is_multiple_of(2) { 2.5 } else { 1.0 }),
    }
}

/// The median of the logarithms of figures above zero; `None` without any.
pub(super) fn median_log(values: &[f64]) -> Option<f64> {
    let mut logs: Vec<f64> = values.iter().map(|v| v.ln()).collect();
    logs.sort_unstable_by(f64::total_cmp);
    quantile(&logs, 0.5).filter(|m| m.is_finite())
}

fn mean_log(values: &[f64]) -> Option<f64> {
    let mean = values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64;
    mean.is_finite().then_some(mean)
}

/// Mean and variance of the logarithms of at least two figures above zero.
fn moments(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let mean = mean_log(values)?;
    let squares: f64 = values.iter().map(|v| (v.ln() - mean).powi(2)).sum();
    Some((mean, squares / (values.len() - 1) as f64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn noise_is_pooled_within_states_and_not_between_them() {
        let e = f64::exp;
        let (a, b) = ([e(1.0), e(1.02), e(0.98)], [e(5.0), e(5.02), e(4.98)]);
        let noise = Noise::learn([&a[..], &b[..], &[7.0]]).unwrap();
        assert!((noise.sd - 0.02).abs() < 1e-12 && noise.degrees == 4);
        assert_eq!(Noise::learn([&[1.0][..], &[2.0]]), None);
        assert_eq!(Noise::learn([&[1.0, 0.0][..]]), None);
        assert_eq!(noise.at_least(0.05), Noise { sd: 0.05, degrees: 4 });
    }

    #[test]
    fn the_variance_of_a_median_by_drawing() {
        use rand::{RngExt, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let mut normal = || {
            let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        for n in [1, 2, 3, 4, 5, 6, 9, 10, 20] {
            let draws = 20_000;
            let medians = (0..draws).map(|_| median_log(&(0..n).map(|_| normal().exp()).collect::<Vec<_>>()).unwrap());
            let variance = medians.map(|m| m * m).sum::<f64>() / f64::from(draws);
            // The standard error of a variance from 20,000 draws is 1 %.
            assert!((variance / variance_of_median(n) - 1.0).abs() < 0.04, "{n}: {variance} {}", variance_of_median(n));
        }
    }

    #[test]
    fn one_run_out_of_three_decides_nothing() {
        let noise = Noise { sd: 0.005, degrees: 19 };
        let i = noise.ratio(Confidence::P95, &[1.0, 1.5, 1.001], &[1.0; 20]).unwrap();
        assert!((i.value - 1.001).abs() < 1e-9);
    }

    #[test]
    fn a_prediction_interval_against_the_textbook() {
        // s = 0.01, 4 degrees of freedom, one run against five: t(0.975; 4) = 2.776445, √(1 + π/11) = 1.133843.
        let noise = Noise { sd: 0.01, degrees: 4 };
        let i = noise.ratio(Confidence::P95, &[1.05], &[1.0; 5]).unwrap();
        assert!((i.value - 1.05).abs() < 1e-12);
        assert!(((i.hi / i.value).ln() - 0.01 * 2.776445 * 1.133843).abs() < 1e-6);
    }

    #[test]
    fn welch_against_scipy() {
        // scipy.stats.ttest_ind of the logarithms with equal_var=False has 4.93 degrees of freedom; here they are rounded down to 4, so
        // that the interval is a little wider than SciPy's (1.00709, 1.06177).
        let i = welch(Confidence::P95, &[1.02, 1.05, 1.01, 1.04], &[1.0, 0.99, 1.01, 1.0, 0.98]).unwrap();
        for (found, expect) in [(i.value, 1.034069), (i.lo, 1.005084), (i.hi, 1.063890)] {
            assert!((found - expect).abs() < 1e-6, "{i:?}");
        }
        assert_eq!(welch(Confidence::P95, &[1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn levels_share_the_error() {
        assert!((one_sided(1).level() - 0.9).abs() < 1e-12 && (one_sided(10).level() - 0.99).abs() < 1e-12);
        assert!(one_sided(0).level() < one_sided(5).level());
    }

    proptest! {
        #[test]
        fn intervals_hold_their_value_and_are_finite(now in prop::collection::vec(1e-9..1e9f64, 1..5), before in prop::collection::vec(1e-9..1e9f64, 2..9)) {
            let noise = Noise::learn([&before[..]]).unwrap();
            prop_assert!(noise.sd >= 0.0 && noise.degrees == before.len() - 1);
            let i = noise.ratio(one_sided(6), &now, &before).unwrap();
            prop_assert!(i.lo <= i.value && i.value <= i.hi && i.value.is_finite());
        }
    }
}
