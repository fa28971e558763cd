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
