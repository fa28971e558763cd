//! Half precision, computed in float32: inputs are widened, results rounded to the nearest, ties to even.

use super::cast::cast;
use crate::Result;
use crate::onnx::pb;
use crate::tensor::{DType, Tensor};

/// Operators that move elements, or convert them by themselves: they take halves as they are.
#[rustfmt::skip]
const AS_THEY_ARE: &[&str] = &[
    "BitCast", "Cast", "CastLike", "Compress", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "DequantizeLinear", "Dropout", "Expand", "EyeLike",
    "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "If", "Loop", "OneHot", "OptionalGetElement", "OptionalHasElement", "Reshape", "ReverseSequence", "Scan", "Shape", "Size", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
];

/// Calls `f` with the inputs, those of half precision as float32, and rounds its float32 results back.
///
/// # Errors
/// Those of `f`.
pub(crate) fn widened(
    node: &pb::NodeProto,
    inputs: &[Option<&Tensor>],
    f: impl FnOnce(&[Option<&Tensor>]) -> Result<Option<Vec<Tensor>>>,
) -> Result<Option<Vec<Tensor>>> {
    let is_half = |t: &&Tensor| matches!(t.dtype(), DType::F16 | DType::BF16);
    let Some(half) = inputs.iter().flatten().find(|t| is_half(t)).filter(|_| !AS_THEY_ARE.contains(&node.op_type())) else {
        return f(inputs);
    };
    let wide = inputs.iter().map(|t| t.filter(is_half).map(|t| cast(t, DType::F32)).transpose()).collect::<Result<Vec<_>>>()?;
    let lent: Vec<Option<&Tensor>> = wide.iter().zip(inputs).map(|(w, t)| w.as_ref().or(*t)).collect();
    let Some(results) = f(&lent)? else { return Ok(None) };
    let narrow = |t: Tensor| if t.dtype() == DType::F32 { cast(&t, half.dtype()) } else { Ok(t) };
    results.into_iter().map(narrow).collect::<Result<_>>().map(Some)
}
