//! One trial: make the variant, score it, measure it beside the reference.

use super::task::Task;
use crate::compress::Calibration;
use crate::data::Split;
use crate::energy::{Meter, Target, WindowEnergy};
use crate::engine::{LoadOptions, Predict, predict};
use crate::exec::Executor;
use crate::lower::{Form, lower};
use crate::make::{Variant, make};
use crate::measure::{Measurement, Plan, Progress, Subject, measure};
use crate::onnx::Model;
use crate::runner::Program;
use crate::stats::{Interval, accuracy_difference, agreement, top_classes, wilson};
use crate::study::{Results, VariantFacts};
use crate::tensor::Tensor;
use crate::units::{Joules, Seconds};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Points of accuracy that a lowered file may lose on its engine against the quantized model that it stands for.
const LOWERING_TOLERANCE_POINTS: f64 = 0.3;

/// What all trials of a sweep share.
pub(super) struct Workbench<'a> {
    pub(super) program: &'a Program,
    pub(super) original: &'a Model,
    pub(super) bytes: &'a [u8],
    /// Values of dimensions other than the batch.
    pub(super) options: LoadOptions,
    pub(super) calibration: Option<Calibration>,
    pub(super) validation: &'a Split,
    /// The model's inputs, in its order.
    pub(super) inputs: Vec<String>,
    /// Samples that the measured processes rotate over.
    pub(super) samples: Arc<Vec<Tensor>>,
    pub(super) plan: Plan,
    pub(super) timeout: Seconds,
}

/// The original: its file, how it is run, and what it predicts on `validation`.
pub(super) struct Reference {
    pub(super) path: PathBuf,
    pub(super) task: Task,
    pub(super) classes: Vec<u32>,
}

/// What came of measuring.
pub(super) enum Scored {
    Results(Box<Results>),
    /// The machine was too busy to measure anything that counts: not a fault of the variant.
    Disturbed(String),
}

impl Workbench<'_> {
    /// Makes the variant in its form and says what making it cost, as far as the meter can tell; with the quantized model that a
    /// lowered file stands for.
    pub(super) fn make(&self, task: &Task, meter: &mut dyn Meter) -> Result<(Variant, Option<Model>, Option<Joules>)> {
        let start = meter.read(Target::this_process());
        let mut variant = make(self.original, self.bytes, &task.recipe, self.calibration.as_ref())?;
        let mut canonical = None;
        if let Some(form) = task.form {
            let model = Model::from_bytes(&variant.bytes, "the variant")?;
            let lowered = lower(&model, form, &|_| true)?;
            variant = variant.rewritten(&lowered.model, lowered.notes)?;
            canonical = Some(model);
        }
        let end = meter.read(Target::this_process());
        let energy = match meter.energy(&start, &end) {
            WindowEnergy::Valid { total, .. } if !task.recipe.is_original() => Some(total),
            _ => None,
        };
        Ok((variant, canonical, energy))
    }

    /// The classes that the file at `path` predicts for a split, on the engine and in the batches of `task`.
    pub(super) fn classes(&self, path: &Path, task: &Task, split: &Split) -> Result<Vec<u32>> {
        self.predicted(path, &task.engine, task.conditions.options(&self.options), split)
    }

    /// The same one by one.
    pub(super) fn classes_on(&self, path: &Path, engine: &str, split: &Split) -> Result<Vec<u32>> {
        self.predicted(path, engine, self.options.clone(), split)
    }

    fn predicted(&self, path: &Path, engine: &str, options: LoadOptions, split: &Split) -> Result<Vec<u32>> {
        let what = Predict {
            model: path.to_owned(),
            engine: engine.to_owned(),
            options: LoadOptions { threads: 1, ..options },
            count: split.len(),
            workers: 0,
            timeout: self.plan.timeout,
            cancel: &self.plan.cancel,
        };
        predict(self.program, &what, &|range| split.batches(&self.inputs, range), &|_| {})
    }

    /// Accuracy, or agreement with the original where there are no labels.
    pub(super) fn accuracy(&self, classes: &[u32], split: &Split, reference: &[u32]) -> Result<Option<Interval>> {
        match split.labels() {
            Some(labels) => {
                let right = classes.iter().zip(labels).filter(|(a, b)| a == b).count() as u64;
                Ok(wilson(right, labels.len() as u64))
            }
            None => agreement(classes, reference).map(Some),
        }
    }

    /// Refuses a lowered file that the engine runs wrongly: its accuracy on `validation` is shown to be lower than that of the
    /// quantized model it stands for, by the reference execution.
    fn check_lowering(&self, task: &Task, canonical: &Model, classes: &[u32]) -> Result<()> {
        let expected = expected(canonical, self.validation, &self.inputs)?;
        let lost = match self.validation.labels() {
            Some(labels) => accuracy_difference(&expected, classes, labels)?,
            None => agreement(&expected, classes).map(|a| Interval { value: 1.0 - a.value, lo: 1.0 - a.hi, hi: 1.0 - a.lo })?,
        };
        if 100.0 * lost.lo <= LOWERING_TOLERANCE_POINTS {
            return Ok(());
        }
        let form = task.form.map_or("", Form::name);
        Err(Error::engine(format!(
            "{} gives wrong answers in the form `{form}`: {:.1} points less accurate than the model it stands for",
            task.engine,
            100.0 * lost.value
        ))
        .hint("use another form or engine for this model"))
    }

    /// Scores and measures the file at `path`.
    #[allow(clippy::too_many_arguments, reason = "the parts of one trial, used in one place")]
    pub(super) fn results(
        &self,
        task: &Task,
        variant: &Variant,
        canonical: Option<&Model>,
        path: &Path,
        make_energy: Option<Joules>,
        reference: &Reference,
        meter: &mut dyn Meter,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Scored> {
        let started = Instant::now();
        let is_reference = *task == reference.task;
        let classes = if is_reference { reference.classes.clone() } else { self.classes(path, task, self.validation)? };
        if let Some(canonical) = canonical {
            self.check_lowering(task, canonical, &classes)?;
        }
        let accuracy = self.accuracy(&classes, self.validation, &reference.classes)?;
        let points = |i: Interval| Interval { value: 100.0 * i.value, lo: 100.0 * i.lo, hi: 100.0 * i.hi };
        let accuracy_drop_points = match self.validation.labels() {
            _ if is_reference => None,
            Some(labels) => Some(points(accuracy_difference(&reference.classes, &classes, labels)?)),
            // Without labels the original agrees with itself by definition.
            None => accuracy.map(|a| points(Interval { value: 1.0 - a.value, lo: 1.0 - a.hi, hi: 1.0 - a.lo })),
        };
        let left = self.timeout - Seconds::from(started.elapsed());
        if left.0 <= 0.0 {
            return Err(Error::engine(format!("scoring it took longer than the trial's {}", self.timeout)));
        }
        let measurement = self.measure(task, path, reference, left, meter, progress)?;
        if measurement.energy.is_none() {
            return Ok(Scored::Disturbed(measurement.warnings.into_iter().next().unwrap_or_else(|| "no window was valid".to_owned())));
        }
        let energy_ratio_engine = match *task == task.base() {
            true => Some(Interval { value: 1.0, lo: 1.0, hi: 1.0 }),
            false => measurement.compared().map(|c| c.ratio),
        };
        Ok(Scored::Results(Box::new(Results {
            variant: facts(variant),
            accuracy,
            accuracy_drop_points,
            test_accuracy: None,
            measurement,
            energy_ratio_engine,
            make_energy,
        })))
    }

    /// In the blocks are the reference, the original under the same conditions where that is something else, and the file.
    fn measure(
        &self,
        task: &Task,
        path: &Path,
        reference: &Reference,
        left: Seconds,
        meter: &mut dyn Meter,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Measurement> {
        let subject = |label: &str, model: &Path, task: &Task| Subject {
            label: label.to_owned(),
            model: model.to_owned(),
            engine: task.engine.clone(),
            options: task.conditions.options(&self.options),
            samples: Arc::clone(&self.samples),
        };
        let base = task.base();
        let mut subjects = vec![subject("reference", &reference.path, &reference.task)];
        if base != reference.task && base != *task {
            subjects.push(subject("original", &reference.path, &base));
        }
        if *task != reference.task {
            subjects.push(subject("variant", path, task));
        }
        let pairs = if subjects.len() == 3 { vec![(2, 1)] } else { Vec::new() };
        let plan = Plan { max_time: Some(left), pairs, ..self.plan.clone() };
        let mut measured = measure(self.program, &subjects, meter, &plan, progress)?;
        measured.pop().unwrap_or_else(|| Err(Error::engine("nothing was measured")))
    }
}

/// What the reference execution predicts.
fn expected(model: &Model, split: &Split, inputs: &[String]) -> Result<Vec<u32>> {
    let executor = Executor::new(model)?;
    let graph = model.graph();
    let output = graph.output.first().map(|o| o.name()).ok_or_else(|| Error::bad_input("the model has no outputs"))?;
    let tensors = split.batches(inputs, 0..split.len())?;
    let given: Vec<(&str, &Tensor)> = inputs.iter().map(String::as_str).zip(&tensors).collect();
    let scores = executor.run_batched(&given, &[output])?;
    let scores = scores.get(output).ok_or_else(|| Error::bad_input("the model's first output was not worked out"))?;
    top_classes(scores.as_f32()?, scores.len() / split.len().max(1))
}

/// What a variant is, as studies store it.
fn facts(variant: &Variant) -> VariantFacts {
    VariantFacts {
        params: variant.totals.params,
        macs: variant.totals.macs.exact(),
        model_bytes: variant.size(),
        model_sha256: variant.sha256.clone(),
        pruning_ratio: variant.pruning_ratio,
        weight_bits: variant.totals.weight_bits,
    }
}
