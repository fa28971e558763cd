//! Numbers to integers and back, and integers to the bytes of a file.

use super::{Granularity, Quantized, Storage, count};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// Which group (index into scales) each element of a tensor belongs to.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) enum Grouping {
    One,
    Axis { length: usize, inner: usize },
    Block { length: usize, inner: usize, size: usize },
}

impl Grouping {
    /// For a tensor of `shape` with `scales` groups. All lengths in a grouping are above 0 when the tensor has elements.
    pub(in crate::model) fn new(granularity: Granularity, shape: &[usize], scales: usize) -> Result<Self> {
        let total = count(shape)?;
        let along = |axis: usize| {
            let length = *shape.get(axis)?;
            Some((length, shape[axis + 1..].iter().product::<usize>()))
        };
        let found = match granularity {
            Granularity::Tensor => Some((Grouping::One, 1)),
            Granularity::Axis(axis) => along(axis).map(|(length, inner)| (Grouping::Axis { length, inner }, length)),
            Granularity::Block { axis, size } => along(axis).filter(|_| size > 0).map(|(length, inner)| {
                let outer = total.checked_div(length * inner).unwrap_or(0);
                (Grouping::Block { length, inner, size }, outer * length.div_ceil(size) * inner)
            }),
        };
        match found {
            Some((grouping, expected)) if expected == scales => Ok(grouping),
            Some(_) => Err(Error::bad_input(format!("{scales} scales {granularity} do not fit a tensor of shape {shape:?}"))),
            None => Err(Error::bad_input(format!("a tensor of shape {shape:?} has no such axis: scales {granularity}"))),
        }
    }

    /// The group of element `index` in row-major order.
    pub(in crate::model) fn of(&self, index: usize) -> usize {
        match *self {
            Grouping::One => 0,
            Grouping::Axis { length, inner } => index / inner % length,
            Grouping::Block { length, inner, size } => {
                let (row, place) = (index / inner / length, index / inner % length);
                (row * length.div_ceil(size) + place / size) * inner + index % inner
            }
        }
    }
}

impl Granularity {
    /// Dimensions of the scales of a tensor of `shape`: none for one scale, the axis's length, or the tensor's with the blocked
    /// axis counted in blocks.
    ///
    /// # Errors
    /// There is no such axis, or blocks have no elements.
    pub fn grid(self, shape: &[usize]) -> Result<Vec<usize>> {
        let grid = match self {
            Granularity::Tensor => Some(Vec::new()),
            Granularity::Axis(axis) => shape.get(axis).map(|&d| vec![d]),
            Granularity::Block { axis, size } => shape.get(axis).filter(|_| size > 0).map(|d| {
                let mut grid = shape.to_vec();
                grid[axis] = d.div_ceil(size);
                grid
            }),
        };
        grid.ok_or_else(|| Error::bad_input(format!("a tensor of shape {shape:?} has no such axis: scales {self}")))
    }

    /// The elements of a tensor, group by group in the order of their scales.
    ///
    /// ```
    /// use joulefront::{model::Granularity, tensor::Tensor};
    /// let x = Tensor::f32([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    /// let blocks = Granularity::Block { axis: 1, size: 2 };
    /// assert_eq!(blocks.grid(x.shape()).unwrap(), [2, 2]);
    /// assert_eq!(blocks.groups(&x).unwrap(), [vec![1.0, 2.0], vec![3.0], vec![4.0, 5.0], vec![6.0]]);
    /// ```
    ///
    /// # Errors
    /// The tensor is not float32, or has no such axis.
    pub fn groups(self, x: &Tensor) -> Result<Vec<Vec<f32>>> {
        let count = self.grid(x.shape())?.iter().product();
        let grouping = Grouping::new(self, x.shape(), count)?;
        let mut groups = vec![Vec::new(); count];
        x.as_f32()?.iter().enumerate().for_each(|(i, &v)| groups[grouping.of(i)].push(v));
        Ok(groups)
    }
}

impl Quantized {
    /// Checks that the scales fit a tensor of that shape.
    ///
    /// # Errors
    /// They do not: the message states both.
    pub fn check_fits(&self, shape: &[usize]) -> Result<()> {
        Grouping::new(self.granularity, shape, self.scales.len()).map(drop)
    }

    fn zero_point(&self, group: usize) -> i32 {
        self.zero_points.get(group).copied().unwrap_or(0)
    }

    /// The nearest level of each number: clamp(round(x / s) + z), ties to even, as ONNX's QuantizeLinear. The result has
    /// the storage's element type, uint8 for packed storage, one element per integer ([`Quantized::pack`] packs them).
    ///
    /// # Errors
    /// The tensor is not float32, holds NaN, or the scales do not fit its shape.
    pub fn quantize(&self, x: &Tensor) -> Result<Tensor> {
        let grouping = Grouping::new(self.granularity, x.shape(), self.scales.len())?;
        let values = x.as_f32()?;
        if values.iter().any(|v| v.is_nan()) {
            return Err(Error::bad_input("a tensor with NaN cannot be quantized"));
        }
        let place = |(i, &v): (usize, &f32)| {
            let g = grouping.of(i);
            // Rounded before the zero point is added, so that one value rounds alike whatever its zero point.
            let steps = v / self.scales[g];
            let z = self.zero_point(g);
            match self.levels.set {
                None => self.levels.nearest(steps.round_ties_even() + z as f32),
                Some(_) => self.levels.nearest(steps + z as f32),
            }
        };
        // Levels lie within the storage, so no cast below loses anything.
        let levels = values.iter().enumerate().map(place);
        let data = match self.storage {
            Storage::I4 => Data::I4(levels.map(|q| q as i8).collect()),
            Storage::U4 => Data::U4(levels.map(|q| q as u8).collect()),
            Storage::I8 => Data::I8(levels.map(|q| q as i8).collect()),
            Storage::U8 | Storage::Packed2 | Storage::Packed4 | Storage::Packed8 => Data::U8(levels.map(|q| q as u8).collect()),
            Storage::I16 => Data::I16(levels.map(|q| q as i16).collect()),
            Storage::U16 => Data::U16(levels.map(|q| q as u16).collect()),
            Storage::I32 => Data::I32(levels.collect()),
        };
        Tensor::new(x.shape().to_vec(), data)
    }

    /// (q − z)·s of each integer, in float32.
    ///
    /// # Errors
    /// The tensor does not have the storage's element type, or the scales do not fit its shape.
    pub fn dequantize(&self, q: &Tensor) -> Result<Tensor> {
        let grouping = Grouping::new(self.granularity, q.shape(), self.scales.len())?;
        let value = |(i, q): (usize, i32)| {
            let g = grouping.of(i);
            q.wrapping_sub(self.zero_point(g)) as f32 * self.scales[g]
        };
        fn wide<T: Copy + Into<i32>>(v: &[T]) -> impl Iterator<Item = (usize, i32)> {
            v.iter().map(|&q| q.into()).enumerate()
        }
        let values = match (self.storage, q.data()) {
            (Storage::I4, Data::I4(v)) | (Storage::I8, Data::I8(v)) => wide(v).map(value).collect(),
            (Storage::U4, Data::U4(v)) => wide(v).map(value).collect(),
            (Storage::U8 | Storage::Packed2 | Storage::Packed4 | Storage::Packed8, Data::U8(v)) => wide(v).map(value).collect(),
            (Storage::I16, Data::I16(v)) => wide(v).map(value).collect(),
            (Storage::U16, Data::U16(v)) => wide(v).map(value).collect(),
            (Storage::I32, Data::I32(v)) => wide(v).map(value).collect(),
            _ => return Err(Error::bad_input(format!("{} integers do not come as {}", self.storage.name(), q.dtype().name()))),
        };
        Tensor::f32(q.shape(), values)
    }

    /// Bytes of a tensor of `shape` with its scales and zero points, as a file holds them.
    ///
    /// # Errors
    /// The scales do not fit the shape.
    pub fn storage_bytes(&self, shape: &[usize]) -> Result<u64> {
        self.check_fits(shape)?;
        let packed = |n: usize| (n as u64 * u64::from(self.storage.bits())).div_ceil(8);
        let (elements, zeros) = match self.granularity {
            Granularity::Block { axis, size } if self.storage.is_packed() => {
                let length = shape.get(axis).copied().unwrap_or(1);
                let (rows, blocks) = (count(shape)?.checked_div(length).unwrap_or(0), length.div_ceil(size));
                (rows as u64 * blocks as u64 * packed(size), rows as u64 * packed(blocks))
            }
            _ => (packed(count(shape)?), packed(self.zero_points.len())),
        };
        let zeros = if self.zero_points.is_empty() { 0 } else { zeros };
        Ok(elements + zeros + self.scales.len() as u64 * u64::from(self.scale_format.bits() / 8))
    }

    /// The integers as a file holds them: little-endian; two of 4 bits share a byte, the first in its lower half; in packed
    /// storage each block starts at a byte and a last, shorter one is filled up with its zero point.
    ///
    /// # Errors
    /// The tensor is not what [`Quantized::quantize`] gives, or packed storage has no blocks along its last axis.
    pub fn pack(&self, q: &Tensor) -> Result<Vec<u8>> {
        if !self.storage.is_packed() {
            return match (self.storage, q.data()) {
                (Storage::I4, Data::I4(v)) => Ok(nibbles(v.iter().map(|&q| q as u8))),
                (Storage::U4, Data::U4(v)) => Ok(nibbles(v.iter().copied())),
                (storage, _) if Storage::of(q.dtype()) == Some(storage) => Ok(crate::onnx::elements_to_le(q.data())),
                _ => Err(Error::bad_input(format!("{} integers do not come as {}", self.storage.name(), q.dtype().name()))),
            };
        }
        let last = q.shape().len().checked_sub(1);
        let (Granularity::Block { axis, size }, Data::U8(v)) = (self.granularity, q.data()) else {
            return Err(Error::bad_input("packed storage needs blocks of unsigned integers"));
        };
        if Some(axis) != last {
            return Err(Error::bad_input("packed storage has its blocks along the last axis"));
        }
        self.check_fits(q.shape())?;
        let bits = self.storage.bits() as usize;
        let rows = v.chunks(q.shape()[axis].max(1));
        let blocks = rows.flat_map(|row| row.chunks(size));
        Ok(blocks
            .enumerate()
            .flat_map(|(g, block)| {
                let fill = self.zero_point(g) as u8;
                let mut bytes = vec![0u8; (size * bits).div_ceil(8)];
                for i in 0..size {
                    bytes[i * bits / 8] |= block.get(i).copied().unwrap_or(fill) << (i * bits % 8);
                }
                bytes
            })
            .collect())
    }
}

/// Two 4-bit values to a byte, the first in the lower half.
fn nibbles(values: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, v) in values.enumerate() {
        match out.last_mut() {
            Some(byte) if i % 2 == 1 => *byte |= v << 4,
            _ => out.push(v & 0xF),
        }
    }
    out
}
