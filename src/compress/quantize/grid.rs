//! Integers and scales for the rows of a layer that make the squared error of its outputs small.
//!
//! With H and G regularised, one row w = s·q costs wᵀHw − 2g·w + constant. Integers are found as in GPTQ (arXiv 2210.17323), in
//! order of decreasing diag H from the dense solution, which is Babai's nearest plane on a factor of H; from several scales,
//! as a coarse grid must clip. The best of them, and the weights rounded to nearest, then descend: one integer after the other
//! to its best value with all others given, and the closed-form scales, in turns, until nothing moves.

use super::scales::{best_scale, range};
use crate::compress::lanes::map_chunks;
use crate::compress::sequential::Problem;
use crate::compress::statistics::Centred;
use crate::{Error, Result};
use faer::{Mat, Side};

/// Scales to start from, as shares of the one with the least squared error of the weights.
const STARTS: [f64; 7] = [0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5];
/// More of them for up to 3 bits.
const COARSE_STARTS: [f64; 4] = [0.5, 0.6, 1.75, 2.0];
/// How many starts go on to the descent.
const DESCENTS: usize = 3;
/// Rounds of a descent; most end after a few.
const ROUNDS: usize = 30;

/// What the rows of a layer have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Bits of the integers.
    pub(super) bits: u32,
    /// Weights in a row that share a scale; a last block may be shorter.
    pub(super) block: usize,
}

impl Grid {
    fn nearest(self, steps: f64) -> f64 {
        let (least, most) = range(self.bits);
        steps.round_ties_even().clamp(f64::from(least), f64::from(most))
    }

    /// Scales to start from.
    fn starts(self, base: &[f64]) -> Vec<Vec<f64>> {
        let coarse: &[f64] = if self.bits <= 3 { &COARSE_STARTS } else { &[] };
        STARTS.iter().chain(coarse).map(|share| base.iter().map(|s| s * share).collect()).collect()
    }

    /// Scales of the blocks of `w` with the least squared error of these weights.
    fn scales(self, w: &[f64]) -> Vec<f64> {
        let scale = |block: &[f64]| f64::from(best_scale(&block.iter().map(|&v| v as f32).collect::<Vec<_>>(), self.bits));
        w.chunks(self.block).map(scale).collect()
    }
}

/// Integers of one row, their scales, and the residual g − Hw.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Whole numbers.
    pub(super) q: Vec<f64>,
    /// One for each block.
    pub(super) scales: Vec<f64>,
    residual: Vec<f64>,
}

/// The least-squares problem of rows that see the same inputs: H with its ridge, and the factor V of H = V·Vᵀ in the order in
/// which integers are chosen (upper triangular).
#[derive(Debug)]
pub(super) struct System {
    d: usize,
    h: Vec<f64>,
    order: Vec<usize>,
    factor: Vec<f64>,
}

impl System {
    /// `h` is symmetric, d×d; `None` when it is not positive definite.
    pub(super) fn new(h: Vec<f64>, d: usize) -> Option<Self> {
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|&a, &b| h[b * d + b].total_cmp(&h[a * d + a]).then(a.cmp(&b)));
        // With both axes reversed a lower factor is an upper one.
        let at = |i: usize| order[d - 1 - i] * d;
        let lower = Mat::from_fn(d, d, |i, j| h[at(i) + order[d - 1 - j]]).llt(Side::Lower).ok()?;
        let lower = lower.L();
        let mut factor = vec![0.0; d * d];
        for i in 0..d {
            for j in i..d {
                factor[i * d + j] = lower[(d - 1 - i, d - 1 - j)];
            }
        }
        Some(System { d, h, order, factor })
    }

    /// Row `i` of the factor from its diagonal on.
    fn factor_row(&self, i: usize) -> &[f64] {
        &self.factor[i * self.d + i..(i + 1) * self.d]
    }

    /// H⁻¹·g.
    fn solve(&self, g: &[f64]) -> Vec<f64> {
        let mut z: Vec<f64> = self.order.iter().map(|&j| g[j]).collect();
        for i in (0..self.d).rev() {
            let row = self.factor_row(i);
            let known: f64 = row[1..].iter().zip(&z[i + 1..]).map(|(v, z)| v * z).sum();
            z[i] = (z[i] - known) / row[0];
        }
        let mut w = vec![0.0; self.d];
        for i in 0..self.d {
            let row = self.factor_row(i);
            let y = z[i] / row[0];
            w[self.order[i]] = y;
            z[i + 1..].iter_mut().zip(&row[1..]).for_each(|(z, v)| *z -= y * v);
        }
        w
    }

    /// Integers near `w` in the metric of H for each of `starts` (scales by block), with the loss they add.
    fn nearest_planes(&self, grid: Grid, w: &[f64], starts: &[Vec<f64>]) -> Vec<(Vec<f64>, f64)> {
        let mut found = vec![(vec![0.0; self.d], 0.0); starts.len()];
        // δV of the columns chosen so far, δ = w − s·q.
        let mut carried = vec![vec![0.0; self.d]; starts.len()];
        for (i, &column) in self.order.iter().enumerate() {
            let row = self.factor_row(i);
            for (((q, loss), carried), scales) in found.iter_mut().zip(&mut carried).zip(starts) {
                let scale = scales[column / grid.block];
                q[column] = grid.nearest((w[column] + carried[i] / row[0]) / scale);
                let off = w[column] - scale * q[column];
                carried[i..].iter_mut().zip(row).for_each(|(c, v)| *c += off * v);
                *loss += carried[i] * carried[i];
            }
        }
        found
    }

    /// The row with these integers and scales.
    fn row(&self, g: &[f64], grid: Grid, q: Vec<f64>, scales: Vec<f64>) -> Row {
        let mut residual = g.to_vec();
        for (j, &q) in q.iter().enumerate().filter(|(_, q)| **q != 0.0) {
            let w = q * scales[j / grid.block];
            residual.iter_mut().zip(&self.h[j * self.d..]).for_each(|(r, h)| *r -= w * h);
        }
        Row { q, scales, residual }
    }

    /// The best row that is found for `g`: never worse than `w0` rounded to nearest.
    fn best(&self, g: &[f64], w0: &[f64], grid: Grid) -> Row {
        let dense = self.solve(g);
        let base = grid.scales(&dense);
        let starts = grid.starts(&base);
        let mut found: Vec<_> = self.nearest_planes(grid, &dense, &starts).into_iter().zip(starts).collect();
        found.sort_by(|((_, a), _), ((_, b), _)| a.total_cmp(b));
        let nearest = grid.scales(w0);
        let rounded = w0.iter().enumerate().map(|(j, w)| grid.nearest(w / nearest[j / grid.block])).collect();
        let candidates = found.into_iter().take(DESCENTS).map(|((q, _), scales)| (q, scales)).chain([(rounded, nearest)]);
        let descended = candidates.map(|(q, scales)| {
            let mut row = self.row(g, grid, q, scales);
            row.descend(self, g, grid);
            (row.cost(g, grid), row)
        });
        let best = descended.min_by(|(a, _), (b, _)| a.total_cmp(b));
        best.map_or_else(|| self.row(g, grid, vec![0.0; self.d], base), |(_, row)| row)
    }
}

impl Row {
    /// wᵀHw − 2g·w = −w·(g + r).
    fn cost(&self, g: &[f64], grid: Grid) -> f64 {
        let term = |(j, q): (usize, &f64)| q * self.scales[j / grid.block] * (g[j] + self.residual[j]);
        -self.q.iter().enumerate().map(term).sum::<f64>()
    }

    /// Integers and scales in turns, while any integer moves.
    fn descend(&mut self, system: &System, g: &[f64], grid: Grid) {
        for _ in 0..ROUNDS {
            self.rescale(system, g, grid);
            if !self.sweep(system, grid) {
                break;
            }
        }
    }

    /// Each integer in turn to the best value with all others given; true when one moved.
    fn sweep(&mut self, system: &System, grid: Grid) -> bool {
        let d = system.d;
        let mut moved = false;
        for j in 0..d {
            let (scale, diagonal) = (self.scales[j / grid.block], system.h[j * d + j]);
            let best = grid.nearest(self.q[j] + self.residual[j] / (diagonal * scale));
            let step = scale * (best - self.q[j]);
            // Where both neighbours are as good, rounding errors must not move it to and fro.
            if best != self.q[j] && (self.residual[j] * step - 0.5 * diagonal * step * step) > 1e-12 * diagonal * scale * scale {
                self.q[j] = best;
                self.residual.iter_mut().zip(&system.h[j * d..]).for_each(|(r, h)| *r -= step * h);
                moved = true;
            }
        }
        moved
    }

    /// Each block's scale to its best value with all else given.
    fn rescale(&mut self, system: &System, g: &[f64], grid: Grid) {
        let d = system.d;
        for (b, block) in (0..d).step_by(grid.block).map(|first| first..(first + grid.block).min(d)).enumerate() {
            let scale = self.scales[b];
            // H·q of the block: with one block the residual tells it.
            let hq: Vec<f64> = if block.len() == d {
                g.iter().zip(&self.residual).map(|(g, r)| (g - r) / scale).collect()
            } else {
                let mut hq = vec![0.0; d];
                for j in block.clone().filter(|&j| self.q[j] != 0.0) {
                    hq.iter_mut().zip(&system.h[j * d..]).for_each(|(x, h)| *x += self.q[j] * h);
                }
                hq
            };
            let dot = |x: &[f64]| self.q[block.clone()].iter().zip(&x[block.clone()]).map(|(q, x)| q * x).sum::<f64>();
            let (slope, curvature) = (dot(&self.residual), dot(&hq));
            let new = scale + slope / curvature;
            if curvature > 0.0 && new.is_finite() && new >= f64::from(f32::MIN_POSITIVE) {
                self.scales[b] = new;
                self.residual.iter_mut().zip(&hq).for_each(|(r, h)| *r -= (new - scale) * h);
            }
        }
    }
}

/// The rows of one layer.
pub(super) struct Search<'a> {
    /// What they are to give.
    pub(super) problem: &'a Problem,
    /// The weights that they are to stay near, outputs × inputs.
    pub(super) w0: &'a [f64],
}

impl Search<'_> {
    /// A scale for each row, or each block of it. Weights of `w0` that are zero stay zero: they were pruned.
    /// `None` when a system has no solution.
    pub(super) fn fit(&self, grid: Grid) -> Result<Option<Vec<Row>>> {
        let mut rows = Vec::new();
        for (c, w0) in self.parts() {
            let Some((shared, g)) = regular(c, w0) else { return Ok(None) };
            let each: Vec<(&[f64], &[f64])> = g.chunks_exact(c.d).zip(w0.chunks_exact(c.d)).collect();
            rows.extend(map_chunks(&each, |_, &(g, w0)| match own(&shared, w0)? {
                None => Ok(shared.best(g, w0, grid)),
                Some(system) => Ok(system.best(&masked(g, w0), w0, grid)),
            })?);
        }
        Ok(Some(rows))
    }

    /// One scale for all rows. `None` when a system has no solution.
    pub(super) fn fit_alike(&self, bits: u32) -> Result<Option<Vec<Row>>> {
        let (mut shared, mut tasks) = (Vec::new(), Vec::new());
        for (c, w0) in self.parts() {
            let Some((system, g)) = regular(c, w0) else { return Ok(None) };
            for (g, w0) in g.chunks_exact(c.d).zip(w0.chunks_exact(c.d)) {
                tasks.push(Task { shared: shared.len(), own: own(&system, w0)?, g: masked(g, w0), w0 });
            }
            shared.push(system);
        }
        let grid = Grid { bits, block: self.problem.systems.iter().map(|c| c.d).max().unwrap_or(1) };
        let alike = Alike { grid, shared, tasks };
        alike.best(self.w0).map(Some)
    }

    /// Each system with the weights of its rows.
    fn parts(&self) -> impl Iterator<Item = (&Centred, &[f64])> {
        self.problem.parts().map(|(c, rows)| (c, &self.w0[rows.start * c.d..rows.end * c.d]))
    }
}

/// A row among those that share one scale.
struct Task<'a> {
    shared: usize,
    own: Option<System>,
    g: Vec<f64>,
    w0: &'a [f64],
}

/// Rows that share one scale.
struct Alike<'a> {
    grid: Grid,
    shared: Vec<System>,
    tasks: Vec<Task<'a>>,
}

impl Alike<'_> {
    fn system<'s>(&'s self, task: &'s Task<'_>) -> &'s System {
        task.own.as_ref().unwrap_or(&self.shared[task.shared])
    }

    /// As [`System::best`], for all rows together.
    fn best(&self, w0: &[f64]) -> Result<Vec<Row>> {
        let grid = self.grid;
        let one = |w: &[f64]| Grid { block: w.len().max(1), ..grid }.scales(w).first().copied().unwrap_or(1.0);
        let dense = map_chunks(&self.tasks, |_, t| Ok(self.system(t).solve(&t.g)))?;
        let starts: Vec<Vec<f64>> = grid.starts(&[one(&dense.concat())]);
        let found = map_chunks(&self.tasks, |i, t| Ok(self.system(t).nearest_planes(grid, &dense[i], &starts)))?;
        let loss = |start: usize| found.iter().map(|row| row[start].1).sum::<f64>();
        let mut order: Vec<usize> = (0..starts.len()).collect();
        order.sort_by(|&a, &b| loss(a).total_cmp(&loss(b)));
        let rounded = one(w0);
        let planes = order.iter().take(DESCENTS).map(|&s| (starts[s][0], found.iter().map(|row| row[s].0.clone()).collect()));
        let nearest = self.tasks.iter().map(|t| t.w0.iter().map(|w| grid.nearest(w / rounded)).collect()).collect();
        let mut best: Option<(f64, Vec<Row>)> = None;
        for (scale, q) in planes.chain([(rounded, nearest)]) {
            let (cost, rows) = self.descend(scale, q)?;
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, rows));
            }
        }
        Ok(best.map(|(_, rows)| rows).unwrap_or_default())
    }

    /// As [`Row::descend`], with the scale that is best for all rows; their cost comes first.
    fn descend(&self, mut scale: f64, q: Vec<Vec<f64>>) -> Result<(f64, Vec<Row>)> {
        let place =
            |q: &[Vec<f64>], scale: f64| map_chunks(&self.tasks, |i, t| Ok(self.system(t).row(&t.g, self.grid, q[i].clone(), vec![scale])));
        let mut rows = place(&q, scale)?;
        for _ in 0..ROUNDS {
            let (mut slope, mut curvature) = (0.0, 0.0);
            for (row, task) in rows.iter().zip(&self.tasks) {
                slope += row.q.iter().zip(&row.residual).map(|(q, r)| q * r).sum::<f64>();
                curvature += row.q.iter().zip(task.g.iter().zip(&row.residual)).map(|(q, (g, r))| q * (g - r) / scale).sum::<f64>();
            }
            let new = scale + slope / curvature;
            if curvature > 0.0 && new.is_finite() && new >= f64::from(f32::MIN_POSITIVE) {
                scale = new;
            }
            let q: Vec<Vec<f64>> = rows.into_iter().map(|row| row.q).collect();
            let swept = map_chunks(&place(&q, scale)?, |i, row| {
                let mut row = row.clone();
                Ok((row.sweep(self.system(&self.tasks[i]), self.grid), row))
            })?;
            let moved = swept.iter().any(|(moved, _)| *moved);
            rows = swept.into_iter().map(|(_, row)| row).collect();
            if !moved {
                break;
            }
        }
        Ok((rows.iter().zip(&self.tasks).map(|(row, t)| row.cost(&t.g, self.grid)).sum(), rows))
    }
}

/// H + rI, factored, and G + rW₀.
fn regular(c: &Centred, w0: &[f64]) -> Option<(System, Vec<f64>)> {
    let (mut h, r) = (c.h.clone(), c.ridge());
    (0..c.d).for_each(|i| h[i * c.d + i] += r);
    let g = c.g.iter().zip(w0).map(|(g, w)| g + r * w).collect();
    Some((System::new(h, c.d)?, g))
}

/// g without what belongs to pruned weights.
fn masked(g: &[f64], w0: &[f64]) -> Vec<f64> {
    g.iter().zip(w0).map(|(&g, &w)| if w == 0.0 { 0.0 } else { g }).collect()
}

/// The system of a row with pruned weights: their columns are cut off from all others, so that they stay at zero.
fn own(shared: &System, w0: &[f64]) -> Result<Option<System>> {
    if w0.iter().all(|w| *w != 0.0) {
        return Ok(None);
    }
    let d = shared.d;
    let at = |i: usize| if w0[i / d] == 0.0 || w0[i % d] == 0.0 { 0.0 } else { shared.h[i] };
    let mut h: Vec<f64> = (0..d * d).map(at).collect();
    (0..d).filter(|&j| w0[j] == 0.0).for_each(|j| h[j * d + j] = shared.h[j * d + j]);
    match System::new(h, d) {
        Some(system) => Ok(Some(system)),
        None => Err(Error::bad_input("the least-squares system of a pruned row has no solution")),
    }
}

#[cfg(test)]
mod tests;
