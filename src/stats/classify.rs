//! Scores of a classifier from predicted and true class numbers.

use super::{Confidence, Interval, paired_difference, wilson};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How one model fared on one set of samples; shares in 0..=1 with Wilson 95 % intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Share of samples whose predicted class is the label.
    pub accuracy: Interval,
    /// Samples scored.
    pub samples: u64,
    /// Mean of the F1 scores of all classes that are a label or a prediction of some sample.
    pub macro_f1: f64,
    /// Its 95 % interval by the delta method on the multinomial counts of the confusion matrix (Takahashi et al., *Applied
    /// Intelligence* 52 (2022) 4961–4972), cut to 0..=1. `None` where no sample is wrong or none is right: the counts then
    /// show no variance.
    pub macro_f1_interval: Option<Interval>,
    /// One entry per class, in the order of class numbers.
    pub per_class: Vec<ClassScore>,
    /// The cells of the confusion matrix that are not zero, by label, then by prediction.
    pub confusion: Vec<Confused>,
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
    /// Samples that were predicted as this class.
    pub predicted: u64,
    /// `correct` of `samples`; `None` when the class has no samples here.
    pub recall: Option<Interval>,
    /// `correct` of `predicted`; `None` when no sample was predicted as this class.
    pub precision: Option<Interval>,
    /// Harmonic mean of precision and recall, 2·`correct`/(`samples` + `predicted`); `None` when the class is neither a label
    /// nor a prediction.
    pub f1: Option<f64>,
}

/// One cell of a confusion matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confused {
    /// The true class.
    pub label: u32,
    /// The predicted class.
    pub predicted: u32,
    /// Samples.
    pub count: u64,
}

impl Scores {
    /// Scores `predicted` against `labels`, both class numbers of the same samples. `names` may be empty; classes run to the
    /// last name or the largest label, whichever is greater. An error when the lengths differ or there are no samples.
    ///
    /// ```
    /// use joulefront::stats::Scores;
    /// let s = Scores::new(&[0, 1, 1], &[0, 1, 0], &[])?;
    /// assert_eq!((s.samples, s.per_class[0].correct, s.per_class[0].samples), (3, 1, 2));
    /// assert!((s.macro_f1 - 2.0 / 3.0).abs() < 1e-12);
    /// # Ok::<(), joulefront::Error>(())
    /// ```
    pub fn new(predicted: &[u32], labels: &[u32], names: &[String]) -> Result<Self> {
        same_samples(predicted, labels)?;
        let classes = labels.iter().map(|&l| l as usize + 1).max().unwrap_or(0).max(names.len());
        // A class number far beyond the number of samples is a broken label, not a reason for gigabytes of counters.
        if classes > names.len().max(1 << 20) {
            return Err(Error::bad_input(format!("label {} is too large for a class number", classes - 1)));
        }
        let mut cells = BTreeMap::new();
        for (&p, &l) in predicted.iter().zip(labels) {
            *cells.entry((l, p)).or_insert(0u64) += 1;
        }
        let confusion: Vec<Confused> = cells.into_iter().map(|((label, predicted), count)| Confused { label, predicted, count }).collect();
        let margins = margins(&confusion);
        let correct = margins.values().map(|m| m.correct).sum();
        let samples = labels.len() as u64;
        let score = |class| {
            let m = margins.get(&class).copied().unwrap_or_default();
            ClassScore {
                class,
                name: names.get(class as usize).cloned(),
                correct: m.correct,
                samples: m.samples,
                predicted: m.predicted,
                recall: wilson(m.correct, m.samples),
                precision: wilson(m.correct, m.predicted),
                f1: margins.contains_key(&class).then(|| m.f1()),
            }
        };
        let (macro_f1, macro_f1_interval) = macro_f1(&confusion, &margins);
        Ok(Scores {
            accuracy: share(correct, samples)?,
            samples,
            macro_f1,
            macro_f1_interval,
            per_class: (0..classes as u32).map(score).collect(),
            confusion,
        })
    }
}

/// Sums of the confusion matrix for one class that occurs.
#[derive(Debug, Clone, Copy, Default)]
struct Margin {
    correct: u64,
    samples: u64,
    predicted: u64,
}

impl Margin {
    /// Samples and predictions together, at least 1.
    fn both(&self) -> f64 {
        (self.samples + self.predicted) as f64
    }

    fn f1(&self) -> f64 {
        2.0 * self.correct as f64 / self.both()
    }
}

fn margins(confusion: &[Confused]) -> BTreeMap<u32, Margin> {
    let mut margins: BTreeMap<u32, Margin> = BTreeMap::new();
    for cell in confusion {
        margins.entry(cell.label).or_default().samples += cell.count;
        margins.entry(cell.predicted).or_default().predicted += cell.count;
        if cell.label == cell.predicted {
            margins.entry(cell.label).or_default().correct += cell.count;
        }
    }
    margins
}

/// The mean F1 with its interval. F1 does not change when all counts grow alike, so its gradient `g` is orthogonal to the
/// counts and the variance of the delta method, Σ c·g² − (Σ c·g)²/n over the cells' counts `c`, is its first term.
fn macro_f1(confusion: &[Confused], margins: &BTreeMap<u32, Margin>) -> (f64, Option<Interval>) {
    let classes = margins.len() as f64;
    let value = margins.values().map(Margin::f1).sum::<f64>() / classes;
    let lost = |class: u32| margins.get(&class).map_or(0.0, |m| m.f1() / m.both());
    let gradient = |cell: &Confused| {
        let gained = if cell.label == cell.predicted { 2.0 / margins.get(&cell.label).map_or(1.0, Margin::both) } else { 0.0 };
        (gained - lost(cell.label) - lost(cell.predicted)) / classes
    };
    let variance: f64 = confusion.iter().map(|cell| cell.count as f64 * gradient(cell).powi(2)).sum();
    // Rounding leaves a trace where the sum is zero.
    let half = Confidence::P95.z() * variance.sqrt();
    let interval = Interval::around(value, half).filter(|_| variance > 1e-24);
    (value, interval.map(|i| Interval { lo: i.lo.max(0.0), hi: i.hi.min(1.0), ..i }))
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
    fn precision_recall_f1_and_confusion_are_scikit_learns() {
        let fixture: serde_json::Value = serde_json::from_str(include_str!("../../tests/fixtures/classification.json")).unwrap();
        let numbers = |key: &str| -> Vec<f64> { fixture[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
        let labels: Vec<u32> = numbers("labels").iter().map(|&v| v as u32).collect();
        let logits: Vec<f32> = numbers("logits").iter().map(|&v| v as f32).collect();
        let names: Vec<String> = ["a", "b", "c", "d", "e", "f", "g"].map(String::from).into();
        let s = Scores::new(&top_classes(&logits, 7).unwrap(), &labels, &names).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        for (c, ((precision, recall), f1)) in
            s.per_class.iter().zip(numbers("precision").into_iter().zip(numbers("recall")).zip(numbers("f1")))
        {
            assert!(near(c.precision.unwrap().value, precision) && near(c.f1.unwrap(), f1), "{c:?}");
            assert!(c.recall.map_or(c.samples == 0, |r| near(r.value, recall)), "{c:?}");
        }
        for cell in &s.confusion {
            assert_eq!(fixture["confusion"][cell.label as usize][cell.predicted as usize], cell.count);
        }
        assert_eq!(s.confusion.iter().map(|c| c.count).sum::<u64>(), 60);
        assert!(near(s.macro_f1, fixture["macro_f1"].as_f64().unwrap()));
        let (i, se) = (s.macro_f1_interval.unwrap(), fixture["macro_f1_standard_error"].as_f64().unwrap());
        assert!((i.hi - i.value - 1.959_964 * se).abs() < 1e-6 && (i.value - i.lo - 1.959_964 * se).abs() < 1e-6, "{i:?} {se}");
    }

    #[test]
    fn macro_f1_is_over_the_classes_that_occur_and_has_no_interval_without_variance() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let s = Scores::new(&[0, 1], &[0, 1], &names).unwrap();
        assert_eq!((s.macro_f1, s.macro_f1_interval, s.per_class[2].f1), (1.0, None, None));
        let s = Scores::new(&[1, 0], &[0, 1], &[]).unwrap();
        assert_eq!((s.macro_f1, s.macro_f1_interval), (0.0, None));
        // Class 9, which has no sample, counts with 0: half of 2/3.
        let s = Scores::new(&[0, 9], &[0, 0], &[]).unwrap();
        assert!((s.macro_f1 - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(s.per_class.len(), 1);
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
