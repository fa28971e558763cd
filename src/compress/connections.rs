//! Connection pruning: single weights become zero. Files and engines gain nothing by it today (see docs), accuracy and
//! later compression of the file may; it is measured like everything else.

use super::note::Note;
use super::prepare::{fold_batch_norms, prepare};
use super::repair::{self, Calibration, Plan};
use crate::model::{Encoding, Facts, Graph, Layer, Weight, layers};
use crate::onnx::Model;
use crate::recipe::Distribution;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::HashMap;

/// Sets the share `ratio` of all layers' weights to zero and, given calibration samples, refits the rest of each row by
/// least squares. Biases stay.
///
/// # Errors
/// The ratio is outside 0..1, or no layer has constant float weights.
pub fn prune_connections(model: &Model, ratio: f64, how: Distribution, calibration: Option<&Calibration>) -> Result<(Model, Vec<Note>)> {
    if !(0.0..1.0).contains(&ratio) {
        return Err(Error::bad_input(format!("a pruning ratio of {ratio} is not between 0 and 1")));
    }
    let (mut original, mut notes) = prepare(model)?;
    if calibration.is_some() {
        notes.extend(fold_batch_norms(&mut original)?);
        repair::add_missing_biases(&mut original)?;
    }
    let graph = Graph::new(&original);
    let facts = Facts::infer(&original, 1)?;
    let list = layers(&graph, &facts)?;
    let mut found: Vec<(&Layer, &Weight, Tensor)> = Vec::new();
    for layer in &list {
        match &layer.weight {
            Some(w) if w.encoding == Encoding::Float(32) => {
                if let Some(value) = graph.constant(&w.name)? {
                    found.push((layer, w, value));
                }
            }
            Some(_) => notes.push(Note::skipped(&layer.name, "its weights are not float32")),
            None => notes.push(Note::skipped(&layer.name, "it has no constant weights")),
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
    let cut = |mut all: Vec<(f64, usize, usize)>, masks: &mut Vec<Vec<bool>>| {
        let gone = (all.len() as f64 * ratio).round() as usize;
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        all[..gone].iter().for_each(|&(_, layer, i)| masks[layer][i] = false);
    };
    let mut masks: Vec<Vec<bool>> = scores.iter().map(|s| vec![true; s.len()]).collect();
    let tagged = |layer: usize| scores[layer].iter().enumerate().map(move |(i, &s)| (s, layer, i));
    match how {
        Distribution::Global => cut((0..scores.len()).flat_map(tagged).collect(), &mut masks),
        Distribution::PerLayer => (0..scores.len()).for_each(|l| cut(tagged(l).collect(), &mut masks)),
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
