//! Operators that make tensors of nothing but numbers: constants, ranges, shapes, random values.

use super::args::{Args, Rule, Stop, dimension, dimensions, floats, one, unknown, wrong};
use crate::onnx::{Attributes, dtype_from_onnx};
use crate::tensor::DType;

/// `ConstantOfShape`: zeros, or copies of `value`.
pub(super) fn constant_of_shape(args: &Args) -> Rule {
    let Some(shape) = args.integers(0)? else { return wrong("the shape is missing") };
    let code = args.node.attr("value").map(|a| a.t.data_type());
    match code.map_or(Some(DType::F32), crate::onnx::dtype_from_onnx) {
        Some(dtype) => one(dtype, dimensions(&shape)?),
        None => unknown("the element type is not one that is computed with here"),
    }
}

/// `Range`: ⌈(limit − start) / delta⌉ numbers. Ranges of floats have few elements in practice and are folded to values.
pub(super) fn range(args: &Args) -> Rule {
    let dtype = args.input(0)?.dtype;
    if dtype.is_some_and(DType::is_float) {
        let bound = |i| Ok::<_, Stop>(args.value(i)?.and_then(floats).and_then(|v| v.first().copied()));
        let (Some(start), Some(limit), Some(delta)) = (bound(0)?, bound(1)?, bound(2)?) else {
            return unknown("the bounds of the range are not numbers");
        };
        let length = ((limit - start) / delta).ceil();
        return if length.is_finite() { one(dtype, [dimension(length.max(0.0) as i128)?]) } else { wrong("the range is endless") };
    }
    let (Some(start), Some(limit), Some(delta)) = (args.integer(0)?, args.integer(1)?, args.integer(2)?) else {
        return wrong("start, limit or delta is missing");
    };
    if delta == 0 {
        return wrong("a range's step is 0");
    }
    let (start, limit, delta) = (i128::from(start), i128::from(limit), i128::from(delta));
    let (span, step) = if delta > 0 { (limit - start, delta) } else { (start - limit, -delta) };
    one(dtype, [dimension(if span <= 0 { 0 } else { (span - 1) / step + 1 })?])
}

/// `Constant`, in whichever attribute it stands.
pub(super) fn constant(args: &Args) -> Rule {
    let attr = |name: &str| args.node.attr(name);
    if let Some(t) = attr("value").and_then(|a| a.t.as_ref()) {
        return one(dtype_from_onnx(t.data_type()), dimensions(&t.dims)?);
    }
    if let Some(s) = attr("sparse_value").and_then(|a| a.sparse_tensor.as_ref()) {
        return one(dtype_from_onnx(s.values.data_type()), dimensions(&s.dims)?);
    }
    let scalar = [("value_int", Some(DType::I64)), ("value_float", Some(DType::F32)), ("value_string", None)];
    if let Some((_, dtype)) = scalar.into_iter().find(|(name, _)| attr(name).is_some()) {
        return one(dtype, []);
    }
    match (attr("value_ints"), attr("value_floats"), attr("value_strings")) {
        (Some(a), _, _) => one(DType::I64, [a.ints.len()]),
        (_, Some(a), _) => one(DType::F32, [a.floats.len()]),
        (_, _, Some(a)) => one(None, [a.strings.len()]),
        _ => wrong("the constant holds nothing"),
    }
}

/// `EyeLike`, `RandomNormalLike`, `Bernoulli`: the shape of the input in the type asked for, else its own.
pub(super) fn like(args: &Args) -> Rule {
    let x = args.input(0)?;
    one(args.dtype("dtype")?.or(x.dtype), x.shape.clone())
}

/// `RandomNormal` and `RandomUniform`: the shape is an attribute.
pub(super) fn random(args: &Args) -> Rule {
    let Some(shape) = args.node.ints("shape") else { return wrong("`shape` is missing") };
    one(args.dtype("dtype")?.unwrap_or(DType::F32), dimensions(shape)?)
}

/// `Shape` and `Size` of a tensor that is not known: of one that is, they are folded to values.
pub(super) fn size(args: &Args) -> Rule {
    args.shape(0)?;
    one(DType::I64, [])
}
