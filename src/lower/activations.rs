//! Quantized activations: QuantizeLinear and DequantizeLinear after one another.

use crate::Result;
use crate::model::{Encoding, Facts, Granularity, Graph, Storage};
use crate::onnx::{Attributes, pb};
use std::collections::HashMap;

/// A pair that rounds a tensor to eight bits and back, with one scale for all of it.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// What is rounded.
    pub(super) source: String,
    /// Index of the QuantizeLinear.
    pub(super) quantize: usize,
    /// Scale.
    pub(super) scale: f32,
    /// Zero point of int8 integers: that of uint8 ones less 128, which stand for the same numbers when they are less 128 too.
    pub(super) zero: i8,
    /// Where saturation may do a Relu's or a Clip's work, what must do it when the pair is gone.
    pub(super) keeps: Option<Kept>,
}

/// A Clip that a pair stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Index of the node that makes the source.
    pub(super) producer: usize,
    /// The greatest number that the pair's integers stand for; the least is 0.
    pub(super) high: f32,
}

/// What may be below zero. Behind these a quantizer leaves a Relu or a Clip from zero away, because the integers end at zero too.
const SIGNED: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Sum", "BatchNormalization"];

/// All pairs by the tensor they make.
///
/// # Errors
/// Scales or zero points are not valid.
pub(super) fn pairs(graph: &Graph<'_>, facts: &Facts) -> Result<HashMap<String, Pair>> {
    let mut found = HashMap::new();
    for node in graph.nodes().iter().filter(|n| is_linear(n, "DequantizeLinear")) {
        let Some((output, integers)) = node.output.first().zip(node.input.first()) else { continue };
        let Some(quantize) = graph.producer(integers).filter(|&i| is_linear(graph.node(i), "QuantizeLinear")) else { continue };
        if !same_numbers(graph, graph.node(quantize), node)? {
            continue;
        }
        let Some(Encoding::Quantized(q)) = Encoding::of(graph, facts, integers)? else { continue };
        let ([scale], Granularity::Tensor, Some(source)) = (q.scales(), q.granularity(), graph.node(quantize).input.first()) else {
            continue;
        };
        let zero = q.zero_points().first().copied().unwrap_or(0);
        let (low, high) = q.levels().range();
        let zero_8 = match q.storage() {
            Storage::U8 => zero - 128,
            Storage::I8 => zero,
            _ => continue,
        };
        let signed = graph.producer(source).filter(|&i| zero == low && SIGNED.contains(&graph.node(i).op_type()));
        let pair = Pair {
            source: source.clone(),
            quantize,
            scale: *scale,
            zero: zero_8 as i8,
            keeps: signed.map(|producer| Kept { producer, high: (high - zero) as f32 * scale }),
        };
        found.insert(output.clone(), pair);
    }
    Ok(found)
}

/// True for that operator of ONNX, or of ONNX Runtime under the same name.
pub(super) fn is_linear(node: &pb::NodeProto, op: &str) -> bool {
    node.op_type() == op && (node.is_standard() || node.domain() == "com.microsoft")
}

/// True when both nodes have the same scale and zero point.
fn same_numbers(graph: &Graph<'_>, a: &pb::NodeProto, b: &pb::NodeProto) -> Result<bool> {
    let named = |n: &pb::NodeProto, i: usize| n.input.get(i).cloned().unwrap_or_default();
    for i in [1, 2] {
        let (x, y) = (named(a, i), named(b, i));
        if x != y && (graph.constant(&x)?.is_none() || graph.constant(&x)? != graph.constant(&y)?) {
            return Ok(false);
        }
    }
    Ok(true)
}
