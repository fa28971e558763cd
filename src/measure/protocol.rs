//! Rounds of fresh processes, blocks of interleaved windows.

use super::clusters::energy_per_inference;
use super::cold;
use super::executor::{Executor, Process};
use super::figures::Measurement;
use super::load::Load;
use super::machine::Machine;
use super::plan::{Phase, Plan, Progress, Subject};
use super::precision::{Pilot, pilot};
use super::summarise::{Run, summarise};
use super::warmup::{Warmed, warm_up};
use super::windows::{Idle, Window, idle, length, settle, until_valid, window};
use crate::energy::Meter;
use crate::engine::runner::{Memory, Program};
use crate::units::{Bytes, Seconds};
use crate::{Error, ErrorKind, Result};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// One fresh process of one subject.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Its windows, invalid ones included.
    pub(super) windows: Vec<Window>,
    /// Idle power around it.
    pub(super) idle: Option<Idle>,
}

/// All that was seen of one subject.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// By round.
    pub(super) rounds: Vec<Round>,
    /// Processes that never became steady.
    pub(super) unsteady: usize,
    /// Largest peak memory, and what the same process had before loading.
    pub(super) peak: Memory,
    /// See [`Track::peak`].
    pub(super) before: Bytes,
    /// Reasons of invalid windows.
    pub(super) invalid: BTreeMap<String, u64>,
    /// The pilot, when a precision was asked for.
    pub(super) pilot: Option<Pilot>,
    /// Runs per window, chosen once.
    runs: Option<u64>,
    /// Requests arrived faster than they could be answered.
    pub(super) overloaded: bool,
    /// What ended it.
    failure: Option<Error>,
}

/// Measures `subjects`, of which the first is the reference, with `meter` on this machine. A subject that crashes, hangs or is
/// refused ends only itself: its place in the answer holds the reason.
///
/// The calling thread leaves the cores of the subjects for that time.
///
/// # Errors
/// The plan makes no sense, the reference fails, or [`Plan::cancel`] was set ([`ErrorKind::Interrupted`]).
pub fn measure(
    program: &Program,
    subjects: &[Subject],
    meter: &mut dyn Meter,
    plan: &Plan,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Vec<Result<Measurement>>> {
    let mut machine = Machine::new(program, subjects, plan);
    measure_on(&mut machine, subjects, meter, plan, progress)
}

/// [`measure`] on any executor.
///
/// # Errors
/// As [`measure`].
pub fn measure_on(
    executor: &mut dyn Executor,
    subjects: &[Subject],
    meter: &mut dyn Meter,
    plan: &Plan,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Vec<Result<Measurement>>> {
    plan.check(subjects.len())?;
    if subjects.is_empty() {
        return Err(Error::bad_input("there is nothing to measure"));
    }
    let began = executor.now();
    let (window, updates) = length(plan, meter.info(), meter.longest_window());
    let mut session = Session {
        executor,
        subjects,
        meter,
        plan,
        progress,
        window,
        began,
        tracks: subjects.iter().map(|_| Track::default()).collect(),
        rng: ChaCha8Rng::seed_from_u64(plan.seed),
        planned: if plan.precision.is_some() { pilot(plan.processes) } else { plan.processes },
        done: 0,
    };
    session.rounds()?;
    let Session { tracks, planned, .. } = session;
    let run = Run { info: meter.info(), plan, updates, planned, comparisons: subjects.len() - 1 + plan.pairs.len() };
    let (failures, tracks): (Vec<_>, Vec<_>) = tracks.into_iter().map(|mut track| (track.failure.take(), track)).unzip();
    let failed: Vec<bool> = failures.iter().map(Option::is_some).collect();
    let beside = |subject| plan.pairs.iter().find(|pair| pair.0 == subject && !failed[pair.1]).map(|pair| &tracks[pair.1]);
    let measured = failures.into_iter().enumerate().map(|(i, failure)| match failure {
        Some(e) => Err(e),
        None => summarise(&run, &tracks[i], (i > 0).then_some(&tracks[0]), beside(i), subjects[i].options.batch),
    });
    Ok(measured.collect())
}

/// A measurement under way.
struct Session<'a> {
    executor: &'a mut dyn Executor,
    subjects: &'a [Subject],
    meter: &'a mut dyn Meter,
    plan: &'a Plan,
    progress: &'a mut dyn FnMut(&Progress<'_>),
    window: Seconds,
    began: Seconds,
    tracks: Vec<Track>,
    rng: ChaCha8Rng,
    /// Rounds there will be.
    planned: usize,
    /// Windows measured.
    done: u64,
}

/// A subject's process in the current round.
struct Running {
    subject: usize,
    /// `None` where every inference has a process of its own.
    process: Option<Box<dyn Process>>,
    runs: u64,
    settle: u64,
}

impl Session<'_> {
    fn rounds(&mut self) -> Result<()> {
        let mut round = 0;
        let first = self.planned;
        while round < self.planned {
            let before = self.executor.now();
            self.round()?;
            round += 1;
            if round == first
                && let Some(precision) = self.plan.precision
            {
                self.plan_from_pilot(precision);
            }
            let now = self.executor.now();
            let over = self.plan.max_time.is_some_and(|limit| now - self.began + (now - before) > limit);
            if over && round >= 2 {
                break;
            }
        }
        Ok(())
    }

    fn plan_from_pilot(&mut self, precision: f64) {
        for track in self.tracks.iter_mut().filter(|t| t.failure.is_none()) {
            let per_process: Vec<f64> = track.rounds.iter().filter_map(energy_per_inference).collect();
            track.pilot = Pilot::new(&per_process);
            self.planned = self.planned.max(track.pilot.map_or(0, |p| p.needed(precision)));
        }
    }

    /// One fresh process per subject that is still in, and its windows.
    fn round(&mut self) -> Result<()> {
        let mut alive: Vec<usize> = (0..self.subjects.len()).filter(|&s| self.tracks[s].failure.is_none()).collect();
        alive.shuffle(&mut self.rng);
        let mut running = Vec::new();
        for subject in alive {
            self.plan.go_on()?;
            self.report(Phase::WarmUp, Some(subject));
            match self.start(subject) {
                Ok(process) => running.push(process),
                Err(e) => self.fail(subject, e)?,
            }
            self.tracks[subject].rounds.push(Round::default());
        }
        let idle_before = self.idle()?;
        running.sort_by_key(|r| r.subject);
        let mut order = Vec::new();
        for block in 0..self.plan.blocks {
            // Every second block runs backwards, so that over the pair a linear drift falls on all alike.
            if block % 2 == 0 {
                order = (0..running.len()).collect();
                order.shuffle(&mut self.rng);
            } else {
                order.reverse();
            }
            // All subjects of a block answer the same requests.
            let arrivals = self.rng.random();
            for &i in &order {
                let subject = running[i].subject;
                if self.tracks[subject].failure.is_some() {
                    continue;
                }
                self.report(Phase::Window, Some(subject));
                if let Err(e) = self.window(&mut running[i], arrivals) {
                    self.fail(subject, e)?;
                }
                self.done += 1;
            }
        }
        let idle_after = self.idle()?;
        let idle = idle_before.zip(idle_after).map(|(before, after)| before.mean(after));
        for Running { subject, .. } in running {
            if let Some(round) = self.tracks[subject].rounds.last_mut() {
                round.idle = idle;
            }
        }
        Ok(())
    }

    /// Starts and warms up; memory is asked before the long runs, whose latencies we keep in the child.
    fn start(&mut self, subject: usize) -> Result<Running> {
        let cold = self.plan.load == Load::Cold;
        let began = self.executor.now();
        let mut process = if cold { self.executor.start_cold(subject)? } else { self.executor.start(subject)? };
        let warmed = if cold {
            process.run(1)?;
            Warmed { per_run: self.executor.now() - began, steady: true }
        } else {
            warm_up(process.as_mut())?
        };
        let memory = process.memory()?;
        let track = &mut self.tracks[subject];
        if memory.peak > track.peak.peak {
            (track.peak, track.before) = (memory, process.memory_before_load().peak);
        }
        track.unsteady += usize::from(!warmed.steady);
        let runs = match self.plan.load {
            Load::Open { rate } => {
                track.overloaded |= warmed.per_run.0 * rate >= 1.0;
                (rate * self.window.0).ceil().clamp(1.0, 1e9) as u64
            }
            Load::BackToBack | Load::Cold => *track.runs.get_or_insert_with(|| warmed.runs(self.window)),
        };
        Ok(Running { subject, process: (!cold).then_some(process), runs, settle: settle(&warmed) })
    }

    fn window(&mut self, running: &mut Running, arrivals: u64) -> Result<()> {
        let Running { subject, runs, settle, ref mut process } = *running;
        let track = &mut self.tracks[subject];
        let batch = self.subjects[subject].options.batch;
        let mut invalid = |reason: &str| *track.invalid.entry(kind_of(reason)).or_default() += 1;
        let (meter, plan) = (&mut *self.meter, self.plan);
        let mut measure = |executor: &mut dyn Executor| match process {
            Some(process) => window(executor, process.as_mut(), meter, plan, (runs, settle, batch), arrivals),
            None => cold::window(executor, subject, meter, plan, (runs, batch)),
        };
        let window = until_valid(self.executor, plan, &mut measure, &mut invalid)?;
        let track = &mut self.tracks[subject];
        if let Some(round) = track.rounds.last_mut() {
            round.windows.push(window);
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<Option<Idle>> {
        if !self.meter.info().attributes_idle {
            return Ok(None);
        }
        self.report(Phase::Idle, None);
        idle(self.executor, self.meter, self.plan, self.window)
    }

    /// Ends a subject; the end of the reference, or an interruption, is the end of all.
    fn fail(&mut self, subject: usize, e: Error) -> Result<()> {
        if e.kind() == ErrorKind::Interrupted {
            return Err(e);
        }
        if subject == 0 {
            return Err(e.context(format!("the reference `{}`", self.subjects[0].label)));
        }
        self.tracks[subject].failure = Some(e);
        Ok(())
    }

    fn report(&mut self, phase: Phase, subject: Option<usize>) {
        let alive = self.tracks.iter().filter(|t| t.failure.is_none()).count();
        let elapsed = self.executor.now() - self.began;
        let total = ((self.planned * self.plan.blocks * alive) as u64).max(self.done);
        let subject = subject.map_or("", |s| &self.subjects[s].label);
        (self.progress)(&Progress { phase, subject, done: self.done, total, elapsed });
    }
}

/// A reason with `…` for its numbers, so that equal reasons are counted together.
fn kind_of(reason: &str) -> String {
    let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    reason.split(' ').map(|word| if number(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
}
