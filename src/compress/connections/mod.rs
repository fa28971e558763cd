//! Connection pruning: single weights become zero. Files and engines gain nothing by it today (see docs), accuracy and
//! later compression of the file may; it is measured like everything else.
//!
//! Weights are chosen by a score of each ([`scores`]), or in the order in which the others make up for them best, spread over the
//! layers by what they do to the model's output ([`surgeon`]). Given calibration samples, what is left of each row is refitted.

mod scores;
mod surgeon;

use super::calibration::Calibration;
use super::note::Note;
use super::prepare::prepare_to_prune;
use super::repair::{self, Plan};
use super::sequential::{Problem, ROUNDS, Seen, show_problems};
use super::statistics::{matrix, tensor_from_matrix};
use crate::model::{Facts, Graph, Layer, LayerKind, Weight, layers};
use crate::onnx::Model;
use crate::recipe::{Distribution, Pattern, PruneMethod};
use crate::{Error, Result};
use std::collections::HashMap;

/// How many single weights go, and which.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sparsity {
    /// How many.
    pub amount: Amount,
    /// Which. Without calibration samples `LeastSquares` is `Magnitude`.
    pub method: PruneMethod,
}

/// How many weights go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// This share of the weights of all layers but depthwise ones, between 0 and 1.
    Share(f64, Distribution),
    /// Some of each group of weights along the inputs.
    Pattern(Pattern),
}

impl Sparsity {
    /// A share of all weights, by the default method.
    pub fn share(ratio: f64) -> Self {
        Sparsity { amount: Amount::Share(ratio, Distribution::default()), method: PruneMethod::default() }
    }

    /// A pattern in every layer that it fits, by the default method.
    pub fn pattern(pattern: Pattern) -> Self {
        Sparsity { amount: Amount::Pattern(pattern), method: PruneMethod::default() }
    }
}

/// Sets weights to zero and, given calibration samples, refits the rest of each row by least squares. Biases stay, and so does
/// the weight of each layer that matters most. Layers that a pattern does not fit are left alone and named.
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// use joulefront::compress::{Sparsity, prune_connections};
/// use joulefront::{onnx::Model, recipe::Pattern};
/// let model = Model::load("models/fashion-resnet8.onnx")?;
/// let (_, notes) = prune_connections(&model, &Sparsity::pattern(Pattern { keep: 2, of: 4 }), None)?;
/// assert_eq!(notes[0].detail, "its 1 input channels do not divide into groups of 4");
/// assert_eq!(notes[1].detail, "1152 of 2304 weights set to zero (50 %)");
/// # Ok(()) }
/// ```
///
/// # Errors
/// The share is outside 0..1, no layer has constant float weights that can be pruned, `Wanda` has no samples, or the samples do not
/// fit the model or lead to values that are not finite.
pub fn prune_connections(model: &Model, how: &Sparsity, calibration: Option<&Calibration>) -> Result<(Model, Vec<Note>)> {
    if let Amount::Share(ratio, _) = how.amount
        && !(0.0..1.0).contains(&ratio)
    {
        return Err(Error::bad_input(format!("a pruning ratio of {ratio} is not between 0 and 1")));
    }
    let (original, mut notes) = prepare_to_prune(model, calibration.is_some())?;
    let fitting = calibration.map(|c| c.fitting(&original)).transpose()?;
    let calibration = fitting.as_deref();
    let graph = Graph::new(&original);
    let facts = Facts::infer(&original, 1)?;
    let list = layers(&graph, &facts)?;
    let mut candidates = Vec::new();
    for layer in &list {
        match Candidate::of(&graph, layer, how.amount)? {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => notes.push(Note::skipped(&layer.name, why)),
        }
    }
    if candidates.is_empty() {
        return Err(Error::bad_input("no layer of this model has constant float32 weights to prune"));
    }
    let masks = match (how.method, calibration) {
        (PruneMethod::LeastSquares, Some(c)) => {
            let variant = surgeon::prune(&original, &mut candidates, how.amount, c, &mut notes)?;
            return Ok((variant, notes));
        }
        (PruneMethod::Wanda, Some(c)) => by_norms(&original, &mut candidates, how.amount, c, &mut notes)?,
        (PruneMethod::Wanda, None) => {
            return Err(Error::bad_input("Wanda weighs weights by the inputs they meet, and there are no calibration samples")
                .hint("give a dataset, or choose `magnitude`"));
        }
        (PruneMethod::LeastSquares | PruneMethod::Magnitude, _) => {
            let magnitudes: Vec<Vec<f64>> = candidates.iter().map(|c| c.w.iter().map(|w| w.abs()).collect()).collect();
            by_score(&candidates, &magnitudes, how.amount)
        }
    };
    let mut variant = original.clone();
    let mut support = HashMap::new();
    for (c, keep) in candidates.iter().zip(masks) {
        let masked: Vec<f64> = c.w.iter().zip(&keep).map(|(&w, &k)| if k { w } else { 0.0 }).collect();
        variant.set_constant(&c.weight.name, &tensor_from_matrix(&masked, &c.weight.shape, c.axis)?)?;
        let zeros = keep.iter().filter(|k| !**k).count();
        let share = 100.0 * zeros as f64 / keep.len().max(1) as f64;
        notes.push(Note::changed(&c.layer.name, format!("{zeros} of {} weights set to zero ({share:.0} %)", keep.len())));
        support.insert(c.weight.name.clone(), keep);
    }
    if let Some(calibration) = calibration {
        let plan = Plan { original: &original, kept: &|_| None, support: &support, rounds: ROUNDS };
        notes.extend(repair::refit(&mut variant, &plan, calibration)?);
    }
    Ok((variant, notes))
}

/// A layer that can be pruned.
struct Candidate<'a> {
    layer: &'a Layer,
    weight: &'a Weight,
    /// The axis whose entries are rows of the matrix: 0 where it is none, then rows mean nothing.
    axis: usize,
    /// Weights, outputs × inputs.
    w: Vec<f64>,
    /// The group of each column, where a pattern is to hold.
    groups: Vec<usize>,
}

impl<'a> Candidate<'a> {
    fn of(graph: &Graph<'_>, layer: &'a Layer, amount: Amount) -> Result<std::result::Result<Self, String>> {
        let weight = match layer.editable() {
            Ok((_, weight)) => weight,
            Err(why) => return Ok(Err(why)),
        };
        if layer.kind == LayerKind::DepthwiseConv {
            return Ok(Err("a depthwise layer has few weights, and all of them matter".into()));
        }
        let Some(value) = graph.constant(&weight.name)? else { return Ok(Err("its weights are no constant".into())) };
        let groups = match amount {
            Amount::Share(..) => Vec::new(),
            Amount::Pattern(pattern) => match groups(layer, weight, pattern.of) {
                Ok(groups) => groups,
                Err(why) => return Ok(Err(why)),
            },
        };
        let axis = if weight.shape.len() == 2 { weight.output_axis } else { 0 };
        Ok(Ok(Candidate { layer, weight, axis, w: matrix(&value, axis)?, groups }))
    }
}

/// Groups of `of` columns: neighbouring input channels at the same place of the kernel, as hardware wants them.
fn groups(layer: &Layer, weight: &Weight, of: usize) -> std::result::Result<Vec<usize>, String> {
    let (channels, taps) = match layer.kind {
        LayerKind::Gemm | LayerKind::MatMul if weight.shape.len() == 2 => (weight.shape[weight.input_axis], 1),
        LayerKind::Conv | LayerKind::DepthwiseConv | LayerKind::GroupedConv => (weight.shape[1], weight.shape[2..].iter().product()),
        _ => return Err("patterns are for convolutions and matrices".into()),
    };
    match channels % of {
        0 => Ok((0..channels * taps).map(|j| j / taps / of * taps + j % taps).collect()),
        _ => Err(format!("its {channels} input channels do not divide into groups of {of}")),
    }
}

/// Which weights stay by their scores.
fn by_score(candidates: &[Candidate<'_>], scores: &[Vec<f64>], amount: Amount) -> Vec<Vec<bool>> {
    match amount {
        Amount::Share(ratio, how) => scores::by_share(scores, ratio, how),
        Amount::Pattern(p) => candidates.iter().zip(scores).map(|(c, s)| scores::by_pattern(s, &c.groups, p)).collect(),
    }
}

/// By |w|·‖x‖ (Wanda). Layers whose inputs are not read are left alone.
fn by_norms(
    original: &Model,
    candidates: &mut Vec<Candidate<'_>>,
    amount: Amount,
    calibration: &Calibration,
    notes: &mut Vec<Note>,
) -> Result<Vec<Vec<bool>>> {
    let mut found: HashMap<String, Vec<f64>> = HashMap::new();
    each_problem(original, candidates, calibration, notes, &mut |candidate, problem| {
        let mut norms = Vec::new();
        for (c, rows) in problem.parts() {
            let row = (0..c.d).map(|j| (c.h[j * c.d + j] + c.mean_x[j] * c.mean_x[j]).max(0.0).sqrt());
            norms.extend(row.collect::<Vec<f64>>().repeat(rows.len()));
        }
        let scores = candidate.w.iter().zip(norms).map(|(w, x)| w.abs() * x).collect();
        found.insert(candidate.weight.name.clone(), scores);
        Ok(Ok(()))
    })?;
    let scores: Vec<Vec<f64>> = candidates.iter().map(|c| found.remove(&c.weight.name).unwrap_or_default()).collect();
    Ok(by_score(candidates, &scores, amount))
}

/// Shows each candidate with the least-squares problem it has in the original. Those that are not shown, or that `see` refuses, are no
/// candidates any more, which is noted.
fn each_problem(
    original: &Model,
    candidates: &mut Vec<Candidate<'_>>,
    calibration: &Calibration,
    notes: &mut Vec<Note>,
    see: &mut dyn FnMut(&Candidate<'_>, &Problem) -> Result<Seen>,
) -> Result<()> {
    let mut refused: HashMap<String, String> = HashMap::new();
    {
        let by_name: HashMap<&str, &Candidate<'_>> = candidates.iter().map(|c| (c.weight.name.as_str(), c)).collect();
        let mut show = |layer: &Layer, problem: &Problem| match layer.weight.as_ref().and_then(|w| by_name.get(w.name.as_str())) {
            Some(candidate) => see(candidate, problem),
            None => Ok(Ok(())),
        };
        for outcome in show_problems(original, calibration, &mut show)? {
            if let (Some(weight), Err(why)) = (outcome.weight, outcome.fitted) {
                refused.insert(weight, why);
            }
        }
    }
    candidates.retain(|c| match refused.remove(&c.weight.name) {
        Some(why) => {
            notes.push(Note::skipped(&c.layer.name, why));
            false
        }
        None => true,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn groups_are_neighbouring_channels_at_one_place_of_the_kernel() {
        let model = Model::load("models/fashion-resnet8.onnx").unwrap();
        let list = layers(&Graph::new(&model), &Facts::infer(&model, 1).unwrap()).unwrap();
        let conv = groups(&list[1], list[1].weight.as_ref().unwrap(), 4).unwrap();
        // 16 channels of 3×3: column = channel · 9 + place.
        assert_eq!(conv.len(), 144);
        assert_eq!([conv[0], conv[9], conv[27]], [0, 0, 0]);
        assert_eq!([conv[1], conv[36], conv[37]], [1, 9, 10]);
        assert!((0..36).all(|g| conv.iter().filter(|x| **x == g).count() == 4));
    }
}
