//! Elementwise operators on an input that nobody needs any more: the result takes its place.

use super::program::Node;
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};

/// The input that `node` could overwrite, among those that die with it.
pub(super) fn candidate(node: &Node, dies: impl Fn(usize) -> bool) -> Option<usize> {
    let inputs = match node.proto.op_type() {
        "Relu" => 1,
        "Add" | "Sub" | "Mul" | "Div" => 2,
        _ => return None,
    };
    let fits = node.proto.is_standard() && node.inputs.len() == inputs;
    (0..inputs).find(|&i| fits && node.inputs[i].is_some_and(&dies))
}

/// Overwrites `t`, which is input `at`; false, with nothing changed, when the operands are not float32 of one shape.
pub(super) fn apply(op: &str, at: usize, t: &mut Tensor, other: Option<&Tensor>) -> bool {
    if let Some(other) = other
        && other.shape() != t.shape()
    {
        return false;
    }
    let Ok(values) = t.as_f32_mut() else { return false };
    let other = match other.map(Tensor::data) {
        None => None,
        Some(Data::F32(other)) => Some(other),
        Some(_) => return false,
    };
    match (op, at) {
        ("Relu", _) => {
            values.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v });
            true
        }
        ("Add", _) => pairs(values, other, |v, o| *v += o),
        ("Mul", _) => pairs(values, other, |v, o| *v *= o),
        ("Sub", 0) => pairs(values, other, |v, o| *v -= o),
        ("Sub", _) => pairs(values, other, |v, o| *v = o - *v),
        ("Div", 0) => pairs(values, other, |v, o| *v /= o),
        ("Div", _) => pairs(values, other, |v, o| *v = o / *v),
        _ => false,
    }
}

/// Applies `f` to all pairs of elements; false without a second operand.
fn pairs(values: &mut [f32], other: Option<&Vec<f32>>, f: impl Fn(&mut f32, f32)) -> bool {
    let Some(other) = other else { return false };
    values.iter_mut().zip(other).for_each(|(v, &o)| f(v, o));
    true
}
