//! The protocol on a virtual clock, with processes and a meter whose truth is known.
//!
//! A [`Machine`] says what is true: how long a run of each subject takes, what energy it uses, how noisy and how warm the
//! machine is, how its counter ticks. [`simulate`] measures it with the code that measures real machines, in no time. So
//! anybody can see how often an interval holds the truth, or how long a difference takes to be found:
//!
//! ```
//! use joulefront::measure::{Plan, simulation::{Machine, Truth, simulate}};
//! use joulefront::units::{Joules, Seconds};
//! # fn main() -> joulefront::Result<()> {
//! let machine = Machine::rapl(vec![
//!     Truth::new(Seconds(0.01), Joules(0.20)),
//!     Truth::new(Seconds(0.01), Joules(0.10)),
//! ]);
//! let simulated = simulate(&machine, &Plan::default())?;
//! // With 10 W of idle power the second uses 0.2 J to the first's 0.3 J.
//! let ratio = simulated.results[1].as_ref().ok().and_then(|m| m.energy.clone()).and_then(|e| e.ratio);
//! assert!(ratio.is_some_and(|r| r.lo < 0.7 && r.hi > 0.63));
//! # Ok(()) }
//! ```

mod machine;
mod meter;

use super::plan::{Plan, Progress, Subject};
use super::{Measurement, measure_on};
use crate::Result;
use crate::energy::Scope;
use crate::engine::LoadOptions;
use crate::units::{Joules, Seconds, Watts};
use machine::{Simulated, State};
use meter::SimulatedMeter;
use std::sync::{Arc, Mutex};

/// What is true of a subject.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// Time of a run.
    pub latency: Seconds,
    /// Energy of a run above idle.
    pub energy: Joules,
    /// The process dies in this run of all its processes, counted from 1.
    pub dies_at: Option<u64>,
}

impl Truth {
    /// A subject that never dies.
    pub fn new(latency: Seconds, energy: Joules) -> Self {
        Truth { latency, energy, dies_at: None }
    }
}

/// A machine and what is true of it. Drift is a share of the energy above idle, noise of all that is used while a subject runs.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What is measured; the first is the reference.
    pub subjects: Vec<Truth>,
    /// Power of the machine when nothing runs, and below all that runs.
    pub idle: Watts,
    /// Share by which energy rises with each second since the clock's zero, as on a machine that grows warm.
    pub drift: f64,
    /// Where the clock stands at first.
    pub begin: Seconds,
    /// Standard deviation of the luck of a process, a share: it lasts as long as the process.
    pub process_noise: f64,
    /// Standard deviation of the noise of a window, a share.
    pub window_noise: f64,
    /// Correlation of that noise between one window of a process and its next, an autoregressive process of first order.
    pub correlation: f64,
    /// Step of the counter.
    pub unit: Joules,
    /// Time between two updates of the counter; `None`: it is always up to date.
    pub update_period: Option<Seconds>,
    /// The counter starts at 0 again after this many steps.
    pub max: Option<u64>,
    /// What a reading costs.
    pub read_cost: Seconds,
    /// What the meter says it sees.
    pub scope: Scope,
    /// Share by which a new process is slow, and the age at which it no longer is.
    pub cold: (f64, Seconds),
    /// Latency jumps by up to this share from run to run, for ever.
    pub restless: f64,
    /// Share of its wall time that a process waits for its core.
    pub waiting: f64,
    /// Every n-th watched span is disturbed by others.
    pub disturb_every: Option<u64>,
    /// From this reading on, counted from 1, the counter cannot be read.
    pub meter_fails_at: Option<u64>,
    /// Seed of all noise.
    pub seed: u64,
}

impl Machine {
    /// Without noise, with a counter of very small steps that is always up to date.
    pub fn ideal(subjects: Vec<Truth>) -> Self {
        Machine {
            subjects,
            idle: Watts(0.0),
            drift: 0.0,
            begin: Seconds(0.0),
            process_noise: 0.0,
            window_noise: 0.0,
            correlation: 0.0,
            unit: Joules(1e-12),
            update_period: None,
            max: None,
            read_cost: Seconds(0.0),
            scope: Scope::Package,
            cold: (0.0, Seconds(0.0)),
            restless: 0.0,
            waiting: 0.0,
            disturb_every: None,
            meter_fails_at: None,
            seed: 0,
        }
    }

    /// Like a computer with a RAPL counter: updates each millisecond in steps of 61 µJ, 10 W idle, noise of 2 % from window to
    /// window with a correlation of 0.6 and of 1 % from process to process, latency that varies by 1 %, and 0.02 % more energy with
    /// each second.
    pub fn rapl(subjects: Vec<Truth>) -> Self {
        Machine {
            idle: Watts(10.0),
            drift: 2e-4,
            process_noise: 0.01,
            window_noise: 0.02,
            correlation: 0.6,
            unit: Joules(61e-6),
            update_period: Some(Seconds(1e-3)),
            max: Some(u64::from(u32::MAX)),
            read_cost: Seconds(5e-6),
            // So that windows do not end at the same phase of a tick every time.
            restless: 0.01,
            ..Machine::ideal(subjects)
        }
    }
}

/// What came out, beside what is true.
#[derive(Debug)]
pub struct Outcome {
    /// By subject, as of [`super::measure`].
    pub results: Vec<Result<Measurement>>,
    /// By subject, the energy of an inference over all the windows that were measured, without noise: what an interval of
    /// gross energy should hold. It includes idle power and what the drift had come to.
    pub truth: Vec<Joules>,
    /// How long it took.
    pub took: Seconds,
}

/// Measures `machine` as `plan` says, in batches of one.
///
/// # Errors
/// As [`super::measure`].
pub fn simulate(machine: &Machine, plan: &Plan) -> Result<Outcome> {
    simulate_batches(machine, plan, 1, &mut |_| ())
}

/// The same with several samples a run, and progress.
pub(super) fn simulate_batches(machine: &Machine, plan: &Plan, batch: usize, progress: &mut dyn FnMut(&Progress<'_>)) -> Result<Outcome> {
    let state = Arc::new(Mutex::new(State::new(machine)));
    let subject = |i: usize| Subject {
        label: format!("s{i}"),
        model: "none".into(),
        engine: "none".into(),
        options: LoadOptions { batch, ..LoadOptions::default() },
        samples: Arc::default(),
    };
    let subjects: Vec<_> = (0..machine.subjects.len()).map(subject).collect();
    let mut meter = SimulatedMeter::new(machine, &state);
    let results = measure_on(&mut Simulated::new(&state), &subjects, &mut meter, plan, progress)?;
    let state = machine::lock(&state);
    let truth = state.true_energies().map(|e| e / batch as f64).collect();
    Ok(Outcome { results, truth, took: state.now() - machine.begin })
}

#[cfg(test)]
mod tests;
