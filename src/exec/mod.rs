//! Reference forward execution of ONNX graphs on our own kernels: for calibration, checks and, later, gradients.
//!
//! Light operators are evaluated by [`crate::model::eval`]; this module adds convolution ([`conv`]), matrix products, pooling,
//! normalisation and softmax, and runs whole graphs ([`Executor`]). It is no engine: what ships is measured on engines.
//!
//! All kernels use one thread; [`Executor::run_batched`] spreads fixed pieces of the batch over the cores. So the results are the
//! same bits on any number of threads.

mod arena;
mod attention;
mod columns;
mod control;
mod conv;
mod conv_transpose;
mod executor;
mod frame;
mod functions;
mod in_place;
mod matmul;
mod norm;
mod pool;
mod program;
mod quantized;
mod recurrent;
mod run;
mod scan;
mod sequence;
mod softmax;
mod stacks;
mod state;
mod value;
mod volume;
mod window;

pub use columns::im2col;
pub use conv::{ConvSpec, conv};
pub use executor::{CHUNK, Executor, PARTS};
pub use matmul::matmul;
pub use window::Window;

use crate::model::eval::{self, Args, label};
use crate::onnx::pb;
use crate::tensor::Tensor;
use crate::{Error, Result};
use arena::Arena;

/// The operators that [`eval_node`] knows beyond [`eval::OPERATORS`].
#[rustfmt::skip]
pub const OPERATORS: &[&str] = &[
    "Attention", "AveragePool", "BatchNormalization", "CausalConvWithState", "Conv", "ConvInteger", "ConvTranspose", "GRU", "Gemm",
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LSTM",
    "LayerNormalization", "LinearAttention", "LogSoftmax", "LpNormalization", "LpPool", "MatMul", "MatMulInteger", "MaxPool",
    "MaxUnpool", "MeanVarianceNormalization", "QLinearConv", "QLinearMatMul", "RMSNormalization", "RNN", "Softmax",
];

/// Evaluates one node of operator set `opset` on `inputs` (`None`: an optional input left out).
///
/// Returns the outputs in the node's order; optional ones that nobody can use in inference may be missing at the end.
///
/// # Errors
/// The operator is not supported, or shapes, element types or attributes contradict it; the message names the node.
pub fn eval_node(node: &pb::NodeProto, opset: i64, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
    eval_in(node, opset, inputs, &mut Arena::default())
}

/// True for a standard operator that runs without being written out as others.
fn knows(op: &str) -> bool {
    matches!(op, "If" | "Loop" | "Scan" | "SequenceMap")
        || sequence::OPERATORS.contains(&op)
        || OPERATORS.contains(&op)
        || eval::OPERATORS.contains(&op)
}

/// [`eval_node`] with memory from `arena`.
fn eval_in(node: &pb::NodeProto, opset: i64, inputs: &[Option<&Tensor>], arena: &mut Arena) -> Result<Vec<Tensor>> {
    if let Some(outputs) = eval::eval(node, opset, inputs)? {
        return Ok(outputs);
    }
    let outputs = eval::widened(node, inputs, |inputs| heavy(node, opset, inputs, arena).map(Some)).map_err(|e| e.context(label(node)))?;
    outputs.ok_or_else(|| Error::bad_input("the operator gave nothing").context(label(node)))
}

fn heavy(node: &pb::NodeProto, opset: i64, inputs: &[Option<&Tensor>], arena: &mut Arena) -> Result<Vec<Tensor>> {
    eval::checked(inputs)?;
    let args = Args::new(node, opset, inputs);
    let output = match (node.domain(), node.op_type()) {
        ("com.microsoft", "MatMulNBits") => quantized::matmul_nbits(&args),
        ("" | "ai.onnx", op) => match op {
            "Attention" => return attention::attention(&args),
            "MaxUnpool" => pool::max_unpool(&args),
            "LinearAttention" => return state::linear_attention(&args),
            "CausalConvWithState" => return state::causal_conv(&args),
            "LayerNormalization" => return norm::layer_norm(&args),
            "RNN" | "GRU" | "LSTM" => return recurrent::recurrent(&args),
            "MaxPool" | "AveragePool" | "LpPool" => return pool_any(&args),
            "Conv" => conv_any(node, opset, args.tensor(0)?, args.tensor(1)?, args.optional(2), arena),
            "ConvTranspose" => conv_transpose::conv_transpose(&args),
            "Gemm" => matmul::gemm_node(&args),
            "MatMul" => matmul(args.tensor(0)?, args.tensor(1)?),
            "MatMulInteger" => quantized::matmul_integer(&args),
            "QLinearMatMul" => quantized::qlinear_matmul(&args),
            "ConvInteger" => quantized::conv_integer(&args),
            "QLinearConv" => quantized::qlinear_conv(&args),
            "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => pool::global_pool_node(&args),
            "BatchNormalization" => norm::batch_norm(&args),
            "InstanceNormalization" => norm::instance_norm(&args),
            "GroupNormalization" => norm::group_norm(&args),
            "RMSNormalization" => norm::rms_norm(&args),
            "LpNormalization" => norm::lp_norm(&args),
            "LRN" => norm::lrn(&args),
            "MeanVarianceNormalization" => norm::mean_variance(&args),
            "Softmax" | "LogSoftmax" => softmax::softmax_node(&args),
            _ => return Err(unsupported(node)),
        },
        _ => return Err(unsupported(node)),
    };
    output.map(|t| vec![t])
}

/// A convolution over up to three spatial axes by the fast kernel, over more by the definition.
fn conv_any(node: &pb::NodeProto, opset: i64, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, arena: &mut Arena) -> Result<Tensor> {
    if x.shape().len() > 5 {
        return volume::conv(&Args::new(node, opset, &[Some(x), Some(w), bias]));
    }
    conv::conv_in(x, w, bias, &ConvSpec::new(node, x.shape(), w.shape())?, arena)
}

/// Pooling over one or two spatial axes of floats by the fast kernels, everything else by the definition.
fn pool_any(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let positions = args.node.output.get(1).is_some_and(|o| !o.is_empty());
    if x.shape().len() > 5 || positions || args.node.op_type() == "LpPool" || x.dtype() != crate::tensor::DType::F32 {
        return volume::pool(args);
    }
    pool::pool_node(args).map(|t| vec![t])
}

fn unsupported(node: &pb::NodeProto) -> Error {
    let domain =
        if matches!(node.domain(), "" | "ai.onnx") { String::new() } else { format!(" of the operator domain `{}`", node.domain()) };
    Error::bad_input(format!("the reference execution does not support this operator{domain}")).hint(format!(
        "supported are {} and {}",
        OPERATORS.join(", "),
        eval::OPERATORS.join(", ")
    ))
}

#[cfg(test)]
mod tests;
