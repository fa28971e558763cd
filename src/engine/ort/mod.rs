//! The ONNX Runtime engine: a shared library that is found when the program runs.

mod library;
mod places;
mod values;

use super::refusal::explain;
use super::stated::Stated;
use super::{Engine, Found, LoadOptions, Session, Source, Spec, check_inputs, check_options};
use crate::tensor::Tensor;
use crate::{Error, Result};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session as Native, SessionInputValue};
use std::hint::black_box;

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
        let builder = library::loaded(|library| Native::builder(&library.environment))?.map_err(|e| refused(&e))?;
        let stated = Stated::read(model, options)?;
        let session = configured(builder, options.threads).and_then(|builder| read(builder, &stated, model))?;
        let told = |index: usize| {
            let shape = session.outputs().get(index)?.dtype().tensor_shape()?;
            shape.iter().map(|&n| usize::try_from(n).ok()).collect()
        };
        let outputs = stated.outputs("ONNX Runtime", told)?;
        for spec in stated.inputs.iter().chain(&outputs) {
            values::check(spec)?;
        }
        Ok(Box::new(Loaded { session, inputs: stated.inputs, outputs, slots: Vec::new() }))
    }
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
}

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
}

/// Values that own a copy of the tensors.
fn native(specs: &[Spec], inputs: &[Tensor]) -> Result<Vec<SessionInputValue<'static>>> {
    check_inputs(specs, inputs)?;
    inputs.iter().map(values::to_native).collect()
}

fn refused(e: &ort::Error) -> Error {
    explain(NAME, e.message())
}
