//! Regressions: a run against earlier runs of the same things on the same class of machine, and against stated limits.
//!
//! `bench --out DIR` writes a [`Run`]. A [`Store`] keeps runs under the name of a baseline, one file each, and never rewrites one.
//! [`judge`] compares a run with those that it may be compared with ([`conditions`]): the noise from run to run is learnt from
//! runs of one [`State`] (same model, engine and system), so a change is called only when it is larger than such runs differ by
//! themselves, all gated metrics together at 5 %, and larger than a floor. [`Budgets`] are limits for single metrics.
//! [`export`] writes the outcome for other programs, [`history_plot`] draws it.

mod budget;
mod conditions;
pub mod export;
mod judge;
mod metric;
mod noise;
mod outcome;
mod plot;
mod run;
mod store;

pub use budget::{Budgets, Decision, Limit, LimitFinding};
pub use conditions::{Difference, State, conditions, differences};
pub use judge::{Basis, ENOUGH_DEGREES, Finding, PROVISIONAL, Rules, judge};
pub use metric::{Better, Metric};
pub use noise::{FAMILY_ERROR, Noise};
pub use outcome::Outcome;
pub use plot::history_plot;
pub(crate) use run::unix_now;
pub use run::{Accuracy, Case, CaseKey, RUN_SCHEMA_VERSION, Run};
pub use store::{Saved, Store};

#[cfg(test)]
pub(crate) mod samples;
