//! The metrics that a gate knows: their names, units, direction, and where they stand in a case.

use super::run::Case;
use crate::measure::ProcessLatency;
use crate::stats::quantile;
use crate::units::{Bytes, Seconds, si};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// What is gated, recorded or limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Gross energy per inference, joules.
    Energy,
    /// Mean latency, seconds.
    Latency,
    /// Median latency, seconds.
    P50,
    /// 90th percentile of the latency, seconds.
    P90,
    /// 99th percentile of the latency, seconds.
    P99,
    /// Peak memory, bytes.
    Memory,
    /// Size of the file, bytes.
    Size,
    /// Share of right answers.
    Accuracy,
}

/// Which way a metric gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// A cost.
    Lower,
    /// A merit.
    Higher,
}

impl Metric {
    /// All of them, in the order of tables.
    pub const ALL: [Metric; 8] =
        [Metric::Energy, Metric::Latency, Metric::P50, Metric::P90, Metric::P99, Metric::Memory, Metric::Size, Metric::Accuracy];

    /// What is gated unless said otherwise; the others are recorded. (Median and 90th percentile say nearly what the mean says, and
    /// each more makes all a little less sharp. The 99th percentile is what the machine does to a model rather than what the model
    /// does: on a virtual machine it varies by a factor of two for seconds, with nothing to show for it in the counters of the guest.)
    pub const GATED: [Metric; 5] = [Metric::Energy, Metric::Latency, Metric::Memory, Metric::Size, Metric::Accuracy];

    /// The name on the command line, in budgets and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Energy => "energy",
            Metric::Latency => "latency",
            Metric::P50 => "p50",
            Metric::P90 => "p90",
            Metric::P99 => "p99",
            Metric::Memory => "memory",
            Metric::Size => "size",
            Metric::Accuracy => "accuracy",
        }
    }

    /// The unit of the numbers in JSON; empty for shares.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Energy => "J",
            Metric::Latency | Metric::P50 | Metric::P90 | Metric::P99 => "s",
            Metric::Memory | Metric::Size => "B",
            Metric::Accuracy => "",
        }
    }

    /// Which way it gets better.
    pub fn better(self) -> Better {
        if self == Metric::Accuracy { Better::Higher } else { Better::Lower }
    }

    /// The figure of a case; `None` where it was not measured. Costs are above zero.
    pub fn value(self, case: &Case) -> Option<f64> {
        let m = &case.measurement;
        let value = match self {
            Metric::Energy => m.energy.as_ref()?.gross.value,
            Metric::Latency => m.latency.mean.value,
            Metric::P50 => m.latency.p50.0,
            Metric::P90 => m.latency.p90.0,
            Metric::P99 => m.latency.p99.0,
            Metric::Memory => m.peak_rss.0 as f64,
            Metric::Size => case.model_bytes.0 as f64,
            Metric::Accuracy => {
                let a = case.accuracy.as_ref().filter(|a| a.samples > 0 && a.right <= a.samples)?;
                return Some(a.right as f64 / a.samples as f64);
            }
        };
        (value > 0.0 && value.is_finite()).then_some(value)
    }

    /// Whether it depends on what else the machine does meanwhile.
    pub fn is_timed(self) -> bool {
        matches!(self, Metric::Energy | Metric::Latency | Metric::P50 | Metric::P90 | Metric::P99)
    }

    /// The figure of a case that is compared with those of others; `None` also for times and energies that others disturbed.
    ///
    /// From three fresh processes on, times and energies are the median of the processes' figures: what befalls one of them decides
    /// nothing (a neighbour on the same hardware, for one, whom no counter of a virtual machine shows).
    pub fn compared(self, case: &Case) -> Option<f64> {
        if self.is_timed() && case.measurement.is_disturbed() {
            return None;
        }
        let mut processes = self.per_process(case);
        if processes.len() < 3 {
            return self.value(case);
        }
        processes.sort_unstable_by(f64::total_cmp);
        quantile(&processes, 0.5)
    }

    /// The figure of each fresh process, where processes have one each. Empty unless there are at least two and all are above zero.
    pub fn per_process(self, case: &Case) -> Vec<f64> {
        let m = &case.measurement;
        let latency = |of: fn(&ProcessLatency) -> Seconds| m.latency_per_process.iter().map(|p| of(p).0).collect();
        let values: Vec<f64> = match self {
            Metric::Energy => m.energy.as_ref().map(|e| e.per_process.clone()).unwrap_or_default(),
            Metric::Latency => latency(|p| p.mean),
            Metric::P50 => latency(|p| p.p50),
            Metric::P90 => latency(|p| p.p90),
            Metric::P99 => latency(|p| p.p99),
            Metric::Memory | Metric::Size | Metric::Accuracy => Vec::new(),
        };
        if values.len() >= 2 && values.iter().all(|v| *v > 0.0 && v.is_finite()) { values } else { Vec::new() }
    }

    /// A figure for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Metric::Memory | Metric::Size => Bytes(value.clamp(0.0, 1e18).round() as u64).to_string(),
            Metric::Accuracy => format!("{:.2} %", 100.0 * value),
            _ => si(value, self.unit()),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Metric::ALL.map(Metric::name).join(", ");
        Metric::ALL.into_iter().find(|m| m.name() == text).ok_or_else(|| format!("there is no metric `{text}`: metrics are {}", known()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::samples::run;
    use super::*;

    #[test]
    fn every_metric_has_a_name_that_reads_back_and_a_figure() {
        let run = run(0, 1.0);
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
            assert!(metric.value(&run.cases[0]).unwrap() > 0.0);
        }
        assert!("power".parse::<Metric>().unwrap_err().contains("energy, latency"));
    }

    #[test]
    fn what_is_no_figure_is_not_measured() {
        let mut case = run(0, 1.0).cases.remove(0);
        case.measurement.latency.p99 = Seconds(f64::NAN);
        case.measurement.energy.as_mut().unwrap().gross.value = -1.0;
        case.measurement.energy.as_mut().unwrap().per_process[0] = 0.0;
        case.accuracy.as_mut().unwrap().right = u64::MAX;
        for metric in [Metric::P99, Metric::Energy, Metric::Accuracy] {
            assert_eq!(metric.value(&case), None, "{metric}");
        }
        assert!(Metric::Energy.per_process(&case).is_empty());
        assert_eq!(Metric::Latency.per_process(&case).len(), 5);
    }

    #[test]
    fn figures_for_people() {
        assert_eq!(Metric::Energy.show(1.234e-3), "1.23 mJ");
        assert_eq!(Metric::Memory.show(18_500_000.0), "18.5 MB");
        assert_eq!(Metric::Accuracy.show(0.9208), "92.08 %");
    }
}
