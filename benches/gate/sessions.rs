//! Sessions of `bench` on a simulated machine, as the gate sees them: each with a luck of its own beside the noise within it.

use joulefront::gate::{Case, CaseKey, RUN_SCHEMA_VERSION, Rules, Run, Saved, judge};
use joulefront::measure::simulation::{Machine, Truth, simulate};
use joulefront::measure::{Environment, Plan};
use joulefront::units::{Bytes, Joules, Seconds};
use joulefront::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// Two models: time of a run and gross power while it runs.
const MODELS: [(&str, f64, f64); 2] = [("a.onnx", 0.01, 30.0), ("b.onnx", 0.004, 25.0)];
const IDLE: f64 = 10.0;

/// How sessions are measured and judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Runs in the baseline.
    pub(crate) history: u64,
    /// Sessions that are judged together.
    pub(crate) sessions: u64,
    /// Processes of a session.
    pub(crate) processes: usize,
    /// `--max-increase`.
    pub(crate) floor: f64,
    /// Standard deviation of energy and of latency from session to session, a share.
    pub(crate) between: f64,
    /// Of everything random.
    pub(crate) seed: u64,
}

/// What docs/GATE.md and docs/ci recommend.
pub(crate) const USUAL: Setting = Setting { history: 20, sessions: 1, processes: 10, floor: 0.02, between: 0.005, seed: 0 };
pub(crate) const LONGER: Setting = Setting { sessions: 4, processes: 20, floor: 0.01, ..USUAL };

/// By what energy and latency of the first model are multiplied.
pub(crate) type Change = (f64, f64);

/// A machine without anything that belongs to this one.
pub(crate) fn environment() -> Environment {
    Environment::collect(Vec::new())
}

/// One session.
pub(crate) fn session(environment: &Environment, setting: &Setting, seed: u64, change: Change) -> Result<Run> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5e55_1075);
    let mut luck = || {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        (setting.between * (-2.0 * u.ln()).sqrt() * (TAU * v).cos()).exp()
    };
    // The machine's luck of the day falls on all models, and each has some of its own: half of the variance each.
    let (day_energy, day_time) = (luck(), luck());
    let subjects = MODELS.iter().enumerate().map(|(i, (_, time, power))| {
        let (energy_factor, time_factor) = if i == 0 { change } else { (1.0, 1.0) };
        let latency = time * time_factor * (day_time * luck()).powf(FRAC_1_SQRT_2);
        let gross = time * power * energy_factor * (day_energy * luck()).powf(FRAC_1_SQRT_2);
        Truth::new(Seconds(latency), Joules(gross - IDLE * latency))
    });
    let machine = Machine { seed, ..Machine::rapl(subjects.collect()) };
    let plan = Plan { seed, processes: setting.processes, window: Seconds(0.2), ..Plan::default() };
    let measured = simulate(&machine, &plan)?.results.into_iter().collect::<Result<Vec<_>>>()?;
    let cases = MODELS.iter().zip(measured).map(|((model, ..), measurement)| Case {
        key: CaseKey { model: (*model).to_owned(), engine: "tract".into(), threads: 1, batch: 1 },
        engine_version: "1".into(),
        model_sha256: (*model).to_owned(),
        model_bytes: Bytes(1000),
        accuracy: None,
        measurement,
    });
    Ok(Run {
        schema_version: RUN_SCHEMA_VERSION,
        taken_unix_s: seed,
        environment: environment.clone(),
        window: Seconds(0.2),
        inputs: "none".into(),
        cases: cases.collect(),
    })
}

/// Of `runs` gates, each with a history of its own, how many alarm by each of `changes`.
pub(crate) fn alarms(setting: &Setting, runs: u64, changes: &[Change]) -> Result<Vec<u64>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let counts = std::thread::scope(|scope| {
        let share = |thread| scope.spawn(move || count(setting, (thread..runs).step_by(threads as usize), changes));
        let shares: Vec<_> = (0..threads).map(share).collect();
        shares.into_iter().map(|s| s.join().map_err(|_| Error::engine("a thread stopped"))?).collect::<Result<Vec<_>>>()
    })?;
    Ok((0..changes.len()).map(|i| counts.iter().map(|c| c[i]).sum()).collect())
}

fn count(setting: &Setting, gates: impl Iterator<Item = u64>, changes: &[Change]) -> Result<Vec<u64>> {
    let environment = environment();
    let mut counts = vec![0; changes.len()];
    let rules = Rules { max_increase: setting.floor, ..Rules::default() };
    for gate in gates {
        let seed = |session: u64| setting.seed << 40 | gate << 16 | session;
        let saved = (0..setting.history)
            .map(|i| Ok(Saved { number: i, run: session(&environment, setting, seed(i), (1.0, 1.0))? }))
            .collect::<Result<Vec<_>>>()?;
        for (i, (count, change)) in counts.iter_mut().zip(changes).enumerate() {
            let first = setting.history + i as u64 * setting.sessions;
            let now =
                (first..first + setting.sessions).map(|i| session(&environment, setting, seed(i), *change)).collect::<Result<Vec<_>>>()?;
            let outcome = judge("main", &saved, &now, &rules)?;
            if outcome.findings.is_empty() {
                return Err(Error::engine("nothing was compared"));
            }
            *count += u64::from(!outcome.passed());
        }
    }
    Ok(counts)
}
