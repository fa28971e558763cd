//! Quantization: weights of 2 to 8 bits, and activations of 8, in the standard form that `exec` runs and engines load.
//!
//! The form is canonical: what engines like best is made from it afterwards. Weights are int8 constants behind DequantizeLinear
//! ([`weights`]); activations pass through QuantizeLinear → DequantizeLinear ([`placement`], [`pairs`]) with ranges from the
//! calibration samples ([`observe`], [`range`]); biases are int32 where kernels add them to sums ([`biases`]).

mod biases;
mod fitted;
mod grid;
mod histogram;
mod observe;
mod pairs;
mod placement;
mod range;
mod scales;
mod weights;

use super::calibration::Calibration;
use super::note::Note;
use super::prepare::{prepare, prepare_to_prune};
use crate::model::clean::{fold_batch_norms, remove_dead};
use crate::model::{Facts, Granularity, Graph, Layer, Quantized, layers, upgrade};
use crate::onnx::Model;
use crate::recipe::{ActivationRange, WeightGranularity};
use crate::{Error, Result};
use biases::quantize_bias;
use fitted::OnGrid;
use histogram::Histogram;
use placement::{Placement, Site};
use std::collections::HashMap;
use weights::{IntegerLayer, quantize_layer};

/// DequantizeLinear with a scale for each index of an axis came with this operator set,
const PER_AXIS_OPSET: i64 = 13;
/// with blocks along one with this.
const BLOCKED_OPSET: i64 = 21;

/// What is quantized, and how.
#[derive(Debug, Clone, Copy)]
pub struct Quantization<'a> {
    /// Bits of the weights, 2 to 8.
    pub weight_bits: u32,
    /// Which weights share a scale.
    pub granularity: WeightGranularity,
    /// Activations to 8 bits; `None`: they stay float.
    pub activations: Option<Activations<'a>>,
    /// Integers are fitted to the original's outputs on these samples; `None`: weights are rounded to nearest.
    pub fit: Option<&'a Calibration>,
}

/// How activations are quantized.
#[derive(Debug, Clone, Copy)]
pub struct Activations<'a> {
    /// How their ranges follow from their values
    pub range: ActivationRange,
    /// on these samples.
    pub samples: &'a Calibration,
}

/// Rounds the constant weights of every Conv, Gemm and MatMul to nearest, per output channel; biases and everything else stay
/// float.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_weights(model: &Model, bits: u32) -> Result<(Model, Vec<Note>)> {
    quantize(model, &Quantization { weight_bits: bits, granularity: WeightGranularity::default(), activations: None, fit: None })
}

/// Quantizes the constant weights of every Conv, Gemm and MatMul and, if asked for, the activations around them.
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// use joulefront::compress::{Activations, Calibration, Quantization, quantize};
/// use joulefront::recipe::{ActivationRange, WeightGranularity};
/// use joulefront::{onnx::Model, tensor::Tensor};
/// let images = Tensor::f32([16, 1, 28, 28], (0..16 * 784).map(|i| (i % 256) as f32 / 255.0).collect::<Vec<_>>())?;
/// let samples = Calibration::new("input", &images)?;
/// let activations = Some(Activations { range: ActivationRange::Mse, samples: &samples });
/// let how = Quantization { weight_bits: 8, granularity: WeightGranularity::Channel, activations, fit: Some(&samples) };
/// let (variant, notes) = quantize(&Model::load("models/fashion-mlp.onnx")?, &how)?;
/// assert_eq!(variant.graph().node.iter().filter(|n| n.op_type() == "QuantizeLinear").count(), 3);
/// assert!(notes[0].detail.ends_with("input to 8 bits, bias to 32 bits"), "{notes:?}");
/// # Ok(()) }
/// ```
///
/// # Errors
/// `weight_bits` is outside 2..=8, the operator set is too old and cannot be converted, nothing can be quantized, or the
/// samples do not fit the model, are too few, all alike, or lead to values that are not finite.
pub fn quantize(model: &Model, how: &Quantization<'_>) -> Result<(Model, Vec<Note>)> {
    let bits = how.weight_bits;
    if !(2..=8).contains(&bits) {
        return Err(Error::bad_input(format!("{bits} bits cannot be used for weights")).hint("choose 2 to 8 bits"));
    }
    let (mut original, mut notes) = match how.fit {
        Some(_) => prepare_to_prune(model, true)?,
        None => prepare(model)?,
    };
    if how.activations.is_some() {
        notes.extend(fold_batch_norms(&mut original)?.into_iter().map(Note::step));
    }
    notes.extend(convert(&mut original, how.granularity)?);
    let mut variant = original.clone();
    let activations = how.activations.map(|a| integer_activations(&mut variant, &a)).transpose()?;
    let (on_grid, said) = how.fit.map(|samples| fitted::fit(&mut variant, &original, how, samples)).transpose()?.unwrap_or_default();
    let mut done = integer_weights(&mut variant, how, &on_grid)?;
    if let Some((refused, _)) = &activations {
        integer_biases(&mut variant, done.iter_mut().flatten(), refused)?;
    }
    remove_dead(&mut variant);
    notes.extend(done.into_iter().map(|layer| layer.map_or_else(|note| note, |l| l.note)));
    notes.extend(activations.map(|(_, note)| note));
    notes.extend(said);
    Ok((variant, notes))
}

/// Converts the operator set where the form needs a later one.
fn convert(model: &mut Model, granularity: WeightGranularity) -> Result<Option<Note>> {
    let facts = Facts::infer(model, 1)?;
    let list = layers(&Graph::new(model), &facts)?;
    let in_blocks =
        |l: &Layer| l.editable().is_ok_and(|(_, w)| matches!(weights::granularity(granularity, l, w), Granularity::Block { .. }));
    let needed = if list.iter().any(in_blocks) { BLOCKED_OPSET } else { PER_AXIS_OPSET };
    let from = model.opset();
    if from >= needed {
        return Ok(None);
    }
    let changed = upgrade(model, needed)?;
    Ok(Some(Note::step(format!("operator set {from} converted to {needed}: {} nodes rewritten", changed.len()))))
}

/// Makes the weights of all layers integers; `Err` is the note of a layer that is left alone.
fn integer_weights(
    model: &mut Model,
    how: &Quantization<'_>,
    on_grid: &HashMap<String, OnGrid>,
) -> Result<Vec<Result<IntegerLayer, Note>>> {
    let facts = Facts::infer(model, 1)?;
    let list = layers(&Graph::new(model), &facts)?;
    let mut done = Vec::new();
    let mut dequantizers = Vec::new();
    for layer in &list {
        done.push(match layer.editable() {
            Err(why) => Err(Note::skipped(&layer.name, why)),
            Ok((index, weight)) => {
                let (node, layer) = quantize_layer(model, index, layer, weight, how, on_grid.get(&weight.name))?;
                dequantizers.push(node);
                Ok(layer)
            }
        });
    }
    if dequantizers.is_empty() {
        return Err(Error::bad_input("no layer of this model has constant float32 weights to quantize"));
    }
    for layer in done.iter_mut().flatten() {
        layer.node += dequantizers.len();
        layer.bias.iter_mut().for_each(|b| b.node += dequantizers.len());
    }
    // Constants come first in topological order, so the new nodes may stand before all others.
    model.graph_mut().node.splice(0..0, dequantizers);
    Ok(done)
}

/// Layers, by the tensor they make, whose input stays float, with the reason.
type Refused = HashMap<String, &'static str>;

/// Quantizes the activations around the layers whose weights will be integers.
fn integer_activations(model: &mut Model, how: &Activations<'_>) -> Result<(Refused, Note)> {
    let facts = Facts::infer(model, 1)?;
    let graph = Graph::new(model);
    let nodes: Vec<usize> = layers(&graph, &facts)?.iter().filter_map(|l| Some(l.editable().ok()?.0)).collect();
    let placement = Placement::new(&graph, nodes.into_iter());
    let refused = placement.refused.iter().map(|(&node, &why)| (graph.node(node).output[0].clone(), why)).collect();
    let codes = codes(model, &placement, how)?;
    pairs::insert(model, &placement, &codes)?;
    let gone = placement.sites.iter().filter(|s| s.activation.is_some()).count();
    let said = format!("{} activations to 8 bits, {} ranges", placement.sites.len(), how.range);
    let said = match gone {
        0 => said,
        n => format!("{said}; {n} of Relu and Clip are done by the saturation of these integers"),
    };
    Ok((refused, Note::step(said)))
}

/// Quantizes the biases of layers that read integers.
fn integer_biases<'l>(model: &mut Model, layers: impl Iterator<Item = &'l mut IntegerLayer>, refused: &Refused) -> Result<()> {
    let mut dequantizers = Vec::new();
    for layer in layers {
        let node = &model.graph().node[layer.node];
        let said = match (refused.get(&node.output[0]), layer.bias.is_some()) {
            (Some(why), _) => format!("; input stays float: {why}"),
            (None, false) => "; input to 8 bits".to_owned(),
            (None, true) => match quantize_bias(model, layer, input_scale(model, layer)?)? {
                Ok(node) => {
                    dequantizers.push(node);
                    "; input to 8 bits, bias to 32 bits".to_owned()
                }
                Err(why) => format!("; input to 8 bits, bias stays float: {why}"),
            },
        };
        layer.note.detail += &said;
    }
    model.graph_mut().node.splice(0..0, dequantizers);
    Ok(())
}

/// The scale of the integers that a layer reads.
fn input_scale(model: &Model, layer: &IntegerLayer) -> Result<f32> {
    let graph = Graph::new(model);
    let pair = graph.producer(&graph.node(layer.node).input[0]).map(|n| graph.node(n));
    let scale = match pair.filter(|n| n.op_type() == "DequantizeLinear").and_then(|n| n.input.get(1)) {
        Some(name) => graph.constant(name)?,
        None => None,
    };
    let scale = scale.as_ref().map(|s| s.as_f32()).transpose()?.and_then(|s| s.first().copied());
    scale.ok_or_else(|| Error::bad_input(format!("the input of layer `{}` has no scale", layer.note.layer)))
}

/// The code of each group of tensors.
fn codes(model: &Model, placement: &Placement, how: &Activations<'_>) -> Result<Vec<Quantized>> {
    let counted: Vec<&Site> = placement.sites.iter().filter(|s| !s.repeats).collect();
    let names: Vec<&str> = counted.iter().map(|s| s.tensor.as_str()).collect();
    let mut groups = vec![Histogram::new(); placement.bounds.len()];
    for (site, histogram) in counted.iter().zip(observe::histograms(model, &names, how.samples, how.range)?) {
        groups[site.group].merge(&histogram);
    }
    let code = |(group, h): (usize, &Histogram)| {
        let name = || counted.iter().find(|s| s.group == group).map_or("", |s| s.tensor.as_str());
        range::code(range::range(h, how.range), placement.bounds[group]).map_err(|e| e.context(format!("`{}`", name())))
    };
    groups.iter().enumerate().map(code).collect()
}
