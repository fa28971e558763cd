//! What sort of code a tensor is in: everything but the numbers.

use crate::tensor::DType;
use std::fmt;

/// A floating-point format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatFormat {
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl FloatFormat {
    /// Bits per number.
    pub fn bits(self) -> u32 {
        match self {
            FloatFormat::F16 | FloatFormat::Bf16 => 16,
            FloatFormat::F32 => 32,
            FloatFormat::F64 => 64,
        }
    }

    /// The format of an element type; `None` for integers.
    pub fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::F16 => FloatFormat::F16,
            DType::BF16 => FloatFormat::Bf16,
            DType::F32 => FloatFormat::F32,
            DType::F64 => FloatFormat::F64,
            _ => return None,
        })
    }
}

impl fmt::Display for FloatFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FloatFormat::F16 => "f16",
            FloatFormat::Bf16 => "bf16",
            FloatFormat::F32 => "f32",
            FloatFormat::F64 => "f64",
        })
    }
}

/// Where the integers of a quantized tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// ONNX int4: two to a byte, the first in the lower half.
    I4,
    /// ONNX uint4.
    U4,
    /// int8
    I8,
    /// uint8
    U8,
    /// int16
    I16,
    /// uint16
    U16,
    /// int32, for biases and sums.
    I32,
    /// Unsigned 2-bit integers, four to a byte, each block starting at a byte (`MatMulNBits`).
    Packed2,
    /// Unsigned 4-bit integers, two to a byte, each block starting at a byte (`MatMulNBits`).
    Packed4,
    /// Unsigned 8-bit integers in the layout of `MatMulNBits`.
    Packed8,
}

impl Storage {
    /// Bits per integer.
    pub fn bits(self) -> u32 {
        match self {
            Storage::Packed2 => 2,
            Storage::I4 | Storage::U4 | Storage::Packed4 => 4,
            Storage::I8 | Storage::U8 | Storage::Packed8 => 8,
            Storage::I16 | Storage::U16 => 16,
            Storage::I32 => 32,
        }
    }

    /// True when negative integers can be stored.
    pub fn is_signed(self) -> bool {
        matches!(self, Storage::I4 | Storage::I8 | Storage::I16 | Storage::I32)
    }

    /// True for the layout of `MatMulNBits`, whose blocks start at bytes.
    pub fn is_packed(self) -> bool {
        matches!(self, Storage::Packed2 | Storage::Packed4 | Storage::Packed8)
    }

    /// The smallest and the largest integer that can be stored.
    pub fn range(self) -> (i32, i32) {
        match (self.is_signed(), self.bits()) {
            (true, bits) => (i32::MIN >> (32 - bits), i32::MAX >> (32 - bits)),
            (false, bits) => (0, (1 << bits) - 1),
        }
    }

    /// The integer that symmetric codes take for zero: 0, or half of what unsigned storage holds.
    pub fn middle(self) -> i32 {
        if self.is_signed() { 0 } else { 1 << (self.bits() - 1) }
    }

    /// The storage of an element type; `None` for types that hold no quantized values.
    pub fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::I4 => Storage::I4,
            DType::U4 => Storage::U4,
            DType::I8 => Storage::I8,
            DType::U8 => Storage::U8,
            DType::I16 => Storage::I16,
            DType::U16 => Storage::U16,
            DType::I32 => Storage::I32,
            _ => return None,
        })
    }

    /// How it is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            Storage::I4 => "int4",
            Storage::U4 => "uint4",
            Storage::I8 => "int8",
            Storage::U8 => "uint8",
            Storage::I16 => "int16",
            Storage::U16 => "uint16",
            Storage::I32 => "int32",
            Storage::Packed2 => "packed uint2",
            Storage::Packed4 => "packed uint4",
            Storage::Packed8 => "packed uint8",
        }
    }
}

/// Which elements share a scale and a zero point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// All of the tensor.
    Tensor,
    /// Those with the same index along an axis.
    Axis(usize),
    /// `size` consecutive ones along an axis (the last block may be shorter), at the same place along all others.
    Block {
        /// The axis that is cut into blocks.
        axis: usize,
        /// Elements per block.
        size: usize,
    },
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::Tensor => f.write_str("per tensor"),
            Granularity::Axis(axis) => write!(f, "per axis {axis}"),
            Granularity::Block { size, .. } => write!(f, "block {size}"),
        }
    }
}

/// Where zero is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the middle of the storage's range.
    Symmetric,
    /// Anywhere.
    Asymmetric,
}

/// What sort of code a tensor is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Floating-point numbers.
    Float(FloatFormat),
    /// Integers that stand for numbers.
    Integer {
        /// Where they are stored.
        storage: Storage,
        /// Bits that the values need, at most those of the storage.
        bits: u32,
        /// Where zero is.
        scheme: Scheme,
        /// Which elements share a scale; `None` when the file does not say at this tensor (a scale that is computed).
        granularity: Option<Granularity>,
    },
}

impl Format {
    /// Bits per element.
    pub fn bits(self) -> u32 {
        match self {
            Format::Float(f) => f.bits(),
            Format::Integer { bits, .. } => bits,
        }
    }

    /// True for single precision, what compression starts from.
    pub fn is_f32(self) -> bool {
        self == Format::Float(FloatFormat::F32)
    }

    /// In short, with the axis of scales called "channel" when it is `channel_axis`: `f32`, `i8 per channel`,
    /// `u4 block 32`, `i3 in int8 per channel`.
    pub fn short(self, channel_axis: Option<usize>) -> String {
        let (storage, bits, granularity) = match self {
            Format::Float(f) => return f.to_string(),
            Format::Integer { storage, bits, granularity, .. } => (storage, bits, granularity),
        };
        let sign = if storage.is_signed() { 'i' } else { 'u' };
        let place = if bits < storage.bits() { format!(" in {}", storage.name()) } else { String::new() };
        let shared = match granularity {
            None => String::new(),
            Some(Granularity::Axis(axis)) if Some(axis) == channel_axis => " per channel".into(),
            Some(g) => format!(" {g}"),
        };
        format!("{sign}{bits}{place}{shared}")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short(None))
    }
}
