//! The stages of a screening, within the time that it has.

use super::check::{Fault, Probe, Suspect, check, classes};
use super::layers;
use super::model;
use super::table::{Outcome, Screening};
use crate::compress::Calibration;
use crate::energy::Meter;
use crate::engine::LoadOptions;
use crate::lower::Form;
use crate::measure::{Measurement, Plan, Progress, Subject, measure};
use crate::model::eval::part;
use crate::onnx::{Model, sha256_hex};
use crate::recipe::Recipe;
use crate::runner::Program;
use crate::tensor::Tensor;
use crate::units::Seconds;
use crate::{Result, atomic};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Runs that measured processes rotate over: enough that no input's luck counts, few enough to stay in the cache.
const RUNS: usize = 16;

/// What is screened, and how.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// The program that runs models.
    pub program: &'a Program,
    /// The original.
    pub model: &'a Model,
    /// The bytes of its file.
    pub bytes: &'a [u8],
    /// Quantizations without anything else, whose forms are tried.
    pub recipes: Vec<Recipe>,
    /// Samples for those that quantize activations.
    pub calibration: Option<&'a Calibration>,
    /// Engines, the reference's first.
    pub engines: Vec<String>,
    /// Forms to try on every engine; empty for those that each is offered.
    pub forms: Vec<Form>,
    /// Numbers of threads, the reference's first.
    pub threads: Vec<usize>,
    /// Samples per run, the reference's first.
    pub batches: Vec<usize>,
    /// Numbers for open dimensions other than the batch.
    pub options: LoadOptions,
    /// Samples that are measured: one tensor per input of the model, in its order, enough for a few runs of the largest batch.
    pub samples: Arc<Vec<Tensor>>,
    /// What forms are checked on.
    pub probe: Probe,
    /// Layers that are screened, at most, the largest first.
    pub most_layers: usize,
    /// Processes, windows, seed, timeout, whom to ask whether to stop.
    pub plan: Plan,
    /// The whole takes about that long at most: rounds are left out, then layers.
    pub max_time: Seconds,
}

/// What happens, for progress.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stage begins.
    Stage(&'a str),
    /// Windows of it.
    Measuring(&'a Progress<'a>),
}

/// Screens a model.
///
/// # Errors
/// The first engine does not run the original; the meter or the disk fails; or [`Plan::cancel`] was set.
pub fn screen(target: &Target<'_>, meter: &mut dyn Meter, observe: &mut dyn FnMut(Event<'_>)) -> Result<Screening> {
    let folder = tempfile::tempdir().map_err(|e| crate::Error::write(std::env::temp_dir(), e))?;
    let mut session = Session { target, meter, observe, folder: folder.path(), began: Instant::now(), remarks: Vec::new() };
    let mut screening = Screening { ways: model::originals(&mut session)?, ..Screening::default() };
    let made = model::quantized(&mut session)?;
    screening.layers = layers::layers(&mut session, &made, &screening.ways)?;
    let forms = model::forms(&mut session, &made, &screening)?;
    screening.ways.extend(forms);
    screening.took = session.began.elapsed().into();
    screening.remarks = session.remarks;
    Ok(screening)
}

/// A screening under way.
pub(super) struct Session<'a, 't> {
    pub(super) target: &'t Target<'a>,
    meter: &'t mut dyn Meter,
    observe: &'t mut dyn FnMut(Event<'_>),
    folder: &'t Path,
    began: Instant,
    pub(super) remarks: Vec<String>,
}

impl Session<'_, '_> {
    pub(super) fn stage(&mut self, what: &str) {
        (self.observe)(Event::Stage(what));
    }

    /// Time that is left.
    pub(super) fn left(&self) -> Seconds {
        Seconds((self.target.max_time - Seconds::from(self.began.elapsed())).0.max(0.0))
    }

    /// Measures subjects, the first as the reference, in at most the given share of the time that is left; pairs are compared.
    pub(super) fn measure(&mut self, subjects: &[Subject], pairs: Vec<(usize, usize)>, share: f64) -> Result<Vec<Result<Measurement>>> {
        let limit = Seconds(self.left().0 * share);
        let plan = Plan { pairs, max_time: Some(limit), ..self.target.plan.clone() };
        let Session { target, meter, observe, .. } = self;
        measure(target.program, subjects, *meter, &plan, &mut |p| observe(Event::Measuring(p)))
    }

    /// Writes a file that is measured, under the hash of its bytes.
    pub(super) fn store(&self, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(format!("{}.onnx", sha256_hex(bytes)));
        if !path.exists() {
            atomic::write(&path, bytes)?;
        }
        Ok(path)
    }

    /// A way to run the file at `path`.
    pub(super) fn subject(&self, label: String, path: &Path, engine: &str, options: LoadOptions) -> Result<Subject> {
        let rows = |t: &Tensor| t.shape().first().copied().unwrap_or(0).min(RUNS * options.batch);
        let samples = self.target.samples.iter().map(|t| part(t, 0, 0, rows(t))).collect::<Result<_>>()?;
        Ok(Subject { label, model: path.to_owned(), engine: engine.to_owned(), options, samples: Arc::new(samples) })
    }

    /// How a model is loaded on so many threads in batches of so many.
    pub(super) fn options(&self, threads: usize, batch: usize) -> LoadOptions {
        LoadOptions { threads, batch, ..self.target.options.clone() }
    }

    /// The threads and batch of the reference.
    pub(super) fn base(&self) -> (usize, usize) {
        let first = |list: &[usize]| list.first().copied().unwrap_or(1);
        (first(&self.target.threads), first(&self.target.batches))
    }

    /// The top classes of the probe by the reference execution, where accuracy can be checked.
    pub(super) fn classes(&mut self, model: &Model, what: &str) -> Vec<u32> {
        if self.target.probe.labels.is_none() {
            return Vec::new();
        }
        classes(model, &self.target.probe).unwrap_or_else(|e| {
            self.remarks.push(format!("the accuracy of {what} is not checked: {e}"));
            Vec::new()
        })
    }

    /// Checks a form on its engine. `None`: it is as it should be. Where nothing can be said, a float model is taken as it is, and any
    /// other form is not.
    pub(super) fn fault(&mut self, (model, path, form): (&Model, &Path, Form), engine: &str, quantized: &[u32]) -> Result<Option<Outcome>> {
        let (_, batch) = self.base();
        let options = self.options(1, batch);
        let suspect = Suspect { model, path, form, engine, options: &options, quantized };
        let (plan, probe) = (&self.target.plan, &self.target.probe);
        Ok(match check(self.target.program, &suspect, probe, plan.timeout, &plan.cancel) {
            Ok(Ok(_)) => None,
            Ok(Err(Fault::Refused(reason))) => Some(Outcome::Refused { reason }),
            Ok(Err(fault)) => Some(Outcome::Wrong { reason: fault.to_string() }),
            Err(e) if matches!(e.kind(), crate::ErrorKind::Interrupted | crate::ErrorKind::Environment) => return Err(e),
            Err(e) if form == Form::Float => {
                self.remarks.push(format!("the original is not checked on {engine}: {e}"));
                None
            }
            Err(e) => Some(Outcome::Refused { reason: format!("it cannot be checked: {e}") }),
        })
    }
}
