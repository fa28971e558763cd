//! Optimal brain surgeon on single weights: which weights of a row go, one after the other, when those that are left make up
//! for each as well as they can (exact, row by row: Frantar et al., *Optimal Brain Compression*, arXiv 2208.11580).

use super::{Amount, Candidate, each_problem};
use crate::Result;
use crate::compress::calibration::Calibration;
use crate::compress::divergence::{DIVERGENCE, Judge};
use crate::compress::lanes::map_chunks;
use crate::compress::note::Note;
use crate::compress::sequential::{Answer, NO_SOLUTION, Pair, Problem, ROUNDS, fit_layers};
use crate::compress::statistics::tensor_from_matrix;
use crate::model::Layer;
use crate::onnx::Model;
use crate::recipe::Distribution;
use std::collections::HashMap;

/// Shares of a layer's weights at which it is seen what their going does to the model's output.
const LEVELS: [f64; 12] = [0.2, 0.35, 0.5, 0.6, 0.7, 0.77, 0.83, 0.88, 0.92, 0.95, 0.97, 0.985];

/// Prunes the candidates of `original` and fits what is left, layer after layer, in the order of the surgeon on the inputs that each
/// layer really gets. Candidates whose problems have no solution are left whole, which is noted.
pub(super) fn prune(
    original: &Model,
    candidates: &mut Vec<Candidate<'_>>,
    amount: Amount,
    calibration: &Calibration,
    notes: &mut Vec<Note>,
) -> Result<Model> {
    let gone: HashMap<String, usize> = match amount {
        Amount::Share(ratio, Distribution::Global) => spread(original, candidates, ratio, calibration, notes)?,
        Amount::Share(ratio, Distribution::PerLayer) => {
            candidates.iter().map(|c| (c.weight.name.clone(), share_of(c.w.len(), ratio))).collect()
        }
        Amount::Pattern(_) => HashMap::new(),
    };
    let by_name: HashMap<&str, &Candidate<'_>> = candidates.iter().map(|c| (c.weight.name.as_str(), c)).collect();
    let mut kept: HashMap<String, Vec<bool>> = HashMap::new();
    let mut solve = |layer: &Layer, problem: &Problem| -> Result<Answer> {
        let Some(c) = layer.weight.as_ref().and_then(|w| by_name.get(w.name.as_str())) else {
            return Ok(problem.on_support(&problem.current, None).ok_or(NO_SOLUTION));
        };
        // A layer is asked again when its targets have moved with what it gives; which weights go is settled then.
        if let Some(keep) = kept.get(&c.weight.name) {
            return Ok(problem.on_support(&c.w, Some(keep)).ok_or(NO_SOLUTION));
        }
        let limit = match amount {
            Amount::Pattern(pattern) => Some(Limit { groups: &c.groups, most: pattern.of - pattern.keep }),
            Amount::Share(..) => None,
        };
        let Some(ranking) = Ranking::new(problem, &c.w, limit)? else { return Ok(Err(NO_SOLUTION)) };
        let keep = ranking.kept(gone.get(&c.weight.name).copied().unwrap_or(ranking.order.len()));
        let answer = problem.on_support(&c.w, Some(&keep)).ok_or(NO_SOLUTION);
        kept.insert(c.weight.name.clone(), keep);
        Ok(answer)
    };
    let mut variant = original.clone();
    for outcome in fit_layers(&mut variant, &Pair { original, kept: &|_| None, rounds: ROUNDS }, calibration, &mut solve)? {
        let weights = candidates.iter().find(|c| Some(&c.weight.name) == outcome.weight.as_ref()).map_or(0, |c| c.w.len());
        notes.push(match (outcome.fitted, outcome.weight.as_ref().and_then(|w| kept.get(w))) {
            (Ok(fit), Some(keep)) => {
                let zeros = keep.iter().filter(|k| !**k).count();
                let share = 100.0 * zeros as f64 / weights.max(1) as f64;
                let detail = format!("{zeros} of {weights} weights set to zero ({share:.0} %), output error {:.1} %", fit.error * 100.0);
                Note { error: Some(fit.error), ..Note::changed(&outcome.layer, detail) }
            }
            (Ok(fit), None) => {
                let detail = format!("refitted: output error {:.1} % → {:.1} %", fit.before * 100.0, fit.error * 100.0);
                Note { error: Some(fit.error), ..Note::changed(&outcome.layer, detail) }
            }
            (Err(_), _) if weights == 0 => continue,
            (Err(why), _) => Note::skipped(&outcome.layer, why),
        });
    }
    Ok(variant)
}

/// How many of `weights` go; the last one stays.
fn share_of(weights: usize, ratio: f64) -> usize {
    ((weights as f64 * ratio).round() as usize).min(weights.saturating_sub(1))
}

/// How many weights go of each candidate when the share `ratio` of all goes, so that the sum of what this does to the model's output is
/// least: for each layer that is measured at [`LEVELS`], one layer at a time.
fn spread(
    original: &Model,
    candidates: &mut Vec<Candidate<'_>>,
    ratio: f64,
    calibration: &Calibration,
    notes: &mut Vec<Note>,
) -> Result<HashMap<String, usize>> {
    let outputs = Judge::new(original, calibration.first(DIVERGENCE))?;
    let mut found: HashMap<String, Vec<(usize, f64)>> = HashMap::new();
    each_problem(original, candidates, calibration, notes, &mut |c, problem| {
        let Some(ranking) = Ranking::new(problem, &c.w, None)? else { return Ok(Err(NO_SOLUTION)) };
        let mut levels = vec![(0, 0.0)];
        for level in LEVELS {
            let count = share_of(c.w.len(), level);
            let Some(w) = problem.on_support(&c.w, Some(&ranking.kept(count))) else { return Ok(Err(NO_SOLUTION)) };
            let mut probe = original.clone();
            probe.set_constant(&c.weight.name, &tensor_from_matrix(&w, &c.weight.shape, c.axis)?)?;
            levels.push((count, outputs.divergence(&probe)?));
        }
        found.insert(c.weight.name.clone(), levels);
        Ok(Ok(()))
    })?;
    let layers: Vec<(usize, Vec<(usize, f64)>)> =
        candidates.iter().map(|c| (c.w.len(), found.remove(&c.weight.name).unwrap_or_default())).collect();
    let gone = cheapest(&layers, ratio);
    Ok(candidates.iter().zip(gone).map(|(c, gone)| (c.weight.name.clone(), gone)).collect())
}

/// For layers of so many weights, with what it costs when the first so many of them go: how many go of each, so that the share `ratio`
/// of all goes at the least sum. Costs are taken as straight between levels, and to rise ever more steeply. The last weight of a layer
/// stays.
fn cheapest(layers: &[(usize, Vec<(usize, f64)>)], ratio: f64) -> Vec<usize> {
    // Pieces of layers: what one weight of them costs, and how many there are.
    let mut pieces: Vec<(f64, usize, usize)> = Vec::new();
    for (number, (weights, levels)) in layers.iter().enumerate() {
        let mut steepest = 0.0f64;
        for pair in levels.windows(2) {
            let ((from, before), (to, after)) = (pair[0], pair[1]);
            if to > from {
                steepest = steepest.max((after - before) / (to - from) as f64);
                pieces.push((steepest, number, to - from));
            }
        }
        let last = levels.last().map_or(0, |l| l.0);
        pieces.push((f64::INFINITY, number, (weights - last).saturating_sub(1)));
    }
    // Stable, so that the pieces of a layer stay in their order.
    pieces.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: usize = layers.iter().map(|l| l.0).sum();
    let mut left = (total as f64 * ratio).round() as usize;
    let mut gone = vec![0; layers.len()];
    for (_, number, count) in pieces {
        gone[number] += count.min(left);
        left -= count.min(left);
    }
    gone
}

/// In which order the weights of a layer go.
#[derive(Debug, Clone)]
struct Ranking {
    /// Places in the matrix of weights, outputs × inputs.
    order: Vec<usize>,
    weights: usize,
}

/// A weight that goes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Removal {
    column: usize,
    /// What its going adds to the squared error of the row's output, or what that of one before it did if that is more: who wants to
    /// remove this weight must accept that one.
    cost: f64,
}

impl Ranking {
    /// From the least-squares weights near `w0` (outputs × inputs). `None` when the layer's system has no solution.
    fn new(problem: &Problem, w0: &[f64], limit: Option<Limit<'_>>) -> Result<Option<Self>> {
        let mut all: Vec<(f64, usize)> = Vec::new();
        for (c, outputs) in problem.parts() {
            let part = &w0[outputs.start * c.d..outputs.end * c.d];
            let (Some(dense), Some(inverse)) = (c.dense(part), c.inverse()) else { return Ok(None) };
            let each: Vec<&[f64]> = dense.chunks_exact(c.d.max(1)).collect();
            for (row, removals) in outputs.zip(map_chunks(&each, |_, w| Ok(removals(&inverse, w, limit)))?) {
                all.extend(removals.iter().map(|r| (r.cost, row * c.d + r.column)));
            }
        }
        // Stable, and costs do not fall along a row: its weights stay in their order.
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Some(Ranking { order: all.into_iter().map(|(_, place)| place).collect(), weights: w0.len() }))
    }

    /// Weights that stay when the first `gone` go.
    fn kept(&self, gone: usize) -> Vec<bool> {
        let mut keep = vec![true; self.weights];
        self.order.iter().take(gone).for_each(|&place| keep[place] = false);
        keep
    }
}

/// Columns that form a group for a pattern: at most `most` of each may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit<'a> {
    /// The group of each column.
    pub(super) groups: &'a [usize],
    /// How many may go of each.
    pub(super) most: usize,
}

/// One row: with p removed, w −= w_p/[H⁻¹]_pp · H⁻¹_p and H⁻¹ −= H⁻¹_p·H⁻¹_pᵀ/[H⁻¹]_pp; the loss is w_p²/[H⁻¹]_pp (equation 3).
/// Of the symmetric H⁻¹ the lower triangle is kept up; the columns that are left stay together at its beginning.
fn removals(inverse: &[f64], w: &[f64], limit: Option<Limit<'_>>) -> Vec<Removal> {
    let d = w.len();
    let (mut a, mut w) = (inverse.to_vec(), w.to_vec());
    let mut columns: Vec<usize> = (0..d).collect();
    let mut gone_of = limit.map(|l| vec![0usize; l.groups.iter().max().map_or(0, |g| g + 1)]);
    let mut out = Vec::with_capacity(d);
    let (mut pivot, mut cost) = (vec![0.0; d], 0.0f64);
    for left in (1..=d).rev() {
        let may_go = |i: usize| match (&limit, &gone_of) {
            (Some(l), Some(gone)) => gone[l.groups[columns[i]]] < l.most,
            _ => true,
        };
        let loss = |i: usize| w[i] * w[i] / a[i * d + i].max(f64::MIN_POSITIVE);
        let Some(p) = (0..left).filter(|&i| may_go(i)).min_by(|&i, &j| loss(i).total_cmp(&loss(j)).then(columns[i].cmp(&columns[j])))
        else {
            break;
        };
        cost = loss(p).max(cost);
        out.push(Removal { column: columns[p], cost });
        if let (Some(l), Some(gone)) = (&limit, &mut gone_of) {
            gone[l.groups[columns[p]]] += 1;
        }
        for (i, x) in pivot[..left].iter_mut().enumerate() {
            *x = if i < p { a[p * d + i] } else { a[i * d + p] };
        }
        let diagonal = pivot[p].max(f64::MIN_POSITIVE);
        let share = w[p] / diagonal;
        w[..left].iter_mut().zip(&pivot).for_each(|(w, x)| *w -= share * x);
        for i in 0..left {
            let share = pivot[i] / diagonal;
            if share != 0.0 {
                a[i * d..=i * d + i].iter_mut().zip(&pivot).for_each(|(a, x)| *a -= share * x);
            }
        }
        // The last column moves into the gap.
        let last = left - 1;
        if p != last {
            for i in 0..last {
                let value = if i == p { a[last * d + last] } else { a[last * d + i] };
                match i.cmp(&p) {
                    std::cmp::Ordering::Less => a[p * d + i] = value,
                    std::cmp::Ordering::Equal => a[p * d + p] = value,
                    std::cmp::Ordering::Greater => a[i * d + p] = value,
                }
            }
            w[p] = w[last];
            columns[p] = columns[last];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::compress::statistics::{Centred, Moments};
    use proptest::prelude::*;

    /// Moments of 200 rows of made-up inputs and targets.
    fn centred(d: usize, o: usize, seed: u32) -> Centred {
        let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 8) as f32 / 1e7 - 0.8;
        let x: Vec<f32> = (0..200 * d).map(|i| value(i) + if i % d > 0 { 0.5 * value(i - 1) } else { 0.0 }).collect();
        let t: Vec<f32> = (0..200 * o).map(|i| value(i + 7) + x[i / o * d] - x[i / o * d + d - 1]).collect();
        let mut moments = Moments::new(d, o);
        moments.add(&x, &t).unwrap();
        moments.centred().unwrap()
    }

    fn problem(d: usize, o: usize, seed: u32) -> Problem {
        Problem { systems: vec![centred(d, o, seed)], current: vec![0.5; d * o] }
    }

    /// Squared error with the ridge's pull.
    fn regular(c: &Centred, w: &[f64], w0: &[f64]) -> f64 {
        c.squared_error(w).0 + c.ridge() * w.iter().zip(w0).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Each cost is the greatest difference so far that solving the smaller problem afresh makes.
        #[test]
        fn costs_are_those_of_the_best_refit(d in 2usize..9, seed in 0u32..1000) {
            let p = problem(d, 1, seed);
            let c = &p.systems[0];
            let steps = removals(&c.inverse().unwrap(), &c.dense(&p.current).unwrap(), None);
            let mut keep = vec![true; d];
            let solve = |keep: &[bool]| regular(c, &p.on_support(&p.current, Some(keep)).unwrap(), &p.current);
            let mut most = 0.0f64;
            for step in steps {
                let before = solve(&keep);
                keep[step.column] = false;
                most = most.max(solve(&keep) - before);
                prop_assert!((most - step.cost).abs() <= 1e-6 * (1.0 + most), "{most} {step:?}");
            }
        }

        #[test]
        fn the_share_is_exact_and_no_layer_is_emptied(ratio in 0.0f64..1.0, costs in prop::collection::vec(0.0f64..1.0, 9)) {
            let layers: Vec<(usize, Vec<(usize, f64)>)> =
                costs.chunks(3).zip([15, 16, 18]).map(|(c, n)| (n, vec![(0, 0.0), (n / 2, c[0]), (n * 3 / 4, c[0] + c[1])])).collect();
            let gone = cheapest(&layers, ratio);
            prop_assert_eq!(gone.iter().sum::<usize>(), ((49.0 * ratio).round() as usize).min(46));
            prop_assert!(gone.iter().zip(&layers).all(|(g, l)| *g < l.0));
        }

        #[test]
        fn patterns_hold(seed in 0u32..1000) {
            let p = problem(12, 3, seed);
            let groups: Vec<usize> = (0..12).map(|j| j % 3).collect();
            let ranking = Ranking::new(&p, &p.current, Some(Limit { groups: &groups, most: 2 })).unwrap().unwrap();
            let keep = ranking.kept(ranking.order.len());
            for row in keep.chunks(12) {
                prop_assert!((0..3).all(|g| (0..12).filter(|&j| groups[j] == g && row[j]).count() == 2));
            }
        }
    }
}
