//! How far a variant's answers are from the original's, on samples that nothing was fitted to.

use super::calibration::Calibration;
use crate::exec::Executor;
use crate::onnx::Model;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Samples that steps are compared on, at most: the divergence is an average that needs no more.
pub(super) const DIVERGENCE: usize = 256;

/// The original's answers.
#[derive(Debug)]
pub(super) struct Judge {
    samples: Calibration,
    /// Names of the float outputs.
    outputs: Vec<String>,
    /// By chunk, by output.
    expected: Vec<Vec<Tensor>>,
}

impl Judge {
    /// Runs the original on `samples`.
    ///
    /// # Errors
    /// The reference execution cannot run it, or none of its outputs is float32.
    pub(super) fn new(original: &Model, samples: Calibration) -> Result<Self> {
        let outputs: Vec<String> = original.graph().output.iter().map(|o| o.name().to_owned()).collect();
        let answers = answers(original, &samples, &outputs)?;
        let floats: Vec<usize> = (0..outputs.len()).filter(|&o| answers.iter().all(|a| a[o].as_f32().is_ok())).collect();
        if floats.is_empty() {
            return Err(Error::bad_input("the model has no float32 output to compare variants by"));
        }
        let expected = answers.into_iter().map(|a| floats.iter().map(|&o| a[o].clone()).collect()).collect();
        Ok(Judge { samples, outputs: floats.iter().map(|&o| outputs[o].clone()).collect(), expected })
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Mean Kullback–Leibler divergence (in nats) of the variant's class probabilities from the original's where an output
    /// is [N, classes]; else the squared error as a share of the output's energy. Summed over outputs; infinite where the variant's
    /// answers are not finite.
    ///
    /// # Errors
    /// The reference execution cannot run the variant.
    pub(super) fn divergence(&self, variant: &Model) -> Result<f64> {
        let given = answers(variant, &self.samples, &self.outputs)?;
        let mut total = 0.0;
        for output in 0..self.outputs.len() {
            let (mut sum, mut weight) = (0.0, 0.0);
            for (expected, given) in self.expected.iter().zip(&given) {
                let (s, w) = compare(&expected[output], &given[output])?;
                sum += s;
                weight += w;
            }
            total += sum / f64::max(weight, f64::MIN_POSITIVE);
        }
        Ok(if total.is_finite() { total.max(0.0) } else { f64::INFINITY })
    }
}

/// By chunk, by output.
fn answers(model: &Model, samples: &Calibration, outputs: &[String]) -> Result<Vec<Vec<Tensor>>> {
    let executor = Executor::new(model)?;
    let wanted: Vec<&str> = outputs.iter().map(String::as_str).collect();
    samples.map(|_, x| {
        let mut found = executor.run(&[(samples.input(), x)], &wanted)?;
        outputs.iter().map(|o| found.remove(o).ok_or_else(|| Error::bad_input(format!("`{o}` was not computed")))).collect()
    })
}

/// What differs and what it is a share of: a sum over samples and their number, or squared errors and squares.
fn compare(expected: &Tensor, given: &Tensor) -> Result<(f64, f64)> {
    let (p, q) = (expected.as_f32()?, given.as_f32()?);
    if expected.shape() != given.shape() {
        return Err(Error::bad_input(format!("the variant answers {:?} instead of {:?}", given.shape(), expected.shape())));
    }
    match *expected.shape() {
        [samples, classes] if classes > 1 => {
            let rows = p.chunks_exact(classes).zip(q.chunks_exact(classes));
            Ok((rows.map(|(p, q)| kl(&log_probabilities(p), &log_probabilities(q))).sum(), samples as f64))
        }
        _ => {
            let error = p.iter().zip(q).map(|(&p, &q)| f64::from(p - q).powi(2)).sum();
            Ok((error, p.iter().map(|&p| f64::from(p).powi(2)).sum()))
        }
    }
}

/// Σ p·(ln p − ln q).
fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(&p, &q)| if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) }).sum()
}

/// Logarithms of a row of class probabilities: of the row itself if it is one, else of its softmax.
fn log_probabilities(row: &[f32]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|&v| f64::from(v)).sum();
    if (sum - 1.0).abs() < 1e-3 && row.iter().all(|&v| (0.0..=1.0 + 1e-6).contains(&v)) {
        // A probability of exactly 0 is one that float32 does not hold.
        return row.iter().map(|&v| f64::from(v.max(f32::MIN_POSITIVE)).ln()).collect();
    }
    let most = row.iter().map(|&v| f64::from(v)).fold(f64::NEG_INFINITY, f64::max);
    let log_sum = row.iter().map(|&v| (f64::from(v) - most).exp()).sum::<f64>().ln();
    row.iter().map(|&v| f64::from(v) - most - log_sum).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn compared(p: &[f32], q: &[f32], shape: &[usize]) -> (f64, f64) {
        compare(&Tensor::f32(shape, p.to_vec()).unwrap(), &Tensor::f32(shape, q.to_vec()).unwrap()).unwrap()
    }

    #[test]
    fn divergences_of_classes() {
        // ½ ln(½ / ¼) + ½ ln(½ / ¾), from probabilities and from their logarithms.
        let expect = 0.5 * (2.0f64.ln() + (2.0f64 / 3.0).ln());
        let (p, q) = ([0.5, 0.5], [0.25, 0.75]);
        assert!((compared(&p, &q, &[1, 2]).0 - expect).abs() < 1e-6);
        let logits = |p: [f32; 2]| p.map(|v| v.ln() + 3.0);
        assert!((compared(&logits(p), &logits(q), &[1, 2]).0 - expect).abs() < 1e-6);
        assert_eq!(compared(&p, &p, &[1, 2]), (0.0, 1.0));
        assert!(compared(&[1.0, 0.0], &[0.0, 1.0], &[1, 2]).0 > 80.0);
    }

    #[test]
    fn a_model_does_not_diverge_from_itself_and_zeroed_weights_do() {
        let model = Model::load("models/fashion-mlp.onnx").unwrap();
        let x = Tensor::f32([40, 1, 28, 28], (0..40 * 784).map(|i| (i * 7 % 97) as f32 / 97.0).collect::<Vec<_>>()).unwrap();
        let judge = Judge::new(&model, Calibration::new("input", &x).unwrap()).unwrap();
        assert_eq!(judge.divergence(&model).unwrap(), 0.0);
        let mut broken = model.clone();
        broken.set_constant("f.5.weight", &Tensor::f32([10, 256], vec![0.0; 2560]).unwrap()).unwrap();
        assert!(judge.divergence(&broken).unwrap() > 0.0);
    }

    #[test]
    fn errors_of_everything_else() {
        assert_eq!(compared(&[1.0, 2.0], &[1.0, 0.0], &[1, 1, 2]), (4.0, 5.0));
        assert!(compared(&[1.0, 2.0], &[f32::NAN, 0.0], &[2, 1]).0.is_nan());
    }
}
