//! Scores of a classifier from predicted and true class numbers.

use super::{Interval, paired_difference, wilson};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Accuracy of one model on one set of samples; shares in 0..=1 with Wilson 95 % intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Share of samples whose predicted class is the label.
    pub accuracy: Interval,
    /// Samples scored.
    pub samples: u64,
    /// One entry per class, in the order of class numbers.
    pub per_class: Vec<ClassScore>,
}

/// How one class fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Class number.
    pub class: u32,
    /// Class name, where the dataset has one.
    pub name: Option<String>,
    /// Samples of this class that were predicted as it.
    pub correct: u64,
    /// Samples of this class.
    pub samples: u64,
    /// `correct` of `samples`; `None` when the class has no samples here.
    pub recall: Option<Interval>,
}

impl Scores {
    /// Scores `predicted` against `labels`, both class numbers of the same samples. `names` may be empty; classes run to the
    /// last name or the largest label, whichever is greater. An error when the lengths differ or there are no samples.
    ///
    /// ```
    /// use joulefront::stats::Scores;
    /// let s = Scores::new(&[0, 1, 1], &[0, 1, 0], &[])?;
    /// assert_eq!((s.samples, s.per_class[0].correct, s.per_class[0].samples), (3, 1, 2));
    /// # Ok::<(), joulefront::Error>(())
    /// ```
    pub fn new(predicted: &[u32], labels: &[u32], names: &[String]) -> Result<Self> {
        same_samples(predicted, labels)?;
        let classes = labels.iter().map(|&l| l as usize + 1).max().unwrap_or(0).max(names.len());
        // A class number far beyond the number of samples is a broken label, not a reason for gigabytes of counters.
        if classes > names.len().max(1 << 20) {
            return Err(Error::bad_input(format!("label {} is too large for a class number", classes - 1)));
        }
        let mut counts = vec![(0u64, 0u64); classes];
        for (p, &l) in predicted.iter().zip(labels) {
            let (correct, samples) = &mut counts[l as usize];
            *samples += 1;
            *correct += u64::from(*p == l);
        }
        let correct = counts.iter().map(|c| c.0).sum();
        let samples = labels.len() as u64;
        let score = |(class, (correct, samples)): (usize, (u64, u64))| ClassScore {
            class: class as u32,
            name: names.get(class).cloned(),
            correct,
            samples,
            recall: wilson(correct, samples),
        };
        Ok(Scores { accuracy: share(correct, samples)?, samples, per_class: counts.into_iter().enumerate().map(score).collect() })
    }
}

/// Share of samples for which two models predict the same class, with its Wilson interval.
pub fn agreement(first: &[u32], second: &[u32]) -> Result<Interval> {
    same_samples(first, second)?;
    share(first.iter().zip(second).filter(|(a, b)| a == b).count() as u64, first.len() as u64)
}

/// Accuracy of `first` minus accuracy of `second` on the same labelled samples, as a share, with the interval of
/// [`paired_difference`].
pub fn accuracy_difference(first: &[u32], second: &[u32], labels: &[u32]) -> Result<Interval> {
    same_samples(first, labels)?;
    same_samples(second, labels)?;
    let (mut only_first, mut only_second) = (0, 0);
    for ((a, b), label) in first.iter().zip(second).zip(labels) {
        only_first += u64::from(a == label && b != label);
        only_second += u64::from(b == label && a != label);
    }
    paired_difference(labels.len() as u64, only_first, only_second).ok_or_else(no_samples)
}

/// The class with the largest score of each sample; the first of equals, as NumPy's `argmax` takes it. `scores` is
/// row-major [samples, classes]. An error where a score is not a number, for then no class is the largest.
pub fn top_classes(scores: &[f32], classes: usize) -> Result<Vec<u32>> {
    if classes == 0 || !scores.len().is_multiple_of(classes) {
        return Err(Error::bad_input(format!("{} scores are not a whole number of rows of {classes} classes", scores.len())));
    }
    let top = |(row, scores): (usize, &[f32])| {
        if scores.iter().any(|s| s.is_nan()) {
            return Err(Error::bad_input(format!("the model's output for sample {row} holds a value that is not a number")));
        }
        let first_largest = |best: usize, i: usize| if scores[i] > scores[best] { i } else { best };
        Ok((0..classes).fold(0, first_largest) as u32)
    };
    scores.chunks_exact(classes).enumerate().map(top).collect()
}

fn share(successes: u64, samples: u64) -> Result<Interval> {
    wilson(successes, samples).ok_or_else(no_samples)
}

fn no_samples() -> Error {
    Error::bad_input("there are no samples to score")
}

fn same_samples(a: &[u32], b: &[u32]) -> Result<()> {
    match a.len() == b.len() {
        true => Ok(()),
        false => Err(Error::bad_input(format!("{} predictions stand against {} labels", a.len(), b.len()))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn counts_per_class_and_classes_without_samples() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let s = Scores::new(&[0, 1, 1, 7], &[0, 0, 1, 1], &names).unwrap();
        assert_eq!(s.accuracy, wilson(2, 4).unwrap());
        let rows: Vec<_> = s.per_class.iter().map(|c| (c.name.as_deref().unwrap(), c.correct, c.samples)).collect();
        assert_eq!(rows, [("a", 1, 2), ("b", 1, 2), ("c", 0, 0)]);
        assert_eq!(s.per_class[2].recall, None);
        let json = serde_json::to_value(&s).unwrap();
        assert_eq!(json["per_class"][0]["recall"]["value"], 0.5);
        assert!(json["per_class"][2]["recall"].is_null());
    }

    #[test]
    fn nothing_and_unequal_lengths_are_errors() {
        assert!(Scores::new(&[], &[], &[]).is_err());
        assert!(Scores::new(&[1], &[], &[]).is_err());
        assert!(Scores::new(&[1], &[u32::MAX], &[]).is_err());
        assert!(agreement(&[], &[]).is_err());
        assert!(accuracy_difference(&[1], &[1, 2], &[1]).is_err());
    }

    #[test]
    fn differences_and_agreement_count_samples() {
        assert_eq!(agreement(&[1, 2, 3, 4], &[1, 2, 3, 0]).unwrap().value, 0.75);
        let labels = [0, 0, 0, 0];
        assert_eq!(accuracy_difference(&[0, 0, 0, 1], &[1, 1, 0, 0], &labels).unwrap(), paired_difference(4, 2, 1).unwrap());
    }

    #[test]
    fn the_first_of_equal_scores_wins_and_nan_is_refused() {
        assert_eq!(top_classes(&[0.0, 2.0, 2.0, 1.0, 0.0, 0.0], 3).unwrap(), [1, 0]);
        assert_eq!(top_classes(&[f32::NEG_INFINITY; 2], 2).unwrap(), [0]);
        assert!(top_classes(&[0.0, f32::NAN], 2).unwrap_err().to_string().contains("sample 0"));
        assert!(top_classes(&[0.0; 3], 2).is_err());
        assert!(top_classes(&[], 0).is_err());
    }
}
