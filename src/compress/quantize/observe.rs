//! The values that activations take on the calibration samples.

use super::histogram::Histogram;
use crate::compress::calibration::Calibration;
use crate::compress::lanes::map_chunks;
use crate::exec::{Executor, PARTS};
use crate::onnx::Model;
use crate::recipe::ActivationRange;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::ops::Range;

/// Samples below which ranges would be those of the samples, not of the data.
const FEWEST: usize = 16;

/// Values that a tensor has in one sample of which all are counted; of more, each fifth: what is next to a value is like it. (By sample,
/// so that the counts do not depend on the order of the samples.)
const ALL: usize = 1 << 16;

/// A histogram of each of `tensors` over all samples, or only its range if that is all that `method` asks for. Memory does not grow with their
/// number.
///
/// # Errors
/// There are too few samples or all their values are the same, a tensor takes a value that is not finite (the message names it),
/// or a node cannot be evaluated.
pub(super) fn histograms(model: &Model, tensors: &[&str], samples: &Calibration, method: ActivationRange) -> Result<Vec<Histogram>> {
    let samples = samples.fitting(model)?;
    check(&samples)?;
    let executor = Executor::new(model)?;
    let start = || vec![Histogram::new(); tensors.len()];
    let see = |state: &mut Vec<Histogram>, i: usize, t: &Tensor| {
        let values = t.as_f32()?;
        let seen = match method {
            ActivationRange::MinMax => state[i].widen(values),
            _ => match values.len() / t.shape().first().copied().unwrap_or(1).max(1) {
                sample if sample > ALL => values.chunks(sample).try_for_each(|sample| state[i].add_every(sample, 5)),
                _ => state[i].add_every(values, 1),
            },
        };
        seen.map_err(|e| e.context(format!("`{}` on the calibration samples", tensors[i])))
    };
    // One state for each part, so that memory is bounded; any division gives the same counts.
    let portions = samples.portions();
    let parts = PARTS.min(portions);
    let parts: Vec<Range<usize>> = (0..parts).map(|p| portions * p / parts..portions * (p + 1) / parts).collect();
    let counted = map_chunks(&parts, |_, part| {
        let mut sum = start();
        for portion in part.clone() {
            for state in executor.observe(&[(samples.input(), &samples.get(portion)?)], tensors, start, see)? {
                merge(&mut sum, &state);
            }
        }
        Ok(sum)
    })?;
    let mut total = start();
    counted.iter().for_each(|part| merge(&mut total, part));
    Ok(total)
}

fn merge(into: &mut [Histogram], from: &[Histogram]) {
    into.iter_mut().zip(from).for_each(|(a, b)| a.merge(b));
}

fn check(samples: &Calibration) -> Result<()> {
    let count = samples.len();
    let hint = "a few hundred samples like those the model will see are enough";
    if count < FEWEST {
        return Err(Error::bad_input(format!("{count} samples are too few to know the ranges of activations from")).hint(hint));
    }
    if samples.is_constant() {
        return Err(Error::bad_input("all values of the calibration samples are the same").hint(hint));
    }
    Ok(())
}
