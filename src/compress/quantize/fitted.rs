//! Weights on their grids by sequential least squares: each layer's integers are those with which, on the input it really gets
//! in the quantized model, it comes nearest to the original's output.

use super::Quantization;
use super::grid::{Grid, Row, Search};
use super::weights::{BLOCK, granularity, nearest};
use crate::Result;
use crate::compress::calibration::Calibration;
use crate::compress::sequential::{Answer, Fitted, NO_SOLUTION, Pair, Problem, fit_layers};
use crate::compress::statistics::{matrix, tensor_from_matrix};
use crate::model::{Facts, Granularity, Graph, Layer, Weight, layers};
use crate::onnx::Model;
use std::collections::HashMap;

/// The weights of one layer on their grid.
#[derive(Debug)]
pub(super) struct OnGrid {
    /// Scales in the order of the granularity's groups.
    pub(super) scales: Vec<f32>,
    /// How well it was fitted, or why it was rounded to nearest.
    pub(super) fitted: std::result::Result<Fitted, String>,
}

/// Puts the weights of all layers of `variant` on their grids, and fits biases. Returns scales by the constants' names.
///
/// # Errors
/// The samples do not fit the model, are not finite, or lead to values that are not.
pub(super) fn fit(variant: &mut Model, original: &Model, how: &Quantization<'_>, samples: &Calibration) -> Result<HashMap<String, OnGrid>> {
    let samples = samples.fitting(original)?;
    let (bits, wanted) = (how.weight_bits, how.granularity);
    let facts = Facts::infer(original, 1)?;
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
    Ok(on_grid)
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
