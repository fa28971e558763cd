//! Which nodes are layers, and which of their inputs are weights.

use super::einsum;
use crate::model::encoding::{CONTRIB, is_known};
use crate::model::nested::Names;
use crate::model::source::Source;
use crate::onnx::{Attributes, pb};
use std::fmt;

/// What sort of layer a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// Convolution with one group, over any number of axes.
    Conv,
    /// One filter per channel: groups = input channels = output channels.
    DepthwiseConv,
    /// Any other grouped convolution.
    GroupedConv,
    /// `ConvTranspose`.
    ConvTranspose,
    /// `Gemm`.
    Gemm,
    /// `MatMul` with a constant factor, or one that is worked out from constants.
    MatMul,
    /// `MatMul` of two activations (attention).
    ActivationMatMul,
    /// `QLinearConv`, `ConvInteger`.
    IntegerConv,
    /// `QLinearMatMul`, `MatMulInteger`, and ONNX Runtime's `QGemm` and `DynamicQuantizeMatMul`.
    IntegerMatMul,
    /// ONNX Runtime's `MatMulNBits`: weights of a few bits in packed blocks.
    PackedMatMul,
    /// `Einsum`.
    Einsum,
    /// `LSTM`.
    Lstm,
    /// `GRU`.
    Gru,
    /// `RNN`.
    Rnn,
    /// `Attention`, and ONNX Runtime's forms of it.
    Attention,
    /// `Gather` of rows of a constant table.
    Embedding,
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LayerKind::Conv => "conv",
            LayerKind::DepthwiseConv => "depthwise conv",
            LayerKind::GroupedConv => "grouped conv",
            LayerKind::ConvTranspose => "transposed conv",
            LayerKind::Gemm => "gemm",
            LayerKind::MatMul => "matmul",
            LayerKind::ActivationMatMul => "matmul of activations",
            LayerKind::IntegerConv => "integer conv",
            LayerKind::IntegerMatMul => "integer matmul",
            LayerKind::PackedMatMul => "packed matmul",
            LayerKind::Einsum => "einsum",
            LayerKind::Lstm => "lstm",
            LayerKind::Gru => "gru",
            LayerKind::Rnn => "rnn",
            LayerKind::Attention => "attention",
            LayerKind::Embedding => "embedding",
        })
    }
}

/// A weight and where it is.
pub(super) struct Planned<'m> {
    pub(super) source: Source<'m>,
    pub(super) input: usize,
    pub(super) output_axis: usize,
    pub(super) input_axis: usize,
}

/// A node that is a layer.
pub(super) struct Plan<'m> {
    pub(super) kind: LayerKind,
    pub(super) weights: Vec<Planned<'m>>,
    pub(super) bias: Option<Source<'m>>,
}

/// Name of the operator, with its domain where that is not ONNX's.
pub(super) fn operator(node: &pb::NodeProto) -> String {
    if node.is_standard() { node.op_type().to_owned() } else { format!("{}.{}", node.domain(), node.op_type()) }
}

/// What layer `node` is; `None` when it is none.
pub(super) fn plan<'m>(names: &Names<'_, 'm>, node: &'m pb::NodeProto) -> Option<Plan<'m>> {
    use LayerKind as K;
    let contrib = node.domain() == CONTRIB;
    if !is_known(node) {
        return None;
    }
    // Kind, inputs that hold weights with the axes of their outputs and inputs (from the end), and the input of the bias.
    let (kind, weights, bias): (K, Vec<Option<Planned<'m>>>, usize) = match node.op_type() {
        "Conv" | "FusedConv" => {
            let weight = weight(names, node, 1, |_| (0, 1));
            let kind = conv_kind(node, weight.as_ref().map(|w| w.source.shape()));
            (kind, vec![weight], 2)
        }
        "ConvTranspose" => (K::ConvTranspose, vec![weight(names, node, 1, |_| (1, 0))], 2),
        "Gemm" | "FusedGemm" => {
            let axes = if node.int("transB") == Some(1) { (0, 1) } else { (1, 0) };
            (K::Gemm, vec![weight(names, node, 1, |_| axes)], 2)
        }
        "MatMul" | "FusedMatMul" => {
            let last = |rank: usize| (rank.saturating_sub(1), rank.saturating_sub(2));
            // A constant on the left has its rows as outputs.
            let weight = weight(names, node, 1, last).or_else(|| weight(names, node, 0, |rank| (last(rank).1, last(rank).0)));
            let is_fixed = |i: usize| node.input.get(i).is_some_and(|name| names.is_fixed(name));
            let kind = if weight.is_some() || is_fixed(1) || is_fixed(0) { K::MatMul } else { K::ActivationMatMul };
            (kind, vec![weight], usize::MAX)
        }
        "QLinearConv" => (K::IntegerConv, vec![weight(names, node, 3, |_| (0, 1))], 8),
        "ConvInteger" => (K::IntegerConv, vec![weight(names, node, 1, |_| (0, 1))], usize::MAX),
        "QLinearMatMul" => (K::IntegerMatMul, vec![weight(names, node, 3, last_two)], usize::MAX),
        "MatMulInteger" => (K::IntegerMatMul, vec![weight(names, node, 1, last_two)], usize::MAX),
        "QGemm" if contrib => {
            let axes = if node.int("transB") == Some(1) { (0, 1) } else { (1, 0) };
            (K::IntegerMatMul, vec![weight(names, node, 3, |_| axes)], 6)
        }
        "DynamicQuantizeMatMul" if contrib => (K::IntegerMatMul, vec![weight(names, node, 1, last_two)], 4),
        "MatMulNBits" if contrib => {
            let source = Source::nbits(names, node);
            (K::PackedMatMul, vec![source.map(|source| Planned { source, input: 1, output_axis: 1, input_axis: 0 })], 5)
        }
        "Einsum" => {
            let weights = (0..node.input.len()).map(|i| weight(names, node, i, |_| einsum::axes(node, i))).collect();
            (K::Einsum, weights, usize::MAX)
        }
        op @ ("LSTM" | "GRU" | "RNN") => {
            let kind = [("LSTM", K::Lstm), ("GRU", K::Gru)].iter().find(|k| k.0 == op).map_or(K::Rnn, |k| k.1);
            (kind, vec![weight(names, node, 1, |_| (1, 2)), weight(names, node, 2, |_| (1, 2))], 3)
        }
        "Attention" if contrib => (K::Attention, vec![weight(names, node, 1, last_two)], 2),
        "Attention" | "MultiHeadAttention" | "GroupQueryAttention" => (K::Attention, vec![], usize::MAX),
        "Gather" => {
            let table = weight(names, node, 0, |rank| (rank.saturating_sub(1), 0))?;
            let by_rows = node.int("axis").unwrap_or(0) == 0 && table.source.shape().len() == 2;
            let is_lookup = node.input.get(1).is_some_and(|i| Source::find(names, i).is_none());
            (by_rows && is_lookup && table.source.format().ok()?.is_some()).then_some((K::Embedding, vec![Some(table)], usize::MAX))?
        }
        _ => return None,
    };
    let bias = node.input.get(bias).and_then(|_| Source::of_input(names, node, bias));
    Some(Plan { kind, weights: weights.into_iter().flatten().collect(), bias })
}

/// A Conv's sort, by its weights: [outputs, inputs per group, …].
fn conv_kind(node: &pb::NodeProto, weight: Option<&[usize]>) -> LayerKind {
    match (node.int("group").unwrap_or(1), weight) {
        (1, _) => LayerKind::Conv,
        (g, Some(&[outputs, 1, ..])) if usize::try_from(g) == Ok(outputs) => LayerKind::DepthwiseConv,
        _ => LayerKind::GroupedConv,
    }
}

fn last_two(rank: usize) -> (usize, usize) {
    (rank.saturating_sub(1), rank.saturating_sub(2))
}

/// The weights at input `index`, with output and input axis given their rank. A scalar is none, nor is a tensor that lacks an axis.
fn weight<'m>(names: &Names<'_, 'm>, node: &'m pb::NodeProto, index: usize, axes: impl Fn(usize) -> (usize, usize)) -> Option<Planned<'m>> {
    let source = Source::of_input(names, node, index)?;
    let rank = source.shape().len();
    let (output_axis, input_axis) = axes(rank);
    (output_axis < rank && input_axis < rank).then_some(Planned { source, input: index, output_axis, input_axis })
}
