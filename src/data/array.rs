//! Raw bytes of an array to a [`Tensor`], with every size checked before anything is read.

use super::source::broken;
use crate::tensor::{DType, Data, Tensor, map_data};
use crate::{Error, Result};
use std::io::Read;

/// The most one array may take in memory. Larger declared sizes are refused before reading: a compressed file of a few
/// megabytes can declare, and deliver, gigabytes.
pub(super) const MAX_ARRAY_BYTES: u64 = 4 << 30;

/// Order of the bytes of one element in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// Order of the elements in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The last index runs fastest, as in a [`Tensor`].
    C,
    /// The first index runs fastest.
    Fortran,
}

/// What a file's header says of its array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) dtype: DType,
    pub(super) endian: Endian,
    pub(super) order: Order,
    pub(super) dims: Vec<u64>,
}

impl Layout {
    /// Reads the elements, which must be all that is left in `reader`.
    pub(super) fn read(self, mut reader: impl Read, limit: u64) -> Result<Tensor> {
        let too_large = || {
            Error::bad_input(format!("the array is said to be {:?} of {}, more than can be loaded", self.dims, self.dtype.name()))
                .hint(format!("at most {limit} bytes an array; split the data into smaller parts"))
        };
        let bytes = self.dims.iter().try_fold(self.dtype.size() as u64, |n, &d| n.checked_mul(d));
        let bytes = bytes.filter(|&b| b <= limit).ok_or_else(too_large)?;
        // A zero among huge dimensions passes the product; each has to be a size by itself.
        let shape: Vec<usize> = self.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>().map_err(|_| too_large())?;
        // The buffer grows with what arrives: a header that lies costs nothing.
        let mut buffer = Vec::new();
        reader.by_ref().take(bytes).read_to_end(&mut buffer).map_err(broken)?;
        if (buffer.len() as u64) < bytes {
            return Err(Error::bad_input(format!("the file ends after {} of {bytes} bytes of the array", buffer.len())));
        }
        // Reading to the end makes the decompressor check its checksum.
        if reader.read(&mut [0]).map_err(broken)? != 0 {
            return Err(Error::bad_input(format!("the file goes on after the {bytes} bytes its header declares")));
        }
        let data = decode(self.dtype, self.endian, buffer)?;
        let data = if self.order == Order::Fortran { row_major(data, &shape) } else { data };
        Tensor::new(shape, data)
    }
}

fn decode(dtype: DType, endian: Endian, bytes: Vec<u8>) -> Result<Data> {
    macro_rules! elements {
        ($type:ty) => {{
            let (chunks, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
            match endian {
                Endian::Little => chunks.iter().map(|&b| <$type>::from_le_bytes(b)).collect(),
                Endian::Big => chunks.iter().map(|&b| <$type>::from_be_bytes(b)).collect(),
            }
        }};
    }
    Ok(match dtype {
        DType::U8 => Data::U8(bytes),
        DType::I8 => Data::I8(elements!(i8)),
        DType::I16 => Data::I16(elements!(i16)),
        DType::I32 => Data::I32(elements!(i32)),
        DType::I64 => Data::I64(elements!(i64)),
        DType::F32 => Data::F32(elements!(f32)),
        DType::F64 => Data::F64(elements!(f64)),
        _ => return Err(Error::bad_input(format!("arrays of {} are not supported", dtype.name()))),
    })
}

/// From the first index running fastest to the last.
fn row_major(data: Data, shape: &[usize]) -> Data {
    map_data!(data, v => transpose(&v, shape))
}

fn transpose<T: Copy>(from: &[T], shape: &[usize]) -> Vec<T> {
    let stride_of = |next: &mut usize, &d: &usize| {
        let stride = *next;
        *next *= d;
        Some(stride)
    };
    let strides: Vec<usize> = shape.iter().scan(1, stride_of).collect();
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    let mut out = Vec::with_capacity(from.len());
    for _ in 0..from.len() {
        out.push(from[at]);
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
