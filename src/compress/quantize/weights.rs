//! Weights of 2 to 8 bits: an int8 constant, whose values stay within the narrower range, behind DequantizeLinear.

use super::Quantization;
use super::fitted::OnGrid;
use super::scales::best_scale;
use crate::compress::Note;
use crate::model::{Granularity, Graph, Layer, LayerKind, Levels, Quantized, Storage, Use, Weight};
use crate::onnx::{Attributes, Model, pb};
use crate::recipe::WeightGranularity;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// Weights along the inputs of one output that share a scale in blocks: what engines' packed products take.
pub(super) const BLOCK: usize = 32;

/// A layer whose weights are integers now.
#[derive(Debug)]
pub(super) struct IntegerLayer {
    /// Index of its node.
    pub(super) node: usize,
    /// Name of the constant with the integers.
    pub(super) integers: String,
    /// Name of the constant with the scales.
    pub(super) scale: String,
    /// Which weights share a scale.
    pub(super) granularity: Granularity,
    /// Where its bias is read: by the node itself, or by an Add behind a MatMul.
    pub(super) bias: Option<Use>,
    /// What was done to it.
    pub(super) note: Note,
}

/// Which of a layer's weights share a scale. Kernels of convolutions have no blocks: their reduction runs over three axes.
pub(super) fn granularity(wanted: WeightGranularity, layer: &Layer, weight: &Weight) -> Granularity {
    match wanted {
        WeightGranularity::Tensor => Granularity::Tensor,
        WeightGranularity::Block32 if matches!(layer.kind, LayerKind::Gemm | LayerKind::MatMul) => {
            Granularity::Block { axis: weight.input_axis, size: BLOCK }
        }
        WeightGranularity::Channel | WeightGranularity::Block32 => Granularity::Axis(weight.output_axis),
    }
}

/// The code with which weights are rounded to nearest: scales with the least squared error of the weights.
///
/// # Errors
/// A weight is not finite.
pub(super) fn nearest(layer: &Layer, weight: &Weight, value: &Tensor, bits: u32, wanted: WeightGranularity) -> Result<Quantized> {
    if let Some(bad) = value.as_f32()?.iter().find(|v| !v.is_finite()) {
        return Err(Error::bad_input(format!("layer `{}` has a weight that is {bad}", layer.name)));
    }
    let granularity = granularity(wanted, layer, weight);
    coded(granularity.groups(value)?.iter().map(|group| best_scale(group, bits)).collect(), granularity, bits)
}

fn coded(scales: Vec<f32>, granularity: Granularity, bits: u32) -> Result<Quantized> {
    Quantized::new(Storage::I8, Levels::of_bits(Storage::I8, bits)?, granularity, scales, Vec::new())
}

/// Replaces one layer's weights by integers behind a DequantizeLinear, which is returned: it may stand before all other nodes.
/// Weights that are `on_grid` already keep their scales, others are rounded to nearest.
pub(super) fn quantize_layer(
    model: &mut Model,
    index: usize,
    layer: &Layer,
    weight: &Weight,
    how: &Quantization<'_>,
    on_grid: Option<&OnGrid>,
) -> Result<(pb::NodeProto, IntegerLayer)> {
    let (name, bits, wanted) = (&weight.name, how.weight_bits, how.granularity);
    let value = Graph::new(model).constant(name)?.ok_or_else(|| Error::bad_input(format!("`{name}` is not a constant")))?;
    let code = match on_grid {
        Some(found) => coded(found.scales.clone(), granularity(wanted, layer, weight), bits)?,
        None => nearest(layer, weight, &value, bits, wanted)?,
    };
    let integers = code.quantize(&value)?;
    let error = relative_error(value.as_f32()?, code.dequantize(&integers)?.as_f32()?);
    let node = dequantized(model, name, &code, &integers)?;
    model.graph_mut().node[index].input[1].clone_from(&node.output[0]);

    let mut detail = format!("{} weights to {bits} bits", value.len());
    detail += match (code.granularity(), wanted) {
        (Granularity::Axis(_), WeightGranularity::Block32) => " per channel (blocks are for Gemm and MatMul)",
        (Granularity::Block { .. }, _) => " in blocks of 32",
        (Granularity::Tensor, _) => " per tensor",
        (Granularity::Axis(_), _) => "",
    };
    let (said, error) = match on_grid.map(|found| &found.fitted) {
        Some(Ok(fit)) => {
            (format!(", output error {:.2} % (rounded to nearest {:.2} %)", fit.error * 100.0, fit.before * 100.0), Some(fit.error))
        }
        Some(Err(why)) => (format!(", rounded to nearest: {why}"), None),
        None => (format!(", weight error {:.2} %", error * 100.0), None),
    };
    let layer = IntegerLayer {
        node: index,
        integers: node.input[0].clone(),
        scale: node.input[1].clone(),
        granularity: code.granularity(),
        bias: bias(&Graph::new(model), index, weight.shape[weight.output_axis]),
        note: Note { error, ..Note::changed(&layer.name, detail + &said) },
    };
    Ok((node, layer))
}

/// Where the layer's bias is read. Behind a MatMul it is the constant that alone is added to the product: engines make one
/// kernel of both.
fn bias(graph: &Graph<'_>, index: usize, outputs: usize) -> Option<Use> {
    let node = graph.node(index);
    if node.op_type() != "MatMul" {
        return node.input.get(2).filter(|b| graph.is_constant(b)).map(|_| Use { node: index, input: 2 });
    }
    let made = node.output.first()?;
    let [reader] = graph.consumers(made) else { return None };
    let at = Use { node: reader.node, input: 1usize.checked_sub(reader.input)? };
    let add = graph.node(at.node);
    let shape = graph.constant_shape(add.input.get(at.input)?)?;
    (add.op_type() == "Add" && shape == [outputs] && !graph.is_output(made)).then_some(at)
}

/// Adds the constants `STEM__q`, `STEM__scale` and `STEM__zero` and returns the DequantizeLinear that makes
/// `STEM__dequantized` of them. Zero points, all 0, are left out where no engine asks for them: for blocks and for int32.
pub(super) fn dequantized(model: &mut Model, stem: &str, code: &Quantized, integers: &Tensor) -> Result<pb::NodeProto> {
    let grid = code.granularity().grid(integers.shape())?;
    let mut node = pb::NodeProto::new();
    node.set_op_type("DequantizeLinear".into());
    node.set_name(format!("{stem}__dequantize"));
    node.input.push(model.add_initializer(&format!("{stem}__q"), integers));
    node.input.push(model.add_initializer(&format!("{stem}__scale"), &Tensor::f32(grid.clone(), code.scales().to_vec())?));
    let blocked = matches!(code.granularity(), Granularity::Block { .. });
    if code.storage() == Storage::I8 && !blocked {
        let zeros = Tensor::new(grid, Data::I8(vec![0; code.scales().len()]))?;
        node.input.push(model.add_initializer(&format!("{stem}__zero"), &zeros));
    }
    node.output = vec![model.free_name(&format!("{stem}__dequantized"))];
    match code.granularity() {
        Granularity::Tensor => {}
        Granularity::Axis(axis) => node.set_int("axis", axis as i64),
        Granularity::Block { axis, size } => {
            node.set_int("axis", axis as i64);
            node.set_int("block_size", size as i64);
        }
    }
    Ok(node)
}

/// ‖W − W̃‖ / ‖W‖.
fn relative_error(w: &[f32], given: &[f32]) -> f64 {
    let error: f64 = w.iter().zip(given).map(|(&a, &b)| f64::from(a - b).powi(2)).sum();
    let norm: f64 = w.iter().map(|&v| f64::from(v).powi(2)).sum();
    if norm > 0.0 { (error / norm).sqrt() } else { 0.0 }
}
