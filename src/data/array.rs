//! Arrays as files hold them: the layout their header declares, with every size checked before anything is read, and rows
//! of them on demand.

use super::bytes::{Bytes, Limits, Spool};
use super::source::broken;
use crate::tensor::DType;
use crate::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::ops::Range;

/// Order of the bytes of one element in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// Order of the elements in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The last index runs fastest, as in a [`crate::tensor::Tensor`].
    C,
    /// The first index runs fastest.
    Fortran,
}

/// How one number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) dtype: DType,
    pub(super) endian: Endian,
}

/// What a file's header says of its array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) element: Element,
    pub(super) order: Order,
    pub(super) dims: Vec<u64>,
}

/// An array of rows (the first axis), last index fastest, whose elements are read when they are asked for.
#[derive(Debug)]
pub(super) struct Array {
    element: Element,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl Layout {
    /// Takes the elements, which must be all that is left in `reader`, out of a stream.
    pub(super) fn unpack(self, reader: &mut impl Read, limits: Limits) -> Result<Array> {
        let (shape, length) = self.sizes(limits.unpacked)?;
        let mut spool = Spool::new(limits);
        spool.fill(reader, length)?;
        self.same_length(spool.length(), length)?;
        // Reading to the end makes the decompressor check its checksum.
        if reader.read(&mut [0]).map_err(broken)? != 0 {
            return Err(longer(length));
        }
        self.array(shape, spool.finish(), length)
    }

    /// The elements that fill `file` from byte `start` to byte `end`; they stay where they are.
    pub(super) fn in_file(self, file: File, start: u64, end: u64) -> Result<Array> {
        // Only those in another order have to be taken to memory.
        let limit = if self.order == Order::C { i64::MAX as u64 } else { Limits::USUAL.unpacked };
        let (shape, length) = self.sizes(limit)?;
        let there = end.saturating_sub(start);
        self.same_length(there, length)?;
        if there > length {
            return Err(longer(length));
        }
        self.array(shape, Bytes::File(file, start), length)
    }

    /// Dimensions and bytes of the whole, at most `limit`.
    fn sizes(&self, limit: u64) -> Result<(Vec<usize>, u64)> {
        let Element { dtype, .. } = self.element;
        let too_large = || {
            Error::bad_input(format!("the array is said to be {:?} of {}, more than can be loaded", self.dims, dtype.name()))
                .hint(format!("at most {limit} bytes a compressed array; store it uncompressed or in smaller parts"))
        };
        let bytes = self.dims.iter().try_fold(dtype.size() as u64, |n, &d| n.checked_mul(d));
        let bytes = bytes.filter(|&b| b <= limit).ok_or_else(too_large)?;
        // A zero among huge dimensions passes the product; each has to be a size by itself.
        let shape = self.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>().map_err(|_| too_large())?;
        Ok((shape, bytes))
    }

    fn same_length(&self, there: u64, declared: u64) -> Result<()> {
        if there < declared {
            return Err(Error::bad_input(format!("the file ends after {there} of {declared} bytes of the array")));
        }
        Ok(())
    }

    fn array(self, shape: Vec<usize>, bytes: Bytes, length: u64) -> Result<Array> {
        let bytes = match self.order {
            Order::C => bytes,
            Order::Fortran => {
                // `sizes` has bounded it.
                let mut all = vec![0; length as usize];
                bytes.read_at(0, &mut all)?;
                Bytes::Memory(transposed(&all, self.element.dtype.size(), &shape))
            }
        };
        Ok(Array { element: self.element, shape, bytes })
    }
}

fn longer(declared: u64) -> Error {
    Error::bad_input(format!("the file goes on after the {declared} bytes its header declares"))
}

/// From the first index running fastest to the last; `size` bytes an element.
fn transposed(from: &[u8], size: usize, shape: &[usize]) -> Vec<u8> {
    let stride_of = |next: &mut usize, &d: &usize| {
        let stride = *next;
        *next *= d;
        Some(stride)
    };
    let strides: Vec<usize> = shape.iter().scan(size, stride_of).collect();
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    let mut out = Vec::with_capacity(from.len());
    for _ in 0..from.len() / size {
        out.extend_from_slice(&from[at..at + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    out
}

impl Array {
    /// An array in memory or on disk that this program wrote: `bytes` holds exactly `shape` elements.
    pub(super) fn own(dtype: DType, shape: Vec<usize>, bytes: Bytes) -> Self {
        Array { element: Element { dtype, endian: Endian::Little }, shape, bytes }
    }

    /// The same elements along one axis.
    pub(super) fn flat(self) -> Self {
        Array { shape: vec![self.shape.iter().product()], ..self }
    }

    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// Dimensions, rows first.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Puts the bytes of a range of rows, which must be there, in place of those in `buffer`.
    pub(super) fn read(&self, rows: Range<usize>, buffer: &mut Vec<u8>) -> Result<()> {
        let each = self.shape.iter().skip(1).product::<usize>() * self.element.dtype.size();
        buffer.clear();
        buffer.resize(rows.len() * each, 0);
        self.bytes.read_at(rows.start as u64 * each as u64, buffer)
    }
}

/// Calls `$each` with every element, in its own type as `$v`, of the bytes of whole elements.
macro_rules! for_each {
    ($element:expr, $bytes:expr, $v:ident => $each:expr) => {{
        macro_rules! numbers {
            ($type:ty) => {{
                let (chunks, _) = $bytes.as_chunks::<{ size_of::<$type>() }>();
                match $element.endian {
                    Endian::Little => chunks.iter().map(|&b| <$type>::from_le_bytes(b)).for_each(|$v| $each),
                    Endian::Big => chunks.iter().map(|&b| <$type>::from_be_bytes(b)).for_each(|$v| $each),
                }
            }};
        }
        match $element.dtype {
            DType::U8 | DType::Bool => numbers!(u8),
            DType::I8 => numbers!(i8),
            DType::I16 => numbers!(i16),
            DType::I32 => numbers!(i32),
            DType::I64 => numbers!(i64),
            DType::U16 => numbers!(u16),
            DType::U32 => numbers!(u32),
            DType::U64 => numbers!(u64),
            DType::F32 => numbers!(f32),
            DType::F64 => numbers!(f64),
            // No reader yields these.
            DType::F16 | DType::BF16 | DType::I4 | DType::U4 => {}
        }
    }};
}

impl Element {
    /// Every element as float64 (exact but for integers beyond 2⁵³).
    #[allow(clippy::unnecessary_cast, reason = "necessary for all element types but one")]
    pub(super) fn floats(self, bytes: &[u8], mut each: impl FnMut(f64)) {
        for_each!(self, bytes, v => each(v as f64));
    }

    /// Every element of an integer type.
    #[allow(clippy::unnecessary_cast, reason = "necessary for all element types but one")]
    pub(super) fn integers(self, bytes: &[u8], mut each: impl FnMut(i128)) {
        for_each!(self, bytes, v => each(v as i128));
    }
}
