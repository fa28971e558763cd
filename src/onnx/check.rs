//! Consistency of a file, checked once at load so that later code can rely on it.

use super::tensors::check_size;
use super::{Model, pb, walk};
use crate::{Error, Result};
use std::collections::HashSet;

/// Checks that every tensor is as long as it says and that every name is produced before it is used, exactly once, in the graph,
/// in the graphs inside it and in functions.
pub(super) fn check(model: &Model) -> Result<()> {
    if model.graph().output.is_empty() {
        return Err(Error::bad_input("the graph has no outputs"));
    }
    walk::tensors(model.proto(), &mut check_size)?;
    names(model.graph(), &[])?;
    for function in &model.proto().functions {
        let inputs = function.input.iter().map(String::as_str).collect();
        in_order(&function.node, inputs, &[]).map_err(|e| e.context(format!("function `{}`", function.name())))?;
    }
    Ok(())
}

/// A graph's names; `outer` are those of the graphs around it.
fn names(graph: &pb::GraphProto, outer: &[&HashSet<&str>]) -> Result<()> {
    let sparse = graph.sparse_initializer.iter().map(|s| s.values.name());
    let known = graph.input.iter().map(|i| i.name()).chain(graph.initializer.iter().map(|t| t.name())).chain(sparse).collect();
    let known = in_order(&graph.node, known, outer)?;
    let found = |name: &str| known.contains(name) || outer.iter().any(|o| o.contains(name));
    match graph.output.iter().find(|o| !found(o.name())) {
        Some(o) => Err(Error::bad_input(format!("nothing produces the graph output `{}`", o.name()))),
        None => Ok(()),
    }
}

/// Goes through `nodes` in order; `known` grows by what they write.
fn in_order<'a>(nodes: &'a [pb::NodeProto], mut known: HashSet<&'a str>, outer: &[&HashSet<&str>]) -> Result<HashSet<&'a str>> {
    let mut written: HashSet<&str> = HashSet::new();
    for (index, node) in nodes.iter().enumerate() {
        let found = |name: &str| known.contains(name) || outer.iter().any(|o| o.contains(name));
        if let Some(input) = node.input.iter().find(|i| !i.is_empty() && !found(i)) {
            return Err(Error::bad_input(format!("{} reads `{input}`, which nothing before it produces", label(node, index)))
                .hint("the nodes of an ONNX graph must be in topological order; re-export the model"));
        }
        for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
            names(graph, &[outer, &[&known]].concat()).map_err(|e| e.context(label(node, index)))?;
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if known.contains(output.as_str()) || !written.insert(output) {
                return Err(Error::bad_input(format!("{} writes `{output}`, which exists already", label(node, index))));
            }
        }
        known.extend(node.output.iter().filter(|o| !o.is_empty()).map(String::as_str));
        written.clear();
    }
    Ok(known)
}

/// How a node is called in messages: by its name, else by operator and position.
pub(super) fn label(node: &pb::NodeProto, index: usize) -> String {
    if node.name().is_empty() {
        format!("node {index} ({})", node.op_type())
    } else {
        format!("node `{}` ({})", node.name(), node.op_type())
    }
}
