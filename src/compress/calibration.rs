//! Calibration samples, cut into the portions in which a model is run on them.

use crate::model::Graph;
use crate::onnx::Model;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::borrow::Cow;

/// Samples per chunk: part of the result's definition (sums are merged chunk by chunk), not a tuning knob.
const CHUNK: usize = 32;

/// Calibration samples: what a model is repaired on. No labels.
#[derive(Debug, Clone)]
pub struct Calibration {
    input: String,
    /// Shape of one sample.
    sample: Vec<usize>,
    chunks: Vec<Tensor>,
}

impl Calibration {
    /// `samples` has the shape of the model's input `input`, with any number of samples on the first axis.
    ///
    /// # Errors
    /// There are no samples, or they are not float32.
    pub fn new(input: &str, samples: &Tensor) -> Result<Self> {
        let data = samples.as_f32()?;
        let count = samples.shape().first().copied().unwrap_or(0);
        if count == 0 || data.is_empty() {
            return Err(Error::bad_input("the calibration split is empty").hint("a few hundred unlabelled samples are enough"));
        }
        let sample = samples.shape()[1..].to_vec();
        Ok(Calibration { input: input.to_owned(), chunks: cut(data, &sample, CHUNK)?, sample })
    }

    /// The samples in the portions that `model` takes: a file may fix the first dimension of its input. Samples that do
    /// not fill a portion are left out.
    ///
    /// # Errors
    /// The model has no such input, it takes samples of another shape, or more at once than there are; or a value is not finite.
    pub(super) fn fitting(&self, model: &Model) -> Result<Cow<'_, Self>> {
        let graph = Graph::new(model);
        let input = graph.inputs().find(|i| i.name() == self.input);
        let input = input.ok_or_else(|| Error::bad_input(format!("the model has no input `{}`", self.input)))?;
        let dims = &input.type_.tensor_type.shape.dim;
        let takes = |axis: usize| dims.get(axis).map(|d| d.dim_value()).filter(|&d| d > 0);
        let fits = |(axis, &size): (usize, &usize)| takes(axis + 1).is_none_or(|d| d as u64 == size as u64);
        if dims.len() != self.sample.len() + 1 || !self.sample.iter().enumerate().all(fits) {
            let stated: Vec<String> =
                dims.iter().map(|d| if d.has_dim_value() { d.dim_value().to_string() } else { d.dim_param().to_owned() }).collect();
            return Err(Error::bad_input(format!(
                "calibration samples of shape {:?} do not fit the input [{}]",
                self.sample,
                stated.join(", ")
            )));
        }
        if let Some(bad) = self.values()?.find(|v| !v.is_finite()) {
            return Err(
                Error::bad_input(format!("the calibration samples hold a value that is {bad}")).hint("clean the split `calibration`")
            );
        }
        let Some(portion) = takes(0).and_then(|d| usize::try_from(d).ok()) else { return Ok(Cow::Borrowed(self)) };
        let all: Vec<f32> = self.chunks.iter().map(Tensor::as_f32).collect::<Result<Vec<_>>>()?.concat();
        let size = self.sample.iter().product::<usize>().max(1);
        let whole = all.len() / size / portion * portion;
        if whole == 0 {
            return Err(Error::bad_input(format!(
                "the model takes {portion} samples at once, there are {} to calibrate on",
                all.len() / size
            )));
        }
        Ok(Cow::Owned(Calibration { chunks: cut(&all[..whole * size], &self.sample, portion)?, ..self.clone() }))
    }

    /// The samples without every eighth, and those, at most 512 of them: to judge by what was fitted to the others. `None`
    /// when there are too few to leave some out.
    pub(super) fn held_out(&self) -> Result<Option<(Self, Self)>> {
        let count = self.len();
        let held: Vec<usize> = (0..count).skip(7).step_by(8).take(512).collect();
        if held.len() < 4 {
            return Ok(None);
        }
        let kept: Vec<usize> = (0..count).filter(|i| held.binary_search(i).is_err()).collect();
        Ok(Some((self.picked(&kept)?, self.picked(&held)?)))
    }

    /// The first `count` samples, or all.
    pub(super) fn first(&self, count: usize) -> Result<Self> {
        self.picked(&(0..self.len().min(count)).collect::<Vec<_>>())
    }

    fn picked(&self, samples: &[usize]) -> Result<Self> {
        let size = self.sample.iter().product::<usize>().max(1);
        let all: Vec<&[f32]> = self.chunks.iter().map(Tensor::as_f32).collect::<Result<Vec<_>>>()?;
        let rows: Vec<&[f32]> = all.iter().flat_map(|c| c.chunks_exact(size)).collect();
        let data: Vec<f32> = samples.iter().flat_map(|&i| rows[i].iter().copied()).collect();
        let portion = self.chunks.first().and_then(|c| c.shape().first()).copied().unwrap_or(CHUNK).max(1);
        Ok(Calibration { chunks: cut(&data, &self.sample, portion)?, ..self.clone() })
    }

    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(|c| c.shape().first().copied().unwrap_or(0)).sum()
    }

    /// All values, sample by sample.
    pub(super) fn values(&self) -> Result<impl Iterator<Item = f32>> {
        Ok(self.chunks.iter().map(Tensor::as_f32).collect::<Result<Vec<_>>>()?.into_iter().flatten().copied())
    }

    /// The model's input.
    pub fn input(&self) -> &str {
        &self.input
    }

    pub(super) fn chunks(&self) -> &[Tensor] {
        &self.chunks
    }
}

/// Tensors of `portion` samples each; the last may have fewer.
fn cut(data: &[f32], sample: &[usize], portion: usize) -> Result<Vec<Tensor>> {
    let size = sample.iter().product::<usize>().max(1);
    data.chunks(portion.saturating_mul(size)).map(|part| Tensor::f32([&[part.len() / size], sample].concat(), part.to_vec())).collect()
}
