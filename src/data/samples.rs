//! One input's samples, and their way from raw values to a tensor.

use super::array::{Array, Element, Endian};
use super::images::Images;
use super::input::Input;
use crate::tensor::{DType, Data};
use crate::{Error, Result};
use std::ops::Range;

/// Where the samples of one input are.
#[derive(Debug)]
pub(super) enum Samples {
    Array(Array),
    Images(Images),
}

impl Samples {
    /// Checks that these are [N, …] with one sample's elements after the first axis, of a fitting type, and returns N.
    pub(super) fn count(&self, input: &Input) -> Result<usize> {
        let count = match self {
            Samples::Images(images) => images.len(),
            Samples::Array(array) => rows(array, input)?,
        };
        if count == 0 { Err(Error::bad_input("there are no samples")) } else { Ok(count) }
    }

    fn element(&self) -> Element {
        match self {
            Samples::Array(array) => array.element(),
            Samples::Images(_) => Element { dtype: DType::U8, endian: Endian::Little },
        }
    }

    fn read(&self, rows: Range<usize>, buffer: &mut Vec<u8>) -> Result<()> {
        match self {
            Samples::Array(array) => array.read(rows, buffer),
            Samples::Images(images) => images.read(rows, buffer),
        }
    }

    /// The samples of some ranges of rows, which are there, one after the other, as the model takes them. Values are checked
    /// here, when they are used: before, they were not read.
    pub(super) fn gather(&self, runs: &[Range<usize>], input: &Input) -> Result<Data> {
        Ok(match input.dtype() {
            DType::F32 => Data::F32(self.scaled(runs, input)?),
            DType::U8 => Data::U8(self.integers(runs, input, |v| v.try_into().ok())?),
            DType::I8 => Data::I8(self.integers(runs, input, |v| v.try_into().ok())?),
            DType::U16 => Data::U16(self.integers(runs, input, |v| v.try_into().ok())?),
            DType::I16 => Data::I16(self.integers(runs, input, |v| v.try_into().ok())?),
            DType::U32 => Data::U32(self.integers(runs, input, |v| v.try_into().ok())?),
            DType::I32 => Data::I32(self.integers(runs, input, |v| v.try_into().ok())?),
            DType::U64 => Data::U64(self.integers(runs, input, |v| v.try_into().ok())?),
            DType::I64 => Data::I64(self.integers(runs, input, |v| v.try_into().ok())?),
            DType::Bool => Data::Bool(self.integers(runs, input, |v| [false, true].get(usize::try_from(v).ok()?).copied())?),
            other => return Err(Error::bad_input(format!("inputs of {} are not supported", other.name()))),
        })
    }

    /// `(raw * scale - mean) / std` of each channel.
    fn scaled(&self, runs: &[Range<usize>], input: &Input) -> Result<Vec<f32>> {
        let channels: Vec<(f64, f64)> = input.channels().collect();
        let (scale, length) = (input.scale(), input.run());
        let (mut out, mut raw) = (Vec::new(), Vec::new());
        for run in runs {
            self.read(run.clone(), &mut raw)?;
            let first = out.len();
            out.reserve_exact(run.len() * input.elements());
            let (mut channel, mut left) = (0, length);
            self.element().floats(&raw, |raw| {
                let (mean, std) = channels[channel];
                out.push(((raw * scale - mean) / std) as f32);
                left -= 1;
                if left == 0 {
                    (channel, left) = (if channel + 1 == channels.len() { 0 } else { channel + 1 }, length);
                }
            });
            if let Some(at) = out[first..].iter().position(|v: &f32| !v.is_finite()) {
                let sample = run.start + at / input.elements();
                return Err(Error::bad_input(format!("sample {sample} holds a value that is not a finite number")));
            }
        }
        Ok(out)
    }

    /// Raw integers as they are; `narrow` says which fit.
    fn integers<T: Default>(&self, runs: &[Range<usize>], input: &Input, narrow: impl Fn(i128) -> Option<T>) -> Result<Vec<T>> {
        let (mut out, mut raw) = (Vec::new(), Vec::new());
        for run in runs {
            self.read(run.clone(), &mut raw)?;
            let first = out.len();
            out.reserve_exact(run.len() * input.elements());
            let mut outside = None;
            self.element().integers(&raw, |v| {
                let value = narrow(v);
                if value.is_none() {
                    outside.get_or_insert(out.len() - first);
                }
                out.push(value.unwrap_or_default());
            });
            if let Some(at) = outside {
                let (sample, dtype) = (run.start + at / input.elements(), input.dtype().name());
                return Err(Error::bad_input(format!("sample {sample} holds a value that does not fit `{dtype}`")));
            }
        }
        Ok(out)
    }
}

/// The first axis of an array whose rows are samples of `input`.
fn rows(array: &Array, input: &Input) -> Result<usize> {
    let each = input.elements();
    let Some((&samples, rest)) = array.shape().split_first() else {
        return Err(Error::bad_input("the array of samples is a single number"));
    };
    if rest.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(each) {
        return Err(Error::bad_input(format!(
            "the array has shape {:?}: its samples do not have the {each} elements of `shape` {:?}",
            array.shape(),
            input.shape()
        )));
    }
    let dtype = array.element().dtype;
    if dtype.is_float() && input.dtype() != DType::F32 {
        return Err(Error::bad_input(format!("the samples are {}, but the model takes {}", dtype.name(), input.dtype().name())));
    }
    Ok(samples)
}
