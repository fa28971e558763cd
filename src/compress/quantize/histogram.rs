//! How a tensor's values are distributed over all calibration samples, in constant memory.

use crate::{Error, Result};

/// Bins at most. The range uses more than half of them, so that 256 steps over it span at least four bins each.
pub(super) const BINS: usize = 2048;

/// With bins of 2⁻¹⁶⁰ the smallest float32 above zero, 2⁻¹⁴⁹, ends the last one.
const LEAST_EXPONENT: i32 = -160;

/// Counts of values in bins of width 2ᵉ whose edges are multiples of it; exact zeros are counted apart, as every quantizer
/// represents them exactly.
///
/// The width is the smallest power of two with which the range from min(0, least) to max(0, greatest value) takes no more than
/// [`BINS`] bins. When the range grows, bins are joined in pairs until it fits. As joined bins hold exactly what wider ones
/// would have counted, a histogram is a function of the values alone: not of their order, nor of the parts they came in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    exponent: i32,
    /// Index of the first bin: it begins at `first`·2ᵉ.
    first: i64,
    counts: Vec<u64>,
    zeros: u64,
    min: f32,
    max: f32,
}

impl Histogram {
    /// Of no values.
    pub(super) fn new() -> Self {
        Histogram { exponent: LEAST_EXPONENT, first: 0, counts: vec![0], zeros: 0, min: 0.0, max: 0.0 }
    }

    /// Counts `values`.
    ///
    /// # Errors
    /// One of them is not finite; nothing is counted then.
    #[cfg(test)]
    pub(super) fn add(&mut self, values: &[f32]) -> Result<()> {
        self.add_every(values, 1)
    }

    /// Takes `values` into the range, and counts each `step`th of them.
    ///
    /// # Errors
    /// One of them is not finite; nothing is counted then.
    pub(super) fn add_every(&mut self, values: &[f32], step: usize) -> Result<()> {
        self.widen(values)?;
        if step > 1 {
            let some: Vec<f32> = values.iter().step_by(step).copied().collect();
            self.count(&some);
        } else {
            self.count(values);
        }
        Ok(())
    }

    /// Takes `values` into the range without counting them.
    ///
    /// # Errors
    /// One of them is not finite; the range is as it was then.
    pub(super) fn widen(&mut self, values: &[f32]) -> Result<()> {
        let seen = Ends::of(values);
        if !seen.finite
            && let Some(bad) = values.iter().find(|v| !v.is_finite())
        {
            return Err(Error::bad_input(format!("a value is {bad}")));
        }
        self.cover(seen.low, seen.high);
        Ok(())
    }

    /// Counts values within the range.
    fn count(&mut self, values: &[f32]) {
        // Zeros are counted with the others first: a branch for them would be guessed wrongly every other time behind a Relu.
        let zeros = values.iter().filter(|v| **v == 0.0).count() as u64;
        let zero = usize::try_from(-self.first).unwrap_or(0);
        match u32::try_from(-self.exponent).ok().filter(|e| *e < 127) {
            Some(_) => count(&mut self.counts, values, power_of_two(-self.exponent) as f32, self.first as i32),
            None => {
                let (per_unit, first) = (power_of_two(-self.exponent), self.first);
                // Within, as the range covers it; multiplying by a power of two is exact.
                values.iter().for_each(|&v| self.counts[((f64::from(v) * per_unit).floor() as i64 - first) as usize] += 1);
            }
        }
        self.counts[zero] -= zeros;
        self.zeros += zeros;
    }

    /// Adds the counts of other values of the same tensor, or of one that shares its code.
    pub(super) fn merge(&mut self, other: &Histogram) {
        self.cover(other.min, other.max);
        self.zeros += other.zeros;
        let shift = (self.exponent - other.exponent).min(63) as u32;
        for (i, &count) in other.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            self.counts[(((other.first + i as i64) >> shift) - self.first) as usize] += count;
        }
    }

    /// Widens range and bins so that `low` ≤ 0 and `high` ≥ 0 have a bin.
    fn cover(&mut self, low: f32, high: f32) {
        (self.min, self.max) = (self.min.min(low), self.max.max(high));
        let ends = |exponent: i32| {
            let per_unit = power_of_two(-exponent);
            ((f64::from(self.min) * per_unit).floor(), (f64::from(self.max) * per_unit).floor())
        };
        let mut exponent = self.exponent;
        let (first, last) = loop {
            let (first, last) = ends(exponent);
            if last - first < BINS as f64 {
                break (first as i64, last as i64);
            }
            exponent += 1;
        };
        if exponent == self.exponent && first == self.first && last < self.first + self.counts.len() as i64 {
            return;
        }
        let shift = (exponent - self.exponent).min(63) as u32;
        let mut counts = vec![0; (last - first + 1) as usize];
        for (i, &count) in self.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            counts[(((self.first + i as i64) >> shift) - first) as usize] += count;
        }
        (self.exponent, self.first, self.counts) = (exponent, first, counts);
    }

    /// The smallest value and the greatest, or 0 where all values are above or below it.
    pub(super) fn range(&self) -> (f32, f32) {
        (self.min, self.max)
    }

    /// Values that are not exactly zero, bin by bin from the lowest.
    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many bins lie below zero.
    pub(super) fn below_zero(&self) -> usize {
        // The range holds 0, so the first bin begins at or below it.
        usize::try_from(-self.first).unwrap_or(0)
    }

    /// Where bin `index` begins.
    pub(super) fn edge(&self, index: usize) -> f64 {
        (self.first + index as i64) as f64 * power_of_two(self.exponent)
    }

    /// The number of values.
    pub(super) fn total(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }
}

/// What one pass over values tells.
struct Ends {
    low: f32,
    high: f32,
    finite: bool,
}

impl Ends {
    /// In lanes, so that it runs on vectors.
    fn of(values: &[f32]) -> Self {
        const LANES: usize = 16;
        let (mut low, mut high, mut odd) = ([0.0f32; LANES], [0.0f32; LANES], [0u32; LANES]);
        let (whole, rest) = values.as_chunks::<LANES>();
        for lane in whole {
            for (i, &v) in lane.iter().enumerate() {
                low[i] = if v < low[i] { v } else { low[i] };
                high[i] = if v > high[i] { v } else { high[i] };
                odd[i] |= u32::from(!v.is_finite());
            }
        }
        let finite = odd.iter().all(|&o| o == 0) && rest.iter().all(|v| v.is_finite());
        let (low, high) = (low.iter().chain(rest).copied().fold(0.0, f32::min), high.iter().chain(rest).copied().fold(0.0, f32::max));
        Ends { low, high, finite }
    }
}

/// Counts values whose bins are known to exist, `per_unit` at least 1: then the product with a power of two is exact.
fn count(counts: &mut [u64], values: &[f32], per_unit: f32, first: i32) {
    // Neighbouring values often fall into one bin: each of four takes a count of its own, so that none waits for another.
    const APART: usize = 4;
    let bins = counts.len();
    let mut apart = vec![0u32; APART * bins];
    let bin = |v: f32| {
        let x = v * per_unit;
        // Floor without a call: truncated, and one less where that went up.
        let whole = x as i32;
        (whole - i32::from(x < whole as f32) - first) as usize
    };
    for run in values.chunks(1 << 30) {
        let (whole, rest) = run.as_chunks::<APART>();
        for four in whole {
            for (i, &v) in four.iter().enumerate() {
                apart[i * bins + bin(v)] += 1;
            }
        }
        rest.iter().for_each(|&v| apart[bin(v)] += 1);
        for counted in apart.chunks_exact_mut(bins) {
            counts.iter_mut().zip(&*counted).for_each(|(count, &c)| *count += u64::from(c));
            counted.fill(0);
        }
    }
}

fn power_of_two(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f32]) -> Histogram {
        let mut h = Histogram::new();
        h.add(values).unwrap();
        h
    }

    /// Values of all magnitudes and both signs, zeros among them.
    fn values() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![
            3 => -1.0f32..1.0,
            1 => (-1.0f32..1.0, -40i32..38).prop_map(|(v, e)| v * 10f32.powi(e)),
            1 => Just(0.0f32),
            1 => prop_oneof![Just(f32::MAX), Just(f32::MIN), Just(f32::MIN_POSITIVE), Just(-1e-45f32), Just(1e-45f32), Just(-0.0f32)],
        ];
        prop::collection::vec(value, 0..200)
    }

    proptest! {
        #[test]
        fn parts_in_any_order_give_the_histogram_of_the_whole(values in values(), cuts in prop::collection::vec(0usize..200, 0..4)) {
            let whole = of(&values);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(values.len())).chain([0, values.len()]).collect();
            cuts.sort_unstable();
            let parts: Vec<Histogram> = cuts.windows(2).map(|w| of(&values[w[0]..w[1]])).collect();
            let (mut forwards, mut backwards, mut streamed) = (Histogram::new(), Histogram::new(), Histogram::new());
            parts.iter().for_each(|p| forwards.merge(p));
            parts.iter().rev().for_each(|p| backwards.merge(p));
            values.iter().for_each(|&v| streamed.add(&[v]).unwrap());
            prop_assert_eq!(&forwards, &whole);
            prop_assert_eq!(&backwards, &whole);
            prop_assert_eq!(&streamed, &whole);
        }

        #[test]
        fn every_value_is_counted_in_the_bin_that_holds_it(values in values()) {
            let h = of(&values);
            prop_assert_eq!(h.total(), values.len() as u64);
            prop_assert!(h.counts().len() <= BINS);
            for (i, &count) in h.counts().iter().enumerate() {
                let inside = |v: &&f32| **v != 0.0 && h.edge(i) <= f64::from(**v) && f64::from(**v) < h.edge(i + 1);
                prop_assert_eq!(values.iter().filter(inside).count() as u64, count);
            }
        }

        #[test]
        fn the_range_takes_more_than_half_of_the_bins(values in prop::collection::vec(-1.0f32..1.0, 1..100), scale in 1e-30f32..1e30) {
            let h = of(&values.iter().map(|v| v * scale).collect::<Vec<_>>());
            let (min, max) = h.range();
            prop_assert!(min == max || h.counts().len() >= BINS / 2, "{}", h.counts().len());
        }
    }

    #[test]
    fn bins_are_powers_of_two_with_an_edge_at_zero() {
        let h = of(&[-1.0, -0.25, 0.0, 0.0, 0.25, 2.75]);
        assert_eq!((h.range(), h.total(), h.below_zero()), ((-1.0, 2.75), 6, 512));
        assert_eq!((h.edge(0), h.edge(512), h.edge(513)), (-1.0, 0.0, 1.0 / 512.0));
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let mut h = Histogram::new();
        assert!(h.add(&[1.0, f32::NAN]).unwrap_err().to_string().contains("a value is NaN"));
        assert!(h.add(&[f32::INFINITY]).is_err());
        assert_eq!(h, Histogram::new());
    }
}
