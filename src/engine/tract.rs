//! The tract engine.

use super::dims::{Dim, fix_all};
use super::refusal::explain;
use super::{Engine, Found, LoadOptions, NodeTime, Profiled, Session, Source, Spec, check_inputs, check_options};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};
use std::hint::black_box;
use std::time::Instant;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceModel, InferenceModelExt, RunOptions, SymbolValues, TDim, TValue, TVec, TypedNode,
};
use tract_onnx::tract_core::internal::{Cost, TractError, TractResult};
use tract_onnx::tract_core::model::{TypedModel, TypedSimplePlan, TypedSimpleState};
use tract_onnx::tract_core::plan::eval;
use tract_onnx::tract_core::tract_linalg::multithread::Executor;
use tract_onnx::tract_hir::infer::{Factoid, GenericFactoid, InferenceFact, ShapeFactoid};

type Native = tract_onnx::prelude::Tensor;

const NAME: &str = "tract";

/// tract, linked into the program.
pub(super) struct Tract;

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn linked(&self) -> bool {
        true
    }

    fn find(&self) -> Result<Found> {
        Ok(Found { version: "0.23.9".to_owned(), library: None })
    }

    fn load(&self, model: Source<'_>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        check_options(options)?;
        let (model, inputs) = fixed(model, options)?;
        // tract keeps no output labels through its passes: take the names before.
        let names: Vec<String> = model.outputs.iter().map(|&o| model.outlet_label(o).unwrap_or_default().to_owned()).collect();
        let run = RunOptions { executor: executor(options.threads), ..RunOptions::default() };
        let plan = model.into_optimized().and_then(|model| TypedSimplePlan::new_with_options(model, &run));
        let state = plan.and_then(|plan| plan.spawn()).map_err(|e| refused(&e))?;
        let outputs = outputs(state.model(), names, options.batch)?;
        Ok(Box::new(Loaded { state, inputs, outputs, slots: Vec::new() }))
    }
}

/// How `threads` threads are run: `None` is tract's own single thread.
fn executor(threads: usize) -> Option<Executor> {
    (threads > 1).then(|| Executor::multithread(threads))
}

/// The model as parsed, its inputs fixed and everything the file claims about inner and output shapes forgotten: exporters
/// write claims there that contradict the operators and keep tract from loading (and that name the symbolic batch).
fn fixed(source: Source<'_>, options: &LoadOptions) -> Result<(InferenceModel, Vec<Spec>)> {
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_output_types(true).with_ignore_value_info(true);
    let parsed = match source {
        Source::Path(path) => {
            // Our own error for a file that cannot be opened; tract's does not tell absent from forbidden.
            std::fs::File::open(path).map_err(|e| Error::read(path, e))?;
            onnx.model_for_path(path)
        }
        Source::Bytes(mut bytes) => onnx.model_for_read(&mut bytes),
    };
    let mut model = parsed.map_err(|e| refused(&e))?;
    let mut stated = Vec::with_capacity(model.inputs.len());
    for index in 0..model.inputs.len() {
        let outlet = model.inputs[index];
        let name = model.outlet_label(outlet).unwrap_or(&model.node(outlet.node).name).to_owned();
        let fact = model.input_fact(index).map_err(|e| refused(&e))?;
        let (Some(datum), true) = (fact.datum_type.concretize(), fact.shape.is_concrete() || fact.shape.rank().is_concrete()) else {
            return Err(Error::bad_input(format!("input `{name}` has no type or no shape in the file"))
                .hint("export the model with the types and shapes of its inputs"));
        };
        let dtype = dtype(datum).ok_or_else(|| Error::bad_input(format!("input `{name}` has the unsupported type {datum:?}")))?;
        stated.push((name, datum, dtype, fact.shape.dims().map(dim).collect::<Vec<Dim>>()));
    }
    let inputs: Vec<(&str, &[Dim])> = stated.iter().map(|(name, .., dims)| (name.as_str(), dims.as_slice())).collect();
    let shapes = fix_all(&inputs, options)?;
    let batches: Vec<Dim> = match options.symbolic {
        true => inputs.iter().filter_map(|(_, dims)| dims.first()).filter(|d| matches!(d, Dim::Symbol(_))).cloned().collect(),
        false => Vec::new(),
    };
    let mut specs = Vec::with_capacity(stated.len());
    for (index, ((name, datum, dtype, dims), shape)) in stated.into_iter().zip(shapes).enumerate() {
        let given = dims.iter().zip(&shape).map(|(dim, &n)| match dim {
            Dim::Symbol(symbol) if batches.contains(dim) => TDim::from(model.symbols.sym(symbol)),
            _ => TDim::from(n),
        });
        let fact = InferenceFact::dt_shape(datum, given.collect::<ShapeFactoid>());
        model.set_input_fact(index, fact).map_err(|e| refused(&e))?;
        specs.push(Spec { name, dtype, shape });
    }
    Ok((model, specs))
}

fn dim(fact: &GenericFactoid<TDim>) -> Dim {
    match fact.concretize() {
        None => Dim::Unknown,
        Some(d) => match d.to_i64().ok().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Dim::Fixed(n),
            None => Dim::Symbol(d.to_string()),
        },
    }
}

/// Where a batch stays open it is the only symbol, and has the value `batch`.
fn outputs(model: &TypedModel, names: Vec<String>, batch: usize) -> Result<Vec<Spec>> {
    let mut values = SymbolValues::default();
    model.symbols.all_symbols().iter().for_each(|symbol| values.set(symbol, batch as i64));
    names
        .into_iter()
        .enumerate()
        .map(|(index, name)| {
            let fact = model.output_fact(index).map_err(|e| refused(&e))?;
            let shape = fact.shape.eval_to_usize(&values).map_err(|_| {
                Error::engine(format!("tract cannot tell the shape of output `{name}` ({:?}) before it runs the model", fact.shape))
                    .hint("export the model so that its outputs depend on the inputs' shapes only, not on their values")
            })?;
            let dtype = dtype(fact.datum_type)
                .ok_or_else(|| Error::engine(format!("output `{name}` has the unsupported type {:?}", fact.datum_type)))?;
            Ok(Spec { name, dtype, shape: shape.to_vec() })
        })
        .collect()
}

/// A model with its one execution state, which is made once and reused: making it costs more than a small model's inference.
struct Loaded {
    state: TypedSimpleState,
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
    slots: Vec<TVec<TValue>>,
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
        // Clones reference counts, on the stack for up to four inputs.
        match self.state.run(inputs.clone()) {
            Ok(outputs) => {
                black_box(outputs);
                Ok(())
            }
            Err(e) => Err(refused(&e)),
        }
    }

    fn infer(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let inputs = self.native(inputs)?;
        let outputs = self.state.run(inputs).map_err(|e| refused(&e))?;
        outputs.iter().map(|t| from_native(t)).collect()
    }

    /// One clock reading per node: the end of one is the start of the next, so that what the plan does between them (operands
    /// handed on, memory freed) counts as part of the node it is done for.
    fn profile(&mut self, slot: usize, runs: u64) -> Result<Profiled> {
        let Some(inputs) = self.slots.get(slot) else {
            return Err(Error::bad_input(format!("input slot {slot} was not prepared")));
        };
        let mut taken = vec![(0u64, 0u64); self.state.model().nodes().len()];
        let mut wall_ns = 0;
        for _ in 0..runs {
            let start = Instant::now();
            let mut last = start;
            let outputs = self.state.run_plan_with_eval(inputs.clone(), |context, state, node, operands| {
                let outputs = eval(context, state, node, operands);
                let now = Instant::now();
                if let Some((ns, calls)) = taken.get_mut(node.id) {
                    *ns += (now - last).as_nanos() as u64;
                    *calls += 1;
                }
                last = now;
                outputs
            });
            black_box(outputs.map_err(|e| refused(&e))?);
            wall_ns += start.elapsed().as_nanos() as u64;
        }
        let nodes = self.state.model().nodes().iter().zip(taken).filter(|(_, (_, calls))| *calls > 0);
        let time = |(node, (ns, calls)): (&TypedNode, (u64, u64))| NodeTime {
            name: node.name.clone(),
            operator: node.op.name().into_owned(),
            ns,
            calls,
        };
        Ok(Profiled { wall_ns, nodes: nodes.map(time).collect() })
    }
}

impl Loaded {
    fn native(&self, inputs: &[Tensor]) -> Result<TVec<TValue>> {
        check_inputs(&self.inputs, inputs)?;
        inputs.iter().map(|t| to_native(t).map(TValue::from).map_err(|e| refused(&e))).collect()
    }
}

/// One node's multiply–adds, as tract counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCost {
    /// Name of the node; tract derives it from the file's.
    pub name: String,
    /// tract's operator.
    pub op: String,
    /// Multiply–adds of one run.
    pub macs: u64,
}

/// Multiply–adds per node by tract's own cost functions, before it optimises: a second opinion on other counts.
///
/// # Errors
/// As [`Engine::load`].
pub fn cost(model: Source<'_>, options: &LoadOptions) -> Result<Vec<NodeCost>> {
    let (model, _) = fixed(model, options)?;
    let model = model.into_typed().and_then(|m| m.into_decluttered()).map_err(|e| refused(&e))?;
    let count = |node: &TypedNode| -> TractResult<u64> {
        let facts = model.node_input_facts(node.id)?;
        let mut macs = 0;
        for (kind, n) in node.op.cost(&facts)? {
            if matches!(kind, Cost::FMA(_)) {
                macs += n.to_i64()?.unsigned_abs();
            }
        }
        Ok(macs)
    };
    let nodes = model.nodes().iter().map(|node| {
        let macs = count(node).map_err(|e| refused(&e))?;
        Ok(NodeCost { name: node.name.clone(), op: node.op.name().into_owned(), macs })
    });
    nodes.filter(|n| !matches!(n, Ok(NodeCost { macs: 0, .. }))).collect()
}

fn refused(e: &TractError) -> Error {
    explain(NAME, &format!("{e:#}"))
}

fn dtype(datum: DatumType) -> Option<DType> {
    Some(match datum.unquantized() {
        DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        DatumType::F16 => DType::F16,
        DatumType::I8 => DType::I8,
        DatumType::I16 => DType::I16,
        DatumType::I32 => DType::I32,
        DatumType::I64 => DType::I64,
        DatumType::U8 => DType::U8,
        DatumType::U16 => DType::U16,
        DatumType::U32 => DType::U32,
        DatumType::U64 => DType::U64,
        DatumType::Bool => DType::Bool,
        _ => return None,
    })
}

fn to_native(t: &Tensor) -> TractResult<Native> {
    let shape = t.shape();
    match t.data() {
        Data::F32(v) => Native::from_shape(shape, v),
        Data::F64(v) => Native::from_shape(shape, v),
        Data::F16(v) => {
            let halves: Vec<_> = v.iter().map(|&bits| tract_onnx::prelude::f16::from_bits(bits)).collect();
            Native::from_shape(shape, &halves)
        }
        Data::I8(v) => Native::from_shape(shape, v),
        Data::I16(v) => Native::from_shape(shape, v),
        Data::I32(v) => Native::from_shape(shape, v),
        Data::I64(v) => Native::from_shape(shape, v),
        Data::U8(v) => Native::from_shape(shape, v),
        Data::U16(v) => Native::from_shape(shape, v),
        Data::U32(v) => Native::from_shape(shape, v),
        Data::U64(v) => Native::from_shape(shape, v),
        Data::BF16(_) | Data::I4(_) | Data::U4(_) => Err(TractError::msg(format!("tract has no type {}", t.dtype().name()))),
        Data::Bool(v) => Native::from_shape(shape, v),
    }
}

fn from_native(t: &Native) -> Result<Tensor> {
    let dtype = dtype(t.datum_type()).ok_or_else(|| Error::engine(format!("tract returned the unsupported type {:?}", t.datum_type())))?;
    let read = || -> TractResult<Data> {
        let view = t.try_as_plain_ram()?;
        Ok(match dtype {
            DType::F32 => Data::F32(view.as_slice::<f32>()?.to_vec()),
            DType::F64 => Data::F64(view.as_slice::<f64>()?.to_vec()),
            DType::F16 => Data::F16(view.as_slice::<tract_onnx::prelude::f16>()?.iter().map(|h| h.to_bits()).collect()),
            DType::I8 => Data::I8(view.as_slice::<i8>()?.to_vec()),
            DType::I16 => Data::I16(view.as_slice::<i16>()?.to_vec()),
            DType::I32 => Data::I32(view.as_slice::<i32>()?.to_vec()),
            DType::I64 => Data::I64(view.as_slice::<i64>()?.to_vec()),
            DType::U8 => Data::U8(view.as_slice::<u8>()?.to_vec()),
            DType::U16 => Data::U16(view.as_slice::<u16>()?.to_vec()),
            DType::U32 => Data::U32(view.as_slice::<u32>()?.to_vec()),
            DType::U64 => Data::U64(view.as_slice::<u64>()?.to_vec()),
            // `dtype` above never answers these.
            DType::BF16 | DType::I4 | DType::U4 => return Err(TractError::msg(format!("tract has no type {}", dtype.name()))),
            DType::Bool => Data::Bool(view.as_slice::<bool>()?.to_vec()),
        })
    };
    Tensor::new(t.shape().to_vec(), read().map_err(|e| refused(&e))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_linked() {
        let locked = format!("name = \"tract-onnx\"\nversion = \"{}\"\n", Tract.find().unwrap().version);
        assert!(include_str!("../../Cargo.lock").contains(&locked));
    }
}
