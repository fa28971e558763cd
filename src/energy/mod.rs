//! Meters: sources of energy readings, each with its kind, scope and uncertainty.
//!
//! [`probe`] finds what this machine has, in the order of preference: the `power` PMU of perf, the powercap zones of sysfs,
//! and the estimator, which works everywhere. [`choose`] takes one.

mod bank;
mod counter;
mod estimate;
mod families;
mod kind;
mod meter;
mod perf;
mod powercap;
mod probe;
pub mod simulate;
mod tick;
mod tree;
mod unavailable;
mod zones;

pub use counter::{Counter, MAX_POWER, Step};
pub use estimate::Estimator;
pub use kind::{Kind, Scope, Systematic, WindowEnergy};
pub use meter::{Domain, Meter, MeterInfo, Reading, Target, read_after_tick};
pub use perf::{Perf, ReadCount};
pub use powercap::Powercap;
pub use probe::{Probe, Sources, choose, probe};
pub use tree::Tree;
pub use unavailable::Unavailable;
