//! What a file states of its inputs and outputs, with numbers for all dimensions: for engines that take ONNX as it is.

use super::dims::{Dim, fix_all};
use super::{LoadOptions, Source, Spec};
use crate::model::{Facts, Graph};
use crate::onnx::{Model, dtype_from_onnx, pb};
use crate::tensor::DType;
use crate::{Error, Result};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A model file that was read, and the numbers for its open dimensions.
pub(super) struct Stated {
    /// The model with these numbers written into its inputs, except for the batch where it is to stay open.
    pub(super) model: Model,
    /// Inputs, in the order of the graph.
    pub(super) inputs: Vec<Spec>,
    /// The value of each named dimension that was open; `None` when names do not say it all.
    pub(super) symbols: Option<BTreeMap<String, usize>>,
    /// A number was written into the model: it is no longer what the file says.
    pub(super) rewritten: bool,
    /// Outputs as the graph names them, with the shapes that shape inference gives them.
    outputs: Vec<Output>,
}

/// An output as far as it is known before an engine sees the model.
struct Output {
    name: String,
    dtype: Option<DType>,
    shape: Option<Vec<usize>>,
}

impl Stated {
    /// Reads the file and fixes its dimensions as [`fix_all`] does.
    ///
    /// # Errors
    /// The file cannot be read or is not ONNX, an input has no type or shape, or a dimension has no value.
    pub(super) fn read(source: Source<'_>, options: &LoadOptions) -> Result<Self> {
        let mut model = match source {
            Source::Path(path) => Model::load(path)?,
            Source::Bytes(bytes) => Model::parse(&Bytes::copy_from_slice(bytes), "the model", None)?,
        };
        let stated = Graph::new(&model).inputs().map(input).collect::<Result<Vec<_>>>()?;
        let open: Vec<(&str, &[Dim])> = stated.iter().map(|(name, _, dims)| (name.as_str(), dims.as_slice())).collect();
        let shapes = fix_all(&open, options)?;
        // Outputs are inferred with all numbers, whatever stays open for the engine.
        let mut numbers = model.clone();
        write(&mut numbers, &open, &shapes, &|_, _| true);
        let outputs = outputs(&numbers, options.batch);
        let batches: Vec<&Dim> = open.iter().filter_map(|(_, dims)| dims.first()).filter(|d| matches!(d, Dim::Symbol(_))).collect();
        let fixes = |axis: usize, dim: &Dim| !options.symbolic || !(batches.contains(&dim) || axis == 0);
        let rewritten = write(&mut model, &open, &shapes, &fixes);
        let symbols = symbols(&open, &shapes, &fixes);
        let inputs = stated.iter().zip(shapes).map(|((name, dtype, _), shape)| Spec { name: name.clone(), dtype: *dtype, shape }).collect();
        Ok(Stated { model, inputs, symbols, rewritten, outputs })
    }

    /// Outputs with all dimensions; `told` is what the engine says of an output, for those that cannot be worked out here.
    ///
    /// # Errors
    /// Neither knows the shape of an output, or its type is not supported.
    pub(super) fn outputs(&self, engine: &str, told: impl Fn(usize) -> Option<Vec<usize>>) -> Result<Vec<Spec>> {
        let spec = |(index, Output { name, dtype, shape }): (usize, &Output)| {
            let dtype = dtype.ok_or_else(|| Error::engine(format!("output `{name}` has an unsupported type, or none in the file")))?;
            let shape = shape.clone().or_else(|| told(index)).ok_or_else(|| {
                Error::engine(format!("{engine} cannot tell the shape of output `{name}` before it runs the model"))
                    .hint("export the model so that its outputs depend on the inputs' shapes only, not on their values")
            })?;
            Ok(Spec { name: name.clone(), dtype, shape })
        };
        self.outputs.iter().enumerate().map(spec).collect()
    }
}

/// Name, type and dimensions of an input.
fn input(input: &pb::ValueInfoProto) -> Result<(String, DType, Vec<Dim>)> {
    let name = input.name().to_owned();
    let tensor = &input.type_.tensor_type;
    if input.type_.tensor_type.is_none() || tensor.elem_type() == 0 || tensor.shape.is_none() {
        return Err(Error::bad_input(format!("input `{name}` has no type or no shape in the file"))
            .hint("export the model with the types and shapes of its inputs"));
    }
    let dtype = dtype_from_onnx(tensor.elem_type())
        .ok_or_else(|| Error::bad_input(format!("input `{name}` has the unsupported type {}", tensor.elem_type())))?;
    Ok((name, dtype, tensor.shape.dim.iter().map(dim).collect()))
}

fn dim(dim: &pb::tensor_shape_proto::Dimension) -> Dim {
    match (usize::try_from(dim.dim_value()), dim.dim_param()) {
        (Ok(n), _) if dim.has_dim_value() => Dim::Fixed(n),
        // `?` names nothing, though some exporters write it as if it did.
        (_, "" | "?") => Dim::Unknown,
        (_, symbol) => Dim::Symbol(symbol.to_owned()),
    }
}

/// Writes numbers for those open dimensions that `fixes` says; true if there were any. Then what the file claims of inner and
/// output shapes is forgotten: it names the dimensions that were open, and exporters write claims that contradict the operators.
fn write(model: &mut Model, open: &[(&str, &[Dim])], shapes: &[Vec<usize>], fixes: &dyn Fn(usize, &Dim) -> bool) -> bool {
    let mut written = false;
    let graph = model.graph_mut();
    for ((name, dims), shape) in open.iter().zip(shapes) {
        let Some(input) = graph.input.iter_mut().find(|i| i.name() == *name) else { continue };
        let stated = &mut input.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default().dim;
        for (axis, (dim, (stated, &n))) in dims.iter().zip(stated.iter_mut().zip(shape)).enumerate() {
            if !matches!(dim, Dim::Fixed(_)) && fixes(axis, dim) {
                stated.set_dim_value(n as i64);
                written = true;
            }
        }
    }
    if written {
        graph.value_info.clear();
        let tensors = graph.output.iter_mut().filter(|o| o.type_.tensor_type.is_some());
        tensors.for_each(|o| o.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.clear());
    }
    written
}

/// The number of each name, if every dimension that gets a number has a name and no name gets two numbers.
fn symbols(open: &[(&str, &[Dim])], shapes: &[Vec<usize>], fixes: &dyn Fn(usize, &Dim) -> bool) -> Option<BTreeMap<String, usize>> {
    let mut symbols = BTreeMap::new();
    for ((_, dims), shape) in open.iter().zip(shapes) {
        for (axis, (dim, &n)) in dims.iter().zip(shape).enumerate() {
            match dim {
                Dim::Fixed(_) => {}
                _ if !fixes(axis, dim) => {}
                Dim::Unknown => return None,
                Dim::Symbol(name) => {
                    if *symbols.entry(name.clone()).or_insert(n) != n {
                        return None;
                    }
                }
            }
        }
    }
    Some(symbols)
}

/// Outputs of a model whose inputs have numbers only. What shape inference does not know is left to the engine, and so is a
/// contradiction that it finds.
fn outputs(model: &Model, batch: usize) -> Vec<Output> {
    let facts = Facts::infer(model, batch).unwrap_or_default();
    let output = |o: &pb::ValueInfoProto| {
        let fact = facts.get(o.name()).filter(|_| !facts.is_stated(o.name()));
        let stated = dtype_from_onnx(o.type_.tensor_type.elem_type());
        Output { name: o.name().to_owned(), dtype: fact.and_then(|f| f.dtype).or(stated), shape: fact.map(|f| f.shape.clone()) }
    };
    model.graph().output.iter().map(output).collect()
}
