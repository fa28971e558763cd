//! The classes a model predicts, on all cores: several children, each pinned to a core of its own.

use super::LoadOptions;
use super::runner::{Job, Program, Runner};
use crate::stats::top_classes;
use crate::sys::allowed_cpus;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Samples that travel to a child at once; bounds the memory.
const CHUNK: usize = 256;

/// What is to be predicted, and how.
#[derive(Debug, Clone)]
pub struct Predict<'a> {
    /// The model file.
    pub model: PathBuf,
    /// The engine's name.
    pub engine: String,
    /// Batch, threads of each child, dimensions.
    pub options: LoadOptions,
    /// Samples 0..count are predicted.
    pub count: usize,
    /// Children at once; 0 for one per CPU this process may use.
    pub workers: usize,
    /// How long a child may take for a chunk of 256 samples.
    pub timeout: Duration,
    /// Set by others to stop.
    pub cancel: &'a AtomicBool,
}

/// Predictions of `count` samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Classes {
    /// The class with the largest score, per sample; the first one where several are equal.
    pub top: Vec<u32>,
    /// Scores of the first output, `[count, classes]`, as float32.
    pub scores: Tensor,
}

/// Predicts with the model file as it is, on the engine that will run it. `inputs` gives the tensors of a range of samples, one
/// per model input, samples first; `progress` is told how many samples are done.
///
/// # Errors
/// A child fails, inputs do not fit the model, an output is not a number, or `cancel` was set.
pub fn predict(
    program: &Program,
    what: &Predict<'_>,
    inputs: &(dyn Fn(Range<usize>) -> Result<Vec<Tensor>> + Sync),
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Classes> {
    if what.count == 0 {
        return Err(Error::bad_input("there are no samples to predict"));
    }
    let cpus = allowed_cpus().unwrap_or_default();
    let workers = if what.workers == 0 { cpus.len().max(1) } else { what.workers }.min(what.count.div_ceil(CHUNK));
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let part = |worker: usize| -> Result<Vec<f32>> {
        let range = what.count * worker / workers..what.count * (worker + 1) / workers;
        let cpu = cpus.get(worker % cpus.len().max(1)).filter(|_| what.options.threads == 1);
        let job = Job {
            model: what.model.clone(),
            engine: what.engine.clone(),
            options: what.options.clone(),
            cpus: cpu.into_iter().copied().collect(),
            timeout: what.timeout,
        };
        let mut runner = Runner::spawn(program, &job)?;
        let mut scores = Vec::new();
        for start in range.clone().step_by(CHUNK) {
            if what.cancel.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed) {
                return Err(Error::new(crate::ErrorKind::Interrupted, "interrupted while predicting"));
            }
            let chunk = start..range.end.min(start + CHUNK);
            let n = chunk.len();
            let outputs = runner.infer(&inputs(chunk)?)?;
            let first = outputs.first().ok_or_else(|| Error::bad_input("the model has no outputs"))?.as_f32()?;
            if let Some(at) = first.iter().position(|x| x.is_nan()) {
                return Err(Error::engine(format!("the score of sample {} is not a number", start + at / (first.len() / n).max(1)))
                    .hint("the model overflows on this engine: use another lowering, or leave this layer in float"));
            }
            scores.extend_from_slice(first);
            progress(done.fetch_add(n, Ordering::Relaxed) + n);
        }
        Ok(scores)
    };
    let parts = std::thread::scope(|scope| {
        let work = |worker| {
            let part = part(worker);
            stop.fetch_or(part.is_err(), Ordering::Relaxed);
            part
        };
        let handles: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(Error::engine("a worker ended early")))).collect::<Vec<_>>()
    });
    // The first real failure tells more than the interruptions it caused in the others.
    let (mut scores, mut failure) = (Vec::new(), None::<Error>);
    for part in parts {
        match part {
            Ok(part) => scores.extend(part),
            Err(e) if failure.as_ref().is_none_or(|f| f.kind() == crate::ErrorKind::Interrupted) => failure = Some(e),
            Err(_) => {}
        }
    }
    match failure {
        Some(e) => Err(e),
        None => classes(what.count, scores),
    }
}

fn classes(count: usize, scores: Vec<f32>) -> Result<Classes> {
    let each = scores.len() / count;
    if each == 0 || scores.len() != each * count {
        return Err(Error::bad_input("the model's first output has no scores"));
    }
    Ok(Classes { top: top_classes(&scores, each)?, scores: Tensor::f32([count, each], scores)? })
}
