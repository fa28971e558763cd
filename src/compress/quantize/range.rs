//! The range of real numbers that an activation's integers cover, from how its values are distributed.
//!
//! `tests/fixtures/scripts/ranges.py` states the same methods with NumPy; its answers are the tests' reference.

use super::histogram::Histogram;
use crate::compress::activation::{Bounds, UNBOUNDED};
use crate::model::{Levels, Quantized, Storage};
use crate::recipe::ActivationRange;
use crate::{Error, Result};

/// Integers of 8 bits.
const LEVELS: usize = 256;

/// Share of the values outside the range by [`ActivationRange::Percentile`], half of them at either end.
const OUTSIDE: f64 = 1e-4;

/// Ranges that [`ActivationRange::Mse`] and [`ActivationRange::Entropy`] try at each end: this many shares of the whole, evenly.
const CANDIDATES: u32 = 128;

/// The probability that [`entropy`] takes for values that the quantized distribution lacks: the divergence stays finite.
const LEAST_PROBABILITY: f64 = 1e-9;

/// The least and the greatest number that should be represented, at most 0 and at least 0.
pub(super) fn range(h: &Histogram, method: ActivationRange) -> (f32, f32) {
    match method {
        ActivationRange::MinMax => h.range(),
        ActivationRange::Percentile => percentile(h),
        ActivationRange::Mse => least_squares(h),
        ActivationRange::Entropy => entropy(h),
    }
}

/// Unsigned 8-bit integers over the range: scale (high − low)/255, with the zero point rounded so that 0 is an integer's
/// number. No integer's number lies outside `bounds`, which must hold 0: rounding the zero point may push one out, then the
/// scale shrinks.
///
/// # Errors
/// The range is so small that the scale vanishes.
pub(super) fn code((low, high): (f32, f32), bounds: Bounds) -> Result<Quantized> {
    let (low, high) = (low.max(bounds.0).min(0.0), high.min(bounds.1).max(0.0));
    let steps = (LEVELS - 1) as f64;
    // All values are zero: any scale will do.
    let wanted = if low == high { 1.0 } else { (f64::from(high) - f64::from(low)) / steps };
    let zero = (f64::from(-low) / wanted).round_ties_even().clamp(0.0, steps);
    let mut scale = wanted as f32;
    for (end, levels) in [(f64::from(bounds.0).abs(), zero), (f64::from(bounds.1).abs(), steps - zero)] {
        if levels * f64::from(scale) > end {
            scale = (end / levels) as f32;
            if levels * f64::from(scale) > end {
                scale = scale.next_down();
            }
        }
    }
    if scale < f32::MIN_POSITIVE {
        return Err(Error::bad_input(format!("its values, {low} to {high}, are too small to be quantized")));
    }
    // At most 255.
    let zero = zero as i32;
    Quantized::new(Storage::U8, Levels::of_bits(Storage::U8, 8)?, crate::model::Granularity::Tensor, vec![scale], vec![zero])
}

/// All but the outermost bins that together hold no more than the share [`OUTSIDE`].
fn percentile(h: &Histogram) -> (f32, f32) {
    let (min, max) = h.range();
    let most = h.total() as f64 * OUTSIDE / 2.0;
    // The first bin, counted from one end, with which more than that many values are reached.
    let reached = |from_end: &mut dyn Iterator<Item = usize>| {
        let mut sum = 0u64;
        for i in from_end {
            sum += h.counts()[i];
            if sum as f64 > most {
                return Some(i);
            }
        }
        None
    };
    // Zeros lie between both ends, which are held at 0 at least.
    let bins = 0..h.counts().len();
    let low = reached(&mut bins.clone()).map_or(0.0, |i| h.edge(i) as f32);
    let high = reached(&mut bins.rev()).map_or(0.0, |i| h.edge(i + 1) as f32);
    (low.min(0.0).max(min), high.max(0.0).min(max))
}

/// The range with the least squared error of its code over the values, each taken as its bin's middle: the upper end is
/// searched for the whole lower one, then the lower end, and both once more.
fn least_squares(h: &Histogram) -> (f32, f32) {
    let (min, max) = h.range();
    let middles: Vec<(f64, f64)> = (h.counts().iter().enumerate().filter(|(_, c)| **c > 0))
        .map(|(i, &count)| ((f64::midpoint(h.edge(i), h.edge(i + 1))).clamp(f64::from(min), f64::from(max)), count as f64))
        .collect();
    let error = |(low, high): (f32, f32)| -> f64 {
        let Ok(code) = code((low, high), UNBOUNDED) else { return f64::INFINITY };
        let (scale, zero) = (f64::from(code.scales()[0]), f64::from(code.zero_points()[0]));
        let given = |x: f64| ((x / scale).round_ties_even() + zero).clamp(0.0, (LEVELS - 1) as f64);
        middles.iter().map(|&(x, count)| count * (x - (given(x) - zero) * scale).powi(2)).sum()
    };
    let best = |ranges: &mut dyn Iterator<Item = (f32, f32)>| {
        ranges.map(|r| (error(r), r)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or((min, max), |(_, r)| r)
    };
    // The whole first: of equal ranges it is kept.
    let shares = || (1..=CANDIDATES).rev().map(|i| i as f32 / CANDIDATES as f32);
    let mut found = (min, max);
    for _ in 0..2 {
        if max > 0.0 {
            found = best(&mut shares().map(|s| (found.0, max * s)));
        }
        if min < 0.0 {
            found = best(&mut shares().map(|s| (min * s, found.1)));
        }
    }
    found
}

/// The range whose quantized distribution tells most about the distribution of the values: the least Kullback–Leibler
/// divergence Σ p·ln(p/q) over shares of the whole range, both ends alike (Migacz, *8-bit inference with TensorRT*, GTC 2017).
///
/// p are the bins within the range, the values outside added to the outermost ones; q are the same bins without those,
/// joined in 256 groups whose sums are spread evenly over their bins that are not empty. Exact zeros are in neither.
fn entropy(h: &Histogram) -> (f32, f32) {
    let (min, max) = h.range();
    let (below, all) = (h.below_zero(), h.counts().len());
    let mut best = (f64::INFINITY, (min, max));
    for i in (1..=CANDIDATES).rev() {
        let share = |bins: usize| (bins * i as usize).div_ceil(CANDIDATES as usize);
        let (first, end) = (below - share(below), below + share(all - below));
        if end - first < LEVELS && i < CANDIDATES {
            break;
        }
        let divergence = divergence(h.counts(), first, end);
        if divergence < best.0 {
            best = (divergence, ((h.edge(first) as f32).max(min), (h.edge(end) as f32).min(max)));
        }
    }
    best.1
}

/// Σ p·ln(p/q) of the bins `first..end`.
fn divergence(counts: &[u64], first: usize, end: usize) -> f64 {
    let sum = |part: &[u64]| part.iter().sum::<u64>() as f64;
    let inside = &counts[first..end];
    let (total, covered) = (sum(counts), sum(inside));
    let mut p: Vec<f64> = inside.iter().map(|&c| c as f64).collect();
    if let Some(lowest) = p.first_mut() {
        *lowest += sum(&counts[..first]);
    }
    if let Some(highest) = p.last_mut() {
        *highest += sum(&counts[end..]);
    }
    let mut divergence = 0.0;
    for group in 0..LEVELS {
        let bins = inside.len() * group / LEVELS..inside.len() * (group + 1) / LEVELS;
        let occupied = inside[bins.clone()].iter().filter(|c| **c > 0).count().max(1);
        let even = sum(&inside[bins.clone()]) / occupied as f64 / covered.max(1.0);
        for i in bins.filter(|&i| p[i] > 0.0) {
            let q = if inside[i] > 0 { even } else { LEAST_PROBABILITY };
            divergence += p[i] / total * (p[i] / total / q).ln();
        }
    }
    divergence
}

#[cfg(test)]
mod tests;
