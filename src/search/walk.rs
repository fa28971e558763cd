//! The loop of a sweep: what is there, what is dropped, what is tried, and what is kept of it.

use super::budget::Budget;
use super::front::fronts;
use super::key::Context;
use super::sweep::{Event, Stop, Summary, Sweep};
use super::task::{Task, finding};
use super::trial::{Reference, Scored, Workbench};
use crate::energy::{Meter, Reading, Target, WindowEnergy};
use crate::measure::Progress;
use crate::stats::Verdict;
use crate::study::{Outcome, Study, Trial};
use crate::units::Joules;
use crate::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A sweep at work.
pub(super) struct Walk<'a> {
    sweep: &'a Sweep<'a>,
    bench: &'a Workbench<'a>,
    context: Context,
    pub(super) study: &'a mut Study,
    meter: &'a mut dyn Meter,
    observe: &'a mut dyn FnMut(Event<'_>),
    reference: Reference,
    started: Instant,
    first: Reading,
    windows_energy: Joules,
    /// Tasks of earlier calls of [`Walk::through`].
    before: usize,
    pub(super) summary: Summary,
}

/// What came of a task.
enum Tried {
    Results(Box<crate::study::Results>),
    SameFile(u64),
    Disturbed(String),
}

type World<'a> = (&'a mut Study, &'a mut dyn Meter, &'a mut dyn FnMut(Event<'_>));

impl<'a> Walk<'a> {
    pub(super) fn new(sweep: &'a Sweep<'a>, bench: &'a Workbench<'a>, context: Context, world: World<'a>) -> Result<Self> {
        let (study, meter, observe) = world;
        let path = store(study, sweep.bytes)?;
        let first = meter.read(Target::this_process());
        Ok(Walk {
            sweep,
            bench,
            context,
            study,
            meter,
            observe,
            reference: Reference { path, task: sweep.reference(), classes: Vec::new() },
            started: Instant::now(),
            first,
            windows_energy: Joules(0.0),
            before: 0,
            summary: Summary { stored: 0, found: 0, left: 0, findings: Vec::new(), stop: Stop::Finished },
        })
    }

    /// Tries `tasks` in their order, as far as `budget` goes; returns how many came to their turn.
    pub(super) fn through(&mut self, tasks: &[Task], budget: Option<Budget>) -> Result<usize> {
        let mut done = tasks.len();
        for (number, task) in tasks.iter().enumerate() {
            let key = self.context.key(task, &self.sweep.engine_version(&task.engine));
            if let Some(trial) = self.study.find(&key)? {
                self.summary.found += 1;
                (self.observe)(Event::Found(&trial));
                self.tell(task, &trial);
                continue;
            }
            if self.dropped(task)? {
                (self.observe)(Event::Dropped);
                continue;
            }
            let trials = self.study.trials()?;
            if self.is_spent(budget)? {
                done = number;
                break;
            }
            self.sweep.go_on()?;
            let configuration = task.configuration(self.sweep.config.seed);
            (self.observe)(Event::Begin(self.before + number, self.before + tasks.len(), &configuration));
            let Some(outcome) = self.outcome(task, &trials)? else { continue };
            let trial = Trial { id: self.study.next_id()?, configuration, outcome, environment: self.context.environment.clone() };
            let _ = self.study.insert(&trial, &key)?;
            self.summary.stored += 1;
            (self.observe)(Event::Stored(&trial));
            self.tell(task, &trial);
        }
        self.before += done;
        Ok(done)
    }

    /// Whether nothing more may start under a budget.
    pub(super) fn is_spent(&mut self, budget: Option<Budget>) -> Result<bool> {
        let (trials, spent) = (self.study.trials()?.len() as u64, self.spent());
        Ok(budget.is_some_and(|b| b.is_spent(self.started.elapsed().into(), trials, spent)))
    }

    /// Fills in what is known only at the end.
    pub(super) fn finish(mut self) -> Result<Summary> {
        (self.observe)(Event::Step("scoring the front on test"));
        self.fill_test_accuracy()?;
        Ok(self.summary)
    }

    /// Says what a form was seen to do, once.
    fn tell(&mut self, task: &Task, trial: &Trial) {
        if task.base().conditions != self.reference.task.conditions {
            return;
        }
        if let Some(words) = finding(task, trial).filter(|w| !self.summary.findings.contains(w)) {
            (self.observe)(Event::Finding(&words));
            self.summary.findings.push(words);
        }
    }

    /// The form did not pay when the original was run in it, or did not work: nothing is built on it.
    fn dropped(&self, task: &Task) -> Result<bool> {
        let Some(screening) = task.screening() else { return Ok(false) };
        let key = self.context.key(&screening, &self.sweep.engine_version(&task.engine));
        // It was the very file of another trial, too disturbed, or never tried: then nothing is known against it.
        let Some(trial) = self.study.find(&key)? else { return Ok(false) };
        let pays = trial.results().is_some_and(|r| r.measurement.compared().is_some_and(|c| c.verdict == Verdict::Better));
        Ok(!pays)
    }

    /// What is to be stored of a task; `None`: nothing.
    fn outcome(&mut self, task: &Task, trials: &[Trial]) -> Result<Option<Outcome>> {
        let is_reference = *task == self.reference.task;
        if self.reference.classes.is_empty() {
            (self.observe)(Event::Step("scoring the original"));
            let classes = self.bench.classes(&self.reference.path, &self.reference.task, self.bench.validation);
            self.reference.classes = classes.map_err(|e| e.context("the original cannot be run"))?;
        }
        Ok(match self.trial(task, trials) {
            Ok(Tried::SameFile(id)) => {
                (self.observe)(Event::SameFile(id));
                None
            }
            Ok(Tried::Disturbed(why)) if is_reference => return Err(Error::environment(why).context("the original cannot be measured")),
            // Not the variant's fault, so not stored as its failure: a later run tries again.
            Ok(Tried::Disturbed(why)) => {
                self.summary.left += 1;
                (self.observe)(Event::Disturbed(&why));
                None
            }
            Ok(Tried::Results(results)) => {
                if let Some(energy) = &results.measurement.energy {
                    self.windows_energy += Joules(energy.gross.value * results.measurement.inferences as f64);
                }
                Some(Outcome::Done(results))
            }
            Err(e) if self.sweep.cancel.load(Ordering::Relaxed) => return Err(Error::new(ErrorKind::Interrupted, e.to_string())),
            Err(e) if is_reference || matches!(e.kind(), ErrorKind::Environment | ErrorKind::Interrupted) => return Err(e),
            Err(e) => Some(Outcome::Failed { reason: e.to_string() }),
        })
    }

    /// One task: make, lower, store the file, score, measure.
    fn trial(&mut self, task: &Task, earlier: &[Trial]) -> Result<Tried> {
        (self.observe)(Event::Step("making the variant"));
        let (variant, canonical, make_energy) = self.bench.make(task, self.meter)?;
        let configuration = task.configuration(self.sweep.config.seed);
        let same = |t: &&Trial| {
            let c = &t.configuration;
            let run_alike = (&c.engine, c.threads, c.batch) == (&configuration.engine, configuration.threads, configuration.batch);
            run_alike && !task.conditions.open && t.results().is_some_and(|r| r.variant.model_sha256 == variant.sha256)
        };
        if let Some(same) = earlier.iter().find(same) {
            return Ok(Tried::SameFile(same.id));
        }
        self.sweep.go_on()?;
        let path = store(self.study, &variant.bytes)?;
        (self.observe)(Event::Step("scoring"));
        let observe = &mut self.observe;
        let mut progress = |p: &Progress<'_>| observe(Event::Measuring(p));
        let results =
            self.bench.results(task, &variant, canonical.as_ref(), &path, make_energy, &self.reference, self.meter, &mut progress)?;
        Ok(match results {
            Scored::Results(results) => Tried::Results(results),
            Scored::Disturbed(why) => Tried::Disturbed(why),
        })
    }

    /// What the meter attributes to this process and to the windows since the beginning.
    fn spent(&mut self) -> Joules {
        let now = self.meter.read(Target::this_process());
        let own = match self.meter.energy(&self.first, &now) {
            WindowEnergy::Valid { total, .. } => total,
            WindowEnergy::Invalid(_) => Joules(0.0),
        };
        own + self.windows_energy
    }

    /// Accuracy on held-out data for the members of the final front that have none yet.
    fn fill_test_accuracy(&mut self) -> Result<()> {
        let data = self.sweep.data;
        if !data.splits().any(|s| s == "test") {
            return Ok(());
        }
        let test = data.split("test")?;
        let trials = self.study.trials()?;
        let mut reference = Vec::new();
        for trial in &trials {
            let on_front = fronts(&trials).iter().any(|f| f.members().any(|p| p.id == trial.id));
            let Some(results) = trial.results().filter(|r| r.test_accuracy.is_none() && (on_front || trial.id == 0)) else { continue };
            self.sweep.go_on()?;
            let path = self.study.artifact_path(&results.variant.model_sha256)?;
            let classes = self.bench.classes_on(&path, &trial.configuration.engine, &test)?;
            // Without labels it is agreement with the original, which an earlier run may have scored already.
            if test.labels().is_none() && reference.is_empty() {
                reference = match trial.id {
                    0 => classes.clone(),
                    _ => self.bench.classes(&self.reference.path, &self.reference.task, &test)?,
                };
            }
            if let Some(accuracy) = self.bench.accuracy(&classes, &test, &reference)? {
                self.study.update_test_accuracy(trial.id, accuracy)?;
            }
        }
        Ok(())
    }
}

/// Puts a file into the study's folder under its hash.
fn store(study: &Study, bytes: &[u8]) -> Result<PathBuf> {
    let sha = study.store_artifact(bytes)?;
    study.artifact_path(&sha)
}
