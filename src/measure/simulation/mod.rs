//! The protocol on a virtual clock, with processes and a meter whose truth is known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
mod truth;

use super::executor::{Executor, Process};
use super::plan::{Plan, Progress, Subject};
use super::{Measurement, measure_on};
use crate::energy::{Domain, Kind, Meter, MeterInfo, Reading, Scope, Systematic, Target, WindowEnergy};
use crate::engine::LoadOptions;
use crate::engine::runner::{Memory, Ran};
use crate::units::{Bytes, Joules, Seconds};
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::{Arc, Mutex, MutexGuard};

/// Resolution of the simulated counter.
const UNIT: f64 = 1e-12;

/// What is true of a subject.
#[derive(Debug, Clone, Copy)]
struct Truth {
    /// Time of a run.
    latency: f64,
    /// Energy of a run above idle.
    energy: f64,
    /// The process dies in this run of all its processes, counted from 1.
    dies_at: Option<u64>,
}

impl Truth {
    fn new(latency: f64, energy: f64) -> Self {
        Truth { latency, energy, dies_at: None }
    }
}

/// The simulated machine.
struct World {
    now: f64,
    joules: f64,
    subjects: Vec<Truth>,
    idle_watts: f64,
    /// Relative rise of the energy above idle per second.
    drift: f64,
    /// Relative standard deviation of the energy of a process and of a window.
    noise: (f64, f64),
    /// Relative slowness of a new process, and the age at which it is gone.
    cold: (f64, f64),
    /// Latency jumps by that share from chunk to chunk for ever.
    restless: f64,
    /// Every n-th watched span is disturbed.
    disturb_every: Option<u64>,
    meter_fails: bool,
    /// Share of its wall time that a process waits for its core.
    waiting: f64,
    /// What the meter says it sees.
    scope: Scope,
    watched: u64,
    runs: Vec<u64>,
    rng: ChaCha8Rng,
}

type Shared = Arc<Mutex<World>>;

fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

fn world(subjects: &[Truth]) -> Shared {
    Arc::new(Mutex::new(World {
        now: 0.0,
        joules: 0.0,
        subjects: subjects.to_vec(),
        idle_watts: 0.0,
        drift: 0.0,
        noise: (0.0, 0.0),
        cold: (0.0, 0.0),
        restless: 0.0,
        disturb_every: None,
        meter_fails: false,
        waiting: 0.0,
        scope: Scope::Package,
        watched: 0,
        runs: vec![0; subjects.len()],
        rng: ChaCha8Rng::seed_from_u64(0),
    }))
}

impl World {
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (1.0 - self.rng.random::<f64>(), self.rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Time passes while energy above idle is used at `joules` over `span`, times the drift.
    fn pass(&mut self, span: f64, joules: f64) {
        let middle = self.now + span / 2.0;
        self.joules += self.idle_watts * span + joules * (1.0 + self.drift * middle);
        self.now += span;
    }
}

struct Simulated(Shared);

struct SimulatedProcess {
    world: Shared,
    subject: usize,
    luck: f64,
    age: f64,
    last: Vec<u64>,
}

impl Executor for Simulated {
    fn start(&mut self, subject: usize) -> Result<Box<dyn Process>> {
        let luck = {
            let mut world = lock(&self.0);
            world.noise.0 * world.normal()
        };
        Ok(Box::new(SimulatedProcess { world: Arc::clone(&self.0), subject, luck, age: 0.0, last: Vec::new() }))
    }

    fn idle(&mut self, span: Seconds) {
        lock(&self.0).pass(span.0, 0.0);
    }

    fn now(&self) -> Seconds {
        Seconds(lock(&self.0).now)
    }

    fn watch(&mut self) {
        lock(&self.0).watched += 1;
    }

    fn disturbance(&mut self, _: Seconds, _: f64) -> Option<String> {
        let world = lock(&self.0);
        world.disturb_every.is_some_and(|n| world.watched.is_multiple_of(n)).then(|| "others used 42 % of the CPU".to_owned())
    }
}

impl Process for SimulatedProcess {
    fn pid(&self) -> u32 {
        1
    }

    fn run(&mut self, n: u64) -> Result<Ran> {
        let mut world = lock(&self.world);
        let truth = world.subjects[self.subject];
        world.runs[self.subject] += n;
        if truth.dies_at.is_some_and(|at| world.runs[self.subject] >= at) {
            return Err(Error::engine("it was ended by SIGSEGV (11)"));
        }
        let noise = 1.0 + self.luck + world.noise.1 * world.normal();
        let (slowness, gone) = world.cold;
        let slow = if self.age < gone { 1.0 + slowness * (1.0 - self.age / gone) } else { 1.0 };
        let jump = 1.0 + world.restless * world.rng.random::<f64>();
        let span = truth.latency * slow * jump * n as f64;
        world.pass(span, truth.energy * noise * n as f64);
        self.age += span;
        self.last = vec![(truth.latency * slow * jump * 1e9).round() as u64; n as usize];
        Ok(Ran { wall: Seconds(span), cpu: Seconds(span * (1.0 - world.waiting)) })
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

struct Counter {
    world: Shared,
    info: MeterInfo,
}

impl Counter {
    fn new(world: &Shared) -> Self {
        // Two locks in one expression would wait for each other.
        let (scope, attributes_idle) = {
            let world = lock(world);
            (world.scope, world.idle_watts > 0.0)
        };
        let info = MeterInfo {
            name: "simulation".into(),
            kind: Kind::Simulated,
            scope,
            domains: vec![Domain { name: "package-0".into(), counted: true }],
            unit: Joules(UNIT),
            update_period: None,
            systematic: Systematic { low: 1.0, high: 1.0, source: "the simulation knows the truth".into() },
            attributes_idle,
        };
        Counter { world: Arc::clone(world), info }
    }
}

impl Meter for Counter {
    fn info(&self) -> &MeterInfo {
        &self.info
    }

    fn read(&mut self, target: Target) -> Reading {
        let world = lock(&self.world);
        let value = if world.meter_fails { Err("the counter vanished".to_owned()) } else { Ok((world.joules / UNIT).round() as u64) };
        Reading::take(target, || vec![value])
    }

    fn energy(&self, start: &Reading, end: &Reading) -> WindowEnergy {
        match (start.value(0), end.value(0)) {
            (Ok(a), Ok(b)) => WindowEnergy::Valid { total: Joules((b - a) as f64 * UNIT), resolution: Joules(UNIT) },
            (Err(e), _) | (_, Err(e)) => WindowEnergy::Invalid(e),
        }
    }

    fn domains_energy(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)> {
        vec![("package-0".into(), self.energy(start, end))]
    }
}

/// Measures the world's subjects; batch 2 for all, so that figures per sample are half of those per run.
fn simulate(world: &Shared, plan: &Plan, progress: &mut dyn FnMut(&Progress<'_>)) -> Result<Vec<Result<Measurement>>> {
    let subject = |i: usize| Subject {
        label: format!("s{i}"),
        model: "none".into(),
        engine: "none".into(),
        options: LoadOptions { batch: BATCH as usize, ..LoadOptions::default() },
        samples: Arc::default(),
    };
    let subjects: Vec<_> = (0..lock(world).subjects.len()).map(subject).collect();
    measure_on(&mut Simulated(Arc::clone(world)), &subjects, &mut Counter::new(world), plan, progress)
}

const BATCH: u64 = 2;

#[track_caller]
fn near(got: f64, expect: f64) {
    assert!((got - expect).abs() <= 1e-6 * expect.abs(), "{got} instead of {expect}");
}
