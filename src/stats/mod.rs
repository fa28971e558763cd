//! Pure functions on numbers: intervals, quantiles, their coverage.

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

fn unbounded_below<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NEG_INFINITY))
}

fn unbounded_above<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::INFINITY))
}
