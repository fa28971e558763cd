//! What a model predicts, on all cores: several children, each pinned to a core of its own.

use super::LoadOptions;
use super::runner::{Job, MemoryLimit, Program, Runner};
use crate::stats::top_classes;
use crate::sys::allowed_cpus;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
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

/// The scores of some samples that follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows<'a> {
    /// The first sample.
    pub first: usize,
    /// The model's first output for these samples, row-major [samples, classes]; no value is NaN.
    pub scores: &'a [f32],
    /// Scores of one sample, at least 1.
    pub classes: usize,
}

/// The class with the largest score of each sample; the first one where several are equal. Arguments and errors are those of
/// [`predict_rows`].
pub fn predict(
    program: &Program,
    what: &Predict<'_>,
    inputs: &(dyn Fn(Range<usize>) -> Result<Vec<Tensor>> + Sync),
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Vec<u32>> {
    let parts = Mutex::new(BTreeMap::new());
    let keep = |rows: Rows<'_>| {
        let top = top_classes(rows.scores, rows.classes)?;
        // Nothing here can panic while it holds the lock.
        parts.lock().unwrap_or_else(PoisonError::into_inner).insert(rows.first, top);
        Ok(())
    };
    predict_rows(program, what, inputs, &keep, progress)?;
    Ok(parts.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().flatten().collect())
}

/// Predicts with the model file as it is, on the engine that will run it. `inputs` gives the tensors of a range of samples, one
/// per model input, samples first. `consume` gets every sample's scores once, a few hundred samples at a time, in no fixed order
/// and from several threads: all of them need not fit in memory. `progress` is told how many samples are done.
///
/// # Errors
/// A child fails, inputs do not fit the model, an output is not a number, `consume` fails, or `cancel` was set.
pub fn predict_rows(
    program: &Program,
    what: &Predict<'_>,
    inputs: &(dyn Fn(Range<usize>) -> Result<Vec<Tensor>> + Sync),
    consume: &(dyn Fn(Rows<'_>) -> Result<()> + Sync),
    progress: &(dyn Fn(usize) + Sync),
) -> Result<()> {
    if what.count == 0 {
        return Err(Error::bad_input("there are no samples to predict"));
    }
    let cpus = allowed_cpus().unwrap_or_default();
    let workers = if what.workers == 0 { cpus.len().max(1) } else { what.workers }.min(what.count.div_ceil(CHUNK));
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let part = |worker: usize| -> Result<()> {
        let range = what.count * worker / workers..what.count * (worker + 1) / workers;
        let cpu = cpus.get(worker % cpus.len().max(1)).filter(|_| what.options.threads == 1);
        let job = Job {
            model: what.model.clone(),
            engine: what.engine.clone(),
            options: what.options.clone(),
            cpus: cpu.into_iter().copied().collect(),
            timeout: what.timeout,
            memory: MemoryLimit::default(),
        };
        let mut runner = Runner::spawn(program, &job)?;
        for start in range.clone().step_by(CHUNK) {
            if what.cancel.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed) {
                return Err(Error::new(crate::ErrorKind::Interrupted, "interrupted while predicting"));
            }
            let chunk = start..range.end.min(start + CHUNK);
            let n = chunk.len();
            let outputs = runner.infer(&inputs(chunk)?)?;
            let first = outputs.first().ok_or_else(|| Error::bad_input("the model has no outputs"))?.as_f32()?;
            consume(rows(start, n, first)?)?;
            progress(done.fetch_add(n, Ordering::Relaxed) + n);
        }
        Ok(())
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
    let failures: Vec<Error> = parts.into_iter().filter_map(Result::err).collect();
    let real = failures.iter().position(|e| e.kind() != crate::ErrorKind::Interrupted).unwrap_or(0);
    failures.into_iter().nth(real).map_or(Ok(()), Err)
}

/// The output for `n` samples from `first` on, checked.
fn rows(first: usize, n: usize, scores: &[f32]) -> Result<Rows<'_>> {
    let classes = scores.len() / n.max(1);
    if classes == 0 || scores.len() != classes * n {
        return Err(Error::bad_input("the model's first output has no scores for each sample"));
    }
    match scores.iter().position(|x| x.is_nan()) {
        None => Ok(Rows { first, scores, classes }),
        Some(at) => Err(Error::engine(format!("the score of sample {} is not a number", first + at / classes))
            .hint("the model overflows on this engine: use another lowering, or leave this layer in float")),
    }
}
