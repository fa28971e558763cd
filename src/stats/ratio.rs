//! Intervals for energy and time per inference, and for their ratios, from few fresh processes.

use super::{Confidence, Interval};

/// ΣE/ΣN over independent clusters, one pair (ΣE, ΣN) per cluster, with a 95 % interval. The unit is E's per N's.
///
/// The cluster is the fresh process: windows within one process are correlated and share its memory layout, so all of a
/// process counts as one draw, whatever the number of its windows. Variance by linearisation,
/// `s² = K/(K−1) · Σ (E_k − R·N_k)² / (ΣN)²` (Cochran, *Sampling Techniques*, 3rd ed. 1977, §6.3, eq. 6.13 without finite
/// population), and Student's t with K−1 degrees of freedom.
///
/// E may be negative (net energy near idle); every N must be positive. `None` with fewer than two clusters.
///
/// ```
/// use joulefront::stats::cluster_ratio;
/// let i = cluster_ratio(&[(1.0, 100.0), (1.1, 100.0), (0.9, 100.0)]).unwrap();
/// assert!((i.value - 0.01).abs() < 1e-12 && i.lo < 0.009 && i.hi > 0.011);
/// assert!(cluster_ratio(&[(1.0, 100.0)]).is_none());
/// ```
pub fn cluster_ratio(pairs: &[(f64, f64)]) -> Option<Interval> {
    cluster_ratio_at(Confidence::P95, pairs)
}

/// [`cluster_ratio`] at another confidence.
pub fn cluster_ratio_at(confidence: Confidence, pairs: &[(f64, f64)]) -> Option<Interval> {
    if pairs.len() < 2 || !pairs.iter().all(|&(e, n)| e.is_finite() && n > 0.0) {
        return None;
    }
    let clusters = pairs.len() as f64;
    let (sum_e, sum_n) = pairs.iter().fold((0.0, 0.0), |(e, n), p| (e + p.0, n + p.1));
    let ratio = sum_e / sum_n;
    let squares: f64 = pairs.iter().map(|&(e, n)| ((e - ratio * n) / sum_n).powi(2)).sum();
    let error = (clusters / (clusters - 1.0) * squares).sqrt();
    Interval::around(ratio, confidence.t(pairs.len() - 1) * error)
}

/// The geometric mean of `rounds` with a 95 % interval: Student's t on the logarithms, exponentiated.
///
/// Each element is one round's ratio of a configuration to the reference that ran in the same round. Rounds must be
/// independent: one per fresh process of each side, or average the logarithms within a process first. Heat and load that
/// both sides of a round share cancel. `None` with fewer than two rounds or a ratio that is not a positive number.
pub fn log_ratio(rounds: &[f64]) -> Option<Interval> {
    log_ratio_at(Confidence::P95, rounds)
}

/// [`log_ratio`] at another confidence.
pub fn log_ratio_at(confidence: Confidence, rounds: &[f64]) -> Option<Interval> {
    if rounds.len() < 2 || !rounds.iter().all(|&r| r > 0.0 && r.is_finite()) {
        return None;
    }
    let n = rounds.len() as f64;
    let mean = rounds.iter().map(|r| r.ln()).sum::<f64>() / n;
    let variance = rounds.iter().map(|r| (r.ln() - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = confidence.t(rounds.len() - 1) * (variance / n).sqrt();
    Interval { value: mean.exp(), lo: (mean - half).exp(), hi: (mean + half).exp() }.finite()
}
