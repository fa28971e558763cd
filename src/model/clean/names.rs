//! Names of a main graph and of the graphs within it: who has them, who reads them, and how they are changed everywhere.

use crate::onnx::pb;
use std::collections::{HashMap, HashSet};

/// The graphs that a node holds.
pub(super) fn inner(node: &pb::NodeProto) -> impl Iterator<Item = &pb::GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
}

fn inner_mut(node: &mut pb::NodeProto) -> impl Iterator<Item = &mut pb::GraphProto> {
    node.attribute.iter_mut().flat_map(|a| a.g.as_mut().into_iter().chain(&mut a.graphs))
}

/// Names that `graph` itself gives to tensors, without those of graphs within it.
pub(super) fn defined(graph: &pb::GraphProto) -> HashSet<&str> {
    let made = graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
    let constants = graph.initializer.iter().map(|t| t.name()).chain(graph.sparse_initializer.iter().map(|s| s.values.name()));
    let mut names: HashSet<&str> = made.chain(constants).chain(graph.input.iter().map(|i| i.name())).collect();
    names.remove("");
    names
}

/// Names that graphs within `nodes` give to tensors.
pub(super) fn defined_within(nodes: &[pb::NodeProto]) -> HashSet<&str> {
    let graphs = nodes.iter().flat_map(inner);
    graphs.flat_map(|g| defined(g).into_iter().chain(defined_within(&g.node))).collect()
}

/// Names that graphs within `node` read, their own among them: an upper bound on what they take from around.
pub(in crate::model) fn read_within(node: &pb::NodeProto) -> HashSet<&str> {
    inner(node)
        .flat_map(|g| {
            let nodes = g.node.iter().flat_map(|n| n.input.iter().map(String::as_str).chain(read_within(n)));
            nodes.chain(g.output.iter().map(|o| o.name())).collect::<Vec<_>>()
        })
        .collect()
}

/// Everything that the nodes of `graph` and the graphs within them read.
pub(super) fn read(graph: &pb::GraphProto) -> HashSet<&str> {
    let outputs = graph.output.iter().map(|o| o.name());
    let mut names: HashSet<&str> = outputs.collect();
    for node in &graph.node {
        names.extend(node.input.iter().map(String::as_str));
        names.extend(read_within(node));
    }
    names.remove("");
    names
}

/// Gives what `nodes` and the graphs within them read other names. A graph that gives a name itself keeps it.
pub(super) fn rename_reads(nodes: &mut [pb::NodeProto], new: &HashMap<String, String>) {
    for node in nodes {
        rename(node.input.iter_mut(), new);
        for graph in inner_mut(node) {
            let own: HashSet<String> = defined(graph).into_iter().filter(|n| new.contains_key(*n)).map(str::to_owned).collect();
            let rest: HashMap<String, String>;
            let new = if own.is_empty() {
                new
            } else {
                rest = new.iter().filter(|(old, _)| !own.contains(*old)).map(|(a, b)| (a.clone(), b.clone())).collect();
                &rest
            };
            rename_reads(&mut graph.node, new);
            for output in &mut graph.output {
                if let Some(name) = new.get(output.name()) {
                    output.set_name(name.clone());
                }
            }
        }
    }
}

/// Gives what `nodes` write other names.
pub(super) fn rename_writes(nodes: &mut [pb::NodeProto], new: &HashMap<String, String>) {
    rename(nodes.iter_mut().flat_map(|n| n.output.iter_mut()), new);
}

fn rename<'a>(names: impl Iterator<Item = &'a mut String>, new: &HashMap<String, String>) {
    for name in names {
        if let Some(other) = new.get(name.as_str()) {
            name.clone_from(other);
        }
    }
}
