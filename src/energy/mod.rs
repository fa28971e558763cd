//! Meters: sources of energy readings, each with its kind, scope and uncertainty.
//!
//! [`probe`] finds what this machine has, in the order of preference: the `power` PMU of perf, the powercap zones of sysfs, the
//! sensors of the board, and the estimator, which works everywhere; a battery and an external meter when they are named.
//! [`open`] takes one. Where there is a counter, [`calibrate`] fits the power profile that the estimator uses elsewhere, and
//! [`selftest`] compares meters with each other and with known loads.

mod bank;
mod battery;
mod calibrate;
mod counter;
mod crosscheck;
mod estimate;
mod external;
mod families;
mod follow;
mod gauge;
mod hwmon;
mod kind;
mod load;
mod meter;
mod perf;
mod powercap;
mod probe;
mod profile;
mod selftest;
pub mod simulate;
mod tick;
mod tree;
mod unavailable;
mod zones;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod regressions;

pub use battery::Battery;
pub use calibrate::{CalibrationPlan, calibrate};
pub use counter::{Counter, MAX_POWER, Step};
pub use crosscheck::{CrossCheck, SideBySide};
pub use estimate::Estimator;
pub use external::External;
pub use hwmon::Hwmon;
pub use kind::{Kind, Scope, Systematic, WindowEnergy};
pub use load::{Load, Work};
pub use meter::{Domain, Meter, MeterInfo, Reading, Target, read_after_tick};
pub use perf::{Perf, ReadCount};
pub use powercap::Powercap;
pub use probe::{METERS, Probe, Sources, choose, open, probe};
pub use profile::{Busy, PowerProfile, ProfiledCpu};
pub use selftest::{Check, LoadReport, MeterCost, MeterEnergy, SelfTest, SelfTestPlan, selftest};
pub use tree::Tree;
pub use unavailable::Unavailable;
