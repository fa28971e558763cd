//! Whether an engine computes what a file says: its outputs against the reference execution's, and the accuracy that is left.

use crate::engine::{LoadOptions, Predict, predict};
use crate::exec::Executor;
use crate::lower::Form;
use crate::model::Graph;
use crate::model::eval::{cast, join, part};
use crate::onnx::Model;
use crate::runner::{Job, MemoryLimit, Program, Runner};
use crate::stats::top_classes;
use crate::tensor::{DType, Tensor};
use crate::{Error, ErrorKind, Result};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Runs whose outputs are compared one by one.
const COMPARED: usize = 32;

/// Share of these whose top class must be that of the reference execution. (The tolerance leaves close decisions open.)
const AGREE: f64 = 0.9;

/// Accuracy, as a share, that a form may lose to the quantized model that it stands for. On small data two samples may.
const ACCURACY: f64 = 0.003;

/// How far an engine's outputs may be from the reference execution's of the same file, as a share of the largest output.
///
/// Float sums in another order stay below 1e-3. Where activations are rounded to 8 bits a value may fall on the other side of a half, and
/// engines may round activations of packed products; half precision adds up in half precision in some engines.
pub fn tolerance(form: Form) -> f32 {
    match form {
        Form::Float => 1e-3,
        // ONNX Runtime makes MatMulNBits of DequantizeLinear and MatMul, and rounds activations to 8 bits then.
        Form::DequantizeLinear => 0.02,
        Form::Half => 0.03,
        Form::Qdq | Form::QLinear | Form::Dynamic | Form::NBits => 0.05,
    }
}

/// What a form is checked on.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Names of the model's inputs.
    pub names: Vec<String>,
    /// One tensor for each, samples first.
    pub inputs: Vec<Tensor>,
    /// The class of each sample, where it is known.
    pub labels: Option<Vec<u32>>,
}

impl Probe {
    fn samples(&self) -> usize {
        self.inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(0)
    }

    /// Samples `from..to` of each input.
    fn part(&self, range: std::ops::Range<usize>) -> Result<Vec<Tensor>> {
        self.inputs.iter().map(|t| part(t, 0, range.start, range.len())).collect()
    }
}

/// What a check found in order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checked {
    /// Largest difference of an output, as a share of the largest output.
    pub difference: f32,
    /// Share of the compared samples with the same top class.
    pub agreement: f64,
    /// Accuracy of the quantized model less that of the form on the engine, in points; `None` without labels.
    pub loss_points: Option<f64>,
}

/// What is wrong with a form on an engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The engine does not load it, or fails or ends when it runs.
    Refused(String),
    /// An output is not a number.
    NotNumbers,
    /// Outputs are not those of the reference execution.
    Outputs {
        /// Largest difference, as a share of the largest output.
        difference: f32,
        /// What is allowed.
        tolerance: f32,
    },
    /// The outputs are close, the classes are not.
    Classes {
        /// Share with the same class.
        agreement: f64,
    },
    /// It is right less often than the quantized model.
    Accuracy {
        /// By that many points.
        points: f64,
    },
}

impl Fault {
    /// True when the engine runs it and gives something else than it should.
    pub fn is_wrong(&self) -> bool {
        !matches!(self, Fault::Refused(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Refused(why) => f.write_str(why),
            Fault::NotNumbers => f.write_str("its outputs are not numbers"),
            Fault::Outputs { difference, tolerance } => write!(
                f,
                "its outputs are not those of the reference execution: they differ by {:.3} of the largest, {tolerance} is allowed",
                difference
            ),
            Fault::Classes { agreement } => {
                write!(f, "its top class is that of the reference execution for {:.0} % of the samples only", 100.0 * agreement)
            }
            Fault::Accuracy { points } => {
                write!(f, "its accuracy is {points:.2} points below that of the quantized model, {} are allowed", 100.0 * ACCURACY)
            }
        }
    }
}

/// The top class of every sample of `probe` by the reference execution of `model`.
///
/// # Errors
/// The reference execution cannot run the model, or its first output has no scores for each sample.
pub fn classes(model: &Model, probe: &Probe) -> Result<Vec<u32>> {
    let graph = Graph::new(model);
    let output = first_output(&graph)?;
    let fed: Vec<(&str, &Tensor)> = probe.names.iter().map(String::as_str).zip(&probe.inputs).collect();
    let mut outputs = Executor::new(model)?.run_batched(&fed, &[output])?;
    let scores = outputs.remove(output).ok_or_else(|| Error::bad_input("the model has no outputs"))?;
    top_classes(scores.as_f32()?, scores.len() / probe.samples().max(1))
}

/// A form on an engine that is to be checked.
#[derive(Debug, Clone, Copy)]
pub struct Suspect<'a> {
    /// The model in the form.
    pub model: &'a Model,
    /// Its file.
    pub path: &'a Path,
    /// The form.
    pub form: Form,
    /// The engine.
    pub engine: &'a str,
    /// Batch and dimensions.
    pub options: &'a LoadOptions,
    /// The classes of the model that the form stands for, by the reference execution ([`classes`]); empty to leave accuracy aside.
    pub quantized: &'a [u32],
}

/// Runs a form on its engine and on the reference execution, and compares. The inner result is what is wrong with it.
///
/// # Errors
/// The reference execution cannot run it, so that nothing can be said; the engine is not there; or `cancel` was set.
pub fn check(
    program: &Program,
    suspect: &Suspect<'_>,
    probe: &Probe,
    timeout: Duration,
    cancel: &AtomicBool,
) -> Result<std::result::Result<Checked, Fault>> {
    let refused = |e: Error| match e.kind() {
        ErrorKind::Interrupted | ErrorKind::Environment => Err(e),
        _ => Ok(Err(Fault::Refused(e.to_string()))),
    };
    let runs = COMPARED.min(probe.samples() / suspect.options.batch.max(1));
    let got = match outputs(program, suspect, probe, runs, timeout) {
        Ok(got) => got,
        Err(e) => return refused(e),
    };
    let expected = reference(suspect, probe, runs)?;
    let mut worst = 0.0f32;
    for (got, expected) in got.iter().zip(&expected) {
        let (got, expected) = (float(got)?, float(expected)?);
        if got.iter().any(|v| !v.is_finite()) && expected.iter().all(|v| v.is_finite()) {
            return Ok(Err(Fault::NotNumbers));
        }
        worst = worst.max(distance(&got, &expected));
    }
    let tolerance = tolerance(suspect.form);
    if worst > tolerance {
        return Ok(Err(Fault::Outputs { difference: worst, tolerance }));
    }
    let agreement = agreement(&got, &expected, runs * suspect.options.batch)?;
    if agreement < AGREE {
        return Ok(Err(Fault::Classes { agreement }));
    }
    let Some(labels) = probe.labels.as_ref().filter(|labels| suspect.quantized.len() == labels.len()) else {
        return Ok(Ok(Checked { difference: worst, agreement, loss_points: None }));
    };
    let what = Predict {
        model: suspect.path.to_owned(),
        engine: suspect.engine.to_owned(),
        options: LoadOptions { threads: 1, ..suspect.options.clone() },
        count: labels.len(),
        workers: 0,
        timeout,
        cancel,
    };
    let classes = match predict(program, &what, &|range| probe.part(range), &|_| {}) {
        Ok(classes) => classes,
        Err(e) => return refused(e),
    };
    let right = |classes: &[u32]| classes.iter().zip(labels).filter(|(a, b)| a == b).count() as f64;
    let (lost, samples) = (right(suspect.quantized) - right(&classes), labels.len() as f64);
    let points = 100.0 * lost / samples;
    Ok(match lost > (ACCURACY * samples).max(2.0) {
        true => Err(Fault::Accuracy { points }),
        false => Ok(Checked { difference: worst, agreement, loss_points: Some(points) }),
    })
}

/// All outputs of the first `runs` runs on the engine, samples first.
fn outputs(program: &Program, suspect: &Suspect<'_>, probe: &Probe, runs: usize, timeout: Duration) -> Result<Vec<Tensor>> {
    let job = Job {
        model: suspect.path.to_owned(),
        engine: suspect.engine.to_owned(),
        options: LoadOptions { threads: 1, ..suspect.options.clone() },
        cpus: Vec::new(),
        timeout,
        memory: MemoryLimit::default(),
    };
    Runner::spawn(program, &job)?.infer(&probe.part(0..runs * suspect.options.batch)?)
}

/// The same by the reference execution, run by run: a form may quantize all of a run by one scale.
fn reference(suspect: &Suspect<'_>, probe: &Probe, runs: usize) -> Result<Vec<Tensor>> {
    let names: Vec<&str> = suspect.model.graph().output.iter().map(|o| o.name()).collect();
    let (executor, batch) = (Executor::new(suspect.model)?, suspect.options.batch);
    let mut columns: Vec<Vec<Tensor>> = vec![Vec::new(); names.len()];
    for run in 0..runs {
        let inputs = probe.part(run * batch..(run + 1) * batch)?;
        let fed: Vec<(&str, &Tensor)> = probe.names.iter().map(String::as_str).zip(&inputs).collect();
        let mut made = executor.run(&fed, &names)?;
        for (column, name) in columns.iter_mut().zip(&names) {
            column.extend(made.remove(*name));
        }
    }
    columns.iter().map(|column| join(&column.iter().collect::<Vec<_>>(), 0)).collect()
}

fn float(t: &Tensor) -> Result<Cow<'_, [f32]>> {
    match t.dtype() {
        DType::F32 => t.as_f32().map(Cow::Borrowed),
        _ => Ok(Cow::Owned(cast(t, DType::F32)?.as_f32()?.to_vec())),
    }
}

/// Largest difference as a share of the largest expected value. Where both are not finite, they agree if they are the same.
fn distance(got: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs()));
    let differ = |(a, b): (&f32, &f32)| if a.to_bits() == b.to_bits() { 0.0 } else { (a - b).abs() };
    let worst = got.iter().zip(expected).map(differ).fold(0.0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
    if worst == 0.0 { 0.0 } else { worst / largest.max(f32::MIN_POSITIVE) }
}

/// Share of `samples` whose first outputs are largest at the same place; 1 for outputs that are no scores.
fn agreement(got: &[Tensor], expected: &[Tensor], samples: usize) -> Result<f64> {
    let (Some(got), Some(expected)) = (got.first(), expected.first()) else { return Ok(1.0) };
    let width = got.len() / samples.max(1);
    if width == 0 || got.len() != width * samples || got.dtype() != DType::F32 {
        return Ok(1.0);
    }
    let (a, b) = (top_classes(got.as_f32()?, width)?, top_classes(expected.as_f32()?, width)?);
    Ok(a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / samples as f64)
}

fn first_output<'m>(graph: &Graph<'m>) -> Result<&'m str> {
    let outputs = &graph.model().graph().output;
    outputs.first().map(|o| o.name()).ok_or_else(|| Error::bad_input("the model has no outputs"))
}
