//! Sequential least squares: front to back, each layer of the variant is fitted to the *original's* output, given the
//! input it really gets in the variant compressed so far.
//!
//! At a residual addition the target is the original's sum minus the variant's other summand, so that a layer also makes
//! up for what the shortcut lost.

use super::calibration::Calibration;
use super::lanes::{Lane, sum_moments};
use super::note::Note;
use super::statistics::{Centred, Moments, Rows};
use crate::model::{Facts, Graph, Layer, LayerKind, layers};
use crate::onnx::Model;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::HashMap;

/// What is to be fitted, and how the variant's tensors relate to the original's.
pub(super) struct Plan<'a> {
    /// The original, prepared as the variant was: same nodes, same names.
    pub(super) original: &'a Model,
    /// Channels of a tensor that the variant kept (`None`: all).
    pub(super) kept: &'a dyn Fn(&str) -> Option<Vec<usize>>,
    /// Which weights of a layer may be non-zero, by constant name (`None`: all).
    pub(super) support: &'a HashMap<String, Vec<bool>>,
}

/// Fits all layers of `variant` in order; returns a note per layer with the relative error of its output.
pub(super) fn refit(variant: &mut Model, plan: &Plan<'_>, calibration: &Calibration) -> Result<Vec<Note>> {
    let input_shape = calibration.chunks()[0].shape();
    let facts = Facts::infer(variant, input_shape[0])?;
    let layer_list = layers(&Graph::new(variant), &facts)?;
    let by_node: HashMap<usize, &Layer> = layer_list.iter().filter_map(|l| Some((l.node?, l))).collect();
    let nodes = variant.graph().node.len();
    let mut original = Lane::new(plan.original, calibration.input(), calibration.chunks())?;
    let mut lane = Lane::new(variant, calibration.input(), calibration.chunks())?;
    let targets: HashMap<usize, Target> = layer_list.iter().filter_map(|l| Some((l.node?, Target::of(variant, &facts, l)?))).collect();
    targets.values().for_each(|t| original.pin(&t.tensor));
    let mut notes = Vec::new();
    for index in 0..nodes {
        if let Some(layer) = by_node.get(&index) {
            match targets.get(&index) {
                Some(target) => {
                    original.advance_past(target.node)?;
                    notes.push(fit_layer(variant, &mut lane, &original, layer, target, plan)?);
                    original.unpin(&target.tensor);
                }
                None => notes.push(Note::skipped(&layer.name, "not refitted: it has no constant float weights")),
            }
        }
        lane.advance_past(index)?;
    }
    Ok(notes)
}

/// Which original tensor a layer is fitted to.
struct Target {
    /// Name of the tensor, and the node that makes it.
    tensor: String,
    node: usize,
    /// A constant that a following Add brings in as the layer's bias.
    bias: Option<String>,
    /// The other summand of a residual addition, subtracted as the variant has it.
    minus: Option<String>,
}

impl Target {
    fn of(model: &Model, facts: &Facts, layer: &Layer) -> Option<Self> {
        let (index, _) = layer.editable().ok()?;
        let output_shape = layer.output_shape.as_deref()?;
        let graph = Graph::new(model);
        let node = graph.node(index);
        let mut target = Target { tensor: node.output[0].clone(), node: index, bias: layer.bias.clone(), minus: None };
        if layer.kind == LayerKind::MatMul
            && let Some((add, other)) = only_add(&graph, &target.tensor)
            && graph.constant_shape(&other).as_deref() == output_shape.last().map(std::slice::from_ref)
        {
            target = Target { tensor: graph.node(add).output[0].clone(), node: add, bias: Some(other), minus: None };
        }
        if let Some((add, other)) = only_add(&graph, &target.tensor)
            && !graph.is_constant(&other)
            // A summand that is broadcast has no value of its own for each output.
            && facts.shape(&other) == Some(output_shape)
            && graph.producer(&other).is_none_or(|p| p < index)
        {
            target = Target { tensor: graph.node(add).output[0].clone(), node: add, minus: Some(other), ..target };
        }
        Some(target)
    }
}

/// When the only reader of `tensor` is an Add: its index and the other summand.
fn only_add(graph: &Graph<'_>, tensor: &str) -> Option<(usize, String)> {
    let [reader] = graph.consumers(tensor) else { return None };
    let node = graph.node(reader.node);
    let other = node.input.get(1usize.checked_sub(reader.input)?)?;
    (node.op_type() == "Add" && !node.output.is_empty() && !graph.is_output(tensor)).then(|| (reader.node, other.clone()))
}

/// Fits one layer and writes its new weights and bias into the model and the lane.
fn fit_layer(model: &mut Model, lane: &mut Lane, original: &Lane, layer: &Layer, target: &Target, plan: &Plan<'_>) -> Result<Note> {
    let (index, weight) = match layer.editable() {
        Ok(found) => found,
        Err(why) => return Ok(Note::skipped(&layer.name, format!("not refitted: {why}"))),
    };
    let node = model.graph().node[index].clone();
    let x = &node.input[0];
    let Some(first) = lane.get(0, x) else {
        return Ok(Note::skipped(&layer.name, "not refitted: its input is a constant"));
    };
    let rows = match Rows::of(layer, &node, first.shape(), &weight.shape) {
        Ok(rows) => rows,
        Err(why) => return Ok(Note::skipped(&layer.name, format!("not refitted: {why}"))),
    };
    let current = Graph::new(model).constant(&weight.name)?.ok_or_else(|| Error::bad_input(format!("`{}` vanished", weight.name)))?;
    let w0 = matrix(&current, weight.output_axis)?;
    let outputs = weight.shape[weight.output_axis];
    let kept = (plan.kept)(&target.tensor).unwrap_or_else(|| (0..outputs).collect());
    let sources = Sources { lane, original, x, target, rows: &rows, kept: &kept };
    let support = plan.support.get(&weight.name);
    let fitted = if layer.kind == LayerKind::DepthwiseConv {
        fit_depthwise(&sources, &w0, outputs)?
    } else {
        let d = w0.len() / outputs.max(1);
        sources.moments(d, outputs, None)?.centred().and_then(|c| Fit::best(&c, &w0, support.map(Vec::as_slice)))
    };
    let Some(fit) = fitted else {
        return Ok(Note::skipped(&layer.name, "not refitted: its least-squares system has no solution"));
    };
    let new_weight = tensor_from_matrix(&fit.weights, &weight.shape, weight.output_axis)?;
    model.set_constant(&weight.name, &new_weight)?;
    lane.set_constant(&weight.name, new_weight);
    let bias = Tensor::f32([outputs], fit.bias.iter().map(|&b| b as f32).collect())?;
    match &target.bias {
        Some(name) => {
            let shape = Graph::new(model).constant_shape(name).unwrap_or_else(|| vec![outputs]);
            let bias = bias.reshaped(shape)?;
            model.set_constant(name, &bias)?;
            lane.set_constant(name, bias);
        }
        None => return Ok(Note { error: Some(fit.error), ..Note::changed(&layer.name, "weights refitted (it has no bias)") }),
    }
    let detail = format!("refitted: output error {:.1} % → {:.1} %", fit.before * 100.0, fit.error * 100.0);
    Ok(Note { error: Some(fit.error), ..Note::changed(&layer.name, detail) })
}

/// Fitted weights (o×d) with their bias.
struct Fit {
    weights: Vec<f64>,
    bias: Vec<f64>,
    before: f64,
    error: f64,
}

impl Fit {
    /// The fit, or the old weights with the best bias when the fit is not better.
    fn best(c: &Centred, w0: &[f64], support: Option<&[bool]>) -> Option<Self> {
        let fitted = match support {
            Some(keep) => c.on_support(w0, keep)?,
            None => c.dense(w0)?,
        };
        let (before, error) = (c.relative_error(w0), c.relative_error(&fitted));
        let (weights, error) = if error < before { (fitted, error) } else { (w0.to_vec(), before) };
        Some(Fit { bias: c.bias(&weights), weights, before, error })
    }
}

/// A depthwise layer is one small system per channel.
fn fit_depthwise(sources: &Sources<'_>, w0: &[f64], channels: usize) -> Result<Option<Fit>> {
    let d = w0.len() / channels.max(1);
    let mut fit = Fit { weights: Vec::new(), bias: Vec::new(), before: 0.0, error: 0.0 };
    for c in 0..channels {
        let moments = sources.moments(d, 1, Some(c))?;
        let Some(one) = moments.centred().and_then(|m| Fit::best(&m, &w0[c * d..(c + 1) * d], None)) else { return Ok(None) };
        fit.weights.extend(one.weights);
        fit.bias.extend(one.bias);
        fit.before += one.before / channels as f64;
        fit.error += one.error / channels as f64;
    }
    Ok(Some(fit))
}

/// Where the rows of one layer come from.
struct Sources<'a> {
    lane: &'a Lane,
    original: &'a Lane,
    x: &'a str,
    target: &'a Target,
    rows: &'a Rows,
    kept: &'a [usize],
}

impl Sources<'_> {
    /// Moments over all chunks. `channel`: that channel alone of a depthwise layer.
    fn moments(&self, d: usize, o: usize, channel: Option<usize>) -> Result<Moments> {
        let count = self.lane.chunk_count();
        let total: usize = (0..count).filter_map(|i| self.lane.get(i, self.x)).map(|t| self.rows.count(t.shape())).sum();
        let step = row_step(total, d);
        let kept: Vec<usize> = channel.map_or_else(|| self.kept.to_vec(), |c| vec![self.kept[c]]);
        let own: Vec<usize> = channel.map_or_else(|| (0..self.kept.len()).collect(), |c| vec![c]);
        let missing = |name: &str| Error::bad_input(format!("`{name}` was not computed during calibration"));
        sum_moments(count, d, o, |i, sum| {
            let x = self.lane.get(i, self.x).ok_or_else(|| missing(self.x))?;
            let t = self.original.get(i, &self.target.tensor).ok_or_else(|| missing(&self.target.tensor))?;
            let mut targets = self.rows.targets(t, step, &kept)?;
            if let Some(other) = &self.target.minus {
                let other = self.lane.get(i, other).ok_or_else(|| missing(other))?;
                let shortcut = self.rows.targets(other, step, &own)?;
                targets.iter_mut().zip(shortcut).for_each(|(t, s)| *t -= s);
            }
            sum.add(&self.rows.inputs(x, step, channel)?, &targets)
        })
    }
}

/// Every how many rows one is taken: neighbouring patches overlap, so some 100 rows per unknown carry all there is.
pub(super) fn row_step(total: usize, d: usize) -> usize {
    (total / (100 * d).clamp(8_192, 131_072)).max(1)
}

/// Weights as an o×d matrix in double precision, output channels as rows.
pub(super) fn matrix(w: &Tensor, output_axis: usize) -> Result<Vec<f64>> {
    let data = w.as_f32()?;
    Ok(match (output_axis, w.shape()) {
        (0, _) => data.iter().map(|&v| f64::from(v)).collect(),
        (_, &[d, o]) => (0..o * d).map(|i| f64::from(data[(i % d) * o + i / d])).collect(),
        (_, shape) => return Err(Error::bad_input(format!("weights of shape {shape:?} are not a matrix"))),
    })
}

/// The inverse of [`matrix`].
pub(super) fn tensor_from_matrix(w: &[f64], shape: &[usize], output_axis: usize) -> Result<Tensor> {
    let data = match (output_axis, shape) {
        (0, _) => w.iter().map(|&v| v as f32).collect(),
        (_, &[d, o]) => (0..d * o).map(|i| w[(i % o) * d + i / o] as f32).collect(),
        _ => return Err(Error::bad_input(format!("weights of shape {shape:?} are not a matrix"))),
    };
    Tensor::f32(shape, data)
}
