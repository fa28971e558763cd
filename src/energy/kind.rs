//! What a figure of energy is: how it came about and how much of the machine it covers.

use crate::units::Joules;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a figure came about. Kinds never mix in one front, ratio or gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Read from the real kernel interface or a device.
    Measured,
    /// Computed from CPU time.
    Estimated,
    /// Read from a tree or counter that a flag, a test or a mount put there.
    Simulated,
    /// Divided up from a larger figure.
    Apportioned,
}

/// How much of the machine a meter sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Scope {
    Wall,
    /// What a board draws at its input rail, or a whole computer behind its power supply.
    Board,
    Battery,
    PackageDram,
    Package,
    /// A supply rail that a user named.
    Rail,
    /// The share of one process, as an estimator attributes it.
    ProcessShare,
}

impl Kind {
    /// The name in CSV and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Measured => "measured",
            Kind::Estimated => "estimated",
            Kind::Simulated => "simulated",
            Kind::Apportioned => "apportioned",
        }
    }

    /// How people are told, wherever a figure stands: an estimate says what it was estimated from.
    pub fn sentence(self) -> &'static str {
        match self {
            Kind::Measured => "measured",
            Kind::Estimated => "estimated from CPU time",
            Kind::Simulated => "simulated counter",
            Kind::Apportioned => "apportioned",
        }
    }
}

impl Scope {
    /// The scope of that [name](Scope::name).
    pub fn by_name(name: &str) -> Option<Self> {
        let all = [Scope::Wall, Scope::Board, Scope::Battery, Scope::PackageDram, Scope::Package, Scope::Rail, Scope::ProcessShare];
        all.into_iter().find(|s| s.name() == name)
    }

    /// The name in CSV and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Wall => "wall",
            Scope::Board => "board",
            Scope::Battery => "battery",
            Scope::PackageDram => "package_dram",
            Scope::Package => "package",
            Scope::Rail => "rail",
            Scope::ProcessShare => "process_share",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The systematic part of a meter's uncertainty: the true value lies between `low` and `high` times the reading. It is
/// stated beside the statistical interval and never mixed into it; it cancels in ratios of one meter only as far as
/// `source` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Systematic {
    /// Smallest factor.
    pub low: f64,
    /// Largest factor.
    pub high: f64,
    /// Where the range comes from.
    pub source: String,
}

/// What one window's energy was, or why it is not known. There is no zero that means "unknown".
#[derive(Debug, Clone, PartialEq)]
pub enum WindowEnergy {
    /// Energy the meter attributes to the window, and the meter's own resolution (one tick or unit) for its variance.
    Valid {
        /// Total over the domains that the scope adds up.
        total: Joules,
        /// One update step of the counter at the window's power, or its unit: the error of an edge.
        resolution: Joules,
    },
    /// The window does not count.
    Invalid(String),
}
