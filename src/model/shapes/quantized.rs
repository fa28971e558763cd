//! Quantization: integers and back.

use super::args::{Args, Rule, one};
use crate::tensor::DType;

/// `QuantizeLinear`: the type of the zero point, else the attribute, else uint8.
pub(super) fn quantize(args: &Args) -> Rule {
    let named = args.dtype("output_dtype")?;
    let dtype = args.optional(2)?.and_then(|z| z.dtype).or(named).unwrap_or(DType::U8);
    one(dtype, args.shape(0)?)
}

/// `DequantizeLinear`: the type of the scale.
pub(super) fn dequantize(args: &Args) -> Rule {
    one(args.input(1)?.dtype, args.shape(0)?)
}

/// `DynamicQuantizeLinear`: uint8, scale, zero point.
pub(super) fn dynamic(args: &Args) -> Rule {
    Ok([one(DType::U8, args.shape(0)?)?, one(DType::F32, [])?, one(DType::U8, [])?].concat())
}

/// `QLinearAdd` and `QLinearMul` (com.microsoft): each operand with scale and zero point.
pub(super) fn binary(args: &Args) -> Rule {
    one(args.input(0)?.dtype, crate::model::eval::broadcast(args.shape(0)?, args.shape(3)?)?)
}
