//! The virtual clock, and the processes that run on it.

use super::{Machine, Truth};
use crate::engine::runner::{Memory, Ran};
use crate::measure::executor::{Executor, Process};
use crate::units::{Bytes, Joules, Seconds};
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Runs that last at least that long are windows; shorter ones settle caches or warm up.
const WINDOW: Seconds = Seconds(0.05);

/// The machine as it is now.
pub(super) struct State {
    machine: Machine,
    now: f64,
    /// Used since the clock's beginning.
    joules: f64,
    /// What the counter shows: the energy at its last update.
    shown: f64,
    watched: u64,
    readings: u64,
    /// Runs of each subject.
    runs: Vec<u64>,
    /// Expected energy and runs of each subject's windows.
    windows: Vec<(f64, u64)>,
    rng: ChaCha8Rng,
}

/// The lock on the state: a test that panicked while it held it does not matter here.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn new(machine: &Machine) -> Self {
        State {
            now: machine.begin.0,
            joules: 0.0,
            shown: 0.0,
            watched: 0,
            readings: 0,
            runs: vec![0; machine.subjects.len()],
            windows: vec![(0.0, 0); machine.subjects.len()],
            rng: ChaCha8Rng::seed_from_u64(machine.seed),
            machine: machine.clone(),
        }
    }

    pub(super) fn now(&self) -> Seconds {
        Seconds(self.now)
    }

    /// Expected energy of a run of each subject over its windows.
    pub(super) fn true_energies(&self) -> impl Iterator<Item = Joules> + '_ {
        self.windows.iter().map(|&(joules, runs)| Joules(joules / runs.max(1) as f64))
    }

    /// Reads the counter: its value in steps, or why there is none. That takes time.
    pub(super) fn read(&mut self) -> std::result::Result<u64, String> {
        self.readings += 1;
        self.pass(self.machine.read_cost.0, 0.0);
        if self.machine.meter_fails_at.is_some_and(|at| self.readings >= at) {
            return Err("the counter vanished".to_owned());
        }
        let steps = (self.shown / self.machine.unit.0).round();
        Ok(match self.machine.max {
            Some(max) => (steps % (max as f64 + 1.0)) as u64,
            None => steps as u64,
        })
    }

    /// A draw from the standard normal distribution (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (1.0 - self.rng.random::<f64>(), self.rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// How much more energy is used now than at the clock's zero, on average over the next `span`.
    fn warmth(&self, span: f64) -> f64 {
        1.0 + self.machine.drift * (self.now + span / 2.0)
    }

    /// Time passes in which `joules` are used above idle, evenly.
    fn pass(&mut self, span: f64, joules: f64) {
        let (before, power) = (self.joules, self.machine.idle.0 + if span > 0.0 { joules / span } else { 0.0 });
        let end = self.now + span;
        self.joules += self.machine.idle.0 * span + joules;
        match self.machine.update_period {
            None => self.shown = self.joules,
            Some(period) => {
                let tick = (end / period.0).floor() * period.0;
                if tick > self.now {
                    self.shown = before + power * (tick - self.now);
                }
            }
        }
        self.now = end;
    }
}

/// Starts processes on the virtual machine.
pub(super) struct Simulated(Arc<Mutex<State>>);

impl Simulated {
    pub(super) fn new(state: &Arc<Mutex<State>>) -> Self {
        Simulated(Arc::clone(state))
    }
}

impl Executor for Simulated {
    fn start(&mut self, subject: usize) -> Result<Box<dyn Process>> {
        let mut state = lock(&self.0);
        let luck = state.machine.process_noise * state.normal();
        let noise = state.normal();
        drop(state);
        Ok(Box::new(SimulatedProcess { state: Arc::clone(&self.0), subject, luck, noise, age: 0.0, last: Vec::new() }))
    }

    fn idle(&mut self, span: Seconds) {
        lock(&self.0).pass(span.0, 0.0);
    }

    fn now(&self) -> Seconds {
        lock(&self.0).now()
    }

    fn watch(&mut self) {
        lock(&self.0).watched += 1;
    }

    fn disturbance(&mut self, _: Seconds, _: f64) -> Option<String> {
        let state = lock(&self.0);
        let disturbed = state.machine.disturb_every.is_some_and(|n| state.watched.is_multiple_of(n));
        disturbed.then(|| "others used 42 % of the CPU".to_owned())
    }
}

struct SimulatedProcess {
    state: Arc<Mutex<State>>,
    subject: usize,
    /// For as long as the process lives.
    luck: f64,
    /// Of the last window, standardised.
    noise: f64,
    age: f64,
    last: Vec<u64>,
}

impl SimulatedProcess {
    /// Steps the noise on to the next window.
    fn step(&mut self, state: &mut State) {
        let correlation = state.machine.correlation;
        self.noise = correlation * self.noise + (1.0 - correlation * correlation).sqrt() * state.normal();
    }
}

impl Process for SimulatedProcess {
    fn pid(&self) -> u32 {
        1
    }

    fn run(&mut self, n: u64) -> Result<Ran> {
        let state = Arc::clone(&self.state);
        let mut state = lock(&state);
        let Some(&Truth { latency, energy, dies_at }) = state.machine.subjects.get(self.subject) else {
            return Err(Error::bad_input("there is no such subject"));
        };
        state.runs[self.subject] += n;
        if dies_at.is_some_and(|at| state.runs[self.subject] >= at) {
            return Err(Error::engine("it was ended by SIGSEGV (11)"));
        }
        let (slowness, gone) = state.machine.cold;
        let slow = if self.age < gone.0 { 1.0 + slowness * (1.0 - self.age / gone.0) } else { 1.0 };
        let jump = 1.0 + state.machine.restless * state.rng.random::<f64>();
        let per_run = latency.0 * slow * jump;
        let span = per_run * n as f64;
        let expected = energy.0 * n as f64 * state.warmth(span);
        let idle = state.machine.idle.0 * span;
        if span >= WINDOW.0 {
            self.step(&mut state);
            let windows = &mut state.windows[self.subject];
            *windows = (windows.0 + expected + idle, windows.1 + n);
        }
        let noise = self.luck + state.machine.window_noise * self.noise;
        state.pass(span, expected + (expected + idle) * noise);
        self.age += span;
        self.last = vec![(per_run * 1e9).round() as u64; n as usize];
        Ok(Ran { wall: Seconds(span), cpu: Seconds(span * (1.0 - state.machine.waiting)) })
    }

    /// Every request finds the machine idle: nobody waits for another.
    fn serve(&mut self, n: u64, rate: f64, _: u64) -> Result<Ran> {
        let ran = self.run(n)?;
        let rest = (n as f64 / rate - ran.wall.0).max(0.0);
        lock(&self.state).pass(rest, 0.0);
        Ok(Ran { wall: ran.wall + Seconds(rest), ..ran })
    }

    fn load_time(&self) -> Seconds {
        Seconds(0.0)
    }

    fn latencies(&mut self) -> Result<Vec<u64>> {
        Ok(self.last.clone())
    }

    fn memory(&mut self) -> Result<Memory> {
        Ok(Memory { peak: Bytes(3_000_000 + self.subject as u64), now: Bytes(3_000_000) })
    }

    fn memory_before_load(&self) -> Memory {
        Memory { peak: Bytes(1_000_000), now: Bytes(1_000_000) }
    }
}
