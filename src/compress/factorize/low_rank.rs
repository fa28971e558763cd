//! Lower rank: the first of two layers sees what the layer saw and gives r numbers for each output position, of which the second makes
//! the outputs.
//!
//! The best weights of rank r are a reduced-rank regression in closed form: with U the eigenvectors of the outputs' second moments
//! W·H·Wᵀ, largest first, W ← U_r·U_rᵀ·W, and the error is the sum of the eigenvalues left out (Izenman 1975, *Reduced-rank
//! regression for the multivariate linear model*, theorem 1 with the outputs' unweighted error).

use crate::compress::statistics::Centred;
use faer::{Mat, Side};

/// All ranks of one layer.
pub(super) struct LowRank {
    o: usize,
    d: usize,
    /// The layer's weights, outputs × inputs.
    w: Vec<f64>,
    /// Eigenvectors of W·H·Wᵀ as columns, o×o, and their eigenvalues, largest first.
    vectors: Mat<f64>,
    values: Vec<f64>,
}

impl LowRank {
    /// `None` when the eigenvalues are not found.
    pub(super) fn new(c: &Centred, weights: &[f64]) -> Option<Self> {
        let (o, d) = (c.o, c.d);
        let w = Mat::from_fn(o, d, |i, j| weights[i * d + j]);
        let h = Mat::from_fn(d, d, |i, j| c.h[i * d + j]);
        let moments = &w * &h * w.transpose();
        let eigen = moments.self_adjoint_eigen(Side::Lower).ok()?;
        let (u, s) = (eigen.U(), eigen.S());
        let vectors = Mat::from_fn(o, o, |i, j| u[(i, o - 1 - j)]);
        let values = (0..o).map(|j| s[o - 1 - j].max(0.0)).collect();
        Some(LowRank { o, d, w: weights.to_vec(), vectors, values })
    }

    /// Squared error of the outputs at a rank.
    pub(super) fn error(&self, rank: usize) -> f64 {
        self.values.iter().skip(rank).sum()
    }

    /// U_rᵀ·W, r×d.
    pub(super) fn first(&self, rank: usize) -> Vec<f64> {
        let dot = |r: usize, j: usize| (0..self.o).map(|i| self.vectors[(i, r)] * self.w[i * self.d + j]).sum::<f64>();
        (0..rank * self.d).map(|i| dot(i / self.d, i % self.d)).collect()
    }

    /// U_r, o×r.
    pub(super) fn second(&self, rank: usize) -> Vec<f64> {
        (0..self.o * rank).map(|i| self.vectors[(i / rank, i % rank)]).collect()
    }

    /// U_r·U_rᵀ·W, o×d.
    pub(super) fn product(&self, rank: usize) -> Vec<f64> {
        let (first, second) = (self.first(rank), self.second(rank));
        let dot = |i: usize, j: usize| (0..rank).map(|r| second[i * rank + r] * first[r * self.d + j]).sum::<f64>();
        (0..self.o * self.d).map(|i| dot(i / self.d, i % self.d)).collect()
    }
}
