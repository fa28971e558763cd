//! Pure functions on numbers: intervals, quantiles, their coverage.

use serde::{Deserialize, Serialize};

/// A point estimate with a two-sided confidence interval (95 % unless said). The unit is the estimate's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The point estimate.
    pub value: f64,
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}
