//! The protocol tells the truth, and says what went wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod coverage;
mod faults;
mod truth;

use super::super::plan::{Plan, Progress};
use super::{Machine, Truth, simulate_batches};
use crate::Result;
use crate::energy::{Kind, Scope};
use crate::measure::Measurement;
use crate::units::{Bytes, Joules, Seconds, Watts};

/// Samples in a run, so that figures per sample are half of those per run.
const BATCH: u64 = 2;

fn truth(latency: f64, energy: f64) -> Truth {
    Truth::new(Seconds(latency), Joules(energy))
}

/// All subjects' results, without progress.
fn run(machine: &Machine, plan: &Plan) -> Result<Vec<Result<Measurement>>> {
    simulate_batches(machine, plan, BATCH as usize, &mut |_| ()).map(|o| o.results)
}

/// The result of the only subject.
fn one(machine: &Machine, plan: &Plan) -> Measurement {
    run(machine, plan).unwrap().remove(0).unwrap()
}

#[track_caller]
fn near(got: f64, expect: f64) {
    assert!((got - expect).abs() <= 1e-6 * expect.abs(), "{got} instead of {expect}");
}
