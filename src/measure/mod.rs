//! The measurement protocol: warm-up, interleaved windows, latency, memory, energy, environment.
//!
//! [`measure`] runs several subjects against a reference. A **round** starts one fresh process per subject, all pinned to the
//! same cores, and warms each up until it is steady. Then come **blocks**: in each one every subject gets one **window** of
//! exactly N inferences between two readings of the meter, in random order; the next block takes the reverse order, so that a
//! linear drift (heat) falls on all alike. Rounds are the independent units of the statistics: memory layout is luck that
//! lasts as long as a process.
//!
//! The number of rounds is fixed beforehand, or computed once from a pilot when a precision is asked for
//! ([`Plan::precision`]). It never depends on how the interval looks on the way: stopping when it looks good covers the truth
//! far less often than it says.

mod clusters;
mod cold;
mod cpu_times;
mod environment;
mod executor;
mod figures;
mod load;
mod machine;
mod plan;
mod precision;
mod protocol;
mod samples;
pub mod simulation;
mod summarise;
mod warmup;
mod warnings;
mod windows;

pub use cpu_times::{Contamination, CpuTimes, contamination};
pub use environment::{Build, Cpu, EngineVersion, Environment, EnvironmentWarning, Moment, Temperature};
pub use executor::{Executor, Process};
pub use figures::{Beside, Cold, Compared, Energy, Latency, Measurement, ProcessLatency};
pub use load::Load;
pub(crate) use machine::Machine;
pub use plan::{Phase, Plan, Progress, Subject};
pub use protocol::{measure, measure_on};
pub use samples::{made_up, rotation};
pub(crate) use warmup::warm_up;
#[cfg(feature = "criterion")]
pub(crate) use windows::{UPDATES, late};
