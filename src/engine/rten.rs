//! The rten engine.

use super::profile::{NodeTime, Profiled, rten as told};
use super::refusal::explain;
use super::stated::Stated;
use super::{Engine, Found, LoadOptions, Session, Source, Spec, check_inputs, check_options};
use crate::model::eval::cast;
use crate::sys::printed;
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};
use rten::{Dimension, LoadError, LoadErrorKind, Model, ModelOptions, NodeId, RunError, RunOptions, ThreadPool, Value, ValueOrView};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const NAME: &str = "rten";

/// rten, linked into the program.
pub(super) struct Rten;

impl Engine for Rten {
    fn name(&self) -> &'static str {
        NAME
    }

    fn linked(&self) -> bool {
        true
    }

    fn find(&self) -> Result<Found> {
        Ok(Found { version: "0.27.0".to_owned(), library: None })
    }

    fn load(&self, model: Source<'_>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        check_options(options)?;
        let stated = Stated::read(model, options)?;
        // A pool of its own: the one that rten makes by itself has as many threads as there are cores.
        let pool = Arc::new(ThreadPool::with_num_threads(options.threads));
        let model = pool.run(|| read(&stated, model)).map_err(|e| refused(&e.to_string()))?;
        let by_name = |name: &str| model.node_id(name).map_err(|e: RunError| refused(&e.to_string()));
        let inputs = stated.inputs.iter().map(|spec| by_name(&spec.name)).collect::<Result<_>>()?;
        let outputs = stated.outputs(NAME, |index| model.output_ids().get(index).and_then(|&id| shape(&model, id)))?;
        for spec in stated.inputs.iter().chain(&outputs) {
            native_dtype(spec)?;
        }
        Ok(Box::new(Loaded {
            run: RunOptions::default().with_thread_pool(Some(pool)),
            inputs: stated.inputs,
            input_ids: inputs,
            output_ids: model.output_ids().to_vec(),
            outputs,
            model,
            slots: Vec::new(),
        }))
    }
}

/// The file itself where it can be taken as it is, which saves a copy; else the bytes of the model with its numbers in it.
fn read(stated: &Stated, source: Source<'_>) -> std::result::Result<Model, Box<dyn std::error::Error + Send + Sync>> {
    let mut options = ModelOptions::with_all_ops();
    options.prepack_weights(true);
    let known = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    if let Source::Path(path) = source
        && !stated.rewritten
        && known(path)
    {
        match options.load_file(path) {
            // rten takes data from files with certain names only; read by us, it is inside the bytes.
            Err(e) if e.kind() == LoadErrorKind::ExternalDataError => {}
            other => return other.map_err(|e: LoadError| e.into()),
        }
    }
    Ok(options.load(stated.model.to_bytes()?)?)
}

/// The shape that rten worked out for a value, if it has numbers only.
fn shape(model: &Model, id: NodeId) -> Option<Vec<usize>> {
    let number = |dim: &Dimension| match dim {
        Dimension::Fixed(n) => Some(*n),
        Dimension::Symbolic(_) => None,
    };
    model.node_info(id)?.shape()?.iter().map(number).collect()
}

/// A model with its inputs in rten's own form.
struct Loaded {
    model: Model,
    run: RunOptions,
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
    input_ids: Vec<NodeId>,
    output_ids: Vec<NodeId>,
    slots: Vec<Vec<Value>>,
}

impl Session for Loaded {
    fn inputs(&self) -> &[Spec] {
        &self.inputs
    }

    fn outputs(&self) -> &[Spec] {
        &self.outputs
    }

    fn prepare(&mut self, slots: &[Vec<Tensor>]) -> Result<()> {
        self.slots = slots.iter().map(|inputs| self.native(inputs)).collect::<Result<_>>()?;
        Ok(())
    }

    fn run_slot(&mut self, slot: usize) -> Result<()> {
        let Some(inputs) = self.slots.get(slot) else {
            return Err(Error::bad_input(format!("input slot {slot} was not prepared")));
        };
        black_box(self.run(inputs)?);
        Ok(())
    }

    fn infer(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let outputs = self.run(&self.native(inputs)?)?;
        outputs.into_iter().zip(&self.outputs).map(|(value, spec)| from_native(value, spec)).collect()
    }

    /// rten tells the times of its nodes only in print, to the microsecond. What printing takes falls between the nodes: the same
    /// lines are printed once more, and their time is taken off.
    fn profile(&mut self, slot: usize, runs: u64) -> Result<Profiled> {
        if slot >= self.slots.len() {
            return Err(Error::bad_input(format!("input slot {slot} was not prepared")));
        }
        let quiet = std::mem::take(&mut self.run.verbose);
        let mut sum = Profiled::default();
        let mut left = runs;
        self.run.verbose = true;
        let done = loop {
            if left == 0 {
                break Ok(());
            }
            // A few runs at a time: what they print is kept.
            let some = left.min(PRINTED_RUNS);
            match self.told(slot, some) {
                Ok(profiled) => sum.add(profiled),
                Err(e) => break Err(e),
            }
            left -= some;
        };
        self.run.verbose = quiet;
        done.map(|()| sum)
    }
}

/// Runs of which what is printed is kept at once.
const PRINTED_RUNS: u64 = 64;

impl Loaded {
    /// Runs `runs` times and listens.
    fn told(&self, slot: usize, runs: u64) -> Result<Profiled> {
        let cannot = |e: std::io::Error| Error::environment(format!("what rten prints cannot be caught: {e}"));
        let timed = || -> Result<u64> {
            let start = Instant::now();
            for _ in 0..runs {
                black_box(self.run(&self.slots[slot])?);
            }
            Ok(start.elapsed().as_nanos() as u64)
        };
        let (raw, text) = printed(timed).map_err(cannot)?;
        let again = || {
            let start = Instant::now();
            // As rten prints: line by line, each at once.
            text.lines().for_each(|line| drop(writeln!(std::io::stdout(), "{line}")));
            start.elapsed().as_nanos() as u64
        };
        let (printing, _) = printed(again).map_err(cannot)?;
        let nodes = told::parse(&text);
        if nodes.is_empty() {
            return Err(Error::engine("rten printed no times of its nodes"));
        }
        let within: u64 = nodes.iter().map(|n: &NodeTime| n.ns).sum();
        Ok(Profiled { wall_ns: raw?.saturating_sub(printing).max(within), nodes })
    }
}

impl Loaded {
    fn native(&self, inputs: &[Tensor]) -> Result<Vec<Value>> {
        check_inputs(&self.inputs, inputs)?;
        self.inputs.iter().zip(inputs).map(|(spec, tensor)| to_native(tensor, spec)).collect()
    }

    /// rten takes a list of its own for each run; it holds views of the inputs, not their elements.
    fn run(&self, inputs: &[Value]) -> Result<Vec<Value>> {
        let views = self.input_ids.iter().zip(inputs).map(|(&id, value)| (id, ValueOrView::View(value.as_view())));
        self.model.run(views.collect(), &self.output_ids, Some(self.run.clone())).map_err(|e| refused(&e.to_string()))
    }
}

fn refused(said: &str) -> Error {
    explain(NAME, said)
}

/// The type in which rten keeps a tensor of the file's type: it has four.
fn native_dtype(spec: &Spec) -> Result<DType> {
    Ok(match spec.dtype {
        DType::F32 | DType::F64 | DType::F16 => DType::F32,
        DType::I32 | DType::I64 | DType::Bool => DType::I32,
        DType::I8 => DType::I8,
        DType::U8 => DType::U8,
        DType::BF16 | DType::I4 | DType::I16 | DType::U4 | DType::U16 | DType::U32 | DType::U64 => {
            return Err(Error::engine(format!("rten cannot run this model: `{}` has the type {}", spec.name, spec.dtype.name()))
                .hint("export the model with float32, int32, int64, int8, uint8 or bool there, or use another engine"));
        }
    })
}

fn to_native(tensor: &Tensor, spec: &Spec) -> Result<Value> {
    let fits = |v: &i64| i32::try_from(*v).is_ok();
    if matches!(tensor.data(), Data::I64(v) if !v.iter().all(fits)) {
        return Err(Error::bad_input(format!("input `{}` has numbers beyond 32 bits, which rten does not keep", spec.name))
            .hint("use another engine for these inputs"));
    }
    let tensor = cast(tensor, native_dtype(spec)?)?;
    let shape = tensor.shape().to_vec();
    let value = match tensor.into_data() {
        Data::F32(v) => Value::from_shape(shape, v).ok(),
        Data::I32(v) => Value::from_shape(shape, v).ok(),
        Data::I8(v) => Value::from_shape(shape, v).ok(),
        Data::U8(v) => Value::from_shape(shape, v).ok(),
        _ => None,
    };
    value.ok_or_else(|| Error::bad_input(format!("rten does not take input `{}`", spec.name)))
}

/// The output as the file types it.
fn from_native(value: Value, spec: &Spec) -> Result<Tensor> {
    let data = match value {
        Value::FloatTensor(t) => Data::F32(t.into_data()),
        Value::Int32Tensor(t) => Data::I32(t.into_data()),
        Value::Int8Tensor(t) => Data::I8(t.into_data()),
        Value::UInt8Tensor(t) => Data::U8(t.into_data()),
        _ => return Err(Error::engine(format!("rten returned output `{}` as something else than a tensor", spec.name))),
    };
    cast(&Tensor::new(spec.shape.clone(), data).map_err(|e| Error::engine(format!("rten, output `{}`: {e}", spec.name)))?, spec.dtype)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_linked() {
        let locked = format!("name = \"rten\"\nversion = \"{}\"\n", Rten.find().unwrap().version);
        assert!(include_str!("../../Cargo.lock").contains(&locked));
    }
}
