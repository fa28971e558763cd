//! What a measurement yields: data only, stored in studies and printed by reports.

use super::load::Load;
use crate::energy::{Kind, Scope, Systematic};
use crate::stats::{Interval, Verdict};
use crate::units::{Bytes, Seconds};
use serde::{Deserialize, Serialize};

/// All that was measured on one configuration. Energy and latency are per sample, not per batch, and come from the same
/// windows. Intervals are 95 %, hierarchical over processes and windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Energy per inference; `None` when no window was valid (the warnings say why).
    pub energy: Option<Energy>,
    /// Latency of single inferences.
    pub latency: Latency,
    /// The same of each process: how far apart fresh processes are.
    #[serde(default)]
    pub latency_per_process: Vec<ProcessLatency>,
    /// The same figures against another subject of the same blocks, where the plan asked for it.
    #[serde(default)]
    pub beside: Option<Beside>,
    /// How inferences followed each other.
    #[serde(default)]
    pub load: Load,
    /// The parts of a cold start, where that is what was measured.
    #[serde(default)]
    pub cold: Option<Cold>,
    /// Samples per second over the windows' wall time.
    pub throughput_per_s: f64,
    /// Largest `VmHWM` of the fresh processes.
    pub peak_rss: Bytes,
    /// `VmHWM` of the same process before it loaded the model.
    pub rss_before_load: Bytes,
    /// Fresh processes.
    pub processes: u64,
    /// Valid windows.
    pub windows: u64,
    /// Of these, windows during which others used more of the machine than the plan allows.
    #[serde(default)]
    pub disturbed_windows: u64,
    /// Windows thrown away, and the reasons with their counts.
    pub invalid_windows: Vec<(String, u64)>,
    /// Inferences (batches × batch size) in valid windows.
    pub inferences: u64,
    /// What a reader must know: cause and remedy, one line each.
    pub warnings: Vec<String>,
}

/// Up to this share of disturbed windows is a passing cron job.
const PASSING: f64 = 0.1;

impl Measurement {
    /// How its energy compares with that of the original on the same engine: within its pair where there is one, else with the
    /// reference, which is that original then.
    pub fn compared(&self) -> Option<Compared> {
        if let Some(beside) = &self.beside {
            return beside.energy;
        }
        let energy = self.energy.as_ref()?;
        Some(Compared { ratio: energy.ratio?, verdict: energy.verdict? })
    }

    /// Others used the machine while this was measured: its times and energies are not those of a quiet machine, and no evidence of
    /// a change.
    pub fn is_disturbed(&self) -> bool {
        self.disturbed_windows as f64 > PASSING * self.windows as f64
    }
}

/// How a subject compares with another one that is not the reference.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Beside {
    /// By energy per inference; `None` when too few rounds have it of both.
    pub energy: Option<Compared>,
    /// By mean latency.
    pub latency: Option<Compared>,
}

/// A ratio and what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Of the means over common rounds.
    pub ratio: Interval,
    /// All comparisons of the run together at 95 %.
    pub verdict: Verdict,
}

/// Medians of the parts of a cold start. (Its whole, from the start of the process to the answer, is the latency.)
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cold {
    /// From the model's file to a model that can run.
    pub load: Seconds,
    /// The first inference.
    pub first: Seconds,
}

/// Energy per inference in joules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// Measured, estimated, simulated.
    pub kind: Kind,
    /// The meter's name.
    pub meter: String,
    /// How much of the machine the meter sees.
    pub scope: Scope,
    /// ΣE/ΣN with its interval, joules.
    pub gross: Interval,
    /// Gross minus idle, where idle was measured before and after, joules.
    pub net: Option<Interval>,
    /// Ratio to the reference of the same blocks (1 for the reference itself).
    pub ratio: Option<Interval>,
    /// What the ratio shows, all comparisons of the run together at 95 %; `None` for the reference.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// Gross energy per inference of each process, joules: what the interval was made of.
    #[serde(default)]
    pub per_process: Vec<f64>,
    /// The meter's own uncertainty, beside the statistical one.
    pub systematic: Systematic,
}

/// Latency of one process, per sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProcessLatency {
    /// Mean.
    pub mean: Seconds,
    /// Median.
    pub p50: Seconds,
    /// 90th percentile.
    pub p90: Seconds,
    /// 99th percentile.
    pub p99: Seconds,
}

/// Quantiles of the latency of single runs divided by the batch size, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Mean with its hierarchical interval, seconds.
    pub mean: Interval,
    /// Median.
    pub p50: Seconds,
    /// 90th percentile.
    pub p90: Seconds,
    /// 99th percentile.
    pub p99: Seconds,
    /// Ratio of means to the reference of the same blocks.
    pub ratio: Option<Interval>,
    /// What that ratio shows, as for energy.
    #[serde(default)]
    pub verdict: Option<Verdict>,
}
