//! The confidence level and the quantiles that belong to it.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Two-sided confidence level, strictly between 0 and 1.
///
/// ```
/// use joulefront::stats::Confidence;
/// assert!((Confidence::P95.z() - 1.959964).abs() < 1e-6);
/// assert!((Confidence::P95.t(4) - 2.776445).abs() < 1e-6);
/// assert!(Confidence::new(1.0).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence(f64);

impl Confidence {
    /// 95 %, the level of every figure unless said.
    pub const P95: Confidence = Confidence(0.95);

    /// 99 %, for diagnoses.
    pub const P99: Confidence = Confidence(0.99);

    /// `level` as a share; `None` outside (0, 1).
    pub fn new(level: f64) -> Option<Self> {
        (level > 0.0 && level < 1.0).then_some(Confidence(level))
    }

    /// The level of each of `statements` intervals that together hold with this confidence (Bonferroni's inequality: no
    /// assumption about how they depend on each other).
    #[must_use]
    pub fn shared_by(self, statements: usize) -> Self {
        // The upper bound keeps the level below 1 in f64 for any count.
        Confidence((1.0 - (1.0 - self.0) / statements.max(1) as f64).min(1.0 - 1e-12))
    }

    /// The level as a share.
    pub fn level(self) -> f64 {
        self.0
    }

    /// Quantile of the standard normal distribution that leaves half of the rest on each side.
    pub fn z(self) -> f64 {
        Normal::standard().inverse_cdf(self.upper())
    }

    /// The same quantile of Student's t distribution with `degrees` ≥ 1 degrees of freedom (0 is taken as 1).
    pub fn t(self, degrees: usize) -> f64 {
        StudentsT::new(0.0, 1.0, degrees.max(1) as f64).map_or_else(|_| self.z(), |d| d.inverse_cdf(self.upper()))
    }

    fn upper(self) -> f64 {
        0.5 + self.0 / 2.0
    }
}
