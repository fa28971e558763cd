//! Tensors from and to ONNX Runtime's values.

use super::refused;
use crate::engine::Spec;
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor as Native};
use std::fmt::Debug;

/// Refuses element types that cannot be passed to ONNX Runtime.
///
/// # Errors
/// Four-bit integers.
pub(super) fn check(spec: &Spec) -> Result<()> {
    match spec.dtype {
        DType::I4 | DType::U4 => Err(Error::engine(format!(
            "ort cannot run this model here: `{}` has the type {}, which is known for weights only",
            spec.name,
            spec.dtype.name()
        ))
        .hint("export the model with 8-bit integers there")),
        _ => Ok(()),
    }
}

/// A value with a copy of the elements.
///
/// # Errors
/// The element type cannot be passed.
pub(super) fn to_native(t: &Tensor) -> Result<SessionInputValue<'static>> {
    fn value<T: PrimitiveTensorElementType + Debug + Clone + 'static>(t: &Tensor, v: Vec<T>) -> Result<SessionInputValue<'static>> {
        Native::from_array((t.shape(), v)).map(SessionInputValue::from).map_err(|e| refused(&e))
    }
    match t.data() {
        Data::F32(v) => value(t, v.clone()),
        Data::F64(v) => value(t, v.clone()),
        Data::F16(v) => value(t, v.iter().map(|&bits| f16::from_bits(bits)).collect()),
        Data::BF16(v) => value(t, v.iter().map(|&bits| bf16::from_bits(bits)).collect()),
        Data::I8(v) => value(t, v.clone()),
        Data::I16(v) => value(t, v.clone()),
        Data::I32(v) => value(t, v.clone()),
        Data::I64(v) => value(t, v.clone()),
        Data::U8(v) => value(t, v.clone()),
        Data::U16(v) => value(t, v.clone()),
        Data::U32(v) => value(t, v.clone()),
        Data::U64(v) => value(t, v.clone()),
        Data::Bool(v) => value(t, v.clone()),
        Data::I4(_) | Data::U4(_) => Err(Error::engine(format!("ort takes no inputs of type {}", t.dtype().name()))),
    }
}

/// The elements of an output.
///
/// # Errors
/// It has another type than `spec`, or none that is supported.
pub(super) fn from_native(value: &DynValue, spec: &Spec) -> Result<Tensor> {
    fn elements<T: PrimitiveTensorElementType + Clone>(value: &DynValue) -> ort::Result<(Vec<usize>, Vec<T>)> {
        let (shape, elements) = value.try_extract_tensor::<T>()?;
        // Dimensions of a value are not negative.
        Ok((shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect(), elements.to_vec()))
    }
    macro_rules! read {
        ($type:ty, $variant:ident) => {
            elements::<$type>(value).map(|(shape, v)| (shape, Data::$variant(v)))
        };
    }
    let read = match spec.dtype {
        DType::F32 => read!(f32, F32),
        DType::F64 => read!(f64, F64),
        DType::F16 => elements::<f16>(value).map(|(shape, v)| (shape, Data::F16(v.into_iter().map(f16::to_bits).collect()))),
        DType::BF16 => elements::<bf16>(value).map(|(shape, v)| (shape, Data::BF16(v.into_iter().map(bf16::to_bits).collect()))),
        DType::I8 => read!(i8, I8),
        DType::I16 => read!(i16, I16),
        DType::I32 => read!(i32, I32),
        DType::I64 => read!(i64, I64),
        DType::U8 => read!(u8, U8),
        DType::U16 => read!(u16, U16),
        DType::U32 => read!(u32, U32),
        DType::U64 => read!(u64, U64),
        DType::Bool => read!(bool, Bool),
        DType::I4 | DType::U4 => return Err(Error::engine(format!("ort gives no outputs of type {}", spec.dtype.name()))),
    };
    let (shape, data) = read.map_err(|e| refused(&e))?;
    Tensor::new(shape, data)
}
