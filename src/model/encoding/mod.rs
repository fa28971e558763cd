//! How the elements of a tensor are stored and which numbers they stand for.
//!
//! Two views of one thing: a [`Format`] says what sort of code it is (what tables show; it costs nothing to hold), an
//! [`Encoding`] holds the scales and zero points too and can quantize and dequantize. An integer q of a group of elements
//! with scale s and zero point z stands for (q − z)·s, as in ONNX's DequantizeLinear.

mod codec;
mod format;
mod operands;
mod read;

pub(super) use codec::Grouping;
pub use format::{FloatFormat, Format, Granularity, Scheme, Storage};
pub(super) use operands::{CONTRIB, Numbers, is_known, scale_inputs};

use crate::{Error, Result};

/// The integers that a quantized tensor may hold, a subset of what its storage can.
///
/// ```
/// use joulefront::model::{Levels, Storage};
/// assert_eq!(Levels::of_bits(Storage::I8, 4).unwrap().range(), (-8, 7));
/// assert_eq!(Levels::of_bits(Storage::U8, 4).unwrap().range(), (0, 15));
/// let ternary = Levels::set(vec![1, 0, -1]).unwrap();
/// assert_eq!((ternary.bits(), ternary.nearest(0.6), ternary.nearest(-9.0)), (2, 1, -1));
/// // Two bits without a zero: {±½, ±1½}·s is {±1, ±3} times s/2.
/// assert_eq!(Levels::set(vec![-3, -1, 1, 3]).unwrap().nearest(1.9), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    min: i32,
    max: i32,
    /// Sorted, without repetition; `None` when all integers from `min` to `max` are levels.
    set: Option<Vec<i32>>,
}

impl Levels {
    /// All integers of `bits` bits: two's complement where the storage is signed, else from 0.
    ///
    /// # Errors
    /// There are no such integers, or the storage is too narrow for them.
    pub fn of_bits(storage: Storage, bits: u32) -> Result<Self> {
        if bits == 0 || bits > storage.bits() {
            return Err(Error::bad_input(format!("{} cannot hold {bits} bits", storage.name())));
        }
        let count = 1i64 << bits;
        let min = if storage.is_signed() { -(count / 2) } else { 0 };
        // At most 32 bits: both ends fit.
        Ok(Levels { min: min as i32, max: (min + count - 1) as i32, set: None })
    }

    /// All integers from `min` to `max`, such as −127 to 127.
    ///
    /// # Errors
    /// There are none.
    pub fn range_of(min: i32, max: i32) -> Result<Self> {
        if min > max {
            return Err(Error::bad_input(format!("there are no integers from {min} to {max}")));
        }
        Ok(Levels { min, max, set: None })
    }

    /// Just these integers, such as −1, 0, 1.
    ///
    /// # Errors
    /// There are none.
    pub fn set(mut values: Vec<i32>) -> Result<Self> {
        values.sort_unstable();
        values.dedup();
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Err(Error::bad_input("a set of levels is empty"));
        };
        Ok(Levels { min, max, set: Some(values) })
    }

    /// The smallest and the largest level.
    pub fn range(&self) -> (i32, i32) {
        (self.min, self.max)
    }

    /// The fewest bits that tell all levels apart, at least 1.
    pub fn bits(&self) -> u32 {
        let count = self.set.as_ref().map_or(i64::from(self.max) - i64::from(self.min) + 1, |s| s.len() as i64);
        (64 - (count - 1).max(1).leading_zeros()).max(1)
    }

    /// The level nearest to `v`; of two equally near ones the even one, as ONNX rounds, or the lower one where there are gaps.
    pub fn nearest(&self, v: f32) -> i32 {
        let Some(set) = &self.set else {
            // Casts from float saturate.
            return (v.round_ties_even() as i32).clamp(self.min, self.max);
        };
        let after = set.partition_point(|&l| (l as f32) < v);
        match (after.checked_sub(1).and_then(|i| set.get(i)), set.get(after)) {
            (Some(&below), Some(&above)) => {
                let (down, up) = (f64::from(v) - f64::from(below), f64::from(above) - f64::from(v));
                let tie_goes_up = above - below == 1 && above % 2 == 0;
                if up < down || (up == down && tie_goes_up) { above } else { below }
            }
            (Some(&level), None) | (None, Some(&level)) => level,
            (None, None) => 0,
        }
    }
}

/// How a tensor is encoded, with everything that is needed to read and to write its elements.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoding {
    /// Numbers as they are.
    Float(FloatFormat),
    /// Integers with scales.
    Quantized(Quantized),
}

impl Encoding {
    /// What sort of code it is, without scales and zero points.
    pub fn format(&self) -> Format {
        match self {
            Encoding::Float(f) => Format::Float(*f),
            Encoding::Quantized(q) => {
                Format::Integer { storage: q.storage, bits: q.levels.bits(), scheme: q.scheme(), granularity: Some(q.granularity) }
            }
        }
    }

    /// Bytes of a tensor of `shape` in a file: elements packed as the storage packs them, scales and zero points.
    ///
    /// # Errors
    /// The encoding does not fit the shape.
    pub fn storage_bytes(&self, shape: &[usize]) -> Result<u64> {
        match self {
            Encoding::Float(f) => Ok(count(shape)? as u64 * u64::from(f.bits()) / 8),
            Encoding::Quantized(q) => q.storage_bytes(shape),
        }
    }
}

/// Integers, the numbers they stand for, and where they are stored. What is in here is consistent: scales are finite and
/// above zero, zero points lie within the levels, the levels within the storage, and there are as many zero points as scales.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    storage: Storage,
    levels: Levels,
    granularity: Granularity,
    scales: Vec<f32>,
    scale_format: FloatFormat,
    /// Empty: all are 0.
    zero_points: Vec<i32>,
}

impl Quantized {
    /// Scales and zero points stand in row-major order of the grid of groups: one for the whole tensor, one per entry of an
    /// axis, or (blocks) the tensor's shape with the blocked axis divided by the block size. `zero_points` may be empty: then
    /// all are 0.
    ///
    /// # Errors
    /// A scale is not finite or not above zero, a zero point is no level's neighbour (outside their range), the levels do not
    /// fit the storage, or the numbers of scales and zero points do not fit the granularity or each other.
    pub fn new(storage: Storage, levels: Levels, granularity: Granularity, scales: Vec<f32>, zero_points: Vec<i32>) -> Result<Self> {
        let (low, high) = storage.range();
        let (min, max) = levels.range();
        if min < low || max > high {
            return Err(Error::bad_input(format!("levels from {min} to {max} do not fit {}", storage.name())));
        }
        if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(Error::bad_input(format!("a scale is {bad}")).hint("scales must be finite and above zero"));
        }
        if let Some(bad) = zero_points.iter().find(|z| !(min..=max).contains(*z)) {
            return Err(Error::bad_input(format!("the zero point {bad} is outside the levels {min} to {max}")));
        }
        let fits = match granularity {
            Granularity::Tensor => scales.len() == 1,
            Granularity::Axis(_) => !scales.is_empty(),
            Granularity::Block { size, .. } => !scales.is_empty() && size > 0,
        };
        if !fits {
            return Err(Error::bad_input(format!("{} scales do not fit one code {granularity}", scales.len())));
        }
        if !zero_points.is_empty() && zero_points.len() != scales.len() {
            return Err(Error::bad_input(format!("{} zero points do not fit {} scales", zero_points.len(), scales.len())));
        }
        Ok(Quantized { storage, levels, granularity, scales, scale_format: FloatFormat::F32, zero_points })
    }

    /// The same with the scales stored in another format (their values must be exact in it; this does not round).
    pub fn with_scale_format(self, scale_format: FloatFormat) -> Self {
        Quantized { scale_format, ..self }
    }

    /// A bias of a product of quantized factors: int32, zero point 0, scales s_x·s_w along the bias's only axis, as
    /// integer kernels add it to their sums.
    ///
    /// # Errors
    /// A product of scales is not finite or not above zero.
    pub fn bias(input_scale: f32, weight_scales: &[f32]) -> Result<Self> {
        let scales = weight_scales.iter().map(|s| input_scale * s).collect();
        let granularity = if weight_scales.len() == 1 { Granularity::Tensor } else { Granularity::Axis(0) };
        Quantized::new(Storage::I32, Levels::of_bits(Storage::I32, 32)?, granularity, scales, Vec::new())
    }

    /// Where the integers are stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Which integers may occur.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Which elements share a scale.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// Scales, one per group.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Zero point of each group; empty when all are 0.
    pub fn zero_points(&self) -> &[i32] {
        &self.zero_points
    }

    /// Symmetric when zero is the middle of the storage's range for every group: 0 of signed integers, 128 of uint8.
    pub fn scheme(&self) -> Scheme {
        let middle = self.storage.middle();
        let all = if self.zero_points.is_empty() { middle == 0 } else { self.zero_points.iter().all(|&z| z == middle) };
        if all { Scheme::Symmetric } else { Scheme::Asymmetric }
    }
}

/// Number of elements of a shape.
fn count(shape: &[usize]) -> Result<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .ok_or_else(|| Error::bad_input(format!("a tensor of shape {shape:?} is too large")))
}

#[cfg(test)]
mod tests;
