//! Weights on their grids by sequential least squares: each layer's integers are those with which, on the input it really gets
//! in the quantized model, it comes nearest to the original's output.

use super::Quantization;
use super::grid::{Grid, Row, Search};
use super::weights::{BLOCK, granularity, nearest};
use crate::Result;
use crate::compress::calibration::Calibration;
use crate::compress::divergence::{DIVERGENCE, Judge};
use crate::compress::note::Note;
use crate::compress::sequential::{Answer, Fitted, NO_SOLUTION, Pair, Problem, fit_layers};
use crate::compress::statistics::{matrix, tensor_from_matrix};
use crate::model::{Facts, Granularity, Graph, Layer, Weight, layers};
use crate::onnx::Model;
use std::collections::HashMap;

/// Values of the model's largest activation that it is fitted on: integers follow from means over many places of an image, and a model of
/// large images has many in a few of them.
const VALUES: usize = 1 << 27;
/// Samples that it is fitted on in any case.
const LEAST: usize = 64;
/// One of so many samples is held out, to see what the fit does.
const HELD_OUT: usize = 16;

/// The weights of one layer on their grid.
#[derive(Debug)]
pub(super) struct OnGrid {
    /// Scales in the order of the granularity's groups.
    pub(super) scales: Vec<f32>,
    /// How well it was fitted, or why it was rounded to nearest.
    pub(super) fitted: std::result::Result<Fitted, String>,
}

/// Puts the weights of all layers of `variant` on their grids, and fits biases. Returns scales by the constants' names: none, and the
/// variant as it was, where on samples held out the answers are further from the original's than with weights rounded to nearest.
///
/// # Errors
/// The samples do not fit the model, are not finite, or lead to values that are not.
pub(super) fn fit(
    variant: &mut Model,
    original: &Model,
    how: &Quantization<'_>,
    samples: &Calibration,
) -> Result<(HashMap<String, OnGrid>, Option<Note>)> {
    let before = variant.clone();
    let Some((fitting, held)) = samples.held_out(HELD_OUT) else {
        return Ok((put_on_grid(variant, original, how, samples)?.0, None));
    };
    // A model that takes many samples at once may find too few of them.
    let Ok(held) = held.fitting(original) else { return Ok((put_on_grid(variant, original, how, samples)?.0, None)) };
    let (on_grid, rounded) = put_on_grid(variant, original, how, &fitting)?;
    let Ok(judge) = Judge::new(original, held.first(DIVERGENCE)) else { return Ok((on_grid, None)) };
    let (fitted, nearest) = (judge.divergence(variant)?, judge.divergence(&rounded)?);
    let count = judge.samples();
    if fitted > nearest {
        *variant = before;
        let said = format!(
            "the fit was undone: on {count} samples held out the answers diverge by {fitted:.2e} with it, by {nearest:.2e} with weights rounded to nearest"
        );
        return Ok((HashMap::new(), Some(Note::step(said))));
    }
    let said =
        format!("answers on {count} samples held out: divergence {nearest:.2e} with weights rounded to nearest, {fitted:.2e} fitted");
    Ok((on_grid, Some(Note::step(said))))
}

/// The same without that question; the variant rounded to nearest comes with it.
fn put_on_grid(
    variant: &mut Model,
    original: &Model,
    how: &Quantization<'_>,
    samples: &Calibration,
) -> Result<(HashMap<String, OnGrid>, Model)> {
    let facts = Facts::infer(original, 1)?;
    let few = samples.first((VALUES / largest(original, &facts)).max(LEAST));
    // A model that takes many samples at once may find too few of them.
    let samples = few.fitting(original).or_else(|_| samples.fitting(original))?;
    let (bits, wanted) = (how.weight_bits, how.granularity);
    let graph = Graph::new(original);
    // A layer that cannot be fitted is rounded to nearest, and those behind it are fitted to what it then gives.
    let mut on_grid = HashMap::new();
    for layer in layers(&graph, &facts)? {
        let Ok((_, weight)) = layer.editable() else { continue };
        let Some(value) = graph.constant(&weight.name)? else { continue };
        let code = nearest(&layer, weight, &value, bits, wanted)?;
        variant.set_constant(&weight.name, &code.dequantize(&code.quantize(&value)?)?)?;
        on_grid.insert(weight.name.clone(), OnGrid { scales: code.scales().to_vec(), fitted: Err("it was not reached".into()) });
    }
    let rounded = variant.clone();
    let mut answer = |layer: &Layer, problem: &Problem| -> Result<Answer> {
        let Some(weight) = &layer.weight else { return Ok(Err(NO_SOLUTION)) };
        let (Some(value), Some(entry)) = (graph.constant(&weight.name)?, on_grid.get_mut(&weight.name)) else {
            return Ok(Err(NO_SOLUTION));
        };
        let w0 = matrix(&value, weight.output_axis)?;
        let solved = solve(problem, &w0, weight, granularity(wanted, layer, weight), bits)?;
        let keep = |(w, scales)| {
            entry.scales = scales;
            w
        };
        Ok(solved.map(keep).ok_or(NO_SOLUTION))
    };
    let outcomes = fit_layers(variant, &Pair { original, kept: &|_| None, rounds: 0 }, &samples, &mut answer)?;
    for outcome in outcomes {
        if let Some(entry) = outcome.weight.and_then(|name| on_grid.get_mut(&name)) {
            entry.fitted = outcome.fitted;
        }
    }
    Ok((on_grid, rounded))
}

/// Values of the largest activation of one sample, as far as shapes are known.
fn largest(model: &Model, facts: &Facts) -> usize {
    let outputs = model.graph().node.iter().flat_map(|n| &n.output);
    outputs.filter_map(|o| Some(facts.shape(o)?.iter().product())).max().unwrap_or(1).max(1)
}

/// Weights (outputs × inputs) and scales in the order of their constant; `None` when the layer's system has no solution.
fn solve(problem: &Problem, w0: &[f64], weight: &Weight, granularity: Granularity, bits: u32) -> Result<Option<(Vec<f64>, Vec<f32>)>> {
    let rows = Search { problem, w0 };
    let width = (w0.len() / weight.shape[weight.output_axis].max(1)).max(1);
    let block = if matches!(granularity, Granularity::Block { .. }) { BLOCK } else { width };
    let found = if granularity == Granularity::Tensor { rows.fit_alike(bits)? } else { rows.fit(Grid { bits, block })? };
    let Some(found) = found else { return Ok(None) };
    // As the file will have them: products in float32.
    let value = |row: &Row, j: usize| f64::from(row.q[j] as f32 * row.scales[j / block] as f32);
    let w = found.iter().flat_map(|row| (0..width).map(move |j| value(row, j))).collect();
    let scales: Vec<f64> = found.iter().flat_map(|row| row.scales.iter().copied()).collect();
    let scales = match granularity {
        Granularity::Tensor => scales[..1].iter().map(|&s| s as f32).collect(),
        Granularity::Axis(_) => scales.iter().map(|&s| s as f32).collect(),
        Granularity::Block { .. } => {
            let constant = tensor_from_matrix(&scales, &granularity.grid(&weight.shape)?, weight.output_axis)?;
            constant.as_f32()?.to_vec()
        }
    };
    Ok(Some((w, scales)))
}
