//! A dense row-major array with its element type: weights, samples, activations.

use crate::{Error, Result};

/// Element type of a [`Tensor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F64,
    F16,
    BF16,
    I4,
    I8,
    I16,
    I32,
    I64,
    U4,
    U8,
    U16,
    U32,
    U64,
    Bool,
}

impl DType {
    /// All element types.
    #[rustfmt::skip]
    pub const ALL: [DType; 15] = [
        DType::F32, DType::F64, DType::F16, DType::BF16, DType::I4, DType::I8, DType::I16, DType::I32, DType::I64,
        DType::U4, DType::U8, DType::U16, DType::U32, DType::U64, DType::Bool,
    ];

    /// Bits per element in a file. In memory an element of 4 bits takes a byte.
    pub fn bits(self) -> usize {
        match self {
            DType::I4 | DType::U4 => 4,
            DType::I8 | DType::U8 | DType::Bool => 8,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 16,
            DType::F32 | DType::I32 | DType::U32 => 32,
            DType::F64 | DType::I64 | DType::U64 => 64,
        }
    }

    /// Bytes per element in memory.
    pub fn size(self) -> usize {
        self.bits().div_ceil(8)
    }

    /// Bytes of `count` elements in a file, where two elements of 4 bits share a byte; `None` when there are too many.
    pub fn packed_len(self, count: usize) -> Option<usize> {
        Some(count.checked_mul(self.bits())?.div_ceil(8))
    }

    /// True for floating-point types.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    }

    /// The name used in `dataset.toml` and messages.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::I4 => "int4",
            DType::I8 => "int8",
            DType::I16 => "int16",
            DType::I32 => "int32",
            DType::I64 => "int64",
            DType::U4 => "uint4",
            DType::U8 => "uint8",
            DType::U16 => "uint16",
            DType::U32 => "uint32",
            DType::U64 => "uint64",
            DType::Bool => "bool",
        }
    }
}

/// The elements of a [`Tensor`]. Half precision (both forms) is kept as its bits, and elements of 4 bits take a byte each.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<u16>),
    BF16(Vec<u16>),
    I4(Vec<i8>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U4(Vec<u8>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

/// Runs the same code over the elements of any type: `with_data!(tensor.data(), v => expression)`.
macro_rules! with_data {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            Data::F32($v) => $body,
            Data::F64($v) => $body,
            Data::F16($v) => $body,
            Data::BF16($v) => $body,
            Data::I4($v) => $body,
            Data::I8($v) => $body,
            Data::I16($v) => $body,
            Data::I32($v) => $body,
            Data::I64($v) => $body,
            Data::U4($v) => $body,
            Data::U8($v) => $body,
            Data::U16($v) => $body,
            Data::U32($v) => $body,
            Data::U64($v) => $body,
            Data::Bool($v) => $body,
        }
    };
}
pub(crate) use with_data;

/// Like [`with_data!`], for code that makes elements of the same type: `map_data!(tensor.data(), v => a vector)` is [`Data`].
macro_rules! map_data {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            Data::F32($v) => Data::F32($body),
            Data::F64($v) => Data::F64($body),
            Data::F16($v) => Data::F16($body),
            Data::BF16($v) => Data::BF16($body),
            Data::I4($v) => Data::I4($body),
            Data::I8($v) => Data::I8($body),
            Data::I16($v) => Data::I16($body),
            Data::I32($v) => Data::I32($body),
            Data::I64($v) => Data::I64($body),
            Data::U4($v) => Data::U4($body),
            Data::U8($v) => Data::U8($body),
            Data::U16($v) => Data::U16($body),
            Data::U32($v) => Data::U32($body),
            Data::U64($v) => Data::U64($body),
            Data::Bool($v) => Data::Bool($body),
        }
    };
}
pub(crate) use map_data;

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        with_data!(self, v => v.len())
    }

    /// True when there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A dense row-major array. The product of `shape` always equals the number of elements; a scalar has an empty shape.
///
/// ```
/// use joulefront::tensor::{Data, Tensor};
/// let t = Tensor::new(vec![2, 3], Data::F32(vec![0.0; 6])).unwrap();
/// assert_eq!(t.shape(), [2, 3]);
/// assert!(Tensor::new(vec![2, 2], Data::I64(vec![1])).is_err());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// Checks that `shape` and `data` agree.
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Self> {
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if count != Some(data.len()) {
            return Err(Error::bad_input(format!("a tensor of shape {shape:?} cannot hold {} elements", data.len())));
        }
        Ok(Tensor { shape, data })
    }

    /// A float tensor; `shape` and `data` must agree.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        Self::new(shape.into(), Data::F32(data))
    }

    /// A rank-1 integer tensor, as shapes and axes are given.
    pub fn i64s(values: Vec<i64>) -> Self {
        Tensor { shape: vec![values.len()], data: Data::I64(values) }
    }

    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Takes the elements out.
    pub fn into_data(self) -> Data {
        self.data
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// True when there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::F32(_) => DType::F32,
            Data::F64(_) => DType::F64,
            Data::F16(_) => DType::F16,
            Data::BF16(_) => DType::BF16,
            Data::I4(_) => DType::I4,
            Data::I8(_) => DType::I8,
            Data::I16(_) => DType::I16,
            Data::I32(_) => DType::I32,
            Data::I64(_) => DType::I64,
            Data::U4(_) => DType::U4,
            Data::U8(_) => DType::U8,
            Data::U16(_) => DType::U16,
            Data::U32(_) => DType::U32,
            Data::U64(_) => DType::U64,
            Data::Bool(_) => DType::Bool,
        }
    }

    /// The same elements under another shape of the same size.
    pub fn reshaped(self, shape: Vec<usize>) -> Result<Self> {
        Self::new(shape, self.data)
    }

    /// The elements as `f32`, or an error that names the type found.
    pub fn as_f32(&self) -> Result<&[f32]> {
        match &self.data {
            Data::F32(v) => Ok(v),
            _ => Err(Error::bad_input(format!("expected a float32 tensor, found {}", self.dtype().name()))),
        }
    }

    /// The elements as mutable `f32`, or an error that names the type found.
    pub fn as_f32_mut(&mut self) -> Result<&mut [f32]> {
        let name = self.dtype().name();
        match &mut self.data {
            Data::F32(v) => Ok(v),
            _ => Err(Error::bad_input(format!("expected a float32 tensor, found {name}"))),
        }
    }

    /// The elements as `i64`, or an error that names the type found.
    pub fn as_i64(&self) -> Result<&[i64]> {
        match &self.data {
            Data::I64(v) => Ok(v),
            _ => Err(Error::bad_input(format!("expected an int64 tensor, found {}", self.dtype().name()))),
        }
    }
}
