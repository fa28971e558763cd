//! `If` whose condition never changes.

use super::names::{defined, inner, rename_reads, rename_writes};
use crate::Result;
use crate::model::{Facts, Graph, node_label};
use crate::onnx::{Attributes, Model, pb};
use crate::tensor::{Data, Tensor};
use std::collections::{HashMap, HashSet};

/// Batches that a condition must come out the same for, with everything it is worked out from.
const BATCHES: [usize; 3] = [1, 2, 65_537];

/// Puts the branch that is always taken in the place of each `If` with a constant condition. Conditions on dimensions that the
/// batch does not change are constant too (exporters ask so whether there is something to squeeze).
///
/// Tensors of the branch keep their names where no other graph has them.
///
/// # Errors
/// A condition cannot be decoded, or shapes contradict each other.
pub fn inline_constant_ifs(model: &mut Model) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        // What was inside a branch is decided in the next round.
        let decided = decided(model)?;
        if decided.is_empty() {
            return Ok(lines);
        }
        let mut owners = owners(model.graph());
        let mut round: Vec<String> = decided.into_iter().rev().map(|(index, taken)| inline(model, index, taken, &mut owners)).collect();
        round.reverse();
        lines.extend(round);
    }
}

/// Attribute of the branch.
fn branch_name(taken: bool) -> &'static str {
    if taken { "then_branch" } else { "else_branch" }
}

/// The `If` nodes whose condition is known, and which can be inlined.
fn decided(model: &Model) -> Result<Vec<(usize, bool)>> {
    let graph = Graph::new(model);
    let is_if = |n: &&pb::NodeProto| n.is_standard() && n.op_type() == "If";
    if graph.nodes().iter().find(is_if).is_none() {
        return Ok(Vec::new());
    }
    let facts: Option<Vec<Facts>> = BATCHES.iter().map(|&n| Facts::infer(model, n).ok()).collect();
    let mut known: HashSet<&str> = model.graph().initializer.iter().map(|t| t.name()).collect();
    known.extend(model.graph().input.iter().map(|i| i.name()));
    let mut found = Vec::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        if is_if(&node)
            && let Some(condition) = node.input.first()
        {
            let value = match graph.constant(condition)? {
                Some(value) => truth(&value),
                None => facts.as_ref().filter(|f| is_settled(&graph, f, condition)).and_then(|f| truth(f.first()?.value(condition)?)),
            };
            if let Some(taken) = value.filter(|&taken| fits(node, taken, &known)) {
                found.push((index, taken));
            }
        }
        known.extend(node.output.iter().map(String::as_str));
    }
    Ok(found)
}

fn truth(value: &Tensor) -> Option<bool> {
    match value.data() {
        Data::Bool(b) if b.len() == 1 => b.first().copied(),
        _ => None,
    }
}

/// True when the branch is there, gives what the node gives, and gives no tensor a name that one before it has: then a name would
/// mean one thing before the tensor is made and another after.
fn fits(node: &pb::NodeProto, taken: bool, known: &HashSet<&str>) -> bool {
    let branch = node.attr(branch_name(taken)).and_then(|a| a.g.as_ref());
    branch.is_some_and(|b| b.input.is_empty() && b.output.len() == node.output.len() && defined(b).iter().all(|name| !known.contains(name)))
}

/// True when `name` has one value for all batches, and so has everything it is worked out from. Of a Shape only those elements
/// count that are read.
fn is_settled(graph: &Graph<'_>, facts: &[Facts], name: &str) -> bool {
    let is_shape = |name: &str| {
        graph.producer(name).map(|p| graph.node(p)).is_some_and(|n| n.is_standard() && matches!(n.op_type(), "Shape" | "Size"))
    };
    let (mut open, mut seen) = (vec![name], HashSet::new());
    while let Some(name) = open.pop() {
        if !seen.insert(name) {
            continue;
        }
        let mut values = facts.iter().map(|f| f.value(name));
        let Some(Some(first)) = values.next() else { return false };
        if !values.all(|v| v == Some(first)) {
            return false;
        }
        if let Some(node) = graph.producer(name).map(|p| graph.node(p)).filter(|_| !is_shape(name)) {
            let picks = matches!(node.op_type(), "Gather" | "Slice") && node.input.first().is_some_and(|data| is_shape(data));
            open.extend(node.input.iter().skip(usize::from(picks)).filter(|i| !i.is_empty()).map(String::as_str));
        }
    }
    true
}

/// How many graphs give each name to a tensor of theirs.
fn owners(graph: &pb::GraphProto) -> HashMap<String, usize> {
    let mut owners = HashMap::new();
    let mut open = vec![graph];
    while let Some(graph) = open.pop() {
        defined(graph).into_iter().for_each(|name| *owners.entry(name.to_owned()).or_default() += 1);
        open.extend(graph.node.iter().flat_map(inner));
    }
    owners
}

/// Replaces node `index` by its branch, and says so.
fn inline(model: &mut Model, index: usize, taken: bool, owners: &mut HashMap<String, usize>) -> String {
    let label = node_label(&model.graph().node[index], index);
    let mut node = std::mem::take(&mut model.graph_mut().node[index]);
    let branch = node.attribute.iter_mut().find(|a| a.name() == branch_name(taken)).and_then(|a| a.g.take());
    let mut branch = branch.unwrap_or_default();
    let new = new_names(&branch, &node, &label, owners);
    rename_writes(&mut branch.node, &new);
    rename_reads(&mut branch.node, &new);
    let named = |name: &str| new.get(name).map_or_else(|| name.to_owned(), Clone::clone);
    for (from, to) in branch.output.iter().zip(&node.output).filter(|(_, to)| !to.is_empty()) {
        let from = named(from.name());
        if from != *to {
            let mut copy = pb::NodeProto::new();
            copy.set_op_type("Identity".into());
            copy.set_name(format!("{label}/{to}"));
            (copy.input, copy.output) = (vec![from], vec![to.clone()]);
            branch.node.push(copy);
        }
    }
    branch.initializer.iter_mut().for_each(|t| t.set_name(named(t.name())));
    branch.sparse_initializer.iter_mut().filter_map(|s| s.values.as_mut()).for_each(|t| t.set_name(named(t.name())));
    branch.value_info.iter_mut().for_each(|v| v.set_name(named(v.name())));
    branch.quantization_annotation.iter_mut().for_each(|a| a.set_tensor_name(named(a.tensor_name())));
    let graph = model.graph_mut();
    branch.value_info.retain(|v| !node.output.iter().any(|o| o == v.name()));
    graph.initializer.append(&mut branch.initializer);
    graph.sparse_initializer.append(&mut branch.sparse_initializer);
    graph.value_info.append(&mut branch.value_info);
    graph.quantization_annotation.append(&mut branch.quantization_annotation);
    graph.node.splice(index..=index, branch.node);
    format!("`{label}` (If) always takes its {} branch, which stands in its place", if taken { "then" } else { "else" })
}

/// New names for tensors of a branch: a result takes the name that the node gave it, and names that other graphs have too get
/// the node's label before them.
fn new_names(branch: &pb::GraphProto, node: &pb::NodeProto, label: &str, owners: &mut HashMap<String, usize>) -> HashMap<String, String> {
    let made: HashSet<&str> = branch.node.iter().flat_map(|n| n.output.iter().map(String::as_str)).collect();
    let mut new: HashMap<String, String> = HashMap::new();
    for (from, to) in branch.output.iter().zip(&node.output) {
        // A graph within the branch that has the result's name for itself would not see it.
        if !to.is_empty() && made.contains(from.name()) && !new.contains_key(from.name()) && owners.get(to) == Some(&1) {
            new.insert(from.name().to_owned(), to.clone());
        }
    }
    let mut local: Vec<&str> =
        defined(branch).into_iter().filter(|n| owners.get(*n).is_some_and(|&o| o > 1) && !new.contains_key(*n)).collect();
    // In the order of the names, so that the same file always gives the same.
    local.sort_unstable();
    for name in local {
        let stem = format!("{label}/{name}");
        let numbered = (2..).map(|i| format!("{stem}_{i}"));
        let free = std::iter::once(stem.clone()).chain(numbered).find(|n| !owners.contains_key(n)).unwrap_or_default();
        owners.insert(free.clone(), 1);
        new.insert(name.to_owned(), free);
    }
    new
}
