//! The measurement protocol: warm-up, interleaved windows, latency, memory, energy, environment.

mod cpu_times;
mod environment;
mod figures;

pub use cpu_times::{Contamination, CpuTimes, contamination};
pub use environment::{Build, Cpu, EngineVersion, Environment, EnvironmentWarning, Moment, Temperature};
pub use figures::{Energy, Latency, Measurement};
