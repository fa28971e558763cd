//! Calibration samples, in the portions in which a model is run on them.

use super::lanes::map_chunks;
use super::spool::{Spool, Waiting};
use crate::model::Graph;
use crate::onnx::Model;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// Samples that a model is run on at once, at most: part of the result's definition (sums are merged portion by portion), not a
/// tuning knob.
const PORTION: usize = 32;

/// Values of the input that a portion has at most, so that large images do not come 32 at once.
const PORTION_VALUES: usize = 1 << 19;

/// Bytes of samples that are kept in memory; those beyond wait in a temporary file.
const IN_MEMORY: u64 = 64 << 20;

/// Calibration samples: what a model is repaired on. No labels.
#[derive(Debug, Clone)]
pub struct Calibration {
    store: Arc<Store>,
    /// Samples of the store that are meant, in this order.
    picked: Vec<usize>,
    portion: usize,
}

/// All samples that were given.
#[derive(Debug)]
struct Store {
    input: String,
    /// Shape of one sample.
    sample: Vec<usize>,
    spool: Spool,
    samples: Vec<Waiting>,
    /// A value that is not finite, if there is one.
    bad: Option<f32>,
    alike: bool,
}

impl Calibration {
    /// `samples` has the shape of the model's input `input`, with any number of samples on the first axis.
    ///
    /// # Errors
    /// There are no samples, or they are not float32.
    pub fn new(input: &str, samples: &Tensor) -> Result<Self> {
        Self::gather(input, [Ok(Cow::Borrowed(samples))])
    }

    /// The same for samples that come in parts, so that they need not all be in memory.
    ///
    /// ```
    /// # fn main() -> joulefront::Result<()> {
    /// use joulefront::{compress::Calibration, data::Dataset};
    /// let data = Dataset::open("models/fashion-mnist")?;
    /// let samples = Calibration::from_parts("input", data.calibration_parts(512, None, 64)?)?;
    /// assert_eq!(samples.len(), 512);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Calibration::new`]; also when parts differ in the shape of their samples, one cannot be had, or the temporary file cannot be
    /// written.
    pub fn from_parts(input: &str, parts: impl IntoIterator<Item = Result<Tensor>>) -> Result<Self> {
        Self::gather(input, parts.into_iter().map(|part| part.map(Cow::Owned)))
    }

    fn gather<'t>(input: &str, parts: impl IntoIterator<Item = Result<Cow<'t, Tensor>>>) -> Result<Self> {
        let spool = Spool::with_budget(IN_MEMORY);
        let (mut samples, mut sample, mut bad, mut first, mut alike) = (Vec::new(), None, None, None, true);
        for part in parts {
            let part = part?;
            let Some((_, shape)) = part.shape().split_first() else { continue };
            let shape = sample.get_or_insert_with(|| shape.to_vec()).clone();
            if part.shape()[1..] != shape {
                return Err(Error::bad_input(format!(
                    "calibration samples of shape {:?} come after some of {shape:?}",
                    &part.shape()[1..]
                )));
            }
            for values in part.as_f32()?.chunks_exact(shape.iter().product::<usize>().max(1)) {
                bad = bad.or_else(|| values.iter().copied().find(|v| !v.is_finite()));
                let first = *first.get_or_insert(values[0]);
                alike = alike && values.iter().all(|&v| v == first);
                samples.push(spool.keep(Tensor::f32([&[1], &shape[..]].concat(), values.to_vec())?)?);
            }
        }
        if samples.is_empty() {
            return Err(Error::bad_input("the calibration split is empty").hint("a few hundred unlabelled samples are enough"));
        }
        let sample = sample.unwrap_or_default();
        let portion = (PORTION_VALUES / sample.iter().product::<usize>().max(1)).clamp(1, PORTION);
        let picked = (0..samples.len()).collect();
        Ok(Calibration { store: Arc::new(Store { input: input.to_owned(), sample, spool, samples, bad, alike }), picked, portion })
    }

    /// The samples in the portions that `model` takes: a file may fix the first dimension of its input. Samples that do
    /// not fill a portion are left out.
    ///
    /// # Errors
    /// The model has no such input, it takes samples of another shape, or more at once than there are; or a value is not finite.
    pub(super) fn fitting(&self, model: &Model) -> Result<Cow<'_, Self>> {
        let (graph, sample) = (Graph::new(model), &self.store.sample);
        let input = graph.inputs().find(|i| i.name() == self.store.input);
        let input = input.ok_or_else(|| Error::bad_input(format!("the model has no input `{}`", self.store.input)))?;
        let dims = &input.type_.tensor_type.shape.dim;
        let takes = |axis: usize| dims.get(axis).map(|d| d.dim_value()).filter(|&d| d > 0);
        let fits = |(axis, &size): (usize, &usize)| takes(axis + 1).is_none_or(|d| d as u64 == size as u64);
        if dims.len() != sample.len() + 1 || !sample.iter().enumerate().all(fits) {
            let stated: Vec<String> =
                dims.iter().map(|d| if d.has_dim_value() { d.dim_value().to_string() } else { d.dim_param().to_owned() }).collect();
            return Err(Error::bad_input(format!("calibration samples of shape {sample:?} do not fit the input [{}]", stated.join(", "))));
        }
        if let Some(bad) = self.store.bad {
            return Err(
                Error::bad_input(format!("the calibration samples hold a value that is {bad}")).hint("clean the split `calibration`")
            );
        }
        let Some(portion) = takes(0).and_then(|d| usize::try_from(d).ok()) else { return Ok(Cow::Borrowed(self)) };
        let whole = self.len() / portion * portion;
        if whole == 0 {
            return Err(Error::bad_input(format!("the model takes {portion} samples at once, there are {} to calibrate on", self.len())));
        }
        Ok(Cow::Owned(Calibration { picked: self.picked[..whole].to_vec(), portion, ..self.clone() }))
    }

    /// The samples without one of every so many, and those, at most 512 of them: to judge by what was fitted to the others. `None`
    /// when there are too few to leave some out.
    pub(super) fn held_out(&self, one_of: usize) -> Option<(Self, Self)> {
        let held: Vec<usize> = (0..self.len()).skip(one_of.saturating_sub(1)).step_by(one_of.max(1)).take(512).collect();
        if held.len() < 4 {
            return None;
        }
        let kept: Vec<usize> = (0..self.len()).filter(|i| held.binary_search(i).is_err()).collect();
        Some((self.picked(&kept), self.picked(&held)))
    }

    /// The first `count` samples, or all.
    pub(super) fn first(&self, count: usize) -> Self {
        self.picked(&(0..self.len().min(count)).collect::<Vec<_>>())
    }

    fn picked(&self, samples: &[usize]) -> Self {
        Calibration { picked: samples.iter().map(|&i| self.picked[i]).collect(), ..self.clone() }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.picked.len()
    }

    /// False: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.picked.is_empty()
    }

    /// The model's input.
    pub fn input(&self) -> &str {
        &self.store.input
    }

    /// True when all values of all samples that were given are the same.
    pub(super) fn is_constant(&self) -> bool {
        self.store.alike
    }

    /// Samples in a portion; the last may have fewer.
    pub(super) fn portion(&self) -> usize {
        self.portion.min(self.len())
    }

    /// Number of portions.
    pub(super) fn portions(&self) -> usize {
        self.len().div_ceil(self.portion)
    }

    /// One portion.
    ///
    /// # Errors
    /// It cannot be read back.
    pub(super) fn get(&self, portion: usize) -> Result<Tensor> {
        let samples = &self.picked[portion * self.portion..self.len().min((portion + 1) * self.portion)];
        let mut values = Vec::with_capacity(samples.len() * self.store.sample.iter().product::<usize>());
        for &i in samples {
            values.extend_from_slice(self.store.spool.read(&self.store.samples[i])?.as_f32()?);
        }
        Tensor::f32([&[samples.len()], &self.store.sample[..]].concat(), values)
    }

    /// Applies `f` to every portion over all cores; results come back in the portions' order.
    pub(super) fn map<T: Send>(&self, f: impl Fn(usize, &Tensor) -> Result<T> + Sync) -> Result<Vec<T>> {
        let portions: Vec<usize> = (0..self.portions()).collect();
        map_chunks(&portions, |_, &i| f(i, &self.get(i)?))
    }
}
