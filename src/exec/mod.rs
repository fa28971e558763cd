//! Reference forward execution of ONNX graphs on our own kernels: for calibration, checks and, later, gradients.
//!
//! Light operators are evaluated by [`crate::model::eval`]; this module adds convolution ([`conv`]), matrix products, pooling,
//! normalisation and softmax, and runs whole graphs ([`Executor`]). It is no engine: what ships is measured on engines.
//!
//! All kernels use one thread; [`Executor::run_batched`] spreads fixed pieces of the batch over the cores. So the results are the
//! same bits on any number of threads.

mod conv;
mod depthwise;
mod executor;
mod matmul;
mod norm;
mod pool;
mod softmax;
mod window;

pub use conv::{ConvSpec, conv, im2col};
pub use executor::{CHUNK, Executor};
pub use matmul::matmul;
pub use window::Window;

use crate::model::eval::{self, Args, label};
use crate::onnx::pb;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The operators that [`eval_node`] knows beyond [`eval::OPERATORS`].
#[rustfmt::skip]
pub const OPERATORS: &[&str] = &[
    "AveragePool", "BatchNormalization", "Conv", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization",
    "LayerNormalization", "LogSoftmax", "MatMul", "MaxPool", "Softmax",
];

/// Evaluates one node of operator set `opset` on `inputs` (`None`: an optional input left out).
///
/// Returns the outputs in the node's order; optional ones that nobody can use in inference may be missing at the end.
///
/// # Errors
/// The operator is not supported, or shapes, element types or attributes contradict it; the message names the node.
pub fn eval_node(node: &pb::NodeProto, opset: i64, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
    if let Some(outputs) = eval::eval(node, opset, inputs)? {
        return Ok(outputs);
    }
    heavy(node, opset, inputs).map_err(|e| e.context(label(node)))
}

fn heavy(node: &pb::NodeProto, opset: i64, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
    eval::checked(inputs)?;
    let args = Args::new(node, opset, inputs);
    let known = matches!(node.domain(), "" | "ai.onnx");
    let output = match node.op_type() {
        "LayerNormalization" if known => return norm::layer_norm(&args),
        "Conv" if known => {
            let (x, w) = (args.tensor(0)?, args.tensor(1)?);
            conv(x, w, args.optional(2), &ConvSpec::new(node, x.shape(), w.shape())?)
        }
        "Gemm" if known => matmul::gemm_node(&args),
        "MatMul" if known => matmul(args.tensor(0)?, args.tensor(1)?),
        "MaxPool" | "AveragePool" if known => pool::pool_node(&args),
        "GlobalAveragePool" | "GlobalMaxPool" if known => pool::global_pool_node(&args),
        "BatchNormalization" if known => norm::batch_norm(&args),
        "InstanceNormalization" if known => norm::instance_norm(&args),
        "Softmax" | "LogSoftmax" if known => softmax::softmax_node(&args),
        _ => {
            let domain = if known { String::new() } else { format!(" of the operator domain `{}`", node.domain()) };
            return Err(Error::bad_input(format!("the reference execution does not support this operator{domain}")).hint(format!(
                "supported are {} and {}",
                OPERATORS.join(", "),
                eval::OPERATORS.join(", ")
            )));
        }
    };
    output.map(|t| vec![t])
}

#[cfg(test)]
mod tests;
