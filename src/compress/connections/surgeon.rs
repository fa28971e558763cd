//! Optimal brain surgeon on single weights: which weights of a row go, one after the other, when those that are left make up
//! for each as well as they can (exact, row by row: Frantar et al., *Optimal Brain Compression*, arXiv 2208.11580).

use super::{Amount, Candidate, each_problem};
use crate::Result;
use crate::compress::calibration::Calibration;
use crate::compress::divergence::Outputs;
use crate::compress::lanes::map_chunks;
use crate::compress::note::Note;
use crate::compress::sequential::{NO_SOLUTION, Problem};
use crate::compress::statistics::tensor_from_matrix;
use crate::onnx::Model;
use crate::recipe::Distribution;
use std::collections::HashMap;

/// Which weights of the candidates stay. Candidates whose problems have no solution are none any more, which is noted.
///
/// With one threshold over all layers a layer's losses are scaled so that all of them, when this layer alone loses the share that
/// is asked for, come to the divergence of the model's output that this makes.
pub(super) fn masks(
    original: &Model,
    candidates: &mut Vec<Candidate<'_>>,
    amount: Amount,
    calibration: &Calibration,
    notes: &mut Vec<Note>,
) -> Result<Vec<Vec<bool>>> {
    let outputs = Outputs::of(original, calibration)?;
    let mut found: HashMap<String, Ranking> = HashMap::new();
    each_problem(original, candidates, calibration, notes, &mut |candidate, problem| {
        let limit = match amount {
            Amount::Pattern(pattern) => Some(Limit { groups: &candidate.groups, most: pattern.of - pattern.keep }),
            Amount::Share(..) => None,
        };
        let Some(mut ranking) = Ranking::new(problem, &candidate.w, limit)? else { return Ok(Err(NO_SOLUTION)) };
        if let Amount::Share(ratio, Distribution::Global) = amount {
            let gone = cut(&[&ranking], ratio).remove(0);
            let Some(probed) = problem.on_support(&candidate.w, Some(&ranking.kept(&gone))) else { return Ok(Err(NO_SOLUTION)) };
            let mut probe = original.clone();
            probe.set_constant(&candidate.weight.name, &tensor_from_matrix(&probed, &candidate.weight.shape, candidate.axis)?)?;
            // Where nothing is lost, nothing is to be weighed.
            let loss = ranking.loss(&gone);
            if loss > 0.0 {
                ranking.scale((outputs.divergence(&probe)? / loss).min(f64::MAX));
            }
        }
        found.insert(candidate.weight.name.clone(), ranking);
        Ok(Ok(()))
    })?;
    let rankings: Vec<&Ranking> = candidates.iter().filter_map(|c| found.get(&c.weight.name)).collect();
    let gone = match amount {
        Amount::Pattern(_) => rankings.iter().map(|r| r.rows.iter().map(Vec::len).collect()).collect(),
        Amount::Share(ratio, Distribution::Global) => cut(&rankings, ratio),
        Amount::Share(ratio, Distribution::PerLayer) => rankings.iter().flat_map(|r| cut(&[r], ratio)).collect(),
    };
    Ok(rankings.iter().zip(gone).map(|(r, gone)| r.kept(&gone)).collect())
}

/// How many weights go of each row of each layer when the share `ratio` of all goes, the cheapest first. The last weight of a layer
/// stays.
fn cut(layers: &[&Ranking], ratio: f64) -> Vec<Vec<usize>> {
    let mut gone: Vec<Vec<usize>> = layers.iter().map(|l| vec![0; l.rows.len()]).collect();
    let mut all: Vec<(f64, usize, usize)> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let costs = layer.rows.iter().enumerate().flat_map(|(r, row)| row.iter().map(move |removal| (removal.cost, number, r)));
        let first = all.len();
        all.extend(costs);
        if let Some(dearest) = all[first..].iter_mut().max_by(|a, b| a.0.total_cmp(&b.0)) {
            dearest.0 = f64::INFINITY;
        }
    }
    let count = ((all.len() as f64 * ratio).round() as usize).min(all.len().saturating_sub(layers.len()));
    // Costs do not fall along a row, so that those of a row that go are its first ones, whatever the order among equals.
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    all[..count].iter().for_each(|&(_, layer, row)| gone[layer][row] += 1);
    gone
}

/// In which order the weights of each row of a layer go.
#[derive(Debug, Clone)]
struct Ranking {
    d: usize,
    rows: Vec<Vec<Removal>>,
}

/// A weight that goes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Removal {
    column: usize,
    /// What its going adds to the squared error of the row's output.
    loss: f64,
    /// The greatest loss so far in its row: who wants to remove this weight must accept that one.
    cost: f64,
}

impl Ranking {
    /// From the least-squares weights near `w0` (outputs × inputs). `None` when the layer's system has no solution.
    fn new(problem: &Problem, w0: &[f64], limit: Option<Limit<'_>>) -> Result<Option<Self>> {
        let mut ranking = Ranking { d: 0, rows: Vec::new() };
        for (c, outputs) in problem.parts() {
            let part = &w0[outputs.start * c.d..outputs.end * c.d];
            let (Some(dense), Some(inverse)) = (c.dense(part), c.inverse()) else { return Ok(None) };
            let each: Vec<&[f64]> = dense.chunks_exact(c.d).collect();
            ranking.rows.extend(map_chunks(&each, |_, w| Ok(removals(&inverse, w, limit)))?);
            ranking.d = c.d;
        }
        Ok(Some(ranking))
    }

    /// Multiplies costs.
    fn scale(&mut self, factor: f64) {
        self.rows.iter_mut().flatten().for_each(|r| r.cost *= factor);
    }

    /// The squared error that the first `gone` removals of each row make.
    fn loss(&self, gone: &[usize]) -> f64 {
        self.rows.iter().zip(gone).map(|(row, &gone)| row[..gone].iter().map(|r| r.loss).sum::<f64>()).sum()
    }

    /// Weights that stay after the first `gone` removals of each row.
    fn kept(&self, gone: &[usize]) -> Vec<bool> {
        let mut keep = vec![true; self.rows.len() * self.d];
        for ((row, &gone), keep) in self.rows.iter().zip(gone).zip(keep.chunks_exact_mut(self.d.max(1))) {
            row[..gone].iter().for_each(|removal| keep[removal.column] = false);
        }
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
        out.push(Removal { column: columns[p], loss: loss(p), cost });
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
        /// Each loss is the difference that solving the smaller problem afresh makes.
        #[test]
        fn losses_are_those_of_the_best_refit(d in 2usize..9, seed in 0u32..1000) {
            let p = problem(d, 1, seed);
            let ranking = Ranking::new(&p, &p.current, None).unwrap().unwrap();
            let c = &p.systems[0];
            for gone in 1..=d {
                let (before, after) = (ranking.kept(&[gone - 1]), ranking.kept(&[gone]));
                let solve = |keep: &[bool]| regular(c, &p.on_support(&p.current, Some(keep)).unwrap(), &p.current);
                let added = solve(&after) - solve(&before);
                prop_assert!((added - ranking.rows[0][gone - 1].loss).abs() <= 1e-6 * (1.0 + added.abs()), "{added} {:?}", ranking.rows[0][gone - 1]);
            }
        }

        #[test]
        fn the_share_is_exact_and_no_layer_is_emptied(ratio in 0.0f64..1.0, seed in 0u32..1000) {
            let rankings: Vec<Ranking> =
                [(5, 3), (8, 2), (3, 6)].map(|(d, o)| problem(d, o, seed)).iter().map(|p| Ranking::new(p, &p.current, None).unwrap().unwrap()).collect();
            let gone = cut(&rankings.iter().collect::<Vec<_>>(), ratio);
            prop_assert_eq!(gone.iter().flatten().sum::<usize>(), ((49.0 * ratio).round() as usize).min(46));
            for (r, gone) in rankings.iter().zip(&gone) {
                prop_assert!(r.kept(gone).contains(&true));
            }
        }

        #[test]
        fn patterns_hold(seed in 0u32..1000) {
            let p = problem(12, 3, seed);
            let groups: Vec<usize> = (0..12).map(|j| j % 3).collect();
            let ranking = Ranking::new(&p, &p.current, Some(Limit { groups: &groups, most: 2 })).unwrap().unwrap();
            let keep = ranking.kept(&ranking.rows.iter().map(Vec::len).collect::<Vec<_>>());
            for row in keep.chunks(12) {
                prop_assert!((0..3).all(|g| (0..12).filter(|&j| groups[j] == g && row[j]).count() == 2));
            }
        }
    }
}
