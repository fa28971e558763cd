//! Depthwise-separable: each input channel is filtered by a few kernels of its own (depthwise), and the outputs are sums of what they
//! give (pointwise), W[o, i, ·] ≈ Σ_m P[o, i, m]·D[i, m, ·].
//!
//! It starts from the kernels that carry most of each channel's part of the outputs, and improves in turns: the pointwise weights for given
//! kernels are a least-squares problem, and so are the kernels of one channel when everything else is given.

use crate::compress::least_squares::ridge_solve;
use crate::compress::statistics::Centred;
use faer::{Mat, Side};

/// Rounds of improvement.
const ROUNDS: usize = 4;

/// The two layers' weights.
#[derive(Debug, Clone)]
pub(super) struct Separable {
    channels: usize,
    multiplier: usize,
    taps: usize,
    /// Channels · multiplier × taps.
    pub(super) depthwise: Vec<f64>,
    /// Outputs × channels · multiplier.
    pub(super) pointwise: Vec<f64>,
    /// Squared error of the outputs.
    pub(super) error: f64,
}

impl Separable {
    /// For the moments of a convolution's inputs (columns channel by channel) and its `weights` (outputs × inputs). `None` when a
    /// system has no solution.
    pub(super) fn fit(c: &Centred, weights: &[f64], channels: usize, multiplier: usize) -> Option<Self> {
        let (o, d) = (c.o, c.d);
        let taps = d / channels.max(1);
        let w = Mat::from_fn(o, d, |i, j| weights[i * d + j]);
        let r = c.ridge();
        let h = Mat::from_fn(d, d, |i, j| c.h[i * d + j] + if i == j { r } else { 0.0 });
        let mut kernels = Mat::zeros(channels * multiplier, taps);
        for channel in 0..channels {
            // Kernels that span most of the channel's outputs W·x: leading eigenvectors of Lᵀ·WᵀW·L, with H = L·Lᵀ, carried back by L⁻ᵀ.
            let (first, own) = (channel * taps, w.subcols(channel * taps, taps));
            let lower = h.submatrix(first, first, taps, taps).llt(Side::Lower).ok()?;
            let lower = lower.L();
            let seen = lower.transpose() * (own.transpose() * own) * lower;
            let eigen = seen.self_adjoint_eigen(Side::Lower).ok()?;
            for m in 0..multiplier.min(taps) {
                // The best rank-m factor of Wᵢ·L has rows Uᵀ, so kernels are Uᵀ·L⁻¹.
                let row = Mat::from_fn(taps, 1, |k, _| eigen.U()[(k, taps - 1 - m)]);
                let mut kernel = row;
                faer::linalg::triangular_solve::solve_upper_triangular_in_place(lower.transpose(), kernel.as_mut(), faer::Par::Seq);
                for k in 0..taps {
                    kernels[(channel * multiplier + m, k)] = kernel[(k, 0)];
                }
            }
        }
        let g = &w * &h;
        let mut found = Factors { taps, multiplier, kernels, points: Mat::zeros(o, channels * multiplier) };
        found.fit_points(&h, &g)?;
        for _ in 0..ROUNDS {
            found.fit_kernels(&h, &g)?;
            found.fit_points(&h, &g)?;
        }
        let off = &w - found.product();
        let spread = &off * &h;
        let error = (0..o).map(|i| (0..d).map(|j| off[(i, j)] * spread[(i, j)]).sum::<f64>().max(0.0)).sum();
        let Factors { kernels, points, .. } = found;
        let rows = |m: &Mat<f64>| (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| m[(i, j)])).collect::<Vec<f64>>();
        Some(Separable { channels, multiplier, taps, depthwise: rows(&kernels), pointwise: rows(&points), error })
    }

    /// Outputs × inputs.
    pub(super) fn product(&self) -> Vec<f64> {
        let (between, taps) = (self.channels * self.multiplier, self.taps);
        let mut w = Vec::with_capacity(self.pointwise.len() / self.multiplier * taps);
        for points in self.pointwise.chunks_exact(between) {
            for (channel, points) in points.chunks_exact(self.multiplier).enumerate() {
                let kernels = &self.depthwise[channel * self.multiplier * taps..];
                w.extend((0..taps).map(|k| points.iter().enumerate().map(|(m, p)| p * kernels[m * taps + k]).sum::<f64>()));
            }
        }
        w
    }
}

/// Both layers' weights while they improve.
struct Factors {
    taps: usize,
    multiplier: usize,
    /// channels·multiplier × taps.
    kernels: Mat<f64>,
    /// o × channels·multiplier.
    points: Mat<f64>,
}

impl Factors {
    /// The kernels as a matrix from inputs to what is between, channels·multiplier × d.
    fn spread(&self) -> Mat<f64> {
        let (between, taps) = (self.kernels.nrows(), self.taps);
        Mat::from_fn(between, between / self.multiplier * taps, |r, j| {
            if j / taps == r / self.multiplier { self.kernels[(r, j % taps)] } else { 0.0 }
        })
    }

    fn product(&self) -> Mat<f64> {
        &self.points * self.spread()
    }

    /// P = G·Dᵀ·(D·H·Dᵀ)⁻¹.
    fn fit_points(&mut self, h: &Mat<f64>, g: &Mat<f64>) -> Option<()> {
        let spread = self.spread();
        let moments = &spread * h * spread.transpose();
        let wanted = &spread * g.transpose();
        self.points = ridge_solve(moments, &wanted)?.transpose().to_owned();
        Some(())
    }

    /// One channel's kernels after the other: with P_i its columns of P and R = G − W̃·H what is missing, (P_iᵀP_i)·D_i·H_ii = P_iᵀ·(R_i +
    /// P_i·D_i·H_ii).
    fn fit_kernels(&mut self, h: &Mat<f64>, g: &Mat<f64>) -> Option<()> {
        let (taps, m) = (self.taps, self.multiplier);
        let mut missing = g - self.product() * h;
        for channel in 0..self.kernels.nrows() / m {
            let points = self.points.subcols(channel * m, m).to_owned();
            let rows = h.subrows(channel * taps, taps).to_owned();
            let own = rows.subcols(channel * taps, taps).to_owned();
            let old = self.kernels.subrows(channel * m, m).to_owned();
            let wanted = points.transpose() * (missing.subcols(channel * taps, taps) + &points * &old * &own);
            let half = ridge_solve(points.transpose() * &points, &wanted)?;
            let new = ridge_solve(own, &half.transpose().to_owned())?.transpose().to_owned();
            missing -= &points * (&new - &old) * rows;
            self.kernels.subrows_mut(channel * m, m).copy_from(&new);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::compress::statistics::Moments;
    use proptest::prelude::*;

    fn values(count: usize, seed: u32) -> Vec<f32> {
        let value = |i: usize| ((i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0;
        (0..count).map(value).collect()
    }

    fn moments(d: usize, o: usize, seed: u32) -> Centred {
        let mut moments = Moments::new(d, o);
        moments.add(&values(300 * d, seed), &values(300 * o, seed + 1)).unwrap();
        moments.centred().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        /// What is separable is found exactly.
        #[test]
        fn a_separable_layer_is_recovered(seed in 0u32..1000, multiplier in 1usize..3) {
            let (channels, taps, o) = (3, 5, 7);
            let made = Separable {
                channels, multiplier, taps,
                depthwise: values(channels * multiplier * taps, seed).iter().map(|&v| f64::from(v)).collect(),
                pointwise: values(o * channels * multiplier, seed + 9).iter().map(|&v| f64::from(v)).collect(),
                error: 0.0,
            };
            let w = made.product();
            let found = Separable::fit(&moments(channels * taps, o, seed), &w, channels, multiplier).unwrap();
            for (a, b) in found.product().iter().zip(&w) {
                prop_assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
            prop_assert!(found.error < 1e-6);
        }

        /// More kernels a channel are never worse, and as many as a kernel has elements are no approximation.
        #[test]
        fn the_error_falls_with_the_multiplier(seed in 0u32..1000) {
            let (channels, taps, o) = (3, 4, 6);
            let c = moments(channels * taps, o, seed);
            let w: Vec<f64> = values(o * channels * taps, seed).iter().map(|&v| f64::from(v)).collect();
            let errors: Vec<f64> = (1..=taps).map(|m| Separable::fit(&c, &w, channels, m).unwrap().error).collect();
            prop_assert!(errors.windows(2).all(|e| e[1] <= e[0] + 1e-6), "{errors:?}");
            prop_assert!(errors[taps - 1] < 1e-6, "{errors:?}");
        }
    }
}
