//! How far a variant's outputs are from the original's.

use super::calibration::Calibration;
use super::lanes::map_chunks;
use crate::exec::Executor;
use crate::onnx::Model;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Samples that outputs are compared on, at most: the divergence of a step is an average that needs no more.
const SAMPLES: usize = 256;

/// The original's outputs on some calibration samples.
pub(super) struct Outputs<'a> {
    input: &'a str,
    chunks: Vec<&'a Tensor>,
    output: String,
    /// Logarithms of the original's probabilities, by chunk.
    expected: Vec<Vec<f64>>,
    classes: usize,
}

impl<'a> Outputs<'a> {
    /// Of the model's first output.
    ///
    /// # Errors
    /// A node cannot be evaluated, or the output is not float32.
    pub(super) fn of(original: &Model, calibration: &'a Calibration) -> Result<Self> {
        let output = original.graph().output.first().map(|o| o.name().to_owned());
        let output = output.ok_or_else(|| Error::bad_input("the model has no output"))?;
        let mut seen = 0;
        let enough = |c: &&Tensor| {
            let more = seen < SAMPLES;
            seen += c.shape()[0];
            more
        };
        let chunks: Vec<&Tensor> = calibration.chunks().iter().take_while(enough).collect();
        let mut outputs = Outputs { input: calibration.input(), chunks, output, expected: Vec::new(), classes: 1 };
        let given = outputs.run(original)?;
        outputs.classes = given.first().and_then(|t| t.shape().last().copied()).unwrap_or(1).max(1);
        outputs.expected = given.iter().map(|t| Ok(log_softmax(t.as_f32()?, outputs.classes))).collect::<Result<_>>()?;
        Ok(outputs)
    }

    fn run(&self, model: &Model) -> Result<Vec<Tensor>> {
        let executor = Executor::new(model)?;
        map_chunks(&self.chunks, |_, x| {
            let mut given = executor.run(&[(self.input, x)], &[&self.output])?;
            given.remove(&self.output).ok_or_else(|| Error::bad_input(format!("`{}` was not computed", self.output)))
        })
    }

    /// Mean Kullback–Leibler divergence Σ p·ln(p/q) of the variant's classes from the original's, softmax taken along the
    /// output's last axis; infinite where the variant's outputs are not finite.
    ///
    /// # Errors
    /// A node cannot be evaluated, or the output has another shape.
    pub(super) fn divergence(&self, variant: &Model) -> Result<f64> {
        let given = self.run(variant)?;
        let (mut sum, mut rows) = (0.0, 0usize);
        for (expected, given) in self.expected.iter().zip(&given) {
            let q = log_softmax(given.as_f32()?, self.classes);
            if q.len() != expected.len() {
                return Err(Error::bad_input(format!("`{}` has another shape than in the original", self.output)));
            }
            sum += expected.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            rows += q.len() / self.classes;
        }
        let mean = sum / rows.max(1) as f64;
        Ok(if mean.is_finite() { mean.max(0.0) } else { f64::INFINITY })
    }
}

/// Logarithms of the softmax over each `classes` values.
fn log_softmax(x: &[f32], classes: usize) -> Vec<f64> {
    let row = |row: &[f32]| {
        let most = row.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(f64::from(v)));
        let log_sum = row.iter().map(|&v| (f64::from(v) - most).exp()).sum::<f64>().ln() + most;
        row.iter().map(|&v| f64::from(v) - log_sum).collect::<Vec<f64>>()
    };
    x.chunks(classes).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn probabilities_add_up_to_one() {
        let p = log_softmax(&[1.0, 2.0, 3.0, -500.0, 500.0, 0.0], 3);
        for row in p.chunks(3) {
            assert!((row.iter().map(|p| p.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert!((p[2] - p[1] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_model_does_not_diverge_from_itself_and_zeroed_weights_do() {
        let model = Model::load("models/fashion-mlp.onnx").unwrap();
        let x = Tensor::f32([40, 1, 28, 28], (0..40 * 784).map(|i| (i * 7 % 97) as f32 / 97.0).collect::<Vec<_>>()).unwrap();
        let samples = Calibration::new("input", &x).unwrap();
        let outputs = Outputs::of(&model, &samples).unwrap();
        assert_eq!(outputs.divergence(&model).unwrap(), 0.0);
        let mut broken = model.clone();
        broken.set_constant("f.5.weight", &Tensor::f32([10, 256], vec![0.0; 2560]).unwrap()).unwrap();
        assert!(outputs.divergence(&broken).unwrap() > 0.0);
    }
}
