//! Consistency of a graph, checked once at load so that later code can rely on it.

use super::tensors::check_size;
use super::{Model, pb};
use crate::{Error, Result};
use std::collections::HashSet;

/// Checks that every tensor is as long as it says, every name is produced before it is used, exactly once, and that the opset is one we know how to read.
pub(super) fn check(model: &Model) -> Result<()> {
    let graph = model.graph();
    if model.opset() < 7 {
        return Err(Error::bad_input(format!("operator set {} is older than 7, which this version does not read", model.opset()))
            .hint("convert it upwards with onnx.version_converter"));
    }
    if graph.output.is_empty() {
        return Err(Error::bad_input("the graph has no outputs"));
    }
    let in_nodes = graph.node.iter().flat_map(|n| &n.attribute).filter_map(|a| a.t.as_ref());
    graph.initializer.iter().chain(in_nodes).try_for_each(check_size)?;
    let mut known: HashSet<&str> = HashSet::new();
    known.extend(graph.input.iter().map(|i| i.name()));
    known.extend(graph.initializer.iter().map(|i| i.name()));
    for (index, node) in graph.node.iter().enumerate() {
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            if !known.contains(input.as_str()) {
                return Err(Error::bad_input(format!("{} reads `{input}`, which nothing before it produces", label(node, index)))
                    .hint("the nodes of an ONNX graph must be in topological order; re-export the model"));
            }
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if !known.insert(output) {
                return Err(Error::bad_input(format!("{} writes `{output}`, which exists already", label(node, index))));
            }
        }
    }
    match graph.output.iter().find(|o| !known.contains(o.name())) {
        Some(o) => Err(Error::bad_input(format!("nothing produces the graph output `{}`", o.name()))),
        None => Ok(()),
    }
}

/// How a node is called in messages: by its name, else by operator and position.
pub(super) fn label(node: &pb::NodeProto, index: usize) -> String {
    if node.name().is_empty() {
        format!("node {index} ({})", node.op_type())
    } else {
        format!("node `{}` ({})", node.name(), node.op_type())
    }
}
