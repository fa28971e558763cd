//! What a classifier's scores say beyond the class with the largest one: top-k accuracy, calibration, likelihood. Scores are
//! taken in a few at a time, so that nobody has to keep all of them.

use super::{Interval, wilson};
use crate::{Error, Result};
use serde::Serialize;

/// Bins of equal width, as Guo et al. use.
const BINS: usize = 15;
/// Rows of probabilities sum to one within this: float32 and half precision round.
const TOLERANCE: f64 = 1e-3;
/// Sums are kept as whole multiples of this, which are exact: the order in which samples come does not show in the result.
const UNIT: f64 = 1.0 / (1u64 << 40) as f64;

/// What the scores of a model are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreKind {
    /// Every row is non-negative and sums to one.
    Probabilities,
    /// Anything else; the softmax makes probabilities of them.
    Logits,
}

/// Share of samples whose label is among the `k` classes with the largest scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TopK {
    /// How many classes count.
    pub k: usize,
    /// The share, with its Wilson 95 % interval.
    pub accuracy: Interval,
}

/// How good the scores of a model are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quality {
    /// In ascending order of `k`.
    pub top_k: Vec<TopK>,
    /// How the scores were read.
    pub scores: ScoreKind,
    /// Mean distance of confidence (the largest probability) and accuracy over 15 bins of equal width, weighted by their
    /// samples: Guo et al., "On Calibration of Modern Neural Networks", *ICML* 2017, eq. 5. It is biased upwards on few
    /// samples. `None` where a score is infinite.
    pub expected_calibration_error: Option<f64>,
    /// Mean of −ln of the label's probability; probabilities given by the model count as at least 2⁻²³, as a zero would make
    /// it infinite. `None` where a score is infinite.
    pub negative_log_likelihood: Option<f64>,
}

/// Takes in the scores of samples, in any order and in portions of any size; the result depends on neither.
#[derive(Debug, Clone)]
pub struct Tally {
    /// k, and samples whose label is among the first k.
    top_k: Vec<(usize, u64)>,
    samples: u64,
    /// As long as every row could be one of probabilities.
    probabilities: Option<Reliability>,
    softmax: Reliability,
}

impl Tally {
    /// A tally that counts top-k accuracy for each of `k`.
    ///
    /// ```
    /// use joulefront::stats::{ScoreKind, Tally};
    /// let mut tally = Tally::new(&[1, 2]);
    /// tally.add(&[0.7, 0.2, 0.1, 0.1, 0.3, 0.6], 3, &[0, 1])?;
    /// let q = tally.finish()?;
    /// assert_eq!((q.scores, q.top_k[0].accuracy.value, q.top_k[1].accuracy.value), (ScoreKind::Probabilities, 0.5, 1.0));
    /// // Right with 0.7, wrong with 0.6.
    /// assert!((q.expected_calibration_error.unwrap() - (0.3 + 0.6) / 2.0).abs() < 1e-6);
    /// # Ok::<(), joulefront::Error>(())
    /// ```
    pub fn new(k: &[usize]) -> Self {
        let mut top_k: Vec<(usize, u64)> = k.iter().map(|&k| (k, 0)).collect();
        top_k.sort_unstable();
        top_k.dedup();
        Tally { top_k, samples: 0, probabilities: Some(Reliability::default()), softmax: Reliability::default() }
    }

    /// Takes in `scores`, row-major [samples, classes], of samples with these labels.
    ///
    /// # Errors
    /// The scores are not one row of at least two classes for each label, or a label is none of the classes.
    pub fn add(&mut self, scores: &[f32], classes: usize, labels: &[u32]) -> Result<()> {
        if classes < 2 {
            return Err(Error::bad_input(format!("the model gives {classes} scores a sample, where one for each class is expected"))
                .hint("export the model with one output for each class, also for two classes"));
        }
        if Some(scores.len()) != labels.len().checked_mul(classes) {
            return Err(Error::bad_input(format!("{} scores are not {classes} for each of {} samples", scores.len(), labels.len())));
        }
        for (row, &label) in scores.chunks_exact(classes).zip(labels) {
            let Some(&own) = row.get(label as usize) else {
                return Err(Error::bad_input(format!("there is a label {label}, but the model has {classes} classes")));
            };
            // Among equal scores the first comes first, as in `top_classes`.
            let before = |&(i, &s): &(usize, &f32)| s > own || (s == own && i < label as usize);
            let rank = row.iter().enumerate().filter(before).count();
            self.top_k.iter_mut().for_each(|(k, right)| *right += u64::from(rank < *k));
            self.samples += 1;
            self.rate(row, own, rank == 0);
        }
        Ok(())
    }

    fn rate(&mut self, row: &[f32], own: f32, right: bool) {
        let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|&s| f64::from(s)).sum();
        if row.iter().any(|&s| s < 0.0) || (sum - 1.0).abs() > TOLERANCE || !sum.is_finite() {
            self.probabilities = None;
        }
        if let Some(given) = &mut self.probabilities {
            given.add(largest, right, -f64::from(own).max(f64::from(f32::EPSILON)).ln());
        }
        // The softmax with its largest exponent at zero.
        let whole: f64 = row.iter().map(|&s| (f64::from(s) - largest).exp()).sum();
        self.softmax.add(1.0 / whole, right, whole.ln() - (f64::from(own) - largest));
    }

    /// The figures.
    ///
    /// # Errors
    /// Nothing was taken in.
    pub fn finish(self) -> Result<Quality> {
        let share = |&(k, right): &(usize, u64)| wilson(right, self.samples).map(|accuracy| TopK { k, accuracy });
        let top_k = self.top_k.iter().map(share).collect::<Option<_>>().filter(|_| self.samples > 0);
        let (scores, reliability) = match &self.probabilities {
            Some(given) => (ScoreKind::Probabilities, given),
            None => (ScoreKind::Logits, &self.softmax),
        };
        Ok(Quality {
            top_k: top_k.ok_or_else(|| Error::bad_input("there are no samples to score"))?,
            scores,
            expected_calibration_error: reliability.error(self.samples),
            negative_log_likelihood: reliability.likelihood(self.samples),
        })
    }
}

/// How confidence and accuracy go together.
#[derive(Debug, Clone, Default)]
struct Reliability {
    bins: [Bin; BINS],
    /// Sum of −ln p in units.
    surprise: i128,
    /// A value was not finite.
    broken: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    right: i128,
    /// Sum in units.
    confidence: i128,
}

impl Reliability {
    fn add(&mut self, confidence: f64, right: bool, surprise: f64) {
        self.broken |= !confidence.is_finite() || !surprise.is_finite();
        // Bins are open below and closed above; a cast takes what rounding put outside to the nearest.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        self.bins[bin].right += i128::from(right);
        self.bins[bin].confidence += (confidence / UNIT).round() as i128;
        self.surprise = self.surprise.saturating_add((surprise / UNIT).round() as i128);
    }

    /// Σ over the bins of |right − confidence|, of all samples: Guo's weights cancel the bins' own sizes.
    fn error(&self, samples: u64) -> Option<f64> {
        let distance = |b: &Bin| (b.right as f64 - b.confidence as f64 * UNIT).abs();
        (!self.broken).then(|| self.bins.iter().map(distance).sum::<f64>() / samples as f64)
    }

    fn likelihood(&self, samples: u64) -> Option<f64> {
        (!self.broken).then(|| self.surprise as f64 * UNIT / samples as f64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn fixture() -> (serde_json::Value, Vec<f32>, Vec<u32>) {
        let fixture: serde_json::Value = serde_json::from_str(include_str!("../../tests/fixtures/classification.json")).unwrap();
        let numbers = |key: &str| -> Vec<f64> { fixture[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
        let logits = numbers("logits").iter().map(|&v| v as f32).collect();
        let labels = numbers("labels").iter().map(|&v| v as u32).collect();
        (fixture, logits, labels)
    }

    fn quality(scores: &[f32], classes: usize, labels: &[u32]) -> Quality {
        let mut tally = Tally::new(&[5, 1, 2]);
        tally.add(scores, classes, labels).unwrap();
        tally.finish().unwrap()
    }

    #[test]
    fn logits_give_the_figures_of_scikit_learn() {
        let (fixture, logits, labels) = fixture();
        let q = quality(&logits, 7, &labels);
        let near = |a: f64, key: &str| assert!((a - fixture[key].as_f64().unwrap()).abs() < 1e-6, "{key}: {a}");
        near(q.negative_log_likelihood.unwrap(), "negative_log_likelihood");
        near(q.expected_calibration_error.unwrap(), "expected_calibration_error");
        let top: Vec<(usize, f64)> = q.top_k.iter().map(|t| (t.k, t.accuracy.value)).collect();
        let expect = [1usize, 2, 5].map(|k| (k, fixture["top_k"][k.to_string()].as_f64().unwrap()));
        assert_eq!((q.scores, &top[..]), (ScoreKind::Logits, &expect[..]));
    }

    #[test]
    fn probabilities_are_known_by_their_sum_and_give_the_same_figures() {
        let (_, logits, labels) = fixture();
        let softmax = |row: &[f32]| {
            let sum: f32 = row.iter().map(|x| x.exp()).sum();
            row.iter().map(|x| x.exp() / sum).collect::<Vec<f32>>()
        };
        let probabilities: Vec<f32> = logits.chunks(7).flat_map(softmax).collect();
        let (q, expect) = (quality(&probabilities, 7, &labels), quality(&logits, 7, &labels));
        assert_eq!(q.scores, ScoreKind::Probabilities);
        assert!((q.negative_log_likelihood.unwrap() - expect.negative_log_likelihood.unwrap()).abs() < 1e-6);
        assert!((q.expected_calibration_error.unwrap() - expect.expected_calibration_error.unwrap()).abs() < 1e-6);
        // One row that is none makes logits of all.
        assert_eq!(quality(&[0.5, 0.5, 0.7, 0.2], 2, &[0, 0]).scores, ScoreKind::Logits);
        // Certain and wrong: bounded.
        let q = quality(&[1.0, 0.0], 2, &[1]);
        assert!((q.negative_log_likelihood.unwrap() - 23.0 * 2f64.ln()).abs() < 1e-9);
        assert_eq!(q.expected_calibration_error, Some(1.0));
    }

    #[test]
    fn ties_go_to_the_first_class_and_infinite_scores_have_no_calibration() {
        let q = quality(&[1.0, 1.0, 1.0], 3, &[1]);
        assert_eq!(q.top_k.iter().map(|t| t.accuracy.value).collect::<Vec<_>>(), [0.0, 1.0, 1.0]);
        let q = quality(&[f32::INFINITY, 0.0, 3.0, 1.0], 2, &[0, 0]);
        assert_eq!((q.expected_calibration_error, q.negative_log_likelihood), (None, None));
        assert_eq!(q.top_k[0].accuracy.value, 1.0);
        // A masked class is fine as long as it is not the label.
        assert!(quality(&[f32::NEG_INFINITY, 0.0], 2, &[1]).negative_log_likelihood.is_some());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let add = |scores: &[f32], classes, labels: &[u32]| Tally::new(&[1]).add(scores, classes, labels).unwrap_err().to_string();
        assert!(add(&[0.5], 1, &[0]).contains("1 scores a sample"));
        assert!(add(&[0.5; 4], 2, &[0]).contains("not 2 for each of 1 samples"));
        assert!(add(&[0.5; 2], 2, &[2]).contains("there is a label 2"));
        assert!(Tally::new(&[1]).finish().is_err());
    }

    proptest! {
        #[test]
        fn neither_order_nor_portions_show_in_the_result(cut in 1usize..59, seed in 0usize..60) {
            let (_, logits, labels) = fixture();
            let whole = quality(&logits, 7, &labels);
            // The samples from `seed` on, then those before, each in portions of `cut`.
            let order: Vec<usize> = (seed..60).chain(0..seed).collect();
            let mut tally = Tally::new(&[1, 2, 5]);
            for part in order.chunks(cut) {
                let rows: Vec<f32> = part.iter().flat_map(|&i| logits[i * 7..(i + 1) * 7].to_vec()).collect();
                tally.add(&rows, 7, &part.iter().map(|&i| labels[i]).collect::<Vec<_>>()).unwrap();
            }
            prop_assert_eq!(tally.finish().unwrap(), whole);
        }
    }
}
