//! Pure functions on numbers: intervals, quantiles, their coverage.
//!
//! Intervals are `None` where the data cannot carry one (no sample, a single cluster, a value that is not a number); they
//! are never NaN or infinite. What they assume stands at each function; the tests simulate their coverage.

mod classify;
mod compare;
mod confidence;
mod proportion;
mod quality;
mod quantile;
mod ratio;

pub use classify::{ClassScore, Confused, Scores, accuracy_difference, agreement, top_classes};
pub use compare::{Comparison, Verdict, compare, compare_read, outliers, trend};
pub use confidence::Confidence;
pub use proportion::{paired_difference, paired_difference_at, wilson, wilson_at};
pub use quality::{Quality, ScoreKind, Tally, TopK};
pub use quantile::quantile;
pub use ratio::{cluster_ratio, cluster_ratio_at, log_ratio, log_ratio_at};

use serde::{Deserialize, Deserializer, Serialize};

/// A point estimate with a two-sided confidence interval (95 % unless said). The unit is the estimate's. JSON has no
/// infinity: an end without a bound is written as `null` and read back as such.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The point estimate.
    pub value: f64,
    /// Lower end.
    #[serde(deserialize_with = "unbounded_below")]
    pub lo: f64,
    /// Upper end.
    #[serde(deserialize_with = "unbounded_above")]
    pub hi: f64,
}

impl Interval {
    /// `value ± half`, or `None` when either is not finite.
    fn around(value: f64, half: f64) -> Option<Self> {
        Interval { value, lo: value - half, hi: value + half }.finite()
    }

    fn finite(self) -> Option<Self> {
        (self.value.is_finite() && self.lo.is_finite() && self.hi.is_finite()).then_some(self)
    }

    /// With another, independent uncertainty of half-width `half` (at the same confidence, in the same unit) beside that of the
    /// interval: variances add up.
    ///
    /// ```
    /// use joulefront::stats::Interval;
    /// let i = Interval { value: 10.0, lo: 7.0, hi: 13.0 }.widened(4.0);
    /// assert_eq!((i.lo, i.hi), (5.0, 15.0));
    /// ```
    #[must_use]
    pub fn widened(self, half: f64) -> Self {
        let Interval { value, lo, hi } = self;
        Interval { value, lo: value - (value - lo).hypot(half), hi: value + (hi - value).hypot(half) }
    }

    /// [`Interval::widened`] of a ratio: `half` is that of its natural logarithm. The interval must lie above zero.
    #[must_use]
    pub fn widened_log(self, half: f64) -> Self {
        let Interval { lo, hi, .. } = Interval { value: self.value.ln(), lo: self.lo.ln(), hi: self.hi.ln() }.widened(half);
        // Without a second uncertainty the ends stay as they are, to the last bit.
        if half == 0.0 { self } else { Interval { value: self.value, lo: lo.exp(), hi: hi.exp() } }
    }

    /// Whether `x` lies between the ends, which belong to the interval.
    pub fn contains(&self, x: f64) -> bool {
        (self.lo..=self.hi).contains(&x)
    }
}

fn unbounded_below<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NEG_INFINITY))
}

fn unbounded_above<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::INFINITY))
}

#[cfg(test)]
mod coverage;
