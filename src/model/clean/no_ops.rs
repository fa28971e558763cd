//! Nodes that hand their input on.

use super::count;
use super::names::{defined_within, read, rename_reads, rename_writes};
use crate::model::Graph;
use crate::onnx::{Attributes, Model, pb};
use crate::tensor::Data;
use std::collections::{HashMap, HashSet};

/// Removes `Identity`, and `Dropout` as it is at inference, unless its mask is read. Their readers read what they read; where the
/// result is an output of the graph, the node before takes over its name. What only renames an input or a constant to an output
/// stays: outputs keep their names.
pub fn remove_no_ops(model: &mut Model) -> Vec<String> {
    let Plan { alias, mut gone } = plan(model);
    let graph = model.graph_mut();
    rename_reads(&mut graph.node, &alias);
    let taken = takeovers(graph, &gone);
    let renamed: HashSet<usize> = taken.values().map(|(_, index)| *index).collect();
    gone.retain(|(index, ends)| !ends || renamed.contains(index));
    let new: HashMap<String, String> = taken.into_iter().map(|(x, (y, _))| (x, y)).collect();
    let dead: HashSet<usize> = gone.iter().map(|(index, _)| *index).collect();
    let removed = |op: &str| dead.iter().filter(|&&i| graph.node[i].op_type() == op).count();
    let (identities, dropouts) = (removed("Identity"), removed("Dropout"));
    let mut index = 0;
    graph.node.retain(|_| {
        index += 1;
        !dead.contains(&(index - 1))
    });
    rename_reads(&mut graph.node, &new);
    rename_writes(&mut graph.node, &new);
    let is_gone = |name: &str| alias.contains_key(name) || new.contains_key(name);
    graph.value_info.retain(|v| !is_gone(v.name()));
    graph.quantization_annotation.retain(|a| !is_gone(a.tensor_name()));
    let mut lines = Vec::new();
    if identities > 0 {
        lines.push(format!("{} removed", count(identities, "Identity node", "Identity nodes")));
    }
    if dropouts > 0 {
        lines.push(format!("{} removed: at inference it hands its input on", count(dropouts, "Dropout node", "Dropout nodes")));
    }
    lines
}

/// The tensors that take the name of an output, with that name and the node that goes. Each output takes the name of at most one
/// tensor, which a node makes and which is no output itself.
fn takeovers(graph: &pb::GraphProto, gone: &[(usize, bool)]) -> HashMap<String, (String, usize)> {
    let outputs: HashSet<&str> = graph.output.iter().map(|o| o.name()).collect();
    let made: HashSet<&str> = graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str)).collect();
    let shadowed = defined_within(&graph.node);
    let mut taken = HashMap::new();
    for &(index, _) in gone.iter().filter(|(_, ends)| *ends) {
        let Some((x, y)) = graph.node.get(index).and_then(|n| Some((n.input.first()?, n.output.first()?))) else { continue };
        let is_free = made.contains(x.as_str()) && !outputs.contains(x.as_str()) && !taken.contains_key(x);
        if is_free && ![x, y].iter().any(|n| shadowed.contains(n.as_str())) {
            taken.insert(x.clone(), (y.clone(), index));
        }
    }
    taken
}

/// What goes.
struct Plan {
    /// Names that vanish, with those that are read in their place.
    alias: HashMap<String, String>,
    /// Nodes that may go, and whether they end in an output of the graph.
    gone: Vec<(usize, bool)>,
}

fn plan(model: &Model) -> Plan {
    let graph = Graph::new(model);
    let shadowed = defined_within(graph.nodes());
    let read = read(model.graph());
    let (mut alias, mut gone) = (HashMap::<String, String>::new(), Vec::new());
    for (index, node) in graph.nodes().iter().enumerate().filter(|(_, n)| does_nothing(&graph, n, &read)) {
        let (Some(x), Some(y)) = (node.input.first(), node.output.first()) else { continue };
        if x.is_empty() || y.is_empty() || shadowed.contains(x.as_str()) || shadowed.contains(y.as_str()) {
            continue;
        }
        let ends = graph.is_output(y);
        if !ends {
            let from = alias.get(x).unwrap_or(x).clone();
            alias.insert(y.clone(), from);
        }
        gone.push((index, ends));
    }
    Plan { alias, gone }
}

fn does_nothing(graph: &Graph<'_>, node: &pb::NodeProto, read: &HashSet<&str>) -> bool {
    if !node.is_standard() {
        return false;
    }
    match node.op_type() {
        "Identity" => true,
        "Dropout" => {
            let mask_is_read = node.output.get(1).is_some_and(|m| read.contains(m.as_str()));
            // Before 7 an attribute said that this is no training, from 12 on an input may say that it is.
            let opset = graph.model().opset();
            let is_false = |name: &str| {
                let value = graph.constant(name).ok().flatten();
                value.is_some_and(|t| matches!(t.data(), Data::Bool(b) if b.iter().all(|b| !b)))
            };
            let inference = match opset {
                ..7 => node.int("is_test").is_some_and(|t| t != 0),
                7..12 => true,
                _ => node.input.get(2).is_none_or(|t| t.is_empty() || is_false(t)),
            };
            inference && !mask_is_read
        }
        _ => false,
    }
}
