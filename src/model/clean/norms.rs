//! BatchNormalization folded into the layer before it.

use super::names::read_within;
use super::{count, remove_dead};
use crate::Result;
use crate::model::Graph;
use crate::onnx::{Attributes, Model, pb};
use crate::tensor::{DType, Tensor};
use std::collections::HashSet;

/// Folds each BatchNormalization that alone reads a Conv or ConvTranspose (of any grouping, depthwise too) or a Gemm with constant
/// float32 weights into that layer: W' = W·γ/√(σ²+ε), b' = β + (b − μ)·γ/√(σ²+ε) for each output channel.
///
/// The outputs change by the rounding of the new weights. Weights that other nodes read too are copied.
///
/// # Errors
/// A constant cannot be decoded.
pub fn fold_batch_norms(model: &mut Model) -> Result<Vec<String>> {
    let folds = find(model)?;
    if folds.is_empty() {
        return Ok(Vec::new());
    }
    let dead: HashSet<usize> = folds.iter().map(|f| f.norm).collect();
    let lines = vec![format!("{} folded into the layers before", count(dead.len(), "BatchNormalization", "BatchNormalizations"))];
    for fold in folds {
        let weight = if fold.shared {
            model.add_initializer(&format!("{}__folded", fold.weight), &fold.new_weight)
        } else {
            model.set_constant(&fold.weight, &fold.new_weight)?;
            fold.weight.clone()
        };
        let bias = model.add_initializer(&format!("{}__bias", fold.weight), &fold.new_bias);
        let node = &mut model.graph_mut().node[fold.layer];
        node.input.truncate(1);
        node.input.extend([weight, bias]);
        if node.op_type() == "Gemm" {
            node.set_float("beta", 1.0);
        }
        node.output = vec![fold.output];
    }
    let mut index = 0;
    model.graph_mut().node.retain(|_| {
        index += 1;
        !dead.contains(&(index - 1))
    });
    remove_dead(model);
    Ok(lines)
}

struct Fold {
    layer: usize,
    norm: usize,
    weight: String,
    /// True when others read the weights too.
    shared: bool,
    output: String,
    new_weight: Tensor,
    new_bias: Tensor,
}

fn find(model: &Model) -> Result<Vec<Fold>> {
    let graph = Graph::new(model);
    let inner: HashSet<&str> = graph.nodes().iter().flat_map(read_within).collect();
    let is_alone = |name: &str| graph.consumers(name).len() == 1 && !graph.is_output(name) && !inner.contains(name);
    let mut folds = Vec::new();
    for (norm, node) in graph.nodes().iter().enumerate().filter(|(_, n)| is_inference(n, model.opset())) {
        let [x, ..] = node.input.as_slice() else { continue };
        let Some(layer) = graph.producer(x).filter(|_| is_alone(x)) else { continue };
        let layer_node = graph.node(layer);
        let (Some(weight), Some(output)) = (layer_node.input.get(1), node.output.first()) else { continue };
        let Some(affine) = Affine::of(&graph, node)? else { continue };
        if let Some((new_weight, new_bias)) = folded(&graph, layer_node, &affine)? {
            folds.push(Fold {
                layer,
                norm,
                weight: weight.clone(),
                shared: !is_alone(weight),
                output: output.clone(),
                new_weight,
                new_bias,
            });
        }
    }
    Ok(folds)
}

/// True for a BatchNormalization that uses its stored statistics, one per channel.
fn is_inference(node: &pb::NodeProto, opset: i64) -> bool {
    let flag = |name: &str, default: i64| node.int(name).unwrap_or(default) != 0;
    node.is_standard()
        && node.op_type() == "BatchNormalization"
        && node.input.len() == 5
        && node.output.iter().skip(1).all(String::is_empty)
        && flag("spatial", 1)
        && !flag("training_mode", 0)
        && (opset >= 7 || flag("is_test", 0))
}

/// What a normalisation does to each channel: y = scale·x + shift, in double precision so that folding costs no accuracy.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    /// `None` when a constant is computed, no float32, of another size than the others, or makes no number.
    fn of(graph: &Graph<'_>, node: &pb::NodeProto) -> Result<Option<Self>> {
        let mut values = Vec::new();
        for name in &node.input[1..] {
            match floats(graph, name)? {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        let values: Vec<&[f32]> = values.iter().map(Tensor::as_f32).collect::<Result<_>>()?;
        let &[gamma, beta, mean, var] = values.as_slice() else { return Ok(None) };
        if [beta, mean, var].iter().any(|v| v.len() != gamma.len()) {
            return Ok(None);
        }
        let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
        let scale: Vec<f64> = gamma.iter().zip(var).map(|(&g, &v)| f64::from(g) / (f64::from(v) + epsilon).sqrt()).collect();
        let shift: Vec<f64> = beta.iter().zip(mean).zip(&scale).map(|((&b, &m), s)| f64::from(b) - f64::from(m) * s).collect();
        let finite = scale.iter().chain(&shift).all(|v| v.is_finite());
        Ok(finite.then_some(Affine { scale, shift }))
    }
}

/// A float32 constant; `None` for anything else.
fn floats(graph: &Graph<'_>, name: &str) -> Result<Option<Tensor>> {
    Ok(graph.constant(name)?.filter(|t| t.dtype() == DType::F32))
}

/// New weights and bias of a layer; `None` when it is none that can take the normalisation up.
fn folded(graph: &Graph<'_>, node: &pb::NodeProto, affine: &Affine) -> Result<Option<(Tensor, Tensor)>> {
    let channels = affine.scale.len();
    let is_layer = node.is_standard() && matches!(node.op_type(), "Conv" | "ConvTranspose" | "Gemm");
    let Some(mut weight) = (if is_layer { floats(graph, &node.input[1])? } else { None }) else { return Ok(None) };
    let bias = match node.input.get(2).filter(|b| !b.is_empty()) {
        None => None,
        Some(name) => match floats(graph, name)? {
            // One value for all channels, or one for each along the last axis.
            Some(b) if b.len() == 1 || (b.len() == channels && b.shape().last() == Some(&channels)) => Some(b),
            _ => return Ok(None),
        },
    };
    let Some(channel_of) = channels_of(node, weight.shape(), channels) else { return Ok(None) };
    let beta = if node.op_type() == "Gemm" { node.float("beta").unwrap_or(1.0) } else { 1.0 };
    let old = bias.as_ref().map(Tensor::as_f32).transpose()?;
    let old = |c: usize| old.and_then(|b| b.get(if b.len() == 1 { 0 } else { c })).map_or(0.0, |&b| f64::from(b) * f64::from(beta));
    let new_bias = (0..channels).map(|c| (affine.shift[c] + old(c) * affine.scale[c]) as f32).collect();
    for (i, w) in weight.as_f32_mut()?.iter_mut().enumerate() {
        *w = (f64::from(*w) * affine.scale[channel_of(i)]) as f32;
    }
    Ok(Some((weight, Tensor::f32([channels], new_bias)?)))
}

/// The output channel, below `channels`, of each element of a layer's weights; `None` when their shape does not fit.
fn channels_of(node: &pb::NodeProto, shape: &[usize], channels: usize) -> Option<Box<dyn Fn(usize) -> usize>> {
    let inner = |axis: usize| shape.get(axis + 1..).map(|s| s.iter().product::<usize>().max(1));
    match (node.op_type(), shape) {
        ("Conv", &[outputs, ..]) if outputs == channels => {
            let inner = inner(0)?;
            Some(Box::new(move |i| i / inner))
        }
        ("Gemm", &[rows, columns]) => {
            let transposed = node.int("transB").unwrap_or(0) != 0;
            let outputs = if transposed { rows } else { columns };
            (outputs == channels && columns > 0).then(|| -> Box<dyn Fn(usize) -> usize> {
                if transposed { Box::new(move |i| i / columns) } else { Box::new(move |i| i % columns) }
            })
        }
        // [inputs, outputs per group, …]: the group of an input says which outputs it goes to.
        ("ConvTranspose", &[inputs, per_group, ..]) => {
            let groups = usize::try_from(node.int("group").unwrap_or(1)).ok().filter(|&g| g > 0)?;
            let (inner, from) = (inner(1)?, inputs / groups);
            let fits = per_group.checked_mul(groups) == Some(channels) && inputs % groups == 0 && from > 0 && per_group > 0;
            fits.then(|| -> Box<dyn Fn(usize) -> usize> {
                Box::new(move |i| {
                    let (input, output) = (i / inner / per_group, i / inner % per_group);
                    input / from * per_group + output
                })
            })
        }
        _ => None,
    }
}
