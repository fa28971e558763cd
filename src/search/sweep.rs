//! Runs the recipes of a space as the trials of a study, and goes on where an earlier run stopped.

use super::budget::Budget;
use super::config::SweepConfig;
use super::front::fronts;
use super::key::{self, Context};
use super::trial::{Reference, Scored, Workbench};
use crate::compress::Calibration;
use crate::data::{Dataset, Split};
use crate::energy::{Meter, Target, WindowEnergy};
use crate::engine::{Engine, Fit, LoadOptions};
use crate::measure::{Environment, Plan, Progress};
use crate::onnx::{Model, sha256_hex};
use crate::recipe::Recipe;
use crate::runner::Program;
use crate::study::{Configuration, Outcome, Study, StudyHeader, Trial};
use crate::units::{Joules, Seconds};
use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Samples that measured processes rotate over: enough that no input's luck counts, few enough to stay in the cache.
const ROTATION: usize = 16;

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
    /// The engine.
    pub engine: &'a dyn Engine,
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
    /// A trial begins: its place in the order (from 0), how many there are, the recipe.
    Begin(usize, usize, &'a Recipe),
    /// A step of the running trial.
    Step(&'static str),
    /// Windows of the running trial.
    Measuring(&'a Progress<'a>),
    /// A trial is stored.
    Stored(&'a Trial),
    /// A trial was found finished in the study.
    Found(&'a Trial),
    /// The recipe makes the very file of that earlier trial: nothing to measure.
    SameFile(u64),
    /// The machine was too busy to measure the recipe; it is not stored, and a resumed sweep tries it again.
    Disturbed(&'a str),
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Trials stored by this run.
    pub stored: usize,
    /// Trials that were there.
    pub found: usize,
    /// Recipes not tried.
    pub left: usize,
    /// Why it ended.
    pub stop: Stop,
}

impl Sweep<'_> {
    /// The header of a new study.
    ///
    /// # Errors
    /// The dataset's files cannot be read.
    pub fn header(&self) -> Result<StudyHeader> {
        let reference = self.configuration(&Recipe::default());
        let digest = self.data.split_digest("validation")?;
        let model_sha = sha256_hex(self.bytes);
        let header = StudyHeader::new((&self.path.display().to_string(), &model_sha), (self.data.name(), &digest), reference);
        Ok(StudyHeader { settings: key::settings(self.config), ..header })
    }

    /// Runs what the study does not hold yet. Trials are stored one by one as they finish; a trial that fails is stored with
    /// its reason and the sweep goes on.
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
        let keys = self.context(meter, &environment)?;
        let recipes = self.config.space.recipes(self.config.strategy, self.config.seed);
        let bench = self.workbench(&validation, &recipes)?;
        let reference_path = self.store_variant(study, self.bytes)?;
        let mut reference = Reference { path: reference_path, classes: Vec::new() };
        let (started, first) = (Instant::now(), meter.read(Target::this_process()));
        let mut summary = Summary { stored: 0, found: 0, left: 0, stop: Stop::Finished };
        let mut windows_energy = Joules(0.0);
        for (number, recipe) in recipes.iter().enumerate() {
            let key = keys.key(recipe);
            if let Some(trial) = study.find(&key)? {
                summary.found += 1;
                observe(Event::Found(&trial));
                continue;
            }
            let trials = study.trials()?;
            let spent = energy_since(&first, meter) + windows_energy;
            if let Some(budget) = self.budget.filter(|b| b.is_spent(started.elapsed().into(), trials.len() as u64, spent)) {
                summary.left += recipes.len() - number;
                summary.stop = Stop::Budget(budget);
                break;
            }
            self.go_on()?;
            observe(Event::Begin(number, recipes.len(), recipe));
            if reference.classes.is_empty() {
                observe(Event::Step("scoring the original"));
                reference.classes = bench.classes(&reference.path, &validation).map_err(|e| e.context("the original cannot be run"))?;
            }
            let outcome = self.trial(&bench, study, recipe, &reference, &trials, meter, observe);
            let outcome = match outcome {
                Ok(Tried::SameFile(id)) => {
                    observe(Event::SameFile(id));
                    continue;
                }
                Ok(Tried::Disturbed(why)) if recipe.is_original() => {
                    return Err(Error::environment(why).context("the original cannot be measured"));
                }
                // Not the variant's fault, so not stored as its failure: a later run tries again.
                Ok(Tried::Disturbed(why)) => {
                    summary.left += 1;
                    observe(Event::Disturbed(&why));
                    continue;
                }
                Ok(Tried::Results(results)) => {
                    if let Some(energy) = &results.measurement.energy {
                        windows_energy += Joules(energy.gross.value * results.measurement.inferences as f64);
                    }
                    Outcome::Done(results)
                }
                Err(e) if self.cancel.load(Ordering::Relaxed) => return Err(Error::new(ErrorKind::Interrupted, e.to_string())),
                Err(e) if recipe.is_original() || matches!(e.kind(), ErrorKind::Environment | ErrorKind::Interrupted) => return Err(e),
                Err(e) => Outcome::Failed { reason: e.to_string() },
            };
            let trial =
                Trial { id: study.next_id()?, configuration: self.configuration(recipe), outcome, environment: environment.clone() };
            let _ = study.insert(&trial, &key)?;
            summary.stored += 1;
            observe(Event::Stored(&trial));
        }
        observe(Event::Step("scoring the front on test"));
        self.fill_test_accuracy(study, &bench, &reference.path)?;
        Ok(summary)
    }

    /// One recipe: make, store the file, score, measure.
    #[allow(clippy::too_many_arguments, reason = "the parts of one trial, used in one place")]
    fn trial(
        &self,
        bench: &Workbench<'_>,
        study: &Study,
        recipe: &Recipe,
        reference: &Reference,
        earlier: &[Trial],
        meter: &mut dyn Meter,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Tried> {
        observe(Event::Step("making the variant"));
        let (variant, make_energy) = bench.make(recipe, meter)?;
        let same = |t: &&Trial| t.results().is_some_and(|r| r.variant.model_sha256 == variant.sha256);
        if let Some(same) = earlier.iter().find(same) {
            return Ok(Tried::SameFile(same.id));
        }
        self.go_on()?;
        let path = self.store_variant(study, &variant.bytes)?;
        observe(Event::Step("scoring"));
        let mut progress = |p: &Progress<'_>| observe(Event::Measuring(p));
        let results = bench.results(&variant, &path, make_energy, reference, meter, &mut progress)?;
        Ok(match results {
            Scored::Results(results) => Tried::Results(results),
            Scored::Disturbed(why) => Tried::Disturbed(why),
        })
    }

    fn go_on(&self) -> Result<()> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
            false => Ok(()),
        }
    }

    fn workbench<'b>(&'b self, validation: &'b Split, recipes: &[Recipe]) -> Result<Workbench<'b>> {
        let measure = &self.config.measure;
        let Fit { inputs, dims } = Fit::check(self.model, self.data)?;
        let calibration = if recipes.iter().any(Recipe::uses_calibration) {
            let split = self.data.split("calibration").map_err(|e| e.hint("pruned variants are repaired on the split `calibration`"))?;
            let samples = split.batch(0..split.len().min(self.config.calibration_samples))?;
            Some(Calibration::new(self.data.input()?.name(), &samples)?)
        } else {
            None
        };
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
            engine: self.engine.name(),
            options: LoadOptions { batch: measure.batch, threads: measure.threads, dims, ..LoadOptions::default() },
            calibration,
            validation,
            samples: Arc::new(validation.batches(&inputs, 0..validation.len().min(ROTATION * measure.batch))?),
            inputs,
            plan,
            timeout,
        })
    }

    fn configuration(&self, recipe: &Recipe) -> Configuration {
        Configuration {
            recipe: recipe.to_string(),
            reproduce: recipe.options(),
            engine: self.engine.name().to_owned(),
            lowering: recipe.lowering().to_owned(),
            threads: self.config.measure.threads,
            batch: self.config.measure.batch,
            seed: self.config.seed,
        }
    }

    /// Everything but the recipe that changes a result, as owned strings.
    fn context(&self, meter: &dyn Meter, environment: &str) -> Result<Context> {
        let info = meter.info();
        Ok(Context {
            joulefront: env!("CARGO_PKG_VERSION"),
            model_sha256: sha256_hex(self.bytes),
            calibration: self.data.split_digest("calibration").unwrap_or_default(),
            validation: self.data.split_digest("validation")?,
            engine: self.engine.name().to_owned(),
            engine_version: self.environment.engine_version(self.engine.name()).unwrap_or_default().to_owned(),
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

    /// Puts a file into the study's folder under its hash.
    fn store_variant(&self, study: &Study, bytes: &[u8]) -> Result<PathBuf> {
        let sha = study.store_artifact(bytes)?;
        study.artifact_path(&sha)
    }

    /// Accuracy on held-out data for the members of the final front that have none yet.
    fn fill_test_accuracy(&self, study: &mut Study, bench: &Workbench<'_>, original: &Path) -> Result<()> {
        if !self.data.splits().any(|s| s == "test") {
            return Ok(());
        }
        let test = self.data.split("test")?;
        let trials = study.trials()?;
        let mut reference = Vec::new();
        for trial in &trials {
            let on_front = fronts(&trials).iter().any(|f| f.members().any(|p| p.id == trial.id));
            let Some(results) = trial.results().filter(|r| r.test_accuracy.is_none() && (on_front || trial.id == 0)) else { continue };
            self.go_on()?;
            let path = study.artifact_path(&results.variant.model_sha256)?;
            let classes = bench.classes(&path, &test)?;
            // Without labels it is agreement with the original, which an earlier run may have scored already.
            if test.labels().is_none() && reference.is_empty() {
                reference = if trial.id == 0 { classes.clone() } else { bench.classes(original, &test)? };
            }
            if let Some(accuracy) = bench.accuracy(&classes, &test, &reference)? {
                study.update_test_accuracy(trial.id, accuracy)?;
            }
        }
        Ok(())
    }
}

/// What came of a recipe.
enum Tried {
    Results(Box<crate::study::Results>),
    SameFile(u64),
    Disturbed(String),
}

/// What the meter attributes to this process since `start`.
fn energy_since(start: &crate::energy::Reading, meter: &mut dyn Meter) -> Joules {
    let now = meter.read(Target::this_process());
    match meter.energy(start, &now) {
        WindowEnergy::Valid { total, .. } => total,
        WindowEnergy::Invalid(_) => Joules(0.0),
    }
}
