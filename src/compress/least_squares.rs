//! Ridge regression on second moments: the weights that reproduce the original's outputs from the compressed inputs.
//!
//! With H = Cov(x, x), G = Cov(t, x), a ridge r = 1e-3·mean(diag H) and weights W₀ to be pulled towards, the best dense
//! weights are (G + rW₀)(H + rI)⁻¹, and the bias is refit exactly: b = mean(t) − W·mean(x).

use super::lanes::map_chunks;
use super::statistics::{Centred, ROUNDING};
use faer::prelude::Solve;
use faer::{Mat, Side};

/// Ridge as a share of the mean diagonal of H.
const RIDGE: f64 = 1e-3;

impl Centred {
    /// What is added to the diagonal of H, pulling the weights towards those they had.
    pub(super) fn ridge(&self) -> f64 {
        let inputs = self.d.max(1) as f64;
        let trace: f64 = (0..self.d).map(|i| self.h[i * self.d + i]).sum();
        // Where inputs hardly vary, H is what rounding left of the difference of two large numbers.
        let noise = ROUNDING * self.mean_x.iter().map(|m| m * m).sum::<f64>();
        // A dead input (all zero) must not make the system singular.
        ((RIDGE * trace).max(noise) / inputs).max(1e-12)
    }

    /// Dense weights (o×d, row-major); `None` when the system cannot be solved.
    pub(super) fn dense(&self, w0: &[f64]) -> Option<Vec<f64>> {
        let (d, o, r) = (self.d, self.o, self.ridge());
        let h = Mat::from_fn(d, d, |i, j| self.h[i * d + j] + if i == j { r } else { 0.0 });
        // (H + rI) Wᵀ = (G + rW₀)ᵀ
        let rhs = Mat::from_fn(d, o, |i, j| self.g[j * d + i] + r * w0[j * d + i]);
        let solution = h.llt(Side::Lower).ok()?.solve(&rhs);
        finite((0..o * d).map(|i| solution[(i % d, i / d)]).collect())
    }

    /// (H + rI)⁻¹.
    pub(super) fn inverse(&self) -> Option<Vec<f64>> {
        let (d, r) = (self.d, self.ridge());
        let h = Mat::from_fn(d, d, |i, j| self.h[i * d + j] + if i == j { r } else { 0.0 });
        let inverse = h.llt(Side::Lower).ok()?.solve(&Mat::<f64>::identity(d, d));
        finite((0..d * d).map(|i| inverse[(i / d, i % d)]).collect())
    }

    /// Weights with zeros wherever `keep` is false: each output row is fitted on its own support.
    pub(super) fn on_support(&self, w0: &[f64], keep: &[bool]) -> Option<Vec<f64>> {
        let (d, r) = (self.d, self.ridge());
        let rows: Vec<usize> = (0..self.o).collect();
        let fit = |row: usize| {
            let support: Vec<usize> = (0..d).filter(|&j| keep[row * d + j]).collect();
            let k = support.len();
            let mut w = vec![0.0; d];
            if k > 0 {
                let h = Mat::from_fn(k, k, |i, j| self.h[support[i] * d + support[j]] + if i == j { r } else { 0.0 });
                let rhs = Mat::from_fn(k, 1, |i, _| self.g[row * d + support[i]] + r * w0[row * d + support[i]]);
                let solution = h.llt(Side::Lower).ok()?.solve(&rhs);
                support.iter().enumerate().for_each(|(i, &j)| w[j] = solution[(i, 0)]);
            }
            Some(w)
        };
        let fitted = map_chunks(&rows, |_, &row| Ok(fit(row))).ok()?;
        finite(fitted.into_iter().collect::<Option<Vec<_>>>()?.concat())
    }

    /// The bias that goes with `w`: mean(t) − W·mean(x).
    pub(super) fn bias(&self, w: &[f64]) -> Vec<f64> {
        let dot = |row: &[f64]| row.iter().zip(&self.mean_x).map(|(a, b)| a * b).sum::<f64>();
        w.chunks_exact(self.d.max(1)).zip(&self.mean_t).map(|(row, t)| t - dot(row)).collect()
    }

    /// ‖t − Wx − b‖² with the best bias, and ‖t − mean t‖², per sample and summed over the outputs.
    pub(super) fn squared_error(&self, w: &[f64]) -> (f64, f64) {
        let d = self.d;
        let mut residual = 0.0;
        for (row, w) in w.chunks_exact(d.max(1)).enumerate() {
            let g = &self.g[row * d..(row + 1) * d];
            let linear: f64 = w.iter().zip(g).map(|(a, b)| a * b).sum();
            // Rounding may take a perfect fit below zero.
            residual += (self.var_t[row] - 2.0 * linear + quadratic(&self.h, w)).max(0.0);
        }
        (residual, self.var_t.iter().sum())
    }

    /// False when a value among the samples overflowed or was none.
    pub(super) fn is_finite(&self) -> bool {
        [&self.h, &self.g, &self.var_t].iter().all(|m| m.iter().all(|v| v.is_finite()))
    }
}

/// wᵀ·H·w.
fn quadratic(h: &[f64], w: &[f64]) -> f64 {
    let d = w.len();
    h.chunks_exact(d.max(1))
        .zip(w)
        .map(|(row, &a)| if a == 0.0 { 0.0 } else { a * row.iter().zip(w).map(|(x, y)| x * y).sum::<f64>() })
        .sum()
}

/// The X of (A + εI)·X = B for a symmetric A that is not negative, with an ε of rounding's size; `None` when there is none.
pub(super) fn ridge_solve(mut a: Mat<f64>, b: &Mat<f64>) -> Option<Mat<f64>> {
    let n = a.nrows();
    let trace: f64 = (0..n).map(|i| a[(i, i)]).sum();
    let jitter = (1e-10 * trace / n.max(1) as f64).max(f64::MIN_POSITIVE);
    (0..n).for_each(|i| a[(i, i)] += jitter);
    let x = a.llt(Side::Lower).ok()?.solve(b);
    x.is_all_finite().then_some(x)
}

fn finite(w: Vec<f64>) -> Option<Vec<f64>> {
    w.iter().all(|v| v.is_finite()).then_some(w)
}

/// State of optimal-brain-surgeon elimination of whole input channels of one layer (ZipLM, arXiv 2302.04089): removing
/// the columns M of W and refitting the rest raises the output error by tr(W_M ([H⁻¹]_MM)⁻¹ W_Mᵀ).
#[derive(Debug, Clone)]
pub(super) struct Eliminator {
    d: usize,
    o: usize,
    inverse: Vec<f64>,
    w: Vec<f64>,
    /// tr(W·H·Wᵀ), to make losses of different layers comparable.
    energy: f64,
}

impl Eliminator {
    /// `h` are the centred moments of the layer's inputs, `w` its weights (o×d).
    pub(super) fn new(c: &Centred, w: Vec<f64>) -> Option<Self> {
        let (d, inverse) = (c.d, c.inverse()?);
        let energy = w.chunks_exact(d.max(1)).map(|row| quadratic(&c.h, row)).sum::<f64>().max(f64::MIN_POSITIVE);
        Some(Eliminator { d, o: w.len() / d.max(1), inverse, w, energy })
    }

    /// Number of input columns.
    pub(super) fn inputs(&self) -> usize {
        self.d
    }

    /// Relative loss of removing the columns `m` now.
    pub(super) fn loss(&self, m: &[usize]) -> f64 {
        let Some(wm_inv) = self.solve_block(m) else { return f64::INFINITY };
        let mut loss = 0.0;
        for row in 0..self.o {
            loss += m.iter().enumerate().map(|(i, &j)| wm_inv[row * m.len() + i] * self.w[row * self.d + j]).sum::<f64>();
        }
        loss.max(0.0) / self.energy
    }

    /// Removes the columns `m`: the remaining weights and H⁻¹ become those of the smaller problem.
    pub(super) fn remove(&mut self, m: &[usize]) {
        let (d, k) = (self.d, m.len());
        let Some(wm_inv) = self.solve_block(m) else { return };
        let block_rows: Vec<f64> = m.iter().flat_map(|&i| self.inverse[i * d..(i + 1) * d].to_vec()).collect();
        for row in 0..self.o {
            for i in 0..k {
                let a = wm_inv[row * k + i];
                for j in 0..d {
                    self.w[row * d + j] -= a * block_rows[i * d + j];
                }
            }
        }
        if let Some(right) = self.solve_block_matrix(m, &block_rows) {
            for (i, row) in self.inverse.chunks_exact_mut(d).enumerate() {
                for (b, _) in m.iter().enumerate() {
                    let a = block_rows[b * d + i];
                    if a != 0.0 {
                        row.iter_mut().zip(&right[b * d..(b + 1) * d]).for_each(|(x, y)| *x -= a * y);
                    }
                }
            }
        }
        for &j in m {
            for i in 0..d {
                self.inverse[i * d + j] = 0.0;
                self.inverse[j * d + i] = 0.0;
            }
            for row in 0..self.o {
                self.w[row * d + j] = 0.0;
            }
        }
    }

    /// [H⁻¹]_MM as a matrix, with a trace of ridge so that eliminated or dead columns stay solvable.
    fn block(&self, m: &[usize]) -> Mat<f64> {
        let scale = m.iter().map(|&i| self.inverse[i * self.d + i]).fold(0.0, f64::max);
        let jitter = (scale * 1e-10).max(f64::MIN_POSITIVE);
        Mat::from_fn(m.len(), m.len(), |i, j| self.inverse[m[i] * self.d + m[j]] + if i == j { jitter } else { 0.0 })
    }

    /// W_M · ([H⁻¹]_MM)⁻¹, o×k row-major.
    fn solve_block(&self, m: &[usize]) -> Option<Vec<f64>> {
        let k = m.len();
        let rhs = Mat::from_fn(k, self.o, |i, row| self.w[row * self.d + m[i]]);
        let x = self.block(m).llt(Side::Lower).ok()?.solve(&rhs);
        finite((0..self.o * k).map(|i| x[(i % k, i / k)]).collect())
    }

    /// ([H⁻¹]_MM)⁻¹ · rows, k×d row-major.
    fn solve_block_matrix(&self, m: &[usize], rows: &[f64]) -> Option<Vec<f64>> {
        let (k, d) = (m.len(), self.d);
        let x = self.block(m).llt(Side::Lower).ok()?.solve(&Mat::from_fn(k, d, |i, j| rows[i * d + j]));
        finite((0..k * d).map(|i| x[(i / d, i % d)]).collect())
    }
}

#[cfg(test)]
mod tests;
