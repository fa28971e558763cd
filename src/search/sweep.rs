//! Runs the recipes of a space as the trials of a study, and goes on where an earlier run stopped.

use super::budget::Budget;
use super::config::SweepConfig;
use super::front::fronts;
use super::key::{self, Context};
use super::task::{Conditions, Task};
use super::trial::Workbench;
use super::walk::Walk;
use crate::compress::Calibration;
use crate::data::{Dataset, Split};
use crate::energy::Meter;
use crate::engine::{Engine, Fit, LoadOptions};
use crate::measure::{Environment, Plan, Progress};
use crate::onnx::{Model, sha256_hex};
use crate::recipe::Recipe;
use crate::runner::Program;
use crate::study::{Configuration, Study, StudyHeader, Trial};
use crate::units::Seconds;
use crate::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Samples that measured processes rotate over: enough that no input's luck counts, few enough to stay in the cache.
const ROTATION: usize = 16;

/// How many members of the front are run under other conditions.
const BEST: usize = 4;

/// Accuracy that these may lose, in percentage points, as far as is known.
const TOLERANCE_POINTS: f64 = 1.0;

/// A sweep: everything it needs but the study and the meter.
pub struct Sweep<'a> {
    /// The program that runs models.
    pub program: &'a Program,
    /// The original's file as the user named it.
    pub path: &'a Path,
    /// The original.
    pub model: &'a Model,
    /// The bytes of its file.
    pub bytes: &'a [u8],
    /// The dataset, with `validation` and, for repairs, `calibration`.
    pub data: &'a Dataset,
    /// The engines, at least one; the first runs the reference.
    pub engines: &'a [&'static dyn Engine],
    /// Settings.
    pub config: &'a SweepConfig,
    /// An upper bound.
    pub budget: Option<Budget>,
    /// The machine.
    pub environment: &'a Environment,
    /// Set by others to stop.
    pub cancel: Arc<AtomicBool>,
}

/// What happens, for progress.
#[derive(Debug)]
pub enum Event<'a> {
    /// A trial begins: its place in the order (from 0), how many there are, what is tried.
    Begin(usize, usize, &'a Configuration),
    /// A step of the running trial.
    Step(&'static str),
    /// Windows of the running trial.
    Measuring(&'a Progress<'a>),
    /// A trial is stored.
    Stored(&'a Trial),
    /// A trial was found finished in the study.
    Found(&'a Trial),
    /// It comes to the very file of that earlier trial under the same conditions: nothing to measure.
    SameFile(u64),
    /// The machine was too busy to measure it; it is not stored, and a resumed sweep tries it again.
    Disturbed(&'a str),
    /// The form was seen not to pay on its engine, or not to work: it is not tried.
    Dropped,
    /// What a form was seen to do on its engine.
    Finding(&'a str),
}

/// Why a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stop {
    /// All recipes are tried.
    Finished,
    /// The budget is spent.
    Budget(Budget),
}

/// What a run of a sweep did.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Trials stored by this run.
    pub stored: usize,
    /// Trials that were there.
    pub found: usize,
    /// Configurations not tried.
    pub left: usize,
    /// What forms were seen to do on their engines, in words.
    pub findings: Vec<String>,
    /// Why it ended.
    pub stop: Stop,
}

impl Sweep<'_> {
    /// The header of a new study.
    ///
    /// # Errors
    /// The dataset's files cannot be read.
    pub fn header(&self) -> Result<StudyHeader> {
        let digest = self.data.split_digest("validation")?;
        let model_sha = sha256_hex(self.bytes);
        let reference = self.reference().configuration(self.config.seed);
        let header = StudyHeader::new((&self.path.display().to_string(), &model_sha), (self.data.name(), &digest), reference);
        Ok(StudyHeader { settings: key::settings(self.config), ..header })
    }

    /// Runs what the study does not hold yet. Trials are stored one by one as they finish; a trial that fails is stored with
    /// its reason and the sweep goes on. When all tasks are tried, or seven tenths of the time or energy are spent, the best of the front
    /// are run under the other conditions of the space.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] when `cancel` was set: what is finished is stored. The reference fails; the study is of
    /// another model, dataset or machine; the disk is full.
    pub fn run(&self, study: &mut Study, meter: &mut dyn Meter, observe: &mut dyn FnMut(Event<'_>)) -> Result<Summary> {
        let validation = self.data.split("validation")?;
        self.check_same_study(study, meter)?;
        let environment = self.environment.key();
        let record = serde_json::to_value(self.environment).unwrap_or_default();
        study.insert_environment(&environment, &record)?;
        let context = self.context(meter, &environment)?;
        let names: Vec<&str> = self.engines.iter().map(|e| e.name()).collect();
        let tasks = self.config.space.tasks(&names, self.conditions(), self.config.strategy, self.config.seed);
        let bench = self.workbench(&validation)?;
        let mut walk = Walk::new(self, &bench, context, (study, meter, observe))?;
        let mut done = walk.through(&tasks, self.budget.map(Budget::for_recipes))?;
        let mut left = 0;
        if !walk.is_spent(self.budget)? {
            let best = self.best(walk.study, &tasks)?;
            let more: Vec<Task> = best.iter().flat_map(|task| self.config.space.elsewhere(task)).collect();
            left = more.len() - walk.through(&more, self.budget)?;
            // What is left of the budget is for recipes again.
            done += walk.through(&tasks[done..], self.budget)?;
        }
        left += tasks.len() - done;
        if let Some(budget) = self.budget.filter(|_| left > 0) {
            walk.summary.stop = Stop::Budget(budget);
        }
        walk.summary.left += left;
        walk.finish()
    }

    /// The members of the front that may lose at most [`TOLERANCE_POINTS`], the cheapest first, as tasks.
    fn best(&self, study: &Study, tasks: &[Task]) -> Result<Vec<Task>> {
        let trials = study.trials()?;
        let fronts = fronts(&trials);
        let members = fronts.first().into_iter().flat_map(|f| f.members());
        let kept = members.filter(|p| p.drop_points.is_none_or(|d| d.value <= TOLERANCE_POINTS));
        let task = |id: u64| {
            let trial = trials.iter().find(|t| t.id == id)?;
            tasks.iter().find(|task| task.configuration(self.config.seed) == trial.configuration).cloned()
        };
        Ok(kept.filter_map(|p| task(p.id)).take(BEST).collect())
    }

    /// The original on the first engine.
    pub(super) fn reference(&self) -> Task {
        let engine = self.engines.first().map_or("", |e| e.name()).to_owned();
        Task { recipe: Recipe::default(), engine, form: None, conditions: self.conditions() }
    }

    fn conditions(&self) -> Conditions {
        Conditions { threads: self.config.measure.threads, batch: self.config.measure.batch, open: false }
    }

    /// The version of one of the engines; empty where it is not known.
    pub(super) fn engine_version(&self, name: &str) -> String {
        self.environment.engine_version(name).unwrap_or_default().to_owned()
    }

    pub(super) fn go_on(&self) -> Result<()> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
            false => Ok(()),
        }
    }

    fn workbench<'b>(&'b self, validation: &'b Split) -> Result<Workbench<'b>> {
        let measure = &self.config.measure;
        let Fit { inputs, dims } = Fit::check(self.model, self.data)?;
        let calibration = if self.config.space.uses_calibration() {
            let split = self
                .data
                .split("calibration")
                .map_err(|e| e.hint("variants are repaired, and activations get their ranges, on the split `calibration`"))?;
            let samples = split.batch(0..split.len().min(self.config.calibration_samples))?;
            Some(Calibration::new(self.data.input()?.name(), &samples)?)
        } else {
            None
        };
        let largest = self.config.space.batch.iter().copied().chain([measure.batch]).max().unwrap_or(1);
        let timeout = Seconds(self.config.trial_timeout_s);
        let plan = Plan {
            processes: measure.processes,
            blocks: measure.blocks,
            window: Seconds(measure.window_s),
            disturbance: measure.disturbance,
            seed: self.config.seed,
            timeout: timeout.into(),
            cancel: Arc::clone(&self.cancel),
            ..Plan::default()
        };
        Ok(Workbench {
            program: self.program,
            original: self.model,
            bytes: self.bytes,
            options: LoadOptions { dims, ..LoadOptions::default() },
            calibration,
            validation,
            samples: Arc::new(validation.batches(&inputs, 0..validation.len().min(ROTATION * largest))?),
            inputs,
            plan,
            timeout,
        })
    }

    /// Everything but the task that changes a result, as owned strings.
    fn context(&self, meter: &dyn Meter, environment: &str) -> Result<Context> {
        let info = meter.info();
        Ok(Context {
            joulefront: env!("CARGO_PKG_VERSION"),
            model_sha256: sha256_hex(self.bytes),
            calibration: self.data.split_digest("calibration").unwrap_or_default(),
            validation: self.data.split_digest("validation")?,
            reference_engine: {
                let name = self.reference().engine;
                let version = self.engine_version(&name);
                (name, version)
            },
            environment: environment.to_owned(),
            meter: info.name.clone(),
            kind: info.kind,
            scope: info.scope,
            measure: self.config.measure.clone(),
            calibration_samples: self.config.calibration_samples,
            seed: self.config.seed,
        })
    }

    /// A study is of one model, one dataset, one class of machine and one meter; another one's figures never join it.
    fn check_same_study(&self, study: &Study, meter: &dyn Meter) -> Result<()> {
        let differs = |what: &str| {
            Error::bad_input(format!("the study `{}` was made with another {what}", study.path().display()))
                .hint("name another study with `--study`, or leave `--study` away for a new one")
        };
        let header = study.header();
        if header.model_sha256 != sha256_hex(self.bytes) {
            return Err(differs("model"));
        }
        if header.dataset_digest != self.data.split_digest("validation")? {
            return Err(differs("dataset"));
        }
        let trials = study.trials()?;
        if trials.iter().any(|t| t.environment != self.environment.key()) {
            return Err(differs("machine, build or engine version"));
        }
        let info = meter.info();
        let other_meter = |t: &Trial| {
            let energy = t.results().and_then(|r| r.measurement.energy.as_ref());
            energy.is_some_and(|e| (&e.meter, e.kind, e.scope) != (&info.name, info.kind, info.scope))
        };
        if trials.iter().any(other_meter) {
            return Err(differs("meter"));
        }
        Ok(())
    }
}
