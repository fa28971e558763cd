//! Names of a graph, of the bodies within it and of the functions it calls: what each name stands for, seen from inside.

use crate::onnx::{Attributes, pb};
use crate::{Error, Result};
use std::collections::HashMap;

use super::{Graph, node_label};

/// Nodes that are visited at most: functions that call functions can stand for more than any file holds.
const MAX_VISITS: usize = 1 << 20;
/// Graphs within graphs and functions within functions.
const MAX_DEPTH: usize = 24;

/// What a name stands for.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a, 'm> {
    /// An initializer or the tensor of a Constant node.
    Constant(&'m pb::TensorProto),
    /// The output of a node, whose own inputs are names of the scope given here.
    Node(&'a Names<'a, 'm>, &'m pb::NodeProto),
}

/// The names that nodes of one graph or body can use.
pub(super) struct Names<'a, 'm> {
    producers: HashMap<&'m str, &'m pb::NodeProto>,
    constants: HashMap<&'m str, &'m pb::TensorProto>,
    around: Around<'a, 'm>,
    /// Labels of the nodes that lead here, each followed by `/`; empty in the main graph.
    pub(super) path: String,
    /// Why shapes are not known in here; `None` in the main graph.
    pub(super) inside: Option<String>,
}

enum Around<'a, 'm> {
    Nothing,
    /// A body sees what is around it.
    Graph(&'a Names<'a, 'm>),
    /// A function sees what its call gives it: by the names of its own inputs.
    Call(&'a Names<'a, 'm>, HashMap<&'m str, &'m str>),
}

impl<'a, 'm> Names<'a, 'm> {
    fn new(nodes: &'m [pb::NodeProto], initializers: &'m [pb::TensorProto], around: Around<'a, 'm>) -> Self {
        let outputs = |n: &'m pb::NodeProto| n.output.iter().filter(|o| !o.is_empty()).map(move |o| (o.as_str(), n));
        let mut constants: HashMap<&str, &pb::TensorProto> = nodes.iter().filter_map(tensor_of_constant).collect();
        constants.extend(initializers.iter().map(|t| (t.name(), t)));
        Names { producers: nodes.iter().flat_map(outputs).collect(), constants, around, path: String::new(), inside: None }
    }

    /// The names of a model's main graph.
    pub(super) fn main(graph: &Graph<'m>) -> Self {
        let proto = graph.model().graph();
        Names::new(&proto.node, &proto.initializer, Around::Nothing)
    }

    /// What `name` stands for; `None` for what is fed from outside.
    pub(super) fn origin<'s>(&'s self, name: &str) -> Option<Origin<'s, 'm>> {
        let mut scope: &'s Names<'s, 'm> = self;
        let mut name = name;
        // As many steps as there are scopes around.
        while !name.is_empty() {
            if let Some(constant) = scope.constants.get(name) {
                return Some(Origin::Constant(constant));
            }
            if let Some(node) = scope.producers.get(name) {
                return Some(Origin::Node(scope, node));
            }
            (scope, name) = match &scope.around {
                Around::Nothing => return None,
                Around::Graph(outer) => (*outer, name),
                Around::Call(outer, given) => (*outer, *given.get(name)?),
            };
        }
        None
    }

    /// The constant of that name, read directly.
    pub(super) fn constant(&self, name: &str) -> Option<&'m pb::TensorProto> {
        match self.origin(name)? {
            Origin::Constant(t) => Some(t),
            Origin::Node(..) => None,
        }
    }

    /// The constant that input `index` of `node` reads directly.
    pub(super) fn constant_input(&self, node: &pb::NodeProto, index: usize) -> Option<&'m pb::TensorProto> {
        self.constant(node.input.get(index)?)
    }
}

fn tensor_of_constant(node: &pb::NodeProto) -> Option<(&str, &pb::TensorProto)> {
    let is_constant = node.is_standard() && node.op_type() == "Constant";
    Some((node.output.first().filter(|_| is_constant)?, node.attr("value")?.t.as_ref()?))
}

/// What [`walk`] calls: the names around a node, its index in its graph, the node.
pub(super) type Visit<'v, 'm> = dyn FnMut(&Names<'_, 'm>, usize, &'m pb::NodeProto) -> Result<()> + 'v;

/// Visits all nodes of the main graph in order, and after each node those of its bodies and of the function it calls.
///
/// # Errors
/// Nesting is deeper than 24 or stands for more than a million nodes, or a visit fails.
pub(super) fn walk<'m>(graph: &Graph<'m>, visit: &mut Visit<'_, 'm>) -> Result<()> {
    let functions = graph.model().proto().functions.iter().map(|f| ((f.domain(), f.name()), f)).collect();
    let mut walk = Walk { functions, visited: 0, visit };
    walk.nodes(&Names::main(graph), graph.nodes(), 0)
}

struct Walk<'v, 'm> {
    functions: HashMap<(&'m str, &'m str), &'m pb::FunctionProto>,
    visited: usize,
    visit: &'v mut Visit<'v, 'm>,
}

impl<'m> Walk<'_, 'm> {
    fn nodes(&mut self, names: &Names<'_, 'm>, nodes: &'m [pb::NodeProto], depth: usize) -> Result<()> {
        for (index, node) in nodes.iter().enumerate() {
            self.visited += 1;
            if self.visited > MAX_VISITS || depth > MAX_DEPTH {
                return Err(Error::bad_input("bodies and functions are nested too deeply, or stand for more than a million nodes"));
            }
            (self.visit)(names, index, node)?;
            let path = format!("{}{}/", names.path, node_label(node, index));
            let label = path.trim_end_matches('/');
            for body in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
                let mut inner = Names::new(&body.node, &body.initializer, Around::Graph(names));
                inner.inside = Some(match node.op_type() {
                    "If" => format!("it runs only when `{label}` takes its branch"),
                    op => format!("it runs once per turn of `{label}` ({op})"),
                });
                inner.path.clone_from(&path);
                self.nodes(&inner, &body.node, depth + 1)?;
            }
            if let Some(function) = self.functions.get(&(node.domain(), node.op_type())).copied() {
                let given = function.input.iter().map(String::as_str).zip(node.input.iter().map(String::as_str)).collect();
                let mut inner = Names::new(&function.node, &[], Around::Call(names, given));
                inner.inside = Some(format!("it is inside the function `{}`, whose shapes are not kept", function.name()));
                inner.path = path;
                self.nodes(&inner, &function.node, depth + 1)?;
            }
        }
        Ok(())
    }
}
