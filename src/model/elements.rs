//! Elements of a stored tensor, a few at a time: large weights are looked at without a copy of the whole.

use crate::onnx::{dtype_from_onnx, pb};
use crate::tensor::DType;
use crate::{Error, Result};

/// Elements that are looked at together.
pub(super) const CHUNK: usize = 4096;

/// How the integers of packed storage lie in their bytes: rows of `row` elements, cut into blocks that start at bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    pub(super) row: usize,
    pub(super) block: usize,
    pub(super) bits: usize,
}

/// A stored tensor, checked to hold as many elements as it says.
#[derive(Clone, Copy)]
pub(super) struct Elements<'m> {
    proto: &'m pb::TensorProto,
    dtype: DType,
    packing: Option<Packing>,
    len: usize,
}

impl<'m> Elements<'m> {
    /// The elements of `proto`.
    ///
    /// # Errors
    /// Its type is not computed with here, or its data is not there.
    pub(super) fn new(proto: &'m pb::TensorProto) -> Result<Self> {
        let dtype = dtype_from_onnx(proto.data_type())
            .ok_or_else(|| Error::bad_input(format!("tensor `{}`: element type {} is not supported", proto.name(), proto.data_type())))?;
        let len = dims(proto).iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| Self::holds(proto, dtype, n));
        let len = len.ok_or_else(|| Error::bad_input(format!("tensor `{}`: its dimensions do not fit the data it holds", proto.name())))?;
        Ok(Elements { proto, dtype, packing: None, len })
    }

    /// The `rows × packing.row` integers of packed storage.
    ///
    /// # Errors
    /// The tensor holds fewer bytes.
    pub(super) fn packed(proto: &'m pb::TensorProto, rows: usize, packing: Packing) -> Result<Self> {
        let blob = (packing.block * packing.bits).div_ceil(8);
        let bytes = rows.checked_mul(packing.row.div_ceil(packing.block.max(1))).and_then(|n| n.checked_mul(blob));
        if packing.block == 0 || bytes.is_none_or(|n| n > Self::new(proto).map_or(0, |e| e.len)) {
            return Err(Error::bad_input(format!("tensor `{}` holds fewer packed weights than it should", proto.name())));
        }
        Ok(Elements { proto, dtype: DType::U8, packing: Some(packing), len: rows * packing.row })
    }

    fn holds(t: &pb::TensorProto, dtype: DType, n: usize) -> bool {
        let fields = match dtype {
            DType::F32 => t.float_data.len() == n,
            DType::F64 => t.double_data.len() == n,
            DType::I64 => t.int64_data.len() == n,
            DType::U32 | DType::U64 => t.uint64_data.len() == n,
            DType::I4 | DType::U4 => t.int32_data.len() == n.div_ceil(2),
            _ => t.int32_data.len() == n,
        };
        if t.raw_data.is_some() { dtype.packed_len(n) == Some(t.raw_data().len()) } else { fields }
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Element type as it is stored.
    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }

    /// Calls `f` with the elements as numbers, up to [`CHUNK`] at a time.
    pub(super) fn for_each_chunk(&self, mut f: impl FnMut(usize, &[f64])) {
        let mut buffer = vec![0.0; CHUNK.min(self.len)];
        let mut start = 0;
        while start < self.len {
            let n = buffer.len().min(self.len - start);
            self.read(start, &mut buffer[..n]);
            f(start, &buffer[..n]);
            start += n;
        }
    }

    /// The elements from `start` on as numbers; what lies beyond the end stays as it is. All types but 64-bit integers are exact.
    pub(super) fn read(&self, start: usize, out: &mut [f64]) {
        let t = self.proto;
        let end = (start + out.len()).min(self.len);
        let bytes = t.raw_data();
        macro_rules! number {
            ($ty:ty, $fields:expr, $convert:expr) => {{
                let convert = $convert;
                if t.raw_data.is_some() {
                    let elements = bytes.as_chunks::<{ size_of::<$ty>() }>().0;
                    let elements = elements.get(start..end).unwrap_or(&[]);
                    out.iter_mut().zip(elements).for_each(|(o, b)| *o = convert(<$ty>::from_le_bytes(*b)));
                } else {
                    let elements = $fields.get(start..end).unwrap_or(&[]);
                    out.iter_mut().zip(elements).for_each(|(o, &v)| *o = convert(v as $ty));
                }
            }};
        }
        let byte = |i: usize| if t.raw_data.is_some() { bytes.get(i).copied() } else { t.int32_data.get(i).map(|&v| v as u8) }.unwrap_or(0);
        if let Some(p) = self.packing {
            let (blocks, blob) = (p.row.div_ceil(p.block), (p.block * p.bits).div_ceil(8));
            let mask = ((1u16 << p.bits) - 1) as u8;
            for (o, i) in out.iter_mut().zip(start..end) {
                let (row, column) = (i / p.row, i % p.row);
                let bit = column % p.block * p.bits;
                let at = (row * blocks + column / p.block) * blob + bit / 8;
                *o = f64::from(byte(at) >> (bit % 8) & mask);
            }
            return;
        }
        match self.dtype {
            DType::F32 => number!(f32, t.float_data, f64::from),
            DType::F64 => number!(f64, t.double_data, |v: f64| v),
            DType::F16 => number!(u16, t.int32_data, |v: u16| f64::from(super::eval::f32_from_f16(v))),
            DType::BF16 => number!(u16, t.int32_data, |v: u16| f64::from(super::eval::f32_from_bf16(v))),
            DType::I8 => number!(i8, t.int32_data, f64::from),
            DType::U8 | DType::Bool => number!(u8, t.int32_data, f64::from),
            DType::I16 => number!(i16, t.int32_data, f64::from),
            DType::U16 => number!(u16, t.int32_data, f64::from),
            DType::I32 => number!(i32, t.int32_data, f64::from),
            DType::I64 => number!(i64, t.int64_data, |v: i64| v as f64),
            DType::U32 => number!(u32, t.uint64_data, f64::from),
            DType::U64 => number!(u64, t.uint64_data, |v: u64| v as f64),
            DType::U4 | DType::I4 => {
                for (o, i) in out.iter_mut().zip(start..end) {
                    let half = byte(i / 2) >> (i % 2 * 4) & 0xf;
                    *o = if self.dtype == DType::U4 { f64::from(half) } else { f64::from(((half << 4) as i8) >> 4) };
                }
            }
        }
    }

    /// All elements as float32; for scales, not for weights.
    pub(super) fn to_f32(self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.len);
        self.for_each_chunk(|_, chunk| out.extend(chunk.iter().map(|&v| v as f32)));
        out
    }

    /// All elements as integers; for zero points, not for weights.
    pub(super) fn to_i32(self) -> Vec<i32> {
        let mut out = Vec::with_capacity(self.len);
        self.for_each_chunk(|_, chunk| out.extend(chunk.iter().map(|&v| v as i32)));
        out
    }

    /// The smallest and the largest element; `None` when there are none.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        // The common case at the speed of memory.
        if let (DType::I8, None, raw) = (self.dtype, self.packing, self.proto.raw_data())
            && !raw.is_empty()
        {
            let (low, high) = raw.iter().fold((i8::MAX, i8::MIN), |(l, h), &b| (l.min(b as i8), h.max(b as i8)));
            return Some((low.into(), high.into()));
        }
        let mut range: Option<(f64, f64)> = None;
        self.for_each_chunk(|_, chunk| {
            let all = (f64::INFINITY, f64::NEG_INFINITY);
            let (low, high) = chunk.iter().fold(range.unwrap_or(all), |(l, h), &v| (l.min(v), h.max(v)));
            range = Some((low, high));
        });
        range
    }
}

/// Dimensions of a stored tensor; negative ones, which loading refuses, as 0.
pub(super) fn dims(t: &pb::TensorProto) -> Vec<usize> {
    t.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect()
}
