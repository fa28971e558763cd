//! One trial: make the variant, score it, measure it beside the reference.

use crate::compress::Calibration;
use crate::data::Split;
use crate::energy::{Meter, Target, WindowEnergy};
use crate::engine::{LoadOptions, Predict, predict};
use crate::make::{Variant, make};
use crate::measure::{Measurement, Plan, Progress, Subject, measure};
use crate::onnx::Model;
use crate::recipe::Recipe;
use crate::runner::Program;
use crate::stats::{Interval, accuracy_difference, agreement, wilson};
use crate::study::{Results, VariantFacts};
use crate::tensor::Tensor;
use crate::units::{Joules, Seconds};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What all trials of a sweep share.
pub(super) struct Workbench<'a> {
    pub(super) program: &'a Program,
    pub(super) original: &'a Model,
    pub(super) bytes: &'a [u8],
    pub(super) engine: &'a str,
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

/// The original: its file and what it predicts on `validation`.
pub(super) struct Reference {
    pub(super) path: PathBuf,
    pub(super) classes: Vec<u32>,
}

/// What came of measuring.
pub(super) enum Scored {
    Results(Box<Results>),
    /// The machine was too busy to measure anything that counts: not a fault of the variant.
    Disturbed(String),
}

impl Workbench<'_> {
    /// Makes the variant and says what making it cost, as far as the meter can tell.
    pub(super) fn make(&self, recipe: &Recipe, meter: &mut dyn Meter) -> Result<(Variant, Option<Joules>)> {
        let start = meter.read(Target::this_process());
        let variant = make(self.original, self.bytes, recipe, self.calibration.as_ref())?;
        let end = meter.read(Target::this_process());
        let energy = match meter.energy(&start, &end) {
            WindowEnergy::Valid { total, .. } if !recipe.is_original() => Some(total),
            _ => None,
        };
        Ok((variant, energy))
    }

    /// The classes that the file at `path` predicts for a split.
    pub(super) fn classes(&self, path: &Path, split: &Split) -> Result<Vec<u32>> {
        let what = Predict {
            model: path.to_owned(),
            engine: self.engine.to_owned(),
            options: LoadOptions { threads: 1, ..self.options.clone() },
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

    /// Scores and measures the file at `path`; `None` for the reference itself.
    pub(super) fn results(
        &self,
        variant: &Variant,
        path: &Path,
        make_energy: Option<Joules>,
        reference: &Reference,
        meter: &mut dyn Meter,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Scored> {
        let started = Instant::now();
        let is_reference = path == reference.path;
        let classes = if is_reference { reference.classes.clone() } else { self.classes(path, self.validation)? };
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
        let measurement = self.measure(path, is_reference, reference, left, meter, progress)?;
        if measurement.energy.is_none() {
            return Ok(Scored::Disturbed(measurement.warnings.into_iter().next().unwrap_or_else(|| "no window was valid".to_owned())));
        }
        let energy_ratio_engine = measurement.energy.as_ref().and_then(|e| e.ratio);
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

    fn measure(
        &self,
        path: &Path,
        is_reference: bool,
        reference: &Reference,
        left: Seconds,
        meter: &mut dyn Meter,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Measurement> {
        let subject = |label: &str, model: &Path| Subject {
            label: label.to_owned(),
            model: model.to_owned(),
            engine: self.engine.to_owned(),
            options: self.options.clone(),
            samples: Arc::clone(&self.samples),
        };
        let mut subjects = vec![subject("reference", &reference.path)];
        if !is_reference {
            subjects.push(subject("variant", path));
        }
        let plan = Plan { max_time: Some(left), ..self.plan.clone() };
        let mut measured = measure(self.program, &subjects, meter, &plan, progress)?;
        measured.pop().unwrap_or_else(|| Err(Error::engine("nothing was measured")))
    }
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
