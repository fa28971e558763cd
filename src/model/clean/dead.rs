//! What nothing reads, and what is no longer true.

use super::count;
use super::names::{defined, read_within};
use crate::Result;
use crate::model::{Facts, Graph};
use crate::onnx::{Model, pb};
use std::collections::HashSet;

/// Removes nodes whose results nothing reads, and then constants that nothing reads. Inputs of the graph stay.
pub fn remove_dead(model: &mut Model) -> Vec<String> {
    if !model.proto().training_info.is_empty() {
        // Graphs for training read the main graph's tensors by name.
        return Vec::new();
    }
    let (keep, live) = live(model.graph());
    let is_constant = |n: &pb::NodeProto| n.op_type() == "Constant";
    let graph = model.graph_mut();
    let dead = graph.node.iter().zip(&keep).filter(|(_, keep)| !**keep);
    let (mut constants, mut nodes) = (0, 0);
    dead.for_each(|(n, _)| *if is_constant(n) { &mut constants } else { &mut nodes } += 1);
    let mut kept = keep.into_iter();
    graph.node.retain(|_| kept.next().unwrap_or(true));
    // One that is an input too would turn into an input that must be fed.
    let inputs: HashSet<String> = graph.input.iter().map(|i| i.name().to_owned()).collect();
    let stays = |name: &str| live.contains(name) || inputs.contains(name);
    let before = graph.initializer.len() + graph.sparse_initializer.len();
    graph.initializer.retain(|t| stays(t.name()));
    graph.sparse_initializer.retain(|s| stays(s.values.name()));
    constants += before - graph.initializer.len() - graph.sparse_initializer.len();
    if nodes + constants > 0 {
        let there: HashSet<String> = defined(graph).into_iter().map(str::to_owned).collect();
        graph.value_info.retain(|v| there.contains(v.name()));
    }
    let mut lines = Vec::new();
    if nodes > 0 {
        lines.push(format!("{} removed: nothing reads the result", count(nodes, "node", "nodes")));
    }
    if constants > 0 {
        lines.push(format!("{} removed: nothing reads the numbers", count(constants, "constant", "constants")));
    }
    lines
}

/// Which nodes something depends on, and all names that are read by them.
fn live(graph: &pb::GraphProto) -> (Vec<bool>, HashSet<String>) {
    let mut live: HashSet<&str> = graph.output.iter().map(|o| o.name()).collect();
    let mut keep = vec![false; graph.node.len()];
    // Readers stand after what they read.
    for (keep, node) in keep.iter_mut().zip(&graph.node).rev() {
        *keep = node.output.iter().any(|o| !o.is_empty() && live.contains(o.as_str()));
        if *keep {
            live.extend(node.input.iter().map(String::as_str));
            live.extend(read_within(node));
        }
    }
    (keep, live.into_iter().map(str::to_owned).collect())
}

/// Removes shapes that the file states of inner tensors and that its operators do not make, for one sample or for two. Where an
/// output is stated wrongly, the dimensions that differ are left open.
///
/// # Errors
/// Shapes contradict each other.
pub fn drop_stale_shapes(model: &mut Model) -> Result<Vec<String>> {
    if model.graph().value_info.is_empty() && model.graph().output.iter().all(|o| dims(o).is_empty()) {
        return Ok(Vec::new());
    }
    let one = Facts::infer(model, 1)?;
    // A model with a batch of its own may refuse two.
    let two = Facts::infer(model, 2).unwrap_or_default();
    let stale: HashSet<&str> = one.stale().iter().chain(two.stale()).map(String::as_str).collect();
    let there = Graph::new(model);
    let exists = |name: &str| {
        there.producer(name).is_some() || there.initializer(name).is_some() || model.graph().input.iter().any(|i| i.name() == name)
    };
    let keep: Vec<bool> = model.graph().value_info.iter().map(|v| !stale.contains(v.name()) && exists(v.name())).collect();
    let dropped = keep.iter().filter(|k| !**k).count();
    let mut opened = 0;
    let graph = model.graph_mut();
    let mut kept = keep.into_iter();
    graph.value_info.retain(|_| kept.next().unwrap_or(true));
    for output in graph.output.iter_mut().filter(|o| stale.contains(o.name())) {
        let shapes: Vec<&[usize]> = [&one, &two].iter().filter_map(|f| f.shape(output.name())).collect();
        let Some(rank) = shapes.first().map(|s| s.len()) else { continue };
        let stated = dims(output).to_vec();
        let is_true = |axis: usize, d: &pb::tensor_shape_proto::Dimension| {
            !d.has_dim_value() || shapes.iter().all(|s| s.get(axis).is_some_and(|&n| usize::try_from(d.dim_value()) == Ok(n)))
        };
        let corrected =
            (0..rank).map(|axis| stated.get(axis).filter(|d| stated.len() == rank && is_true(axis, d)).cloned().unwrap_or_default());
        output.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default().dim = corrected.collect();
        opened += 1;
    }
    let mut lines = Vec::new();
    if dropped > 0 {
        lines.push(format!("{} dropped: the operators make others", count(dropped, "stated shape", "stated shapes")));
    }
    if opened > 0 {
        lines.push(format!("wrong dimensions of {} left open", count(opened, "output", "outputs")));
    }
    Ok(lines)
}

fn dims(value: &pb::ValueInfoProto) -> &[pb::tensor_shape_proto::Dimension] {
    &value.type_.tensor_type.shape.dim
}
