//! What a comparison with a reference shows: a difference, no difference worth speaking of, or nothing.

use super::{Confidence, Interval, log_ratio_at, quantile};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the ratio of a cost (energy, time) to the reference's shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The cost is lower: the whole interval is below 1.
    Better,
    /// The cost is higher: the whole interval is above 1.
    Worse,
    /// No difference was shown, and one beyond the margin is ruled out.
    Same,
    /// Neither; more measuring would tell.
    Undecided,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Same => "same",
            Verdict::Undecided => "undecided",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A ratio to the reference from one ratio for each round, and what it shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// With an interval that holds together with those of the other comparisons.
    pub ratio: Interval,
    /// What that shows.
    pub verdict: Verdict,
}

/// Compares by the ratios of `rounds` (as for [`super::log_ratio`]), as one of `comparisons` that shall hold together at 95 %
/// (Bonferroni). Differences up to `margin` (0.01: a ratio between 1/1.01 and 1.01) are not worth speaking of.
///
/// "Same" needs an equivalence test, the two one-sided tests of Schuirmann (1987): the interval at twice the error rate lies
/// within the margin. That no difference was found shows nothing.
///
/// ```
/// use joulefront::stats::{Verdict, compare};
/// let verdict = |rounds: &[f64]| compare(rounds, 0.01, 1).map(|c| c.verdict);
/// assert_eq!(verdict(&[0.5, 0.52, 0.49]), Some(Verdict::Better));
/// assert_eq!(verdict(&[1.001, 0.999, 1.0, 1.0005]), Some(Verdict::Same));
/// assert_eq!(verdict(&[1.3, 0.8, 1.1]), Some(Verdict::Undecided));
/// assert_eq!(verdict(&[1.3]), None);
/// ```
pub fn compare(rounds: &[f64], margin: f64, comparisons: usize) -> Option<Comparison> {
    compare_read(rounds, 0.0, margin, comparisons)
}

/// [`compare`] where the mean of the ratios' logarithms has, beside what shows in their scatter, an error with the standard
/// deviation `error`: what reading a counter of coarse steps leaves open. It is added to the variance.
pub fn compare_read(rounds: &[f64], error: f64, margin: f64, comparisons: usize) -> Option<Comparison> {
    let at = |confidence: Confidence| Some(log_ratio_at(confidence, rounds)?.widened_log(confidence.z() * error));
    let shared = Confidence::P95.shared_by(comparisons);
    let ratio = at(shared)?;
    let twice = at(Confidence::new(1.0 - 2.0 * (1.0 - shared.level()))?)?;
    let verdict = if ratio.hi < 1.0 {
        Verdict::Better
    } else if ratio.lo > 1.0 {
        Verdict::Worse
    } else if twice.hi < 1.0 + margin && twice.lo > 1.0 / (1.0 + margin) {
        Verdict::Same
    } else {
        Verdict::Undecided
    };
    Some(Comparison { ratio, verdict })
}

/// The relative change per step of a series that rises or falls steadily, if it is shown (slope against its error, Student's t at
/// `confidence`): for figures that should not depend on when they were taken. `None` for fewer than four values.
pub fn trend(confidence: Confidence, values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    if values.len() < 4 || !values.iter().all(|v| *v > 0.0 && v.is_finite()) {
        return None;
    }
    let (middle, mean) = ((n - 1.0) / 2.0, values.iter().map(|v| v.ln()).sum::<f64>() / n);
    let points = || values.iter().enumerate().map(|(i, v)| (i as f64 - middle, v.ln() - mean));
    let spread: f64 = points().map(|(x, _)| x * x).sum();
    let slope = points().map(|(x, y)| x * y).sum::<f64>() / spread;
    let rest: f64 = points().map(|(x, y)| (y - slope * x).powi(2)).sum();
    let error = (rest / (n - 2.0) / spread).sqrt();
    (slope.abs() > confidence.t(values.len() - 2) * error).then(|| slope.exp() - 1.0)
}

/// How many of `values` are far from their own group's median: by more than `limit` times the scatter that most values have (the
/// median absolute deviation over all groups, × 1.4826 as for a normal distribution) and by more than `least` of the median.
pub fn outliers<'a>(groups: impl IntoIterator<Item = &'a [f64]>, limit: f64, least: f64) -> usize {
    let relative = |group: &[f64]| {
        let middle = median(group).unwrap_or(1.0);
        group.iter().map(|v| (v / middle - 1.0).abs()).collect::<Vec<_>>()
    };
    let far: Vec<f64> = groups.into_iter().filter(|g| !g.is_empty()).flat_map(relative).collect();
    let scatter = 1.4826 * median(&far).unwrap_or(0.0);
    far.iter().filter(|&&d| d > least && d > limit * scatter).count()
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn comparisons_share_their_confidence() {
        let rounds = [0.97, 0.985, 0.99, 0.975, 0.98];
        let (alone, among) = (compare(&rounds, 0.01, 1).unwrap(), compare(&rounds, 0.01, 100).unwrap());
        assert_eq!((alone.verdict, among.verdict), (Verdict::Better, Verdict::Undecided));
        assert!(among.ratio.lo < alone.ratio.lo && among.ratio.hi > alone.ratio.hi);
        let worse: Vec<f64> = rounds.iter().map(|r| 1.0 / r).collect();
        assert_eq!(compare(&worse, 0.01, 1).unwrap().verdict, Verdict::Worse);
    }

    #[test]
    fn a_difference_within_the_margin_that_is_shown_is_a_difference() {
        let rounds = [0.995, 0.9951, 0.9949, 0.995];
        assert_eq!(compare(&rounds, 0.01, 1).unwrap().verdict, Verdict::Better);
    }

    #[test]
    fn equal_ratios_of_a_coarse_counter_show_little() {
        let rounds = [0.98; 5];
        assert_eq!(compare_read(&rounds, 0.0, 0.01, 1).unwrap().verdict, Verdict::Better);
        let coarse = compare_read(&rounds, 0.02, 0.01, 1).unwrap();
        assert_eq!(coarse.verdict, Verdict::Undecided);
        assert!((coarse.ratio.hi - 0.98 * (1.959964f64 * 0.02).exp()).abs() < 1e-6);
    }

    #[test]
    fn trends_are_told_from_scatter() {
        let rising: Vec<f64> = (0..8).map(|i| 1.01f64.powi(i) * (1.0 + 0.001 * f64::from(i % 2))).collect();
        let slope = trend(Confidence::P95, &rising).unwrap();
        assert!((slope - 0.01).abs() < 0.001, "{slope}");
        assert_eq!(trend(Confidence::P95, &[1.0, 1.1, 0.95, 1.05, 1.0, 0.97]), None);
        assert_eq!(trend(Confidence::P95, &[1.0, 1.1, 1.2]), None);
        assert_eq!(trend(Confidence::P95, &[1.0, 0.0, 1.2, 1.3]), None);
    }

    #[test]
    fn a_few_that_are_far_off_are_outliers_and_a_wide_scatter_is_none() {
        let quiet = [1.0, 1.01, 0.99, 1.0, 1.005, 0.995];
        let spike = [2.0, 2.02, 1.98, 3.0, 2.01, 1.99];
        assert_eq!(outliers([&quiet[..], &spike[..]], 5.0, 0.05), 1);
        assert_eq!(outliers([&[1.0, 1.5, 0.7, 1.2, 0.9, 1.4][..]], 5.0, 0.05), 0);
        assert_eq!(outliers([&[][..]], 5.0, 0.05), 0);
    }
}
