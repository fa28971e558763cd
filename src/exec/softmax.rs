//! `Softmax` and `LogSoftmax`.

use crate::Result;
use crate::model::eval::{Args, around, axis};
use crate::tensor::Tensor;

/// Along one axis (−1 when not given) since operator set 13; before, over all axes from `axis` (1 when not given) on together.
///
/// # Errors
/// The axis does not exist, or the input is not float32.
pub(super) fn softmax_node(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let rank = x.shape().len();
    let (n, inner) = if args.opset >= 13 {
        let (_, n, inner) = around(x.shape(), axis(args.int_or("axis", -1), rank)?);
        (n, inner)
    } else {
        let at = axis(args.int_or("axis", 1), rank)?;
        (x.shape()[at..].iter().product(), 1)
    };
    let log = args.node.op_type() == "LogSoftmax";
    let mut out = x.as_f32()?.to_vec();
    if !out.is_empty() {
        for block in out.chunks_exact_mut(n * inner) {
            match inner {
                1 => row(block, log),
                _ => (0..inner).for_each(|i| strided(block, i, inner, log)),
            }
        }
    }
    Tensor::f32(x.shape(), out)
}

/// Softmax (or its logarithm) of one row, in place.
pub(super) fn row(values: &mut [f32], log: bool) {
    let largest = values.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
    if log {
        let total: f32 = values.iter().map(|&v| (v - largest).exp()).sum();
        // One after the other: next to a large value the logarithm would be lost.
        let shift = total.ln();
        values.iter_mut().for_each(|v| *v = (*v - largest) - shift);
    } else {
        values.iter_mut().for_each(|v| *v = (*v - largest).exp());
        let total: f32 = values.iter().sum();
        values.iter_mut().for_each(|v| *v /= total);
    }
}

/// The same for the elements `start`, `start + step`, …
fn strided(block: &mut [f32], start: usize, step: usize, log: bool) {
    let mut line: Vec<f32> = block.iter().skip(start).step_by(step).copied().collect();
    row(&mut line, log);
    block.iter_mut().skip(start).step_by(step).zip(line).for_each(|(o, v)| *o = v);
}
