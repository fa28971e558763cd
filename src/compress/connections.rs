//! Connection pruning: single weights become zero. Files and engines gain nothing by it today (see docs), accuracy and
//! later compression of the file may; it is measured like everything else.

use super::calibration::Calibration;
use super::note::Note;
use super::prepare::prepare_to_prune;
use super::repair::{self, Plan};
use crate::model::{Facts, Graph, Layer, Weight, layers};
use crate::onnx::Model;
use crate::recipe::Distribution;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::HashMap;

/// Sets the share `ratio` of all layers' weights to zero and, given calibration samples, refits the rest of each row by
/// least squares. Biases stay, and so does the largest weight of each layer.
///
/// # Errors
/// The ratio is outside 0..1, or no layer has constant float weights.
pub fn prune_connections(model: &Model, ratio: f64, how: Distribution, calibration: Option<&Calibration>) -> Result<(Model, Vec<Note>)> {
    if !(0.0..1.0).contains(&ratio) {
        return Err(Error::bad_input(format!("a pruning ratio of {ratio} is not between 0 and 1")));
    }
    let (original, mut notes) = prepare_to_prune(model, calibration.is_some())?;
    let fitting = calibration.map(|c| c.fitting(&original)).transpose()?;
    let calibration = fitting.as_deref();
    let graph = Graph::new(&original);
    let facts = Facts::infer(&original, 1)?;
    let list = layers(&graph, &facts)?;
    let mut found: Vec<(&Layer, &Weight, Tensor)> = Vec::new();
    for layer in &list {
        match layer.editable() {
            Ok((_, w)) => {
                if let Some(value) = graph.constant(&w.name)? {
                    found.push((layer, w, value));
                }
            }
            Err(why) => notes.push(Note::skipped(&layer.name, why)),
        }
    }
    if found.is_empty() {
        return Err(Error::bad_input("no layer of this model has constant float32 weights to prune"));
    }
    let masks = masks(&found, ratio, how)?;
    let mut variant = original.clone();
    let mut support = HashMap::new();
    for ((layer, weight, value), keep) in found.iter().zip(masks) {
        let masked = value.as_f32()?.iter().zip(&keep).map(|(&v, &k)| if k { v } else { 0.0 }).collect();
        variant.set_constant(&weight.name, &Tensor::f32(value.shape(), masked)?)?;
        let zeros = keep.iter().filter(|k| !**k).count();
        notes.push(Note::changed(
            &layer.name,
            format!("{zeros} of {} weights set to zero ({:.0} %)", keep.len(), 100.0 * zeros as f64 / keep.len().max(1) as f64),
        ));
        support.insert(weight.name.clone(), rows(&keep, weight));
    }
    if let Some(calibration) = calibration {
        let plan = Plan { original: &original, kept: &|_| None, support: &support };
        notes.extend(repair::refit(&mut variant, &plan, calibration)?);
    }
    Ok((variant, notes))
}

/// Which weights stay, per layer in the constant's own order.
fn masks(found: &[(&Layer, &Weight, Tensor)], ratio: f64, how: Distribution) -> Result<Vec<Vec<bool>>> {
    let scores: Vec<Vec<f64>> = found.iter().map(|(_, _, t)| Ok(lamp(t.as_f32()?))).collect::<Result<_>>()?;
    // Both scores grow with |w| within a layer, so one ranking serves both distributions. Ties go by position.
    // The largest weight of a layer has the largest score there is, so it stays as long as one per layer may stay.
    let cut = |mut all: Vec<(f64, usize, usize)>, layers: usize, masks: &mut Vec<Vec<bool>>| {
        let gone = ((all.len() as f64 * ratio).round() as usize).min(all.len().saturating_sub(layers));
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        all[..gone].iter().for_each(|&(_, layer, i)| masks[layer][i] = false);
    };
    let mut masks: Vec<Vec<bool>> = scores.iter().map(|s| vec![true; s.len()]).collect();
    let tagged = |layer: usize| scores[layer].iter().enumerate().map(move |(i, &s)| (s, layer, i));
    match how {
        Distribution::Global => cut((0..scores.len()).flat_map(tagged).collect(), scores.len(), &mut masks),
        Distribution::PerLayer => (0..scores.len()).for_each(|l| cut(tagged(l).collect(), 1, &mut masks)),
    }
    Ok(masks)
}

/// LAMP scores of one layer's weights.
fn lamp(w: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..w.len()).collect();
    order.sort_by(|&a, &b| w[b].abs().total_cmp(&w[a].abs()).then(b.cmp(&a)));
    let mut score = vec![0.0; w.len()];
    let mut sum = 0.0;
    for i in order {
        let square = f64::from(w[i]) * f64::from(w[i]);
        sum += square;
        score[i] = if sum > 0.0 { square / sum } else { 0.0 };
    }
    score
}

/// A mask in the order of the o×d matrix that least squares works on.
fn rows(keep: &[bool], weight: &Weight) -> Vec<bool> {
    match (weight.output_axis, weight.shape.as_slice()) {
        (1, &[d, o]) => (0..o * d).map(|i| keep[(i % d) * o + i / d]).collect(),
        _ => keep.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::{FloatFormat, Format};
    use proptest::prelude::*;

    fn found(rows: &[Vec<f32>]) -> Vec<Tensor> {
        rows.iter().map(|r| Tensor::f32([r.len(), 1], r.clone()).unwrap()).collect()
    }

    fn masks_of(rows: &[Vec<f32>], ratio: f64, how: Distribution) -> Vec<Vec<bool>> {
        let tensors = found(rows);
        let weight = |t: &Tensor| Weight {
            name: String::new(),
            shape: t.shape().to_vec(),
            output_axis: 1,
            input_axis: 0,
            format: Format::Float(FloatFormat::F32),
            input: 1,
            through: vec![],
            axes: Some(vec![0, 1]),
        };
        let weights: Vec<Weight> = tensors.iter().map(weight).collect();
        let layer = Layer {
            node: Some(0),
            name: String::new(),
            output: String::new(),
            operator: "MatMul".into(),
            kind: crate::model::LayerKind::MatMul,
            weight: None,
            more: vec![],
            bias: None,
            output_shape: None,
            macs: Ok(0),
            params: 0,
        };
        let found: Vec<_> = tensors.into_iter().zip(&weights).map(|(t, w)| (&layer, w, t)).collect();
        masks(&found, ratio, how).unwrap()
    }

    /// The definition, one weight at a time: w² over the sum of the squares that are not smaller.
    fn naive(w: &[f32], i: usize) -> f64 {
        let square = |v: f32| f64::from(v) * f64::from(v);
        let larger: f64 = w
            .iter()
            .enumerate()
            .filter(|&(j, v): &(usize, &f32)| v.abs() > w[i].abs() || (v.abs() == w[i].abs() && j >= i))
            .map(|(_, &v)| square(v))
            .sum();
        if larger > 0.0 { square(w[i]) / larger } else { 0.0 }
    }

    proptest! {
        #[test]
        fn scores_are_those_of_the_paper(w in prop::collection::vec(prop_oneof![Just(0.0f32), -3.0f32..3.0, Just(1.0)], 1..40)) {
            for (i, score) in lamp(&w).into_iter().enumerate() {
                prop_assert!((score - naive(&w, i)).abs() < 1e-12);
            }
        }

        #[test]
        fn as_many_go_as_asked_and_the_smallest_first(rows in prop::collection::vec(prop::collection::vec(-3.0f32..3.0, 1..30), 1..6), ratio in 0.0f64..0.999) {
            let count: usize = rows.iter().map(Vec::len).sum();
            let gone = ((count as f64 * ratio).round() as usize).min(count - rows.len());
            let masks = masks_of(&rows, ratio, Distribution::Global);
            prop_assert_eq!(masks.iter().flatten().filter(|k| !**k).count(), gone);
            for how in [Distribution::Global, Distribution::PerLayer] {
                for (row, mask) in rows.iter().zip(masks_of(&rows, ratio, how)) {
                    let kept = row.iter().zip(&mask).filter(|(_, k)| **k).map(|(v, _)| v.abs()).fold(f32::INFINITY, f32::min);
                    prop_assert!(row.iter().zip(&mask).all(|(v, &k)| k || v.abs() <= kept));
                    prop_assert!(mask.contains(&true), "a layer is empty");
                }
            }
        }
    }

    #[test]
    fn masks_of_matrices_turn_with_them() {
        let weight = |output_axis| Weight {
            name: String::new(),
            shape: vec![2, 3],
            output_axis,
            input_axis: 1 - output_axis,
            format: Format::Float(FloatFormat::F32),
            input: 1,
            through: vec![],
            axes: Some(vec![0, 1]),
        };
        let keep = [true, false, false, true, true, false];
        assert_eq!(rows(&keep, &weight(0)), keep);
        assert_eq!(rows(&keep, &weight(1)), [true, true, false, true, false, false]);
    }
}
