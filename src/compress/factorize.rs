//! Low rank: a layer becomes two thinner ones, the first of which sees what the layer saw and gives r numbers for each output
//! position, of which the second makes the outputs.
//!
//! The best weights of rank r are a reduced-rank regression in closed form: with U the eigenvectors of the outputs' second moments
//! W·H·Wᵀ, largest first, W ← U_r·U_rᵀ·W, and the error is the sum of the eigenvalues left out (Izenman 1975, *Reduced-rank
//! regression for the multivariate linear model*, theorem 1 with the outputs' unweighted error).

use super::calibration::Calibration;
use super::divergence::{DIVERGENCE, Judge};
use super::note::Note;
use super::prepare::prepare_to_prune;
use super::repair::{self, Plan};
use super::sequential::{Problem, show_problems};
use super::statistics::tensor_from_matrix;
use crate::model::clean::remove_dead;
use crate::model::{Facts, Graph, Layer, LayerKind, Weight, layers, totals};
use crate::onnx::{Attributes, Model, pb};
use crate::tensor::Tensor;
use crate::{Error, Result};
use faer::{Mat, Side};
use std::collections::HashMap;

/// Halvings of the interval in which the price of a multiply–add is searched.
const HALVINGS: usize = 200;

/// Splits layers into two of lower rank until the share `macs` of the model's multiply–adds is gone, as nearly as ranks that are
/// multiples of `round_to` allow, and fits what is left to the original's outputs. Ranks are chosen so that the errors of all layers'
/// outputs, each weighed by what it does to the model's, are least together.
///
/// # Errors
/// The share is outside 0..1, no layer can be split, the share cannot be reached, or the samples do not fit the model or lead to
/// values that are not finite.
pub fn factorize(model: &Model, macs: f64, round_to: usize, calibration: &Calibration) -> Result<(Model, Vec<Note>)> {
    if !(0.0..1.0).contains(&macs) || round_to == 0 {
        return Err(Error::bad_input(format!("a share of {macs} of the multiply–adds, in steps of {round_to}, cannot be removed")));
    }
    let (original, mut notes) = prepare_to_prune(model, true)?;
    let calibration = calibration.fitting(&original)?;
    let outputs = Judge::new(&original, calibration.first(DIVERGENCE)?)?;
    let mut splits: Vec<Split> = Vec::new();
    let outcomes = show_problems(&original, &calibration, &mut |layer, problem| {
        let Some(mut split) = Split::new(layer, problem) else { return Ok(Err("its weights are no one matrix")) };
        let half = split.most(round_to) / 2;
        let mut probe = original.clone();
        probe
            .set_constant(&split.weight.name, &tensor_from_matrix(&split.product(half), &split.weight.shape, split.weight.output_axis)?)?;
        let error = split.error(half);
        if error > 0.0 {
            split.importance = (outputs.divergence(&probe)? / error).min(f64::MAX);
        }
        splits.push(split);
        Ok(Ok(()))
    })?;
    for outcome in outcomes {
        if let Err(why) = outcome.fitted {
            notes.push(Note::skipped(&outcome.layer, format!("not split: {why}")));
        }
    }
    let facts = Facts::infer(&original, 1)?;
    let graph = Graph::new(&original);
    let all = totals(&graph, &layers(&graph, &facts)?)?.macs.at_least as f64;
    let ranks = ranks(&splits, all * macs, round_to)?;
    let mut variant = original.clone();
    // From the last node to the first, so that the indices of those before stay.
    for (split, rank) in splits.iter().zip(&ranks).rev() {
        if let Some(rank) = rank {
            split.apply(&mut variant, *rank)?;
        }
    }
    for (split, rank) in splits.iter().zip(&ranks) {
        notes.push(match rank {
            Some(rank) => Note::changed(&split.layer, format!("split in two of rank {rank} (of {})", split.o.min(split.d))),
            None => Note::skipped(&split.layer, "its full rank is worth its multiply–adds"),
        });
    }
    remove_dead(&mut variant);
    let plan = Plan { original: &original, kept: &|_| None, support: &HashMap::new() };
    let fitted = repair::refit(&mut variant, &plan, &calibration)?;
    notes.extend(fitted.into_iter().filter(|n| n.error.is_some()));
    Ok((variant, notes))
}

/// A layer that can be split.
struct Split {
    layer: String,
    node: usize,
    kind: LayerKind,
    weight: Weight,
    o: usize,
    d: usize,
    /// Output positions of one sample.
    positions: f64,
    /// The layer's weights, outputs × inputs.
    w: Vec<f64>,
    /// Eigenvectors of W·H·Wᵀ as columns, o×o, and their eigenvalues, largest first.
    vectors: Mat<f64>,
    values: Vec<f64>,
    /// Divergence of the model's output per squared error of the layer's.
    importance: f64,
}

impl Split {
    fn new(layer: &Layer, problem: &Problem) -> Option<Self> {
        let ([c], Ok((node, weight))) = (problem.systems.as_slice(), layer.editable()) else { return None };
        let (o, d) = (c.o, c.d);
        if !matches!(layer.kind, LayerKind::Conv | LayerKind::Gemm | LayerKind::MatMul) {
            return None;
        }
        let w = Mat::from_fn(o, d, |i, j| problem.current[i * d + j]);
        let h = Mat::from_fn(d, d, |i, j| c.h[i * d + j]);
        let moments = &w * &h * w.transpose();
        let eigen = moments.self_adjoint_eigen(Side::Lower).ok()?;
        let (u, s) = (eigen.U(), eigen.S());
        let vectors = Mat::from_fn(o, o, |i, j| u[(i, o - 1 - j)]);
        let values = (0..o).map(|j| s[o - 1 - j].max(0.0)).collect();
        let positions = *layer.macs.as_ref().ok()? as f64 / (o * d) as f64;
        let (w, importance) = (problem.current.clone(), 1.0);
        Some(Split {
            layer: layer.name.clone(),
            node,
            kind: layer.kind,
            weight: weight.clone(),
            o,
            d,
            positions,
            w,
            vectors,
            values,
            importance,
        })
    }

    /// The greatest rank that saves anything, as a multiple of `step`.
    fn most(&self, step: usize) -> usize {
        ((self.o * self.d).saturating_sub(1) / (self.o + self.d)) / step * step
    }

    /// Squared error of the outputs at a rank.
    fn error(&self, rank: usize) -> f64 {
        self.values.iter().skip(rank).sum()
    }

    /// Multiply–adds of one sample; `None`: of the layer as it is.
    fn macs(&self, rank: Option<usize>) -> f64 {
        self.positions * rank.map_or(self.o * self.d, |r| r * (self.o + self.d)) as f64
    }

    /// U_rᵀ·W, r×d.
    fn first(&self, rank: usize) -> Vec<f64> {
        let dot = |r: usize, j: usize| (0..self.o).map(|i| self.vectors[(i, r)] * self.w[i * self.d + j]).sum::<f64>();
        (0..rank * self.d).map(|i| dot(i / self.d, i % self.d)).collect()
    }

    /// U_r, o×r.
    fn second(&self, rank: usize) -> Vec<f64> {
        (0..self.o * rank).map(|i| self.vectors[(i / rank, i % rank)]).collect()
    }

    /// U_r·U_rᵀ·W, o×d.
    fn product(&self, rank: usize) -> Vec<f64> {
        let (first, second) = (self.first(rank), self.second(rank));
        let dot = |i: usize, j: usize| (0..rank).map(|r| second[i * rank + r] * first[r * self.d + j]).sum::<f64>();
        (0..self.o * self.d).map(|i| dot(i / self.d, i % self.d)).collect()
    }

    /// Puts two nodes in the place of the layer's.
    fn apply(&self, model: &mut Model, rank: usize) -> Result<()> {
        let node = model.graph().node[self.node].clone();
        let axis = self.weight.output_axis;
        let matrix = |rows: usize, columns: usize| if axis == 0 { vec![rows, columns] } else { vec![columns, rows] };
        let (first_shape, second_shape) = match self.kind {
            LayerKind::Conv => {
                let taps = &self.weight.shape[1..];
                let ones = vec![1; taps.len() - 1];
                ([&[rank], taps].concat(), [vec![self.o, rank], ones].concat())
            }
            _ => (matrix(rank, self.d), matrix(self.o, rank)),
        };
        let stem = &self.weight.name;
        let mut constant = |end: &str, w: &[f64], shape: &[usize]| -> Result<String> {
            let value: Tensor = tensor_from_matrix(w, shape, axis)?;
            Ok(model.add_initializer(&format!("{stem}__{end}"), &value))
        };
        let names = [constant("first", &self.first(rank), &first_shape)?, constant("second", &self.second(rank), &second_shape)?];
        let between = model.free_name(&format!("{}__factor", node.output[0]));
        let [first, second] = names;
        let mut thin = node.clone();
        thin.set_name(format!("{}__first", node.name()));
        thin.input = vec![node.input[0].clone(), first];
        thin.output = vec![between.clone()];
        let mut wide = node.clone();
        wide.input[0] = between;
        wide.input[1] = second;
        if self.kind == LayerKind::Conv {
            // The window is the first one's.
            wide.attribute.clear();
            wide.set_ints("kernel_shape", vec![1; self.weight.shape.len() - 2]);
            if let Some(a) = thin.attribute.iter_mut().find(|a| a.name() == "kernel_shape") {
                a.ints = self.weight.shape[2..].iter().map(|&k| k as i64).collect();
            }
        }
        let nodes: [pb::NodeProto; 2] = [thin, wide];
        model.graph_mut().node.splice(self.node..=self.node, nodes);
        Ok(())
    }
}

/// The rank of each layer, or `None` to leave it whole: those with the least weighed error at the least price of a multiply–add at
/// which `saved` of them go.
fn ranks(splits: &[Split], saved: f64, round_to: usize) -> Result<Vec<Option<usize>>> {
    let options = |s: &Split| {
        let ranks = (1..=s.most(round_to) / round_to).map(|i| Some(i * round_to));
        std::iter::once(None).chain(ranks).collect::<Vec<_>>()
    };
    let at = |price: f64| -> Vec<Option<usize>> {
        let cost = |s: &Split, rank: Option<usize>| s.importance * rank.map_or(0.0, |r| s.error(r)) + price * s.macs(rank);
        let best = |s: &Split| options(s).into_iter().min_by(|&a, &b| cost(s, a).total_cmp(&cost(s, b))).flatten();
        splits.iter().map(best).collect()
    };
    let reached = |ranks: &[Option<usize>]| splits.iter().zip(ranks).map(|(s, &r)| s.macs(None) - s.macs(r)).sum::<f64>();
    let (mut low, mut high) = (-200.0f64, 200.0f64);
    let most = at(high.exp());
    if reached(&most) < saved {
        return Err(Error::bad_input(format!("layers of lower rank save at most {:.0} multiply–adds of a sample", reached(&most)))
            .hint("ask for a smaller share, a smaller `round_to`, or remove channels"));
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if reached(&at(middle.exp())) >= saved { high = middle } else { low = middle }
    }
    Ok(at(high.exp()))
}
