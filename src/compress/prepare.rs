//! Steps before any compression, each listed: the model is cleaned, and constants get one reader each.

use super::Note;
use super::shapes::write_down;
use crate::model::clean::{clean_within, fold_batch_norms};
use crate::model::{Facts, Graph, LayerKind, layers, node_label};
use crate::onnx::{Model, pb, tensor_from_proto};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::HashSet;

/// [Cleans](crate::model::clean) the model and makes every constant have one reader, so that editing a layer's weights changes
/// that layer alone. Shapes that the graph works out are written down where they are always the same. Initializers that a
/// file of IR version 3 lists as inputs too are constants from here on.
///
/// # Errors
/// A constant cannot be decoded, or a node holds a graph of its own (an If that is worked out, a Loop): what it reads is not
/// followed.
pub fn prepare(model: &Model) -> Result<(Model, Vec<Note>)> {
    prepare_within(model, u64::MAX)
}

/// The same, with at most `max_bytes` for weights that are worked out in the graph ([`clean_within`]).
///
/// # Errors
/// As [`prepare`].
pub fn prepare_within(model: &Model, max_bytes: u64) -> Result<(Model, Vec<Note>)> {
    if let Some(elsewhere) = model.graph().initializer.iter().find(|t| t.data_location() == 1 && t.raw_data.is_none()) {
        // Says that the data was not read.
        tensor_from_proto(elsewhere)?;
    }
    let mut model = model.clone();
    let mut notes: Vec<Note> = clean_within(&mut model, max_bytes)?.into_iter().map(Note::step).collect();
    let has_subgraph = |n: &&pb::NodeProto| n.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    if let Some((index, node)) = model.graph().node.iter().enumerate().find(|(_, n)| has_subgraph(n)) {
        return Err(Error::bad_input(format!("`{}` ({}) holds a graph of its own", node_label(node, index), node.op_type()))
            .hint("models with control flow cannot be compressed; export without it"));
    }
    match write_down(&mut model)? {
        0 => {}
        n => notes.push(Note::step(format!("{n} shapes that the graph worked out were written down"))),
    }
    untie(&mut model)?;
    Ok((model, notes))
}

/// What pruning starts from: [`prepare`]d and, where the variant will be `repaired`, with normalisation folded and a bias in
/// every layer that can have one.
pub(super) fn prepare_to_prune(model: &Model, repaired: bool) -> Result<(Model, Vec<Note>)> {
    let (mut model, mut notes) = prepare(model)?;
    if repaired {
        notes.extend(fold_batch_norms(&mut model)?.into_iter().map(Note::step));
        add_missing_biases(&mut model)?;
    }
    Ok((model, notes))
}

/// Clones a constant for every reader after the first. Scalars stay shared: nothing along a channel axis is in them.
fn untie(model: &mut Model) -> Result<()> {
    let mut clones: Vec<(usize, usize, pb::TensorProto, String)> = Vec::new();
    {
        let graph = Graph::new(model);
        let mut seen: HashSet<&str> = HashSet::new();
        for (index, node) in graph.nodes().iter().enumerate() {
            for (input, name) in node.input.iter().enumerate() {
                let is_layer = matches!(node.op_type(), "Conv" | "Gemm" | "MatMul");
                if graph.constant_shape(name).is_some_and(|s| is_layer || s.iter().any(|&d| d != 1))
                    && !seen.insert(name)
                    && let Some(stored) = graph.stored(name)
                {
                    clones.push((index, input, stored.clone(), format!("{name}__{index}_{input}")));
                }
            }
        }
    }
    for (node, input, mut stored, stem) in clones {
        // A copy of the message shares the weights' memory.
        let name = model.free_name(&stem);
        stored.set_name(name.clone());
        let graph = model.graph_mut();
        graph.initializer.push(stored);
        graph.node[node].input[input] = name;
    }
    Ok(())
}

/// Gives every convolution and Gemm a bias with one value per output, so that a refit can use it: zeros where there is
/// none, and repeated where a Gemm broadcasts a single one.
fn add_missing_biases(model: &mut Model) -> Result<()> {
    let facts = Facts::infer(model, 1)?;
    let list = layers(&Graph::new(model), &facts)?;
    for layer in list {
        let (Ok((index, weight)), LayerKind::Conv | LayerKind::DepthwiseConv | LayerKind::Gemm) = (layer.editable(), layer.kind) else {
            continue;
        };
        let outputs = weight.shape[weight.output_axis];
        let value = match &layer.bias {
            Some(name) => match Graph::new(model).constant(name)? {
                Some(b) if b.len() == 1 && outputs != 1 => b.as_f32()?[0],
                _ => continue,
            },
            None if model.graph().node[index].input.get(2).is_some_and(|b| !b.is_empty()) => continue,
            None => 0.0,
        };
        let name = model.add_initializer(&format!("{}__bias", weight.name), &Tensor::f32([outputs], vec![value; outputs])?);
        let node = &mut model.graph_mut().node[index];
        node.input.resize(2, String::new());
        node.input.push(name);
    }
    Ok(())
}
