//! Steps before any compression, each listed: constants get one reader each, BatchNormalization folds into convolutions.

use super::Note;
use crate::model::{Facts, Graph, LayerKind, layers, node_label};
use crate::onnx::{Attributes, Model, pb, tensor_from_proto};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Makes every constant have one reader, so that editing a layer's weights changes that layer alone: identity copies of
/// constants are replaced by the constant, shared constants are cloned. Initializers that a file of IR version 3 lists as
/// inputs too are constants from here on.
///
/// # Errors
/// A constant cannot be decoded, or a node holds a graph of its own (If, Loop): what it reads is not followed.
pub fn prepare(model: &Model) -> Result<(Model, Vec<Note>)> {
    let has_subgraph = |n: &&pb::NodeProto| n.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    if let Some((index, node)) = model.graph().node.iter().enumerate().find(|(_, n)| has_subgraph(n)) {
        return Err(Error::bad_input(format!("`{}` ({}) holds a graph of its own", node_label(node, index), node.op_type()))
            .hint("models with control flow cannot be compressed; export without it"));
    }
    if let Some(elsewhere) = model.graph().initializer.iter().find(|t| t.data_location() == 1) {
        tensor_from_proto(elsewhere)?;
    }
    let mut model = model.clone();
    let mut notes = Vec::new();
    fix_initializers(&mut model, &mut notes);
    remove_identities(&mut model, &mut notes);
    untie(&mut model)?;
    Ok((model, notes))
}

/// Takes initializers off the list of inputs. There they are mere defaults that a caller may replace, their dimensions are
/// stated twice, and one that is removed would turn into an input that must be fed. IR version 4 made them optional.
fn fix_initializers(model: &mut Model, notes: &mut Vec<Note>) {
    let names: HashSet<String> = model.graph().initializer.iter().map(|t| t.name().to_owned()).collect();
    let before = model.graph().input.len();
    model.graph_mut().input.retain(|i| !names.contains(i.name()));
    let count = before - model.graph().input.len();
    if model.proto().ir_version() < 4 {
        model.proto_mut().set_ir_version(4);
    }
    if count > 0 {
        notes.push(Note::step(format!("{count} initializers are no longer listed as inputs too")));
    }
}

/// What pruning starts from: [`prepare`]d and, where the variant will be `repaired`, with normalisation folded and a bias in
/// every layer that can have one.
pub(super) fn prepare_to_prune(model: &Model, repaired: bool) -> Result<(Model, Vec<Note>)> {
    let (mut model, mut notes) = prepare(model)?;
    if repaired {
        notes.extend(fold_batch_norms(&mut model)?);
        add_missing_biases(&mut model)?;
    }
    Ok((model, notes))
}

/// `Identity` of a constant (exporters merge equal tensors that way) disappears; its readers read the constant.
fn remove_identities(model: &mut Model, notes: &mut Vec<Note>) {
    let mut alias: HashMap<String, String> = HashMap::new();
    {
        let graph = Graph::new(model);
        for node in graph.nodes().iter().filter(|n| n.op_type() == "Identity") {
            let (Some(from), Some(to)) = (node.input.first(), node.output.first()) else { continue };
            let from = alias.get(from).unwrap_or(from).clone();
            if graph.is_constant(&from) && !graph.is_output(to) {
                alias.insert(to.clone(), from);
            }
        }
    }
    if alias.is_empty() {
        return;
    }
    notes.push(Note::step(format!("{} identity copies of constants replaced by the constants", alias.len())));
    let graph = model.graph_mut();
    graph.node.retain(|n| !n.output.first().is_some_and(|o| alias.contains_key(o)));
    for name in graph.node.iter_mut().flat_map(|n| n.input.iter_mut()) {
        if let Some(constant) = alias.get(name.as_str()) {
            name.clone_from(constant);
        }
    }
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

/// Folds each BatchNormalization that follows a convolution (of any grouping) with constant weights into it:
/// W' = W·γ/√(σ²+ε), b' = β + (b − μ)·γ/√(σ²+ε).
///
/// # Errors
/// A constant cannot be decoded or has the wrong size.
pub fn fold_batch_norms(model: &mut Model) -> Result<Vec<Note>> {
    let folds = find_folds(model)?;
    if folds.is_empty() {
        return Ok(Vec::new());
    }
    let count = folds.len();
    let mut dead = HashSet::new();
    for fold in folds {
        model.set_constant(&fold.weight, &fold.new_weight)?;
        let bias = model.add_initializer(&format!("{}__bias", fold.weight), &fold.new_bias);
        let conv = &mut model.graph_mut().node[fold.conv];
        conv.input.truncate(2);
        conv.input.push(bias);
        conv.output[0].clone_from(&fold.output);
        dead.insert(fold.norm);
    }
    let mut index = 0;
    model.graph_mut().node.retain(|_| {
        index += 1;
        !dead.contains(&(index - 1))
    });
    remove_dead_constants(model);
    Ok(vec![Note::step(format!("{count} BatchNormalization nodes folded into their convolutions"))])
}

struct Fold {
    conv: usize,
    norm: usize,
    weight: String,
    output: String,
    new_weight: Tensor,
    new_bias: Tensor,
}

fn find_folds(model: &Model) -> Result<Vec<Fold>> {
    let graph = Graph::new(model);
    let mut folds = Vec::new();
    for (norm, node) in graph.nodes().iter().enumerate().filter(|(_, n)| n.op_type() == "BatchNormalization") {
        if node.input.len() != 5 || node.output.is_empty() {
            continue;
        }
        let Some(conv) = graph.producer(&node.input[0]).filter(|&p| graph.node(p).op_type() == "Conv") else { continue };
        let conv_node = graph.node(conv);
        if graph.consumers(&node.input[0]).len() != 1 || graph.is_output(&node.input[0]) || conv_node.input.len() < 2 {
            continue;
        }
        let Some(weight) = graph.constant(&conv_node.input[1])? else { continue };
        let Some(constants) = constants(&graph, node)? else { continue };
        let bias = match conv_node.input.get(2).filter(|b| !b.is_empty()) {
            Some(name) => match graph.constant(name)? {
                Some(b) => Some(b),
                None => continue,
            },
            None => None,
        };
        let epsilon = node.float("epsilon").unwrap_or(1e-5);
        let Some((new_weight, new_bias)) = folded(weight, bias, &constants, epsilon)? else { continue };
        folds.push(Fold { conv, norm, weight: conv_node.input[1].clone(), output: node.output[0].clone(), new_weight, new_bias });
    }
    Ok(folds)
}

/// γ, β, μ, σ² of a BatchNormalization, when all are constant.
fn constants(graph: &Graph<'_>, node: &pb::NodeProto) -> Result<Option<[Tensor; 4]>> {
    let values: Vec<Tensor> =
        node.input.iter().skip(1).map(|n| graph.constant(n)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    Ok(values.try_into().ok())
}

/// In double precision, so that folding costs no accuracy. `None` when sizes do not fit.
fn folded(mut weight: Tensor, bias: Option<Tensor>, bn: &[Tensor; 4], epsilon: f32) -> Result<Option<(Tensor, Tensor)>> {
    let Some(&channels) = weight.shape().first() else { return Ok(None) };
    let [gamma, beta, mean, var] = [bn[0].as_f32()?, bn[1].as_f32()?, bn[2].as_f32()?, bn[3].as_f32()?];
    if [gamma, beta, mean, var].iter().any(|v| v.len() != channels) || bias.as_ref().is_some_and(|b| b.len() != channels) {
        return Ok(None);
    }
    let scale: Vec<f64> = (0..channels).map(|c| f64::from(gamma[c]) / (f64::from(var[c]) + f64::from(epsilon)).sqrt()).collect();
    let old = bias.as_ref().map(Tensor::as_f32).transpose()?;
    let new_bias = (0..channels)
        .map(|c| (f64::from(beta[c]) + (old.map_or(0.0, |b| f64::from(b[c])) - f64::from(mean[c])) * scale[c]) as f32)
        .collect();
    let per_channel = weight.len() / channels.max(1);
    if per_channel > 0 {
        for (row, s) in weight.as_f32_mut()?.chunks_mut(per_channel).zip(&scale) {
            row.iter_mut().for_each(|w| *w = (f64::from(*w) * s) as f32);
        }
    }
    Ok(Some((weight, Tensor::f32([channels], new_bias)?)))
}

/// Removes constants that nothing reads (dead weights would stay in the file, and a user pays for their bytes).
pub(super) fn remove_dead_constants(model: &mut Model) {
    let live: HashSet<String> = {
        let graph = model.graph();
        let read = graph.node.iter().flat_map(|n| n.input.iter().cloned());
        read.chain(graph.output.iter().map(|o| o.name().to_owned())).collect()
    };
    let graph = model.graph_mut();
    graph.initializer.retain(|t| live.contains(t.name()));
    graph.node.retain(|n| n.op_type() != "Constant" || n.output.iter().any(|o| live.contains(o)));
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
