//! The inputs that a measurement rotates over.

use crate::engine::Spec;
use crate::engine::runner::MAX_SLOTS;
use crate::tensor::{DType, Data, Tensor, map_data};
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bytes of inputs that are kept: they count in the process's peak memory and wash through its caches.
const MOST_BYTES: usize = 4 << 20;

/// Cuts `samples` (one tensor per input, samples first) into slots of a rotation, each with what one run of the model takes:
/// `inputs` as they are loaded, with the batch as first dimension. There are as many slots as full runs, up to 64 slots and 4 MiB,
/// at least one. Fewer samples than a run takes are repeated.
///
/// ```
/// use joulefront::{engine::Spec, measure::rotation, tensor::{DType, Tensor}};
/// # fn main() -> joulefront::Result<()> {
/// let input = Spec { name: "x".into(), dtype: DType::F32, shape: vec![2, 1] };
/// let slots = rotation(&[Tensor::f32([3, 1], vec![1.0, 2.0, 3.0])?], &[input])?;
/// assert_eq!(slots, [[Tensor::f32([2, 1], vec![1.0, 2.0])?]]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// There are no samples, or not the same number of runs for all inputs.
pub fn rotation(samples: &[Tensor], inputs: &[Spec]) -> Result<Vec<Vec<Tensor>>> {
    let rows = |shape: &[usize]| shape.first().copied().unwrap_or(0);
    // For each input, the samples that there are and those that a run takes.
    let counts: Vec<(usize, usize)> = samples.iter().zip(inputs).map(|(t, spec)| (rows(t.shape()), rows(&spec.shape))).collect();
    let (count, batch) = counts.first().copied().unwrap_or((0, 0));
    let fits = |&(n, each): &(usize, usize)| n > 0 && each > 0 && n * batch == count * each;
    if samples.len() != inputs.len() || counts.is_empty() || !counts.iter().all(fits) {
        let [there, taken]: [Vec<usize>; 2] = [counts.iter().map(|c| c.0).collect(), counts.iter().map(|c| c.1).collect()];
        return Err(Error::bad_input(format!("samples {there:?} per input make no runs of a model that takes {taken:?}"))
            .hint("give a dataset with the same number of runs for each input"));
    }
    let bytes = inputs.iter().map(Spec::bytes).fold(0, usize::saturating_add);
    let slots = (count / batch).min(MAX_SLOTS).min(MOST_BYTES / bytes.max(1)).max(1);
    let slot = |slot: usize| {
        let rows = |&(n, each): &(usize, usize)| (slot * each..(slot + 1) * each).map(|row| row % n).collect::<Vec<_>>();
        samples.iter().zip(&counts).map(|(t, count)| pick(t, &rows(count))).collect()
    };
    (0..slots).map(slot).collect()
}

/// The given rows along the first dimension.
fn pick(t: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let each = t.len() / t.shape().first().copied().unwrap_or(1).max(1);
    fn gather<T: Copy>(v: &[T], rows: &[usize], each: usize) -> Vec<T> {
        rows.iter().flat_map(|&r| &v[r * each..(r + 1) * each]).copied().collect()
    }
    let data = map_data!(t.data(), v => gather(v, rows, each));
    Tensor::new([&[rows.len()], &t.shape()[1..]].concat(), data)
}

/// Samples for `runs` runs of a model without a dataset: floats from 0 to 1, integers 0 and 1 (so that they are valid indices), the same for
/// the same seed. Zeros would flatter engines: many kernels and CPUs are faster on them.
///
/// # Errors
/// An input is a scalar.
pub fn made_up(inputs: &[Spec], runs: usize, seed: u64) -> Result<Vec<Tensor>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tensor = |spec: &Spec| {
        let [batch, each @ ..] = &spec.shape[..] else {
            return Err(Error::bad_input(format!("input `{}` is a scalar: give a dataset with `--data`", spec.name)));
        };
        let shape = [&[runs * batch], each].concat();
        let n: usize = shape.iter().product();
        let mut bit = || rng.random_range(0..2u8);
        let data = match spec.dtype {
            DType::F32 => Data::F32((0..n).map(|_| rng.random()).collect()),
            DType::F64 => Data::F64((0..n).map(|_| rng.random()).collect()),
            // Bits of halves between 0.5 and 1.
            DType::F16 => Data::F16((0..n).map(|_| rng.random_range(0x3800..0x3c00)).collect()),
            // Bits of the same range in bfloat16.
            DType::BF16 => Data::BF16((0..n).map(|_| rng.random_range(0x3f00..0x3f80)).collect()),
            DType::I4 => Data::I4((0..n).map(|_| bit() as i8).collect()),
            DType::U4 => Data::U4((0..n).map(|_| bit()).collect()),
            DType::U16 => Data::U16((0..n).map(|_| bit().into()).collect()),
            DType::U32 => Data::U32((0..n).map(|_| bit().into()).collect()),
            DType::U64 => Data::U64((0..n).map(|_| bit().into()).collect()),
            DType::I8 => Data::I8((0..n).map(|_| bit() as i8).collect()),
            DType::I16 => Data::I16((0..n).map(|_| bit().into()).collect()),
            DType::I32 => Data::I32((0..n).map(|_| bit().into()).collect()),
            DType::I64 => Data::I64((0..n).map(|_| bit().into()).collect()),
            DType::U8 => Data::U8((0..n).map(|_| bit()).collect()),
            DType::Bool => Data::Bool((0..n).map(|_| bit() == 1).collect()),
        };
        Tensor::new(shape, data)
    };
    inputs.iter().map(&mut tensor).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn input(shape: &[usize]) -> Spec {
        Spec { name: "x".into(), dtype: DType::F32, shape: shape.to_vec() }
    }

    #[test]
    fn batches_are_cut_in_order_and_few_samples_repeat() {
        let t = |shape: [usize; 2], v: &[f32]| Tensor::f32(shape, v.to_vec()).unwrap();
        let samples = t([3, 2], &[1., 2., 3., 4., 5., 6.]);
        assert_eq!(rotation(std::slice::from_ref(&samples), &[input(&[1, 2])]).unwrap().len(), 3);
        assert_eq!(rotation(&[samples], &[input(&[4, 2])]).unwrap(), [[t([4, 2], &[1., 2., 3., 4., 5., 6., 1., 2.])]]);
        let many = Tensor::f32([200, 1], vec![0.0; 200]).unwrap();
        assert_eq!(rotation(&[many], &[input(&[1, 1])]).unwrap().len(), MAX_SLOTS);
        let large = Tensor::f32([8, 1 << 19], vec![0.0; 8 << 19]).unwrap();
        assert_eq!(rotation(&[large], &[input(&[1, 1 << 19])]).unwrap().len(), 2);
        assert!(rotation(&[], &[]).is_err());
    }

    #[test]
    fn inputs_may_take_different_numbers_of_rows() {
        let (one, two) = (input(&[1, 3]), input(&[2, 1]));
        let samples = made_up(&[one.clone(), two.clone()], 5, 0).unwrap();
        assert_eq!((samples[0].shape(), samples[1].shape()), (&[5, 3][..], &[10, 1][..]));
        let slots = rotation(&samples, &[one.clone(), two.clone()]).unwrap();
        assert_eq!((slots.len(), slots[4][1].as_f32().unwrap()), (5, &samples[1].as_f32().unwrap()[8..]));
        let uneven = rotation(&[samples[0].clone(), samples[0].clone()], &[one, two]).unwrap_err().to_string();
        assert_eq!(uneven, "samples [5, 5] per input make no runs of a model that takes [1, 2]");
    }

    #[test]
    fn made_up_samples_repeat_with_the_seed() {
        let specs = [DType::F32, DType::I64, DType::F16].map(|dtype| Spec { name: "x".into(), dtype, shape: vec![1, 50] });
        let a = made_up(&specs, 4, 1).unwrap();
        assert_eq!(a, made_up(&specs, 4, 1).unwrap());
        assert_ne!(a, made_up(&specs, 4, 2).unwrap());
        assert_eq!(a[0].shape(), [4, 50]);
        assert!(a[0].as_f32().unwrap().iter().all(|x| (0.0..1.0).contains(x)));
    }
}
