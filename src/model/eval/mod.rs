//! Pure evaluation of the light ONNX operators: shapes, elementwise functions, reductions, data movement, quantization.
//!
//! Two users: shape inference folds constants with it, and [`crate::exec`] runs these operators with it. Convolution, matrix
//! products, pooling and normalisation live in `exec`.
//!
//! Numbers follow ONNX: integers divide towards zero and wrap, comparisons and broadcasts are NumPy's. Every result is the same on
//! any number of threads, because nothing here uses more than one.

mod args;
mod binary;
mod cast;
mod layout;
mod movement;
mod quantize;
mod reduce;
mod shape_ops;
mod unary;

pub(crate) use args::{Args, label};
pub(crate) use layout::{around, axis, broadcast, broadcast_strides, count};
pub(crate) use movement::{join, part};
pub(crate) use reduce::sum;

use crate::onnx::{dtype_from_onnx, pb};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};
use layout::dimension;

/// The operators that [`eval`] knows.
#[rustfmt::skip]
pub const OPERATORS: &[&str] = &[
    "Abs", "Add", "And", "ArgMax", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Div", "Dropout",
    "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow",
    "QuantizeLinear", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape",
    "Round", "Selu", "Shape", "Sigmoid", "Slice", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze",
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
    let outputs = checked(inputs).and_then(|()| match node.op_type() {
        "Split" => movement::split(&Args::new(node, opset, inputs)),
        _ => single(&Args::new(node, opset, inputs)).map(|t| vec![t]),
    });
    outputs.map(Some).map_err(|e| e.context(label(node)))
}

/// Refuses inputs whose dimensions could overflow a product.
pub(crate) fn checked(inputs: &[Option<&Tensor>]) -> Result<()> {
    inputs.iter().flatten().try_for_each(|t| count(t.shape()).map(drop))
}

/// The operators with one output.
fn single(args: &Args) -> Result<Tensor> {
    let pair = || Ok::<_, Error>((args.tensor(0)?, args.tensor(1)?));
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
        "Dropout" => dropout(args),
        "Gather" => movement::take(args),
        "Slice" => movement::slice(args),
        "Concat" => movement::concat(args),
        "Transpose" => movement::transpose(args),
        "Pad" => movement::pad(args),
        "Expand" => {
            let target = args::integers(args.tensor(1)?)?.into_iter().map(dimension).collect::<Result<Vec<_>>>()?;
            binary::expand(args.tensor(0)?, &target)
        }
        "Where" => binary::choose(args.tensor(0)?, args.tensor(1)?, args.tensor(2)?),
        op @ ("Add" | "Sub" | "Mul" | "Div") => pair().and_then(|(a, b)| binary::arithmetic(op, a, b)),
        op @ ("Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual") => pair().and_then(|(a, b)| binary::compare(op, a, b)),
        op @ ("And" | "Or" | "Xor") => pair().and_then(|(a, b)| binary::logical(op, a, b)),
        "Pow" => pair().and_then(|(a, b)| binary::power(a, b)),
        "PRelu" => pair().and_then(|(a, b)| binary::prelu(a, b)),
        "Min" | "Max" | "Sum" => binary::variadic(args),
        "Neg" | "Abs" => unary::signed(args),
        "Not" => args.tensor(0).and_then(unary::not),
        "Clip" => unary::clip(args),
        "Cast" => {
            let code = args.int_or("to", 0);
            let to = i32::try_from(code).ok().and_then(dtype_from_onnx);
            cast::cast(args.tensor(0)?, to.ok_or_else(|| Error::bad_input(format!("element type {code} is not supported")))?)
        }
        "ArgMax" => reduce::arg_max(args),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" => reduce::reduce(args),
        "QuantizeLinear" => quantize::quantize(args),
        "DequantizeLinear" => quantize::dequantize(args),
        _ => unary::float(args),
    }
}

/// `Dropout` as inference does it: nothing is dropped.
fn dropout(args: &Args) -> Result<Tensor> {
    match args.optional(2).map(Tensor::data) {
        Some(Data::Bool(training)) if training.contains(&true) => {
            Err(Error::bad_input("dropout in training mode is not supported").hint("export the model in inference mode"))
        }
        _ => args.tensor(0).cloned(),
    }
}

#[cfg(test)]
mod tests;
