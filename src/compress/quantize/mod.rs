//! Quantization: weights of 2 to 8 bits, and activations of 8, in the standard form that `exec` runs and engines load.
//!
//! The form is canonical: what engines like best is made from it afterwards. Weights are int8 constants behind DequantizeLinear
//! ([`weights`]); activations pass through QuantizeLinear → DequantizeLinear ([`placement`], [`pairs`]) with ranges from the
//! calibration samples ([`observe`], [`range`]); biases are int32 where kernels add them to sums ([`biases`]).

mod biases;
mod histogram;
mod observe;
mod pairs;
mod placement;
mod range;
mod scales;
mod weights;

use super::calibration::Calibration;
use super::note::Note;
use super::prepare::prepare;
use crate::model::clean::{fold_batch_norms, remove_dead};
use crate::model::{Facts, Granularity, Graph, Layer, Quantized, layers, upgrade};
use crate::onnx::Model;
use crate::recipe::{ActivationRange, WeightGranularity};
use crate::{Error, Result};
use biases::quantize_bias;
use histogram::Histogram;
use placement::{Placement, Site};
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
}

/// How activations are quantized.
#[derive(Debug, Clone, Copy)]
pub struct Activations<'a> {
    /// How their ranges follow from their values
    pub range: ActivationRange,
    /// on these samples.
    pub samples: &'a Calibration,
}

/// Quantizes the constant weights of every Conv, Gemm and MatMul per output channel; biases and everything else stay float.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_weights(model: &Model, bits: u32) -> Result<(Model, Vec<Note>)> {
    quantize(model, &Quantization { weight_bits: bits, granularity: WeightGranularity::default(), activations: None })
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
/// let how = Quantization { weight_bits: 8, granularity: WeightGranularity::Channel, activations };
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
    let (mut variant, mut notes) = prepare(model)?;
    if how.activations.is_some() {
        notes.extend(fold_batch_norms(&mut variant)?.into_iter().map(Note::step));
    }
    notes.extend(convert(&mut variant, how.granularity)?);
    let mut done = integer_weights(&mut variant, how)?;
    let last = match &how.activations {
        Some(activations) => Some(integer_activations(&mut variant, done.iter_mut().flatten(), activations)?),
        None => None,
    };
    remove_dead(&mut variant);
    notes.extend(done.into_iter().map(|layer| layer.map_or_else(|note| note, |l| l.note)));
    notes.extend(last);
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
fn integer_weights(model: &mut Model, how: &Quantization<'_>) -> Result<Vec<Result<IntegerLayer, Note>>> {
    let facts = Facts::infer(model, 1)?;
    let list = layers(&Graph::new(model), &facts)?;
    let mut done = Vec::new();
    let mut dequantizers = Vec::new();
    for layer in &list {
        done.push(match layer.editable() {
            Err(why) => Err(Note::skipped(&layer.name, why)),
            Ok((index, weight)) => {
                let (node, layer) = quantize_layer(model, index, layer, weight, how.weight_bits, how.granularity)?;
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

/// Quantizes the activations around `layers`, and their biases.
fn integer_activations<'l>(model: &mut Model, layers: impl Iterator<Item = &'l mut IntegerLayer>, how: &Activations<'_>) -> Result<Note> {
    let layers: Vec<&mut IntegerLayer> = layers.collect();
    let placement = Placement::new(&Graph::new(model), layers.iter().map(|l| l.node));
    let codes = codes(model, &placement, how)?;
    let mut dequantizers = Vec::new();
    for layer in layers {
        let input = &model.graph().node[layer.node].input[0];
        let site = placement.sites.iter().find(|s| s.tensor == *input);
        let said = match (placement.refused.get(&layer.node), site) {
            (Some(why), _) => format!("; input stays float: {why}"),
            (None, None) => return Err(Error::bad_input(format!("the input of layer `{}` has no place", layer.note.layer))),
            (None, Some(_)) if layer.bias.is_none() => "; input to 8 bits".to_owned(),
            (None, Some(site)) => match quantize_bias(model, layer, codes[site.group].scales()[0])? {
                Ok(node) => {
                    dequantizers.push(node);
                    "; input to 8 bits, bias to 32 bits".to_owned()
                }
                Err(why) => format!("; input to 8 bits, bias stays float: {why}"),
            },
        };
        layer.note.detail += &said;
    }
    pairs::insert(model, &placement, &codes)?;
    model.graph_mut().node.splice(0..0, dequantizers);
    let gone = placement.sites.iter().filter(|s| s.activation.is_some()).count();
    let activations = format!("{} activations to 8 bits, {} ranges", placement.sites.len(), how.range);
    Ok(Note::step(match gone {
        0 => activations,
        n => format!("{activations}; {n} of Relu and Clip are done by the saturation of these integers"),
    }))
}

/// The code of each group of tensors.
fn codes(model: &Model, placement: &Placement, how: &Activations<'_>) -> Result<Vec<Quantized>> {
    let counted: Vec<&Site> = placement.sites.iter().filter(|s| !s.repeats).collect();
    let names: Vec<&str> = counted.iter().map(|s| s.tensor.as_str()).collect();
    let mut groups = vec![Histogram::new(); placement.bounds.len()];
    for (site, histogram) in counted.iter().zip(observe::histograms(model, &names, how.samples)?) {
        groups[site.group].merge(&histogram);
    }
    let code = |(group, h): (usize, &Histogram)| {
        let name = || counted.iter().find(|s| s.group == group).map_or("", |s| s.tensor.as_str());
        range::code(range::range(h, how.range), placement.bounds[group]).map_err(|e| e.context(format!("`{}`", name())))
    };
    groups.iter().enumerate().map(code).collect()
}
