//! When a sweep has had enough.

use crate::units::{Joules, Seconds};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An upper bound on a sweep. It is looked at between trials: the one that is running finishes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Wall time of this run.
    Time(Seconds),
    /// Trials in the study, failed ones included.
    Trials(u64),
    /// Energy this process and its children spend in this run, as the study's meter attributes it to them.
    Energy(Joules),
}

impl Budget {
    /// True when nothing more may start.
    pub(super) fn is_spent(self, elapsed: Seconds, trials: u64, energy: Joules) -> bool {
        match self {
            Budget::Time(limit) => elapsed >= limit,
            Budget::Trials(limit) => trials >= limit,
            Budget::Energy(limit) => energy >= limit,
        }
    }
}

impl Budget {
    /// What recipes may spend before the best of them are run under other conditions: seven tenths, so that there is time for that. Of a
    /// number of trials all, as every one counts.
    pub(super) fn for_recipes(self) -> Self {
        match self {
            Budget::Time(limit) => Budget::Time(Seconds(0.7 * limit.0)),
            Budget::Energy(limit) => Budget::Energy(Joules(0.7 * limit.0)),
            Budget::Trials(limit) => Budget::Trials(limit),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::Time(t) => write!(f, "{t}"),
            Budget::Trials(n) => write!(f, "{n} trials"),
            Budget::Energy(e) => write!(f, "{e}"),
        }
    }
}
