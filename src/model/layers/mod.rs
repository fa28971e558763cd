//! Layers: the nodes that hold weights or multiply, with parameters, multiply–adds and the code of their weights.
//!
//! A layer is listed whatever is not known of it: multiply–adds are a number, or the reason why there is none. Weights are
//! found behind Cast, Transpose, Reshape, Identity and DequantizeLinear, in the bodies of If, Loop and Scan, and in functions.

mod einsum;
mod kind;
mod macs;
mod totals;

pub use kind::LayerKind;
pub use totals::{Macs, Totals, totals};

use super::encoding::Format;
use super::nested::{self, Names};
use super::{Facts, Graph, Source, node_label};
use crate::Result;
use crate::onnx::pb;
use kind::{Plan, plan};

/// A layer's weights: the constant that holds them and how they are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Name of the constant (the integer one when quantized).
    pub name: String,
    /// Dimensions as the operator reads them.
    pub shape: Vec<usize>,
    /// Axis of the output channels: Conv 0, ConvTranspose 1, Gemm 0 with transB else 1, MatMul the last.
    pub output_axis: usize,
    /// Axis of the input channels (Conv: 1; of a depthwise layer there is one per group).
    pub input_axis: usize,
    /// How it is stored; its axes are those of the constant.
    pub format: Format,
    /// Which input of the node reads it.
    pub input: usize,
    /// Operators between the constant and the node, the nearest to the constant first.
    pub through: Vec<String>,
    /// Axis of the constant for each axis of `shape`; `None` when a Reshape stands between.
    pub axes: Option<Vec<usize>>,
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

    /// How it is stored, in short: `f32`, `i8 per channel`, `u4 block 32`.
    pub fn encoding(&self) -> String {
        self.format.short(self.axes.as_ref().and_then(|axes| axes.get(self.output_axis).copied()))
    }

    fn new(source: &Source<'_>, format: Format, input: usize, output_axis: usize, input_axis: usize) -> Self {
        Weight {
            name: source.name().to_owned(),
            shape: source.shape().to_vec(),
            output_axis,
            input_axis,
            format,
            input,
            through: source.through().iter().map(|&s| s.to_owned()).collect(),
            axes: source.axes().map(<[usize]>::to_vec),
        }
    }
}

/// A layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Index of the node in the main graph; `None` for one within a body or a function.
    pub node: Option<usize>,
    /// Name for people: the node's, else operator and position; the way to it before that (`loop_1/conv`).
    pub name: String,
    /// Name of its first output, as the file has it.
    pub output: String,
    /// Operator, with its domain where that is not ONNX's.
    pub operator: String,
    /// Sort.
    pub kind: LayerKind,
    /// Weights; `None` when two activations are multiplied, and for weights that are computed.
    pub weight: Option<Weight>,
    /// More of them: the recurrent weights of LSTM, GRU and RNN.
    pub more: Vec<Weight>,
    /// Name of the bias constant, when the node reads it directly.
    pub bias: Option<String>,
    /// Dimensions of the output for the batch that shapes were inferred with, where they are known.
    pub output_shape: Option<Vec<usize>>,
    /// Multiply–adds for that batch, or why they are not known.
    pub macs: std::result::Result<u64, String>,
    /// Weights and bias elements.
    pub params: u64,
}

impl Layer {
    /// All constants it multiplies by.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.weight.iter().chain(&self.more)
    }

    /// Index of the node and the weights of a Conv, Gemm or MatMul of the main graph whose float32 weights are its second
    /// input itself: what can be rewritten in place. The error says why another layer cannot.
    ///
    /// # Errors
    /// The reason, for people: "it multiplies two activations: there are no weights".
    pub fn editable(&self) -> std::result::Result<(usize, &Weight), String> {
        let Some(node) = self.node else { return Err("it is inside the body of another node".into()) };
        let Some(weight) = &self.weight else {
            return Err(match self.kind {
                LayerKind::ActivationMatMul | LayerKind::Attention | LayerKind::Einsum => {
                    "it multiplies two activations: there are no weights".into()
                }
                _ => "its weights are computed in the graph".into(),
            });
        };
        match &weight.format {
            Format::Integer { bits, .. } => return Err(format!("its weights have {bits} bits already")),
            Format::Float(f) if !weight.format.is_f32() => return Err(format!("its weights are {f}, not f32")),
            Format::Float(_) => {}
        }
        if !matches!(self.operator.as_str(), "Conv" | "Gemm" | "MatMul") {
            return Err(format!("{} is not handled", self.operator));
        }
        match (weight.input, weight.through.as_slice()) {
            (1, []) => Ok((node, weight)),
            (1, through) => Err(format!("its weights stand behind {}", through.join(" and "))),
            _ => Err("its weights are the first factor".into()),
        }
    }
}

/// All layers in node order, those of bodies and functions after the node that holds them.
///
/// Multiply–adds follow tract's cost model where it has one: per output element of a convolution, kernel × input channels /
/// groups; per input element of a transposed one, kernel × output channels / groups; m·k·n for matrices; for LSTM, GRU and
/// RNN gates · hidden · (input + hidden) per step, sample and direction; for attention both products; for an Einsum the product
/// of all its axes for each operand after the first; 0 for embeddings, which only read.
///
/// # Errors
/// A weight's data is not there, or bodies and functions are nested without bound.
pub fn layers(graph: &Graph<'_>, facts: &Facts) -> Result<Vec<Layer>> {
    Ok(layers_with_sources(graph, facts)?.into_iter().map(|(layer, _)| layer).collect())
}

/// The same with the constants behind the weights, in the order of [`Layer::weights`].
///
/// # Errors
/// As [`layers`].
pub fn layers_with_sources<'m>(graph: &Graph<'m>, facts: &Facts) -> Result<Vec<(Layer, Vec<Source<'m>>)>> {
    let mut found = Vec::new();
    nested::walk(graph, &mut |names, index, node| {
        if let Some(plan) = plan(names, node) {
            found.push(layer(names, index, node, plan, facts)?);
        }
        Ok(())
    })?;
    Ok(found)
}

fn layer<'m>(
    names: &Names<'_, 'm>,
    index: usize,
    node: &'m pb::NodeProto,
    plan: Plan<'m>,
    facts: &Facts,
) -> Result<(Layer, Vec<Source<'m>>)> {
    let mut weights = Vec::new();
    let mut sources = Vec::new();
    for w in plan.weights {
        if let Some(format) = w.source.format()? {
            weights.push(Weight::new(&w.source, format, w.input, w.output_axis, w.input_axis));
            sources.push(w.source);
        }
    }
    let bias = plan.bias.as_ref().map_or(0, Source::len);
    let is_direct = |b: &Source<'_>| b.through().is_empty() && names.path.is_empty();
    let output = node.output.first().cloned().unwrap_or_default();
    let in_main = names.inside.is_none();
    let mut weights = weights.into_iter();
    let layer = Layer {
        node: in_main.then_some(index),
        name: names.called(&node_label(node, index)),
        operator: kind::operator(node),
        kind: plan.kind,
        macs: macs::macs(names, index, node, plan.kind, facts),
        output_shape: match &names.calls {
            Some(path) => facts.inside(path).and_then(|f| f.get(&output)).map(|f| f.shape.clone()),
            None => facts.shape(&output).filter(|_| in_main).map(<[usize]>::to_vec),
        },
        output,
        bias: plan.bias.as_ref().filter(|b| is_direct(b)).map(|b| b.name().to_owned()),
        weight: weights.next(),
        more: weights.collect(),
        params: sources.iter().map(Source::len).fold(bias, usize::saturating_add) as u64,
    };
    Ok((layer, sources))
}
