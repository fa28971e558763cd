//! What a reader of a measurement must know: cause and remedy.

use std::fmt;

/// A warning; its display is one line that says the cause and the remedy.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Warning {
    /// Some processes never became steady.
    Unsteady { processes: usize, of: usize },
    /// Windows span too few updates of the meter's counter.
    ShortWindows { meter: String, updates: f64 },
    /// Some windows stayed invalid after all retries.
    InvalidWindows { kept: usize, of: usize, reason: String },
    /// Energy is not known.
    NoEnergy { reason: String },
    /// Latency comes from disturbed windows, there being no others.
    DisturbedLatency,
    /// Energy comes from windows in which the process waited for its core, there being too few others.
    DisturbedEnergy { reason: String },
    /// Others were busy elsewhere on the machine while a process-share meter was read.
    Shared { windows: usize, of: usize },
    /// Energy rose or fell from process to process, by this share from the first to the last.
    Drift { change: f64 },
    /// Windows far from the others of their process.
    Outliers { windows: usize, of: usize },
    /// Requests arrived faster than they could be answered.
    Overloaded { rate: f64 },
    /// Idle power could not be measured.
    NoIdle,
    /// Net energy per inference includes zero.
    LikeIdle,
    /// Time was over before the planned number of processes.
    TimeOver { processes: usize, planned: usize },
    /// The interval is wider than was asked for.
    Imprecise { asked: f64, reached: f64 },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Unsteady { processes, of } => write!(
                f,
                "latency did not become steady in {processes} of {of} processes; close other programs and fix the CPU's frequency, or read the quantiles with care"
            ),
            Warning::ShortWindows { meter, updates } => write!(
                f,
                "a window spans {updates:.0} updates of the meter `{meter}`, so its edges may err by {:.1} %; use longer windows",
                200.0 / updates
            ),
            Warning::InvalidWindows { kept, of, reason } => {
                write!(f, "only {kept} of {of} windows count ({reason}); close other programs, or repeat it when the machine is quiet")
            }
            Warning::NoEnergy { reason } => {
                write!(f, "energy is not known: {reason}; repeat it when the machine is quiet, and see `joulefront doctor`")
            }
            Warning::DisturbedLatency => {
                f.write_str("no window was free of disturbance, so latency comes from disturbed ones; repeat it when the machine is quiet")
            }
            Warning::DisturbedEnergy { reason } => write!(
                f,
                "too few windows were free of disturbance ({reason}), so energy comes from disturbed ones too; caches were shared: repeat it when the machine is quiet"
            ),
            Warning::Shared { windows, of } => write!(
                f,
                "other processes were busy on other cores in {windows} of {of} windows, and caches and memory are shared; trust ratios more than absolute figures, or repeat it when the machine is quiet"
            ),
            Warning::Drift { change } => write!(
                f,
                "the energy of an inference {} by {:.1} % from the first process to the last, so the machine was not in a steady state; ratios hold, absolute figures are those of this time: let it warm up before, or fix the CPU's frequency",
                if *change > 0.0 { "rose" } else { "fell" },
                change.abs() * 100.0
            ),
            Warning::Outliers { windows, of } => write!(
                f,
                "{windows} of {of} windows lie far from the others of their process; they count, but something else ran or the frequency changed: close other programs and repeat it"
            ),
            Warning::Overloaded { rate } => write!(
                f,
                "{rate} requests per second are more than this configuration can answer, so their queue grows for as long as they come and latency says how long that was; use a lower rate"
            ),
            Warning::NoIdle => f.write_str(
                "idle power could not be measured in at least two rounds, so there is no net energy; repeat it when the machine is quiet",
            ),
            Warning::LikeIdle => {
                f.write_str("net energy is not distinguishable from idle; use more processes, or a meter that sees less of the machine")
            }
            Warning::TimeOver { processes, planned } => {
                write!(f, "time was over after {processes} of {planned} processes; allow more time for a narrower interval")
            }
            Warning::Imprecise { asked, reached } => write!(
                f,
                "the interval of energy is ±{:.1} % wide, ±{:.1} % was asked for; allow more time, or close other programs",
                reached * 100.0,
                asked * 100.0
            ),
        }
    }
}
