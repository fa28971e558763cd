//! Load regimes: what the inferences of a window are a response to.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How inferences follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// One begins when the one before has ended: the machine is never idle (a closed loop).
    #[default]
    BackToBack,
    /// Requests arrive at random at a mean rate, whatever the machine does (an open loop; Poisson arrivals). Latency counts from
    /// the arrival, so that a request that had to wait for a slow one before it says so; what a meter of the machine sees between
    /// requests is theirs too.
    Open {
        /// Requests, each of one batch, per second.
        rate: f64,
    },
    /// Each inference is the first of a fresh process: start, load, first answer. The model's file is in the page cache.
    Cold,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::BackToBack => f.write_str("back to back"),
            Load::Open { rate } => write!(f, "open {rate}/s"),
            Load::Cold => f.write_str("cold"),
        }
    }
}
