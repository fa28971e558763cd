//! Biases as integer kernels add them to their sums: int32 with scale s_x·s_w.

use super::weights::{IntegerLayer, dequantized};
use crate::Result;
use crate::model::{Granularity, Graph, Quantized};
use crate::onnx::{Model, pb};
use crate::tensor::{Data, Tensor};

/// Where the bias of a channel without weights is put in its 31 bits: any scale represents such weights.
const BITS_OF_LONE_BIAS: i32 = 24;

/// Puts the layer's bias behind a DequantizeLinear, which is returned: it may stand before all other nodes. `Err` says why it
/// stays float.
pub(super) fn quantize_bias(model: &mut Model, layer: &IntegerLayer, input_scale: f32) -> Result<Result<pb::NodeProto, &'static str>> {
    let Some(place) = layer.bias else { return Ok(Err("it has none")) };
    let name = model.graph().node[place.node].input[place.input].clone();
    let graph = Graph::new(model);
    let (Some(bias), Some(scales)) = (graph.constant(&name)?, graph.constant(&layer.scale)?) else {
        return Ok(Err("it is no constant"));
    };
    let channels = match layer.granularity {
        Granularity::Tensor => bias.len(),
        Granularity::Axis(_) => scales.len(),
        Granularity::Block { .. } => return Ok(Err("weights in blocks have no one scale for a sum")),
    };
    let Ok(values) = bias.as_f32() else { return Ok(Err("it is not float32")) };
    if bias.shape() != [channels] {
        return Ok(Err("it is not one number for each output"));
    }
    let scales = scales_with_lone_biases(&graph, layer, values, scales.as_f32()?, input_scale)?;
    let Ok(code) = Quantized::bias(input_scale, &scales) else { return Ok(Err("its scale would vanish")) };
    let step = |channel: usize| f64::from(code.scales()[if code.scales().len() == 1 { 0 } else { channel }]);
    let fits = |(channel, b): (usize, &f32)| f64::from(b.abs()) / step(channel) < f64::from(i32::MAX);
    if !values.iter().enumerate().all(fits) {
        return Ok(Err("it does not fit 32 bits"));
    }
    let integers = code.quantize(&bias)?;
    let shape = graph.constant_shape(&layer.scale).unwrap_or_default();
    model.set_constant(&layer.scale, &Tensor::f32(shape, scales)?)?;
    let node = dequantized(model, &name, &code, &integers)?;
    model.graph_mut().node[place.node].input[place.input].clone_from(&node.output[0]);
    Ok(Ok(node))
}

/// The weights' scales. Those of channels whose weights are all zero, which pruning leaves, are free: they are set so that the
/// bias, all that the channel gives, is exact to 24 bits.
fn scales_with_lone_biases(graph: &Graph<'_>, layer: &IntegerLayer, bias: &[f32], scales: &[f32], input_scale: f32) -> Result<Vec<f32>> {
    let (Granularity::Axis(axis), Some(integers)) = (layer.granularity, graph.constant(&layer.integers)?) else {
        return Ok(scales.to_vec());
    };
    let Data::I8(q) = integers.data() else { return Ok(scales.to_vec()) };
    let inner: usize = integers.shape()[axis + 1..].iter().product();
    let mut empty = vec![true; scales.len()];
    q.iter().enumerate().filter(|(_, q)| **q != 0).for_each(|(i, _)| empty[i / inner % scales.len()] = false);
    let free = |b: f32| (b.abs() / input_scale * 2f32.powi(-BITS_OF_LONE_BIAS)).clamp(f32::MIN_POSITIVE, f32::MAX);
    let one = |((&s, &b), &empty): ((&f32, &f32), &bool)| if empty && b != 0.0 { free(b) } else { s };
    Ok(scales.iter().zip(bias).zip(&empty).map(one).collect())
}
