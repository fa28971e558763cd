//! How sure a front is: bounds that hold for all of its trials at once, and how often each would be on it.
//!
//! A sweep compares dozens of variants with one original. The best of many looks a little better than it is, so a choice must
//! rest on bounds that hold together, not on each trial's own interval.

use super::front::{Point, non_dominated};
use crate::stats::{Confidence, Interval};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bounds that hold together, at 95 %, with those of all other trials of the front (Bonferroni).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// Original minus this, percentage points.
    pub drop_points: Option<Interval>,
    /// Ratio of energy to the reference of the same blocks.
    pub ratio: Option<Interval>,
}

impl Bounds {
    /// From the trial's own 95 % intervals, one of `comparisons`; the ratio's comes from `processes` processes.
    pub(super) fn new(drop_points: Option<Interval>, ratio: Option<Interval>, processes: u64, comparisons: usize) -> Self {
        let shared = Confidence::P95.shared_by(comparisons);
        let degrees = processes.saturating_sub(1) as usize;
        let normal = shared.z() / Confidence::P95.z();
        let student = shared.t(degrees) / Confidence::P95.t(degrees);
        Bounds { drop_points: drop_points.map(|i| widened(i, normal)), ratio: ratio.map(|i| widened_ratio(i, student)) }
    }
}

fn widened(i: Interval, factor: f64) -> Interval {
    Interval { value: i.value, lo: i.value - factor * (i.value - i.lo), hi: i.value + factor * (i.hi - i.value) }
}

/// The same on the logarithms.
fn widened_ratio(i: Interval, factor: f64) -> Interval {
    Interval { value: i.value, lo: i.value * (i.lo / i.value).powf(factor), hi: i.value * (i.hi / i.value).powf(factor) }
}

/// Draws at most, and comparisons of points at most in all draws.
const DRAWS: usize = 1000;
const COMPARISONS: usize = 40_000_000;

/// For each point, the share of draws in which it is on the front of accuracy, energy and size. A draw takes each point's accuracy
/// and the logarithm of its energy from normal distributions whose 95 % intervals are the point's; the size is known. The seed is
/// fixed: the same points have the same shares.
pub(super) fn probabilities(points: &[Point]) -> Vec<f64> {
    let z = Confidence::P95.z();
    let spread = |lo: f64, hi: f64| Some((hi - lo) / (2.0 * z)).filter(|s| s.is_finite()).unwrap_or(0.0);
    let draws = (COMPARISONS / (points.len() * points.len()).max(1)).clamp(20, DRAWS);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut normal = || {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    // What all share cancels: where the drop to the original is known, its own interval counts, which is paired.
    let drops: Option<Vec<Interval>> = points.iter().map(|p| p.drop_points).collect();
    let loss = |(i, p): (usize, &Point)| match &drops {
        Some(drops) => (drops[i].value / 100.0, spread(drops[i].lo, drops[i].hi) / 100.0),
        None => (-p.accuracy.value, spread(p.accuracy.lo, p.accuracy.hi)),
    };
    let energy = |p: &Point| match p.ratio {
        Some(r) => (p.energy.value.ln(), spread(r.lo.ln(), r.hi.ln())),
        None => (p.energy.value.ln(), spread(p.energy.lo.ln(), p.energy.hi.ln())),
    };
    let known: Vec<[(f64, f64); 2]> = points.iter().enumerate().map(|(i, p)| [loss((i, p)), energy(p)]).collect();
    let mut on = vec![0usize; points.len()];
    for _ in 0..draws {
        let costs: Vec<[f64; 3]> = known
            .iter()
            .zip(points)
            .map(|(&[(loss, loss_sd), (energy, energy_sd)], p)| {
                let energy = energy + energy_sd * normal();
                [loss + loss_sd * normal(), if p.offered { energy } else { f64::NAN }, p.model_bytes as f64]
            })
            .collect();
        on.iter_mut().zip(non_dominated(&costs)).for_each(|(n, on)| *n += usize::from(on));
    }
    on.into_iter().map(|n| n as f64 / draws as f64).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::front::fronts;
    use crate::stats::Interval;
    use crate::study::samples::trials;

    #[test]
    fn bounds_are_wider_than_intervals_and_shares_follow_the_front() {
        let all = trials();
        let front = &fronts(&all)[0];
        for p in &front.points {
            let wider = |own: Option<Interval>, all: Option<Interval>| {
                own.zip(all).is_none_or(|(own, all)| all.lo <= own.lo && all.hi >= own.hi && all.value == own.value)
            };
            assert!(wider(p.drop_points, p.bounds.drop_points) && wider(p.ratio, p.bounds.ratio), "{p:?}");
            assert!((0.0..=1.0).contains(&p.probability));
        }
        // The cheapest and smallest by far is on the front whatever the noise.
        let cheapest = front.points.first().unwrap();
        assert!(cheapest.on_front && cheapest.probability > 0.99, "{cheapest:?}");
        let (on, off): (Vec<f64>, Vec<f64>) = {
            let of = |on: bool| front.points.iter().filter(|p| p.on_front == on).map(|p| p.probability).collect();
            (of(true), of(false))
        };
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        assert!(mean(&on) > mean(&off) + 0.2, "{on:?} {off:?}");
        assert_eq!(fronts(&all)[0], *front, "the same every time");
    }

    #[test]
    fn one_comparison_needs_no_more_than_its_own_interval() {
        let own = Interval { value: 0.5, lo: 0.4, hi: 0.625 };
        let alone = super::Bounds::new(Some(own), Some(own), 5, 1);
        let near = |i: Option<Interval>| i.is_some_and(|i| (i.lo - own.lo).abs() < 1e-12 && (i.hi - own.hi).abs() < 1e-12);
        assert!(near(alone.drop_points) && near(alone.ratio));
        let many = super::Bounds::new(Some(own), Some(own), 5, 30).ratio.unwrap();
        assert!((many.lo * many.hi - 0.25).abs() < 1e-9, "as wide to both sides, on the logarithms");
    }
}
