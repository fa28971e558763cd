//! The ONNX Runtime engine: a shared library that is found when the program runs.

mod library;
mod places;
mod values;

use super::profile::{Profiled, ort as told};
use super::refusal::explain;
use super::stated::Stated;
use super::{Engine, Found, LoadOptions, Session, Source, Spec, check_inputs, check_options};
use crate::tensor::Tensor;
use crate::{Error, Result};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session as Native, SessionInputValue};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

const NAME: &str = "ort";

/// ONNX Runtime, wherever it is.
pub(super) struct Ort;

impl Engine for Ort {
    fn name(&self) -> &'static str {
        NAME
    }

    fn linked(&self) -> bool {
        false
    }

    fn find(&self) -> Result<Found> {
        library::loaded(|library| library.found.clone())
    }

    fn load(&self, model: Source<'_>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        check_options(options)?;
        let stated = Stated::read(model, options)?;
        let session = read(builder(options.threads)?, &stated, model)?;
        let told = |index: usize| {
            let shape = session.outputs().get(index)?.dtype().tensor_shape()?;
            shape.iter().map(|&n| usize::try_from(n).ok()).collect()
        };
        let outputs = stated.outputs("ONNX Runtime", told)?;
        for spec in stated.inputs.iter().chain(&outputs) {
            values::check(spec)?;
        }
        let file = match model {
            Source::Path(path) => Some((path.to_owned(), options.clone())),
            Source::Bytes(_) => None,
        };
        Ok(Box::new(Loaded { session, inputs: stated.inputs, outputs, slots: Vec::new(), file }))
    }
}

fn builder(threads: usize) -> Result<SessionBuilder> {
    let builder = library::loaded(|library| Native::builder(&library.environment))?.map_err(|e| refused(&e))?;
    configured(builder, threads)
}

/// `threads` threads within an operator, operators one after the other, all optimisations. Threads that wait for work sleep:
/// spinning, they would draw power for as long as the next operator, or the next request, has nothing for them.
fn configured(builder: SessionBuilder, threads: usize) -> Result<SessionBuilder> {
    let configured = || -> ort::Result<SessionBuilder> {
        Ok(builder
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_parallel_execution(false)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_op_spinning(false)?)
    };
    configured().map_err(|e| refused(&e))
}

/// The file itself with numbers for the names of its dimensions, which saves a copy; where names do not say it all, the bytes of the
/// model with its numbers in it.
fn read(mut builder: SessionBuilder, stated: &Stated, source: Source<'_>) -> Result<Native> {
    let session = match (source, &stated.symbols) {
        (Source::Path(path), Some(symbols)) => {
            for (name, &n) in symbols {
                builder = builder.with_dimension_override(name, n as i64).map_err(|e| refused(&e.into()))?;
            }
            builder.commit_from_file(path)
        }
        _ => builder.commit_from_memory(&stated.model.to_bytes()?),
    };
    session.map_err(|e| refused(&e))
}

/// A session with its inputs as ONNX Runtime's values.
struct Loaded {
    session: Native,
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
    slots: Vec<Vec<SessionInputValue<'static>>>,
    /// Where the model came from, to be loaded again with a profile.
    file: Option<(PathBuf, LoadOptions)>,
}

/// Runs of a new session that are not counted: memory is found in them.
const SETTLING: u64 = 10;

impl Session for Loaded {
    fn inputs(&self) -> &[Spec] {
        &self.inputs
    }

    fn outputs(&self) -> &[Spec] {
        &self.outputs
    }

    fn prepare(&mut self, slots: &[Vec<Tensor>]) -> Result<()> {
        self.slots = slots.iter().map(|inputs| native(&self.inputs, inputs)).collect::<Result<_>>()?;
        Ok(())
    }

    fn run_slot(&mut self, slot: usize) -> Result<()> {
        let Some(inputs) = self.slots.get(slot) else {
            return Err(Error::bad_input(format!("input slot {slot} was not prepared")));
        };
        match self.session.run(&inputs[..]) {
            Ok(outputs) => {
                black_box(outputs);
                Ok(())
            }
            Err(e) => Err(refused(&e)),
        }
    }

    fn infer(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let inputs = native(&self.inputs, inputs)?;
        let outputs = self.session.run(&inputs[..]).map_err(|e| refused(&e))?;
        outputs.values().zip(&self.outputs).map(|(value, spec)| values::from_native(&value, spec)).collect()
    }

    /// Whether a session keeps a profile is decided when it is made, so this makes another one of the same file. ONNX Runtime writes
    /// the profile to a file, which goes with its folder.
    fn profile(&mut self, slot: usize, runs: u64) -> Result<Profiled> {
        let Some(inputs) = self.slots.get(slot) else {
            return Err(Error::bad_input(format!("input slot {slot} was not prepared")));
        };
        let Some((path, options)) = &self.file else {
            return Err(Error::engine("ONNX Runtime profiles models that are loaded from a file only"));
        };
        let folder = tempfile::tempdir().map_err(|e| Error::write(std::env::temp_dir(), e))?;
        let builder = builder(options.threads)?.with_profiling(folder.path().join("profile")).map_err(|e| refused(&e.into()))?;
        let mut session = read(builder, &Stated::read(Source::Path(path), options)?, Source::Path(path))?;
        let mut start = Instant::now();
        for run in 0..SETTLING + runs {
            if run == SETTLING {
                start = Instant::now();
            }
            black_box(session.run(&inputs[..]).map_err(|e| refused(&e))?);
        }
        let wall_ns = start.elapsed().as_nanos() as u64;
        let written = session.end_profiling().map_err(|e| refused(&e))?;
        let json =
            std::fs::read(Path::new(&written)).map_err(|e| Error::environment(format!("ONNX Runtime's profile is not there: {e}")))?;
        Ok(Profiled { wall_ns, nodes: told::parse(&json, SETTLING)? })
    }
}

/// Values that own a copy of the tensors.
fn native(specs: &[Spec], inputs: &[Tensor]) -> Result<Vec<SessionInputValue<'static>>> {
    check_inputs(specs, inputs)?;
    inputs.iter().map(values::to_native).collect()
}

fn refused(e: &ort::Error) -> Error {
    explain(NAME, e.message())
}
