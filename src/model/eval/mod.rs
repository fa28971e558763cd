//! Pure evaluation of the light ONNX operators: shapes, elementwise functions, reductions, data movement, quantization.
//!
//! Two users: shape inference folds constants with it, and [`crate::exec`] runs these operators with it. Convolution, matrix
//! products, pooling and normalisation live in `exec`.
//!
//! Numbers follow ONNX: integers divide towards zero and wrap, comparisons and broadcasts are NumPy's. Every result is the same on
//! any number of threads, because nothing here uses more than one.

mod args;
mod arrange;
mod binary;
mod boxes;
mod cast;
mod determinant;
mod einsum;
mod grid;
mod halves;
mod index;
mod layout;
mod loss;
mod movement;
mod order;
mod pad;
mod quantize;
mod reduce;
mod resize;
mod rotary;
mod shape_ops;
mod signal;
mod types;
mod unary;
mod unique;

pub(crate) use args::{Args, integers, label};
pub(crate) use binary::{add, multiply};
pub(crate) use cast::{cast, f32_from_bf16, f32_from_f16};
pub(crate) use halves::widened;
pub(crate) use layout::{around, axes, axis, broadcast, broadcast_strides, count};
pub(crate) use movement::{join, part, permute};
pub(crate) use reduce::sum;
pub(crate) use shape_ops::sparse;

use crate::onnx::pb;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};
use layout::dimension;

/// The operators that [`eval`] knows.
#[rustfmt::skip]
pub const OPERATORS: &[&str] = &[
    "Abs", "Acos", "Acosh", "Add", "AffineGrid", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "BitCast", "BitShift",
    "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BlackmanWindow", "Cast", "CastLike", "Ceil", "Celu", "CenterCropPad",
    "Clip", "Compress", "Concat", "Constant", "ConstantOfShape", "Cos", "Cosh", "CumProd", "CumSum", "DFT", "DepthToSpace",
    "DequantizeLinear", "Det", "Div", "Dropout", "DynamicQuantizeLinear", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike",
    "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Greater", "GreaterOrEqual", "GridSample", "HammingWindow",
    "HannWindow", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "Max", "Mean", "MelWeightMatrix", "Min", "Mish", "Mod", "Mul", "Neg", "NegativeLogLikelihoodLoss", "NonMaxSuppression", "NonZero",
    "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "QuantizeLinear", "Range", "Reciprocal",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Relu", "Reshape", "Resize", "ReverseSequence", "RoiAlign", "RotaryEmbedding", "Round", "STFT", "Scatter",
    "ScatterElements", "ScatterND", "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice",
    "SoftmaxCrossEntropyLoss", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "SwiGLU", "Swish",
    "Tan", "Tanh", "TensorScatter", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unique", "Unsqueeze", "Upsample",
    "Where", "Xor",
];

/// Evaluates one node of operator set `opset` on `inputs` (`None`: an optional input left out).
///
/// Returns the outputs in the node's order; trailing optional outputs (the mask of `Dropout`) may be missing. `Ok(None)` means
/// that the operator is not one of [`OPERATORS`].
///
/// ```
/// use joulefront::{model::eval::eval, onnx::pb::NodeProto, tensor::Tensor};
/// # fn main() -> joulefront::Result<()> {
/// let mut add = NodeProto::new();
/// add.set_op_type("Add".into());
/// let (a, b) = (Tensor::i64s(vec![1, 2]), Tensor::i64s(vec![10]));
/// assert_eq!(eval(&add, 13, &[Some(&a), Some(&b)])?, Some(vec![Tensor::i64s(vec![11, 12])]));
/// # Ok(()) }
/// ```
///
/// # Errors
/// Shapes, element types or attributes contradict the operator, or a result would exceed 2²⁹ elements; the message names the node.
pub fn eval(node: &pb::NodeProto, opset: i64, inputs: &[Option<&Tensor>]) -> Result<Option<Vec<Tensor>>> {
    if !matches!(node.domain(), "" | "ai.onnx") || !OPERATORS.contains(&node.op_type()) {
        return Ok(None);
    }
    let outputs = checked(inputs).and_then(|()| {
        halves::widened(node, inputs, |inputs| {
            let args = Args::new(node, opset, inputs);
            let outputs = match node.op_type() {
                "Split" => movement::split(&args)?,
                "Unique" => unique::unique(&args)?,
                "Dropout" => dropout(&args)?,
                "NegativeLogLikelihoodLoss" | "SoftmaxCrossEntropyLoss" => loss::loss(&args)?,
                "TopK" => order::top_k(&args)?,
                "DynamicQuantizeLinear" => quantize::dynamic(&args)?,
                _ => vec![single(&args)?],
            };
            Ok(Some(outputs))
        })
    });
    outputs.map_err(|e| e.context(label(node)))
}

/// Refuses inputs whose dimensions could overflow a product.
pub(crate) fn checked(inputs: &[Option<&Tensor>]) -> Result<()> {
    inputs.iter().flatten().try_for_each(|t| count(t.shape()).map(drop))
}

/// The operators with one output.
fn single(args: &Args) -> Result<Tensor> {
    match args.node.op_type() {
        "Constant" => shape_ops::constant(args),
        "ConstantOfShape" => shape_ops::constant_of_shape(args),
        "Range" => shape_ops::range(args),
        "Shape" => shape_ops::shape(args),
        "Reshape" => shape_ops::reshape(args),
        "Flatten" => shape_ops::flatten(args),
        "Squeeze" => shape_ops::squeeze(args),
        "Unsqueeze" => shape_ops::unsqueeze(args),
        "Identity" => args.tensor(0).cloned(),
        "Gather" => movement::take(args),
        "Slice" => movement::slice(args),
        "Concat" => movement::concat(args),
        "Transpose" => movement::transpose(args),
        "Pad" => pad::pad(args),
        "Expand" => {
            let target = args::integers(args.tensor(1)?)?.into_iter().map(dimension).collect::<Result<Vec<_>>>()?;
            binary::expand(args.tensor(0)?, &target)
        }
        "Where" => binary::choose(args.tensor(0)?, args.tensor(1)?, args.tensor(2)?),
        "Add" | "Sub" | "Mul" | "Div" | "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "And" | "Or" | "Xor"
        | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "BitShift" | "Mod" | "Pow" | "PRelu" => binary::pair(args),
        "Min" | "Max" | "Sum" | "Mean" => binary::variadic(args),
        "Size" => Tensor::new(vec![], Data::I64(vec![args.tensor(0)?.len() as i64])),
        "GatherElements" => index::gather_elements(args),
        "GatherND" => index::gather_nd(args),
        "Scatter" | "ScatterElements" => index::scatter_elements(args),
        "ScatterND" => index::scatter_nd(args),
        "Tile" => arrange::tile(args),
        "Trilu" => arrange::trilu(args),
        "DepthToSpace" | "SpaceToDepth" => arrange::depth_to_space(args),
        "ReverseSequence" => arrange::reverse_sequence(args),
        "Compress" => arrange::compress(args),
        "OneHot" => arrange::one_hot(args),
        "EyeLike" => arrange::eye_like(args),
        "NonZero" => arrange::non_zero(args),
        "CumSum" | "CumProd" => arrange::cumulative(args),
        "Einsum" => einsum::einsum(args),
        "Resize" | "Upsample" => resize::resize(args),
        "CenterCropPad" => pad::center_crop_pad(args),
        "TensorScatter" => index::tensor_scatter(args),
        "GridSample" => grid::grid_sample(args),
        "AffineGrid" => grid::affine_grid(args),
        "NonMaxSuppression" => boxes::non_max_suppression(args),
        "RoiAlign" => boxes::roi_align(args),
        "Det" => determinant::determinant(args),
        "RotaryEmbedding" => rotary::embed(args),
        "SwiGLU" => rotary::swiglu(args),
        "BlackmanWindow" | "HammingWindow" | "HannWindow" => signal::window(args),
        "MelWeightMatrix" => signal::mel_weights(args),
        "DFT" => signal::dft(args),
        "STFT" => signal::stft(args),
        "Hardmax" => order::hardmax(args),
        "IsNaN" | "IsInf" => unary::test(args),
        "BitwiseNot" => args.tensor(0).and_then(unary::bitwise_not),
        "CastLike" => cast::cast(args.tensor(0)?, args.tensor(1)?.dtype()),
        "Neg" | "Abs" => unary::signed(args),
        "Not" => args.tensor(0).and_then(unary::not),
        "Clip" => unary::clip(args),
        "Cast" => cast::cast(args.tensor(0)?, cast::dtype(args.int_or("to", 0))?),
        "BitCast" => cast::bit_cast(args.tensor(0)?, cast::dtype(args.int_or("to", 0))?),
        "ArgMax" | "ArgMin" => order::arg(args),
        op if op.starts_with("Reduce") => reduce::reduce(args),
        "QuantizeLinear" => quantize::quantize(args),
        "DequantizeLinear" => quantize::dequantize(args),
        _ => unary::float(args),
    }
}

/// `Dropout` as inference does it: nothing is dropped, the mask (bool since operator set 10) is all true.
fn dropout(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    if let Some(Data::Bool(training)) = args.optional(2).map(Tensor::data)
        && training.contains(&true)
    {
        return Err(Error::bad_input("dropout in training mode is not supported").hint("export the model in inference mode"));
    }
    let mut outputs = vec![x.clone()];
    if args.node.output.len() > 1 {
        let mask = Tensor::new(x.shape().to_vec(), Data::Bool(vec![true; x.len()]))?;
        outputs.push(if args.opset < 10 { cast::cast(&mask, x.dtype())? } else { mask });
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests;
