//! A graph made ready to run: names resolved to slots, constants worked out, inner graphs prepared, functions written out.

use super::control::{Body, Limit};
use super::functions::Flat;
use super::run::Context;
use super::sequence::nothing_of;
use super::value::View;
use crate::model::eval;
use crate::onnx::{self, pb, tensor_from_proto};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Graphs within graphs, and functions within functions, go no deeper.
pub(super) const DEEPEST: usize = 32;

/// A graph that is ready to run.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// In an order in which they can run.
    pub(super) nodes: Vec<Node>,
    slots: HashMap<String, usize>,
    /// By slot.
    names: Vec<String>,
    /// By slot: initializers and what follows from them alone.
    pub(super) constants: Vec<Option<Arc<Tensor>>>,
    /// Slots of constants that others were worked out from.
    pub(super) folded: HashSet<usize>,
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
}

/// A node whose tensors are slots.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) proto: pb::NodeProto,
    pub(super) opset: i64,
    pub(super) inputs: Vec<Option<usize>>,
    pub(super) outputs: Vec<Option<usize>>,
    /// The graphs in its attributes.
    pub(super) bodies: Vec<Body>,
}

impl Node {
    /// All slots that the node reads, those that its inner graphs see included.
    pub(super) fn reads(&self) -> impl Iterator<Item = usize> + '_ {
        let captured = self.bodies.iter().flat_map(|b| b.captures.iter().map(|&(outer, _)| outer));
        self.inputs.iter().flatten().copied().chain(captured)
    }
}

impl Program {
    /// Prepares the main graph of `model`.
    ///
    /// # Errors
    /// An initializer cannot be decoded, or graphs and functions are nested too deeply or grow too large.
    pub(super) fn new(model: &onnx::Model) -> Result<Self> {
        let flat = Flat::new(model);
        Self::build(model.graph(), &flat, HashMap::new(), 0)
    }

    /// Prepares `graph`, which sees `outer` tensors: those with a value are constants.
    fn build(graph: &pb::GraphProto, flat: &Flat, outer: HashMap<String, Option<Arc<Tensor>>>, depth: usize) -> Result<Self> {
        if depth > DEEPEST {
            return Err(Error::bad_input(format!("graphs are nested more than {DEEPEST} deep")));
        }
        let mut program = Program::default();
        for (name, value) in outer {
            if let Some(slot) = program.slot_for(&name) {
                program.constants[slot] = value;
            }
        }
        for t in &graph.initializer {
            if let Some(slot) = program.slot_for(t.name()) {
                program.constants[slot] = Some(Arc::new(tensor_from_proto(t)?));
            }
        }
        for t in &graph.sparse_initializer {
            if let Some(slot) = program.slot_for(t.values.name()) {
                let dense = eval::sparse(t).map_err(|e| e.context(format!("sparse constant `{}`", t.values.name())))?;
                program.constants[slot] = Some(Arc::new(dense));
            }
        }
        program.inputs = graph.input.iter().filter_map(|i| program.slot_for(i.name())).collect();
        if depth > 0 {
            // What a body is given replaces a default of the same name.
            for &slot in &program.inputs {
                program.constants[slot] = None;
            }
        }
        for (proto, opset) in flat.nodes(&graph.node)? {
            program.push(proto, opset, flat, depth)?;
        }
        program.outputs = graph.output.iter().filter_map(|o| program.slot_for(o.name())).collect();
        Ok(program)
    }

    /// Appends a node, or works it out at once when all that it reads is known.
    fn push(&mut self, mut proto: pb::NodeProto, opset: i64, flat: &Flat, depth: usize) -> Result<()> {
        let inputs: Vec<_> = proto.input.iter().map(|name| self.slot_for(name)).collect();
        let mut bodies = Vec::new();
        for attribute in &mut proto.attribute {
            if let Some(graph) = attribute.g.take() {
                let captures: Vec<(String, usize)> =
                    free_names(&graph, depth)?.into_iter().filter_map(|name| Some((name.clone(), self.slot_for(&name)?))).collect();
                let outer = captures.iter().map(|(name, slot)| (name.clone(), self.constants[*slot].clone())).collect();
                let program = Program::build(&graph, flat, outer, depth + 1)?;
                let captures = captures.iter().filter_map(|(name, outer)| Some((*outer, program.slot(name)?))).collect();
                let declared = graph.output.iter().map(nothing_of).collect();
                bodies.push(Body { attribute: attribute.name().to_owned(), program, captures, declared });
            }
        }
        let outputs = proto.output.iter().map(|name| self.slot_for(name)).collect();
        let node = Node { proto, opset, inputs, outputs, bodies };
        if node.reads().all(|slot| self.constants[slot].is_some())
            && let Some(made) = self.fold(&node)
        {
            for (slot, t) in node.outputs.iter().zip(made) {
                if let &Some(slot) = slot {
                    self.constants[slot] = Some(Arc::new(t));
                }
            }
            self.folded.extend(node.reads());
            return Ok(());
        }
        // Attributes of a node may hold large tensors (`Constant`): only nodes that really run are kept.
        // One that fails is kept too: it says so when somebody asks for its outputs.
        self.folded
            .extend(node.bodies.iter().flat_map(|b| b.captures.iter().map(|&(outer, _)| outer)).filter(|&s| self.constants[s].is_some()));
        self.nodes.push(node);
        Ok(())
    }

    /// The outputs of a node that reads constants only, if it can be evaluated and gives tensors.
    fn fold(&self, node: &Node) -> Option<Vec<Tensor>> {
        let value = |slot: usize| self.constants.get(slot).and_then(Option::as_deref).map(View::Tensor);
        let made = Context::new(Limit::default()).node(node, &value).ok()?;
        made.into_iter().map(|item| item.into_tensor().ok()).collect()
    }

    /// The slot of `name`, made when it is new; `None` for the empty name of an input that is left out.
    fn slot_for(&mut self, name: &str) -> Option<usize> {
        if name.is_empty() {
            return None;
        }
        if let Some(&slot) = self.slots.get(name) {
            return Some(slot);
        }
        self.slots.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        self.constants.push(None);
        Some(self.names.len() - 1)
    }

    /// The slot of `name`.
    pub(super) fn slot(&self, name: &str) -> Option<usize> {
        self.slots.get(name).copied()
    }

    /// The name of a slot.
    pub(super) fn name(&self, slot: usize) -> &str {
        self.names.get(slot).map_or("", String::as_str)
    }
}

/// Names that `graph` reads and does not define, in the order of their first use.
fn free_names(graph: &pb::GraphProto, depth: usize) -> Result<Vec<String>> {
    if depth > DEEPEST {
        return Err(Error::bad_input(format!("graphs are nested more than {DEEPEST} deep")));
    }
    let mut own: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    own.extend(graph.sparse_initializer.iter().map(|t| t.values.name()));
    own.extend(graph.input.iter().map(|i| i.name()));
    let mut free = Vec::new();
    let mut seen = HashSet::new();
    for node in &graph.node {
        let mut reads: Vec<String> = node.input.to_vec();
        for inner in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
            reads.extend(free_names(inner, depth + 1)?);
        }
        for name in reads {
            if !name.is_empty() && !own.contains(name.as_str()) && seen.insert(name.clone()) {
                free.push(name);
            }
        }
        own.extend(node.output.iter().map(String::as_str));
    }
    for name in graph.output.iter().map(|o| o.name()) {
        if !name.is_empty() && !own.contains(name) && seen.insert(name.to_owned()) {
            free.push(name.to_owned());
        }
    }
    Ok(free)
}
