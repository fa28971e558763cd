//! Weights to 2–8 bits per output channel, in a standard form that engines load.
//!
//! The form: an int8 constant, whose values stay within the narrower range, behind DequantizeLinear with one scale per
//! output channel. The scale of a channel minimises the squared error ‖W − s·clamp(round(W/s))‖² (MSE clip): clipping a
//! few outliers buys a finer grid for all others.

use super::note::Note;
use super::prepare::prepare;
use crate::model::clean::remove_dead;
use crate::model::{Facts, Graph, Weight, layers, upgrade};
use crate::onnx::{Attributes, Model, pb};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// Per-axis DequantizeLinear came with this operator set.
const PER_AXIS_OPSET: i64 = 13;

/// Quantizes the constant weights of every Conv, Gemm and MatMul; biases and everything else stay float.
///
/// # Errors
/// `bits` is outside 2..=8, the operator set is older than 13 and cannot be converted, or nothing can be quantized.
pub fn quantize_weights(model: &Model, bits: u32) -> Result<(Model, Vec<Note>)> {
    if !(2..=8).contains(&bits) {
        return Err(Error::bad_input(format!("{bits} bits cannot be used for weights")).hint("choose 2 to 8 bits"));
    }
    let (mut variant, mut notes) = prepare(model)?;
    if variant.opset() < PER_AXIS_OPSET {
        let (from, changed) = (variant.opset(), upgrade(&mut variant, PER_AXIS_OPSET)?);
        notes.push(Note::step(format!("operator set {from} converted to {PER_AXIS_OPSET}: {} nodes rewritten", changed.len())));
    }
    let facts = Facts::infer(&variant, 1)?;
    let list = layers(&Graph::new(&variant), &facts)?;
    let mut count = 0;
    let mut dequantizers = Vec::new();
    for layer in &list {
        match layer.editable() {
            Err(why) => notes.push(Note::skipped(&layer.name, why)),
            Ok((index, weight)) => {
                let (node, note) = quantize_layer(&mut variant, index, &layer.name, weight, bits)?;
                dequantizers.push(node);
                notes.push(note);
                count += 1;
            }
        }
    }
    if count == 0 {
        return Err(Error::bad_input("no layer of this model has constant float32 weights to quantize"));
    }
    // Constants come first in topological order, so the new nodes may stand before all others.
    variant.graph_mut().node.splice(0..0, dequantizers);
    remove_dead(&mut variant);
    Ok((variant, notes))
}

/// Replaces one layer's weights by integers behind a DequantizeLinear, which is returned.
fn quantize_layer(model: &mut Model, index: usize, layer: &str, weight: &Weight, bits: u32) -> Result<(pb::NodeProto, Note)> {
    let value =
        Graph::new(model).constant(&weight.name)?.ok_or_else(|| Error::bad_input(format!("`{}` is not a constant", weight.name)))?;
    let data = value.as_f32()?;
    if let Some(bad) = data.iter().find(|v| !v.is_finite()) {
        return Err(Error::bad_input(format!("layer `{layer}` has a weight that is {bad}")));
    }
    let channels = weight.shape[weight.output_axis];
    let inner: usize = weight.shape[weight.output_axis + 1..].iter().product();
    let channel_of = |i: usize| i / inner % channels;
    let mut rows: Vec<Vec<f32>> = vec![Vec::new(); channels];
    data.iter().enumerate().for_each(|(i, &v)| rows[channel_of(i)].push(v));
    let scales: Vec<f32> = rows.iter().map(|r| best_scale(r, bits)).collect();
    let integers: Vec<i8> = data.iter().enumerate().map(|(i, &v)| quantize(v, scales[channel_of(i)], bits)).collect();
    let error = relative_error(data, &integers, |i| scales[channel_of(i)]);

    let stem = &weight.name;
    let tensors = [
        Tensor::new(weight.shape.clone(), Data::I8(integers))?,
        Tensor::f32([channels], scales)?,
        Tensor::new(vec![channels], Data::I8(vec![0; channels]))?,
    ];
    let names: Vec<String> =
        ["q", "scale", "zero"].iter().zip(&tensors).map(|(end, t)| model.add_initializer(&format!("{stem}__{end}"), t)).collect();
    let output = model.free_name(&format!("{stem}__dequantized"));
    let mut node = pb::NodeProto::new();
    node.set_op_type("DequantizeLinear".into());
    node.set_name(format!("{stem}__dequantize"));
    node.input = names;
    node.output = vec![output.clone()];
    node.set_int("axis", weight.output_axis as i64);
    model.graph_mut().node[index].input[1] = output;
    let note = Note::changed(layer, format!("{} weights to {bits} bits, weight error {:.2} %", data.len(), error * 100.0));
    Ok((node, note))
}

/// Two's-complement range of `bits`, as numbers.
fn range(bits: u32) -> (f32, f32) {
    let half = (1u32 << (bits - 1)) as f32;
    (-half, half - 1.0)
}

fn quantize(v: f32, scale: f32, bits: u32) -> i8 {
    let (lo, hi) = range(bits);
    (v / scale).round_ties_even().clamp(lo, hi) as i8
}

/// The scale of one channel with the least squared error: candidates from 20 % to 110 % of the one that clips nothing,
/// then the closed-form scale for the integers found (Σwq / Σq²), which can only lower the error further.
fn best_scale(row: &[f32], bits: u32) -> f32 {
    let (_, hi) = range(bits);
    let max = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    if max == 0.0 {
        return 1.0;
    }
    let plain = max / hi;
    let squared = |s: f32| row.iter().map(|&v| f64::from(v - s * f32::from(quantize(v, s, bits))).powi(2)).sum::<f64>();
    let candidates = (20..=110).map(|p| plain * (p as f32 / 100.0)).filter(|s| *s > f32::MIN_POSITIVE);
    let best = candidates.map(|s| (squared(s), s)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(plain, |(_, s)| s);
    let (mut wq, mut qq) = (0.0f64, 0.0f64);
    for &v in row {
        let q = f64::from(quantize(v, best, bits));
        wq += f64::from(v) * q;
        qq += q * q;
    }
    let refit = (wq / qq) as f32;
    if refit.is_finite() && refit > 0.0 && squared(refit) < squared(best) { refit } else { best.max(f32::MIN_POSITIVE) }
}

/// ‖W − W̃‖ / ‖W‖.
fn relative_error(w: &[f32], q: &[i8], scale: impl Fn(usize) -> f32) -> f64 {
    let mut error = 0.0;
    let mut norm = 0.0;
    for (i, (&v, &q)) in w.iter().zip(q).enumerate() {
        error += f64::from(v - scale(i) * f32::from(q)).powi(2);
        norm += f64::from(v).powi(2);
    }
    if norm > 0.0 { (error / norm).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn squared(row: &[f32], scale: f32, bits: u32) -> f64 {
        row.iter().map(|&v| (f64::from(v) - f64::from(scale) * f64::from(quantize(v, scale, bits))).powi(2)).sum()
    }

    /// Ordinary rows, zeros, constants, and values near both ends of what float32 holds.
    fn row() -> impl Strategy<Value = Vec<f32>> {
        let magnitude = prop_oneof![Just(1.0f32), Just(1e-30), Just(1e-38), Just(1e-44), Just(1e30), Just(3e38), Just(0.0)];
        let values = prop_oneof![prop::collection::vec(-1.0f32..1.0, 1..40), (-1.0f32..1.0, 1..20usize).prop_map(|(v, n)| vec![v; n])];
        (values, magnitude).prop_map(|(v, m)| v.into_iter().map(|x| x * m).collect())
    }

    proptest! {
        #[test]
        fn scales_beat_rounding_at_the_largest_value(row in row(), bits in 2u32..=8) {
            let scale = best_scale(&row, bits);
            prop_assert!(scale.is_finite() && scale > 0.0);
            let (lo, hi) = range(bits);
            prop_assert!(row.iter().all(|&v| (lo..=hi).contains(&f32::from(quantize(v, scale, bits)))));
            let max = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            // Scales below the normal numbers are not used: engines may flush them to zero.
            let plain = max / hi;
            if plain > 4.0 * f32::MIN_POSITIVE {
                prop_assert!(squared(&row, scale, bits) <= squared(&row, plain, bits) * (1.0 + 1e-6), "{scale} {plain}");
            } else {
                prop_assert!(squared(&row, scale, bits).sqrt() <= f64::from(max) * (row.len() as f64).sqrt() + 1e-37);
            }
        }

        #[test]
        fn values_on_the_grid_come_back(q in prop::collection::vec(-7i8..=7, 1..30), scale in 0.001f32..10.0) {
            let row: Vec<f32> = q.iter().map(|&q| f32::from(q) * scale).collect();
            let found = best_scale(&row, 8);
            let size = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            prop_assert!(squared(&row, found, 8) <= 1e-4 * size);
        }
    }

    #[test]
    fn ranges_are_twos_complement() {
        assert_eq!((range(2), range(4), range(8)), ((-2.0, 1.0), (-8.0, 7.0), (-128.0, 127.0)));
        assert_eq!((quantize(9.0, 1.0, 4), quantize(-9.0, 1.0, 4), quantize(2.5, 1.0, 4)), (7, -8, 2));
        assert_eq!(best_scale(&[0.0, 0.0], 4), 1.0);
        // One outlier costs more when all others round to zero than when it is clipped.
        let row: Vec<f32> = (0..1000).map(|i| if i == 0 { 6.0 } else { ((i * 7919) % 200) as f32 / 100.0 - 1.0 }).collect();
        assert!(best_scale(&row, 4) < 6.0 / 7.0);
    }

    #[test]
    fn infinite_weights_are_refused() {
        let mut model = crate::onnx::Model::load("models/fashion-mlp.onnx").unwrap();
        let mut weight = Graph::new(&model).constant("f.1.weight").unwrap().unwrap();
        weight.as_f32_mut().unwrap()[7] = f32::NAN;
        model.set_constant("f.1.weight", &weight).unwrap();
        assert!(quantize_weights(&model, 8).unwrap_err().to_string().contains("has a weight that is NaN"));
    }
}
