//! One window: N inferences, or an idle span, between two readings of the meter.

use super::cold::Start;
use super::executor::{Executor, Process};
use super::load::Load;
use super::plan::Plan;
use crate::Result;
use crate::energy::{Meter, MeterInfo, Reading, Scope, Target, WindowEnergy, read_after_tick};
use crate::units::{Joules, Seconds, Watts};

/// Updates of the meter's counter that a window should span: the edges then err by less than 1 %.
pub(crate) const UPDATES: f64 = 200.0;

/// Runs right before a window, outside it: the subject before it left the caches to itself.
const SETTLE: Seconds = Seconds(0.01);

/// Pause before an invalid window is first measured again; it doubles with each try.
const PAUSE: Seconds = Seconds(0.2);

/// What two readings of the meter showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Read {
    /// Energy between them.
    pub(super) energy: Joules,
    /// Standard deviation of what the readings leave open.
    pub(super) error: Joules,
}

impl Read {
    /// Between two readings `span` apart. The end lies anywhere between two steps of the counter: a uniform distribution, whose
    /// standard deviation is its width / √12.
    ///
    /// # Errors
    /// The reason why there is no energy.
    pub(super) fn between(meter: &dyn Meter, start: &Reading, end: &Reading, span: Seconds) -> Result<Read, String> {
        let late = late(meter.info(), span);
        match meter.energy(start, end) {
            WindowEnergy::Valid { total, resolution } => Ok(Read { energy: total * late, error: resolution / 12f64.sqrt() }),
            WindowEnergy::Invalid(reason) => Err(reason),
        }
    }
}

/// Power of the idle machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Idle {
    /// Its mean.
    pub(super) power: Watts,
    /// Standard deviation of what the readings leave open.
    pub(super) error: Watts,
}

impl Idle {
    /// The mean of two that are independent.
    pub(super) fn mean(self, other: Idle) -> Idle {
        Idle { power: (self.power + other.power) / 2.0, error: Watts(self.error.0.hypot(other.error.0) / 2.0) }
    }
}

/// What one window showed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    /// Inferences: runs times batch.
    pub(super) inferences: u64,
    /// Time from reading to reading.
    pub(super) span: Seconds,
    /// Time of the runs.
    pub(super) wall: Seconds,
    /// Energy, or why there is none.
    pub(super) energy: Result<Read, String>,
    /// What others did, when it was too much.
    pub(super) disturbance: Option<String>,
    /// What others did elsewhere on the machine: the window counts, the reader should know.
    pub(super) remark: Option<String>,
    /// Nanoseconds of each run.
    pub(super) latencies: Vec<u64>,
    /// Parts of each run, where it was a cold start.
    pub(super) starts: Vec<Start>,
}

impl Window {
    /// Nothing was measured yet.
    pub(super) fn empty() -> Self {
        Window {
            inferences: 0,
            span: Seconds(0.0),
            wall: Seconds(0.0),
            energy: Err("nothing was measured".to_owned()),
            disturbance: None,
            remark: None,
            latencies: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Why it does not count, if it does not.
    pub(super) fn invalid(&self) -> Option<&str> {
        self.disturbance.as_deref().or_else(|| self.energy.as_ref().err().map(String::as_str))
    }
}

/// The length of windows on this meter, and how many updates of its counter they span (`None`: it has no fixed period).
pub(super) fn length(plan: &Plan, meter: &MeterInfo, longest: Option<Seconds>) -> (Seconds, Option<f64>) {
    let needed = meter.update_period.map_or(0.0, |period| UPDATES * period.0);
    let mut length = plan.window.0.max(needed.min(plan.longest_window.0));
    if let Some(longest) = longest {
        // The second reading must come before the counter can have wrapped twice, also when the machine is slower than it was.
        length = length.min(longest.0 / 4.0);
    }
    (Seconds(length), meter.update_period.filter(|p| p.0 > 0.0).map(|period| length / period.0))
}

/// How many updates a window spans when that is too few, as a warning tells it.
pub(super) fn too_few(updates: Option<f64>) -> Option<f64> {
    updates.filter(|&u| u < UPDATES * 0.99)
}

/// One window of `runs` runs of `batch` samples.
pub(super) fn window(
    executor: &mut dyn Executor,
    process: &mut dyn Process,
    meter: &mut dyn Meter,
    plan: &Plan,
    (runs, settle, batch): (u64, u64, usize),
    seed: u64,
) -> Result<Window> {
    let target = Target { pid: process.pid() };
    process.run(settle)?;
    executor.watch();
    let start = read_after_tick(meter, target);
    let began = executor.now();
    let ran = match plan.load {
        Load::Open { rate } => process.serve(runs, rate, seed)?,
        Load::BackToBack | Load::Cold => process.run(runs)?,
    };
    let end = meter.read(target);
    let span = executor.now() - began;
    let others = disturbance(executor, plan, ran.cpu);
    // A meter that sees the machine sees what others burn; one that sees the process only suffers when it was held up.
    let (disturbance, remark) = match (meter.info().scope, plan.load) {
        // It sleeps between requests: that it did not run says nothing.
        (Scope::ProcessShare, Load::Open { .. }) => (None, others),
        (Scope::ProcessShare, _) => (held_up(ran.cpu, ran.wall, plan.disturbance), others),
        _ => (others, None),
    };
    let energy = Read::between(meter, &start, &end, span);
    let latencies = process.latencies()?;
    Ok(Window { inferences: runs * batch as u64, span, wall: ran.wall, energy, disturbance, remark, latencies, starts: Vec::new() })
}

/// Measures a window again while it is invalid, as often as the plan allows. The last try is returned whether valid or not, and
/// `invalid` is told of every invalid one.
pub(super) fn until_valid(
    executor: &mut dyn Executor,
    plan: &Plan,
    measure: &mut dyn FnMut(&mut dyn Executor) -> Result<Window>,
    invalid: &mut dyn FnMut(&str),
) -> Result<Window> {
    let mut tried = 0;
    loop {
        plan.go_on()?;
        let window = measure(executor)?;
        let Some(reason) = window.invalid() else { return Ok(window) };
        invalid(reason);
        if tried == plan.retries {
            return Ok(window);
        }
        // What disturbs often lasts for a while: wait longer each time.
        executor.idle(PAUSE * f64::from(1u32 << tried.min(10)));
        tried += 1;
    }
}

/// What others did since the executor was told to watch, when it is more than the plan allows.
pub(super) fn disturbance(executor: &mut dyn Executor, plan: &Plan, own_cpu: Seconds) -> Option<String> {
    // On several cores others can take more than the whole of one.
    executor.disturbance(own_cpu, plan.disturbance).filter(|_| plan.disturbance < 1.0)
}

/// The share of a window that a process may spend waiting for its core, unless the plan allows more.
const WAITING: f64 = 0.25;

/// Why a window of one process does not count: others, or the hypervisor, held its core for too long. (Engines with several
/// threads use more CPU time than wall time and are not judged by this.)
fn held_up(cpu: Seconds, wall: Seconds, allowed: f64) -> Option<String> {
    let share = 1.0 - cpu / Seconds(wall.0.max(f64::MIN_POSITIVE));
    (share > WAITING.max(allowed)).then(|| format!("its core was taken by others for {:.0} % of the window", 100.0 * share))
}

/// Power of the idle machine over one window; `None` when it was disturbed or unreadable every time.
pub(super) fn idle(executor: &mut dyn Executor, meter: &mut dyn Meter, plan: &Plan, span: Seconds) -> Result<Option<Idle>> {
    let target = Target::this_process();
    for _ in 0..=plan.retries {
        plan.go_on()?;
        executor.watch();
        let start = read_after_tick(meter, target);
        let began = executor.now();
        executor.idle(span);
        let end = meter.read(target);
        let span = executor.now() - began;
        let others = disturbance(executor, plan, Seconds(0.0));
        if let (Ok(read), None) = (Read::between(meter, &start, &end, span), others) {
            return Ok(Some(Idle { power: read.energy / span, error: read.error / span }));
        }
    }
    Ok(None)
}

/// By what to multiply what a counter shows over `span`. The window begins with an update of the counter and ends between two, so
/// that the last reading is behind by half a period on average; that much is added, at the window's own power. Without it all
/// figures were too low, by 0.25 % with the shortest windows (200 updates).
pub(crate) fn late(meter: &MeterInfo, span: Seconds) -> f64 {
    let missing = meter.update_period.map_or(0.0, |period| 0.5 * (period / span));
    // A window that is hardly longer than a period is reported as too short; it is not blown up.
    1.0 / (1.0 - missing.min(0.25))
}

/// Runs that settle the caches before a window.
pub(super) fn settle(warmed: &super::warmup::Warmed) -> u64 {
    warmed.runs(SETTLE)
}
