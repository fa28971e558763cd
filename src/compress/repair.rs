//! Repair after pruning: every layer of the variant is fitted, front to back, to what the original gives ([`sequential`](super::sequential)).

use super::calibration::Calibration;
use super::note::Note;
use super::sequential::{NO_SOLUTION, Outcome, Pair, Problem, fit_layers};
use crate::Result;
use crate::model::Layer;
use crate::onnx::Model;
use std::collections::HashMap;

/// What is to be fitted, and how the variant's tensors relate to the original's.
pub(super) struct Plan<'a> {
    /// The original, prepared as the variant was: same nodes, same names.
    pub(super) original: &'a Model,
    /// Channels of a tensor that the variant kept (`None`: all).
    pub(super) kept: &'a dyn Fn(&str) -> Option<Vec<usize>>,
    /// Which weights of a layer may be non-zero, by constant name (`None`: all).
    pub(super) support: &'a HashMap<String, Vec<bool>>,
    /// See [`Pair::rounds`].
    pub(super) rounds: usize,
}

/// Fits all layers of `variant` in order; returns a note per layer with the relative error of its output.
pub(super) fn refit(variant: &mut Model, plan: &Plan<'_>, calibration: &Calibration) -> Result<Vec<Note>> {
    let pair = Pair { original: plan.original, kept: plan.kept, rounds: plan.rounds };
    let mut solve = |layer: &Layer, problem: &Problem| {
        let support = layer.weight.as_ref().and_then(|w| plan.support.get(&w.name));
        Ok(best(problem, support.map(Vec::as_slice)).ok_or(NO_SOLUTION))
    };
    let outcomes = fit_layers(variant, &pair, calibration, &mut solve)?;
    let note = |Outcome { layer, fitted, .. }| match fitted {
        Ok(fit) if !fit.bias => Note { error: Some(fit.error), ..Note::changed(&layer, "weights refitted (it has no bias)") },
        Ok(fit) => {
            let detail = format!("refitted: output error {:.1} % → {:.1} %", fit.before * 100.0, fit.error * 100.0);
            Note { error: Some(fit.error), ..Note::changed(&layer, detail) }
        }
        Err(why) => Note::skipped(&layer, format!("not refitted: {why}")),
    };
    Ok(outcomes.into_iter().map(note).collect())
}

/// The least-squares weights, or in a system that these make no better the old ones.
fn best(problem: &Problem, support: Option<&[bool]>) -> Option<Vec<f64>> {
    let mut weights = problem.on_support(&problem.current, support)?;
    for (c, rows) in problem.parts() {
        let part = rows.start * c.d..rows.end * c.d;
        let old = &problem.current[part.clone()];
        if c.squared_error(&weights[part.clone()]).0 >= c.squared_error(old).0 {
            weights[part].copy_from_slice(old);
        }
    }
    Some(weights)
}
