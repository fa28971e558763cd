//! Benchmarks of an ONNX file: one group for each metric.

use super::Energy;
use crate::engine::{LoadOptions, Session, Source, by_name};
use crate::measure::{made_up, rotation};
use crate::tensor::Tensor;
use crate::{Error, Result};
use ::criterion::Criterion;
use ::criterion::measurement::WallTime;
use std::path::Path;

/// Inputs that a benchmark rotates over.
const INPUTS: usize = 16;

/// An ONNX file that is loaded in this process and ready to run.
pub struct OnnxFile {
    name: String,
    engine: String,
    session: Box<dyn Session>,
    slots: usize,
    next: usize,
}

impl OnnxFile {
    /// Loads a file into tract, one sample a run on one thread; the inputs are seeded random numbers.
    ///
    /// # Errors
    /// The file cannot be read, or the engine refuses it.
    pub fn open(path: impl AsRef<Path>) -> Result<OnnxFile> {
        OnnxFile::open_with(path, "tract", &LoadOptions::default(), None)
    }

    /// The same on another engine, with other options, or with samples of your own: one tensor per input, samples first.
    ///
    /// # Errors
    /// As [`OnnxFile::open`]; or the samples do not fit.
    pub fn open_with(path: impl AsRef<Path>, engine: &str, options: &LoadOptions, samples: Option<&[Tensor]>) -> Result<OnnxFile> {
        let path = path.as_ref();
        let named = |e: Error| e.context(format!("`{}`", path.display()));
        let load = || {
            let mut session = by_name(engine)?.load(Source::Path(path), options)?;
            let invented = match samples {
                Some(_) => Vec::new(),
                None => made_up(session.inputs(), INPUTS, 0)?,
            };
            let slots = rotation(samples.unwrap_or(&invented), session.inputs())?;
            session.prepare(&slots)?;
            session.run_slot(0)?;
            Ok((session, slots.len()))
        };
        let (session, slots) = load().map_err(named)?;
        let name = path.file_stem().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        Ok(OnnxFile { name, engine: engine.to_owned(), session, slots, next: 0 })
    }

    /// One run, with the next of the inputs.
    ///
    /// # Errors
    /// The engine fails.
    pub fn run(&mut self) -> Result<()> {
        let slot = self.next;
        self.next = (slot + 1) % self.slots;
        self.session.run_slot(slot)
    }

    /// Time of a run: the group `NAME/latency` with the engine's name as the function.
    ///
    /// # Errors
    /// The engine failed in a run.
    pub fn latency(&mut self, c: &mut Criterion<WallTime>) -> Result<()> {
        let (mut group, engine) = (c.benchmark_group(format!("{}/latency", self.name)), self.engine.clone());
        let mut failed = None;
        group.bench_function(engine, |b| b.iter(|| self.kept(&mut failed)));
        group.finish();
        failed.map_or(Ok(()), Err)
    }

    /// Energy of a run: the group `NAME/energy`.
    ///
    /// # Errors
    /// As [`OnnxFile::latency`].
    pub fn energy(&mut self, energy: &Energy, c: &mut Criterion<Energy>) -> Result<()> {
        let (mut group, engine) = (energy.group(c, &format!("{}/energy", self.name)), self.engine.clone());
        let mut failed = None;
        group.bench_function(engine, |b| energy.iter(b, || self.kept(&mut failed)));
        group.finish();
        failed.map_or(Ok(()), Err)
    }

    /// Runs; the last failure is kept for the end, for nothing can be returned from inside a benchmark.
    fn kept(&mut self, failed: &mut Option<Error>) {
        if let Err(e) = self.run() {
            *failed = Some(e.context(format!("`{}`", self.name)));
        }
    }
}
