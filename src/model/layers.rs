//! Layers: the nodes that hold weights or multiply matrices, with parameters, multiply–adds and the encoding of weights.

use super::{Facts, Graph};
use crate::onnx::{Attributes, dtype_from_onnx, dtype_to_onnx};
use crate::tensor::DType;
use crate::{Error, Result};
use std::collections::HashSet;

/// What sort of layer a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// Convolution with one group.
    Conv,
    /// One filter per channel: groups = input channels = output channels.
    DepthwiseConv,
    /// Any other grouped convolution.
    GroupedConv,
    /// `Gemm`.
    Gemm,
    /// `MatMul` with a constant second factor.
    MatMul,
    /// `MatMul` of two activations (attention).
    ActivationMatMul,
}

/// How the weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Floating point of that many bits.
    Float(u32),
    /// Integers of that many significant bits behind a DequantizeLinear.
    Quantized(u32),
}

impl Encoding {
    /// Bits per weight.
    pub fn bits(self) -> u32 {
        match self {
            Encoding::Float(b) | Encoding::Quantized(b) => b,
        }
    }
}

/// A layer's weights: the constant that holds them and how they are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Name of the constant (the integer one when quantized).
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Axis of the output channels: Conv 0, Gemm 0 with transB else 1, MatMul the last.
    pub output_axis: usize,
    /// Axis of the input channels (Conv: 1; of a depthwise layer there is one per group).
    pub input_axis: usize,
    /// How it is stored.
    pub encoding: Encoding,
}

impl Weight {
    /// Number of weights.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Index of the node.
    pub node: usize,
    /// Name for people: the node's, else operator and position.
    pub name: String,
    /// Sort.
    pub kind: LayerKind,
    /// Weights; `None` for [`LayerKind::ActivationMatMul`] and for weights that are computed.
    pub weight: Option<Weight>,
    /// Name of the bias constant.
    pub bias: Option<String>,
    /// Dimensions of the output for the batch that shapes were inferred with.
    pub output_shape: Vec<usize>,
    /// Multiply–adds for that batch.
    pub macs: u64,
    /// Weights and bias elements.
    pub params: u64,
}

/// Sums over a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Totals {
    /// Parameters: elements of all float constants of rank ≥ 1 and of quantized weights; not scales and zero points.
    pub params: u64,
    /// Multiply–adds of convolutions and matrix products, for the batch that shapes were inferred with.
    pub macs: u64,
    /// Parameter-weighted mean bits of the layers' weights.
    pub weight_bits: f64,
    /// Weights of layers that are exactly zero, as a share.
    pub sparsity: f64,
}

/// All layers in node order. Multiply–adds follow tract's cost model: per output element of a convolution,
/// kernel × input channels / groups; m·k·n for matrices.
///
/// # Errors
/// A weight's constant cannot be decoded, or a layer's shape is not known.
pub fn layers(graph: &Graph<'_>, facts: &Facts) -> Result<Vec<Layer>> {
    let mut out = Vec::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        if !node.is_standard() || !matches!(node.op_type(), "Conv" | "Gemm" | "MatMul") {
            continue;
        }
        let name = graph.label(index);
        let unknown = |what: &str| {
            let root = facts.unknown().first().map(|(i, why)| format!(", because of `{}`: {why}", graph.label(*i)));
            Error::bad_input(format!("layer `{name}`: the shape of its {what} is not known{}", root.unwrap_or_default()))
        };
        let (Some(x), Some(w)) = (node.input.first(), node.input.get(1)) else { return Err(unknown("inputs")) };
        let input_shape = facts.shape(x).ok_or_else(|| unknown("input"))?;
        let weight_shape = facts.shape(w).ok_or_else(|| unknown("weights"))?;
        let output = node.output.first().and_then(|o| facts.shape(o)).ok_or_else(|| unknown("output"))?.to_vec();
        let outputs: u64 = output.iter().map(|&d| d as u64).product();
        let (kind, output_axis, input_axis, per_output) = match node.op_type() {
            "Conv" => {
                let group = node.int("group").unwrap_or(1);
                let channels = input_shape.get(1).copied().unwrap_or(0);
                let kind = match group {
                    1 => LayerKind::Conv,
                    g if g as usize == channels && Some(&(g as usize)) == weight_shape.first() => LayerKind::DepthwiseConv,
                    _ => LayerKind::GroupedConv,
                };
                (kind, 0, 1, weight_shape.iter().skip(1).map(|&d| d as u64).product())
            }
            "Gemm" => {
                let (o, i) = if node.int("transB") == Some(1) { (0, 1) } else { (1, 0) };
                (LayerKind::Gemm, o, i, weight_shape.get(i).map_or(0, |&d| d as u64))
            }
            _ => {
                // A vector has one axis, which is summed over.
                let inner = weight_shape.len().saturating_sub(2);
                (LayerKind::MatMul, weight_shape.len().saturating_sub(1), inner, weight_shape.get(inner).map_or(0, |&d| d as u64))
            }
        };
        let weight = weight(graph, w, output_axis, input_axis)?;
        let kind = if kind == LayerKind::MatMul && weight.is_none() { LayerKind::ActivationMatMul } else { kind };
        let bias = node.input.get(2).filter(|b| graph.is_constant(b)).cloned();
        let bias_len = bias.as_deref().and_then(|b| graph.constant_shape(b)).map_or(0, |s| s.iter().product::<usize>());
        let params = weight.as_ref().map_or(0, Weight::len) + bias_len;
        out.push(Layer {
            node: index,
            name,
            kind,
            weight,
            bias,
            output_shape: output,
            macs: outputs.saturating_mul(per_output),
            params: params as u64,
        });
    }
    Ok(out)
}

/// The weights behind input `name`: a constant, or an integer constant behind DequantizeLinear.
fn weight(graph: &Graph<'_>, name: &str, output_axis: usize, input_axis: usize) -> Result<Option<Weight>> {
    let (name, quantized) = match graph.producer(name).map(|p| graph.node(p)) {
        Some(node) if node.op_type() == "DequantizeLinear" => (node.input.first().map_or("", String::as_str), true),
        _ => (name, false),
    };
    let (Some(shape), Some(code)) = (graph.constant_shape(name), graph.constant_type(name)) else { return Ok(None) };
    let encoding = match (quantized, dtype_from_onnx(code)) {
        (false, Some(dtype)) => Encoding::Float(dtype.size() as u32 * 8),
        (true, Some(DType::I8 | DType::U8)) => Encoding::Quantized(significant_bits(graph, name)?),
        (true, Some(dtype)) => Encoding::Quantized(dtype.size() as u32 * 8),
        (_, None) => return Ok(None),
    };
    Ok(Some(Weight { name: name.to_owned(), shape, output_axis, input_axis, encoding }))
}

/// The fewest bits whose two's-complement range holds every value of an 8-bit constant.
fn significant_bits(graph: &Graph<'_>, name: &str) -> Result<u32> {
    use crate::tensor::Data;
    let Some(tensor) = graph.constant(name)? else { return Ok(8) };
    let needed = |v: i32| 33 - if v < 0 { !v } else { v }.leading_zeros();
    Ok(match tensor.data() {
        Data::I8(v) => v.iter().map(|&q| needed(i32::from(q))).max().unwrap_or(1).max(2),
        _ => 8,
    })
}

/// Sums over the whole model.
///
/// # Errors
/// A constant cannot be decoded.
pub fn totals(graph: &Graph<'_>, layers: &[Layer]) -> Result<Totals> {
    let weights: Vec<&Weight> = layers.iter().filter_map(|l| l.weight.as_ref()).collect();
    let names: HashSet<&str> = weights.iter().map(|w| w.name.as_str()).collect();
    let float = dtype_to_onnx(DType::F32);
    let mut params: u64 = weights.iter().filter(|w| matches!(w.encoding, Encoding::Quantized(_))).map(|w| w.len() as u64).sum();
    let scales: HashSet<&str> = graph
        .nodes()
        .iter()
        .filter(|n| matches!(n.op_type(), "DequantizeLinear" | "QuantizeLinear"))
        .flat_map(|n| n.input.iter().skip(1).map(String::as_str))
        .collect();
    for t in &graph.model().graph().initializer {
        if t.data_type() == float && !t.dims.is_empty() && !scales.contains(t.name()) && !graph.consumers(t.name()).is_empty() {
            params += t.dims.iter().fold(1, |n: u64, &d| n.saturating_mul(d.max(0) as u64));
        }
    }
    let count: u64 = weights.iter().map(|w| w.len() as u64).sum();
    let bits: f64 = weights.iter().map(|w| w.len() as f64 * f64::from(w.encoding.bits())).sum();
    let mut zeros = 0u64;
    for name in names {
        zeros += graph.zeros(name)?;
    }
    let share = |x: f64| if count == 0 { 0.0 } else { x / count as f64 };
    Ok(Totals {
        params,
        macs: layers.iter().fold(0, |n, l| n.saturating_add(l.macs)),
        weight_bits: share(bits),
        sparsity: share(zeros as f64),
    })
}
