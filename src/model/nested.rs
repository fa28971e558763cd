//! Names of a graph, of the bodies within it and of the functions it calls: what each name stands for, seen from inside.

use crate::onnx::{Attributes, pb};
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};

use super::{Graph, node_label};

/// Nodes that are visited at most: functions that call functions can stand for more than any file holds.
const MAX_VISITS: usize = 1 << 20;
/// Nodes that are looked at to tell whether a weight is worked out from constants.
const MAX_LOOKS: usize = 64;
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
    sparse: HashSet<&'m str>,
    around: Around<'a, 'm>,
    /// Names of the nodes that lead here, each followed by `/`; empty in the main graph.
    pub(super) path: String,
    /// Label of the outermost of them.
    outermost: String,
    /// Why shapes are not known in here; `None` in the main graph.
    pub(super) inside: Option<String>,
    /// Indices of the calls that lead to this function, when nothing but functions is around it.
    pub(super) calls: Option<Vec<usize>>,
}

enum Around<'a, 'm> {
    Nothing,
    /// A body sees what is around it.
    Graph(&'a Names<'a, 'm>),
    /// A function sees what its call gives it: by the names of its own inputs.
    Call(&'a Names<'a, 'm>, HashMap<&'m str, &'m str>),
}

impl<'a, 'm> Names<'a, 'm> {
    fn of_graph(graph: &'m pb::GraphProto, around: Around<'a, 'm>) -> Self {
        let sparse = graph.sparse_initializer.iter().map(|s| s.values.name()).collect();
        Names { sparse, ..Names::new(&graph.node, &graph.initializer, around) }
    }

    fn new(nodes: &'m [pb::NodeProto], initializers: &'m [pb::TensorProto], around: Around<'a, 'm>) -> Self {
        let outputs = |n: &'m pb::NodeProto| n.output.iter().filter(|o| !o.is_empty()).map(move |o| (o.as_str(), n));
        let mut constants: HashMap<&str, &pb::TensorProto> = nodes.iter().filter_map(tensor_of_constant).collect();
        constants.extend(initializers.iter().map(|t| (t.name(), t)));
        Names {
            producers: nodes.iter().flat_map(outputs).collect(),
            constants,
            sparse: HashSet::new(),
            around,
            path: String::new(),
            outermost: String::new(),
            inside: None,
            calls: None,
        }
    }

    /// The names of a model's main graph.
    pub(super) fn main(graph: &Graph<'m>) -> Self {
        Names::of_graph(graph.model().graph(), Around::Nothing)
    }

    /// What a node in here is called in the whole model: the way to it and its label, unless that tells the way itself.
    pub(super) fn called(&self, label: &str) -> String {
        let tells = |rest: &str| rest.starts_with(|c: char| !c.is_alphanumeric());
        let told = !self.outermost.is_empty() && label.strip_prefix(&self.outermost).is_some_and(tells);
        if told { label.to_owned() } else { format!("{}{label}", self.path) }
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

    /// True when `name` is worked out from constants alone, as far as a look at a few dozen nodes tells.
    pub(super) fn is_fixed(&self, name: &str) -> bool {
        let mut open = vec![(self, name.to_owned())];
        let mut looked = 0;
        while let Some((scope, name)) = open.pop() {
            looked += 1;
            match scope.origin(&name) {
                Some(Origin::Constant(_)) => {}
                None if scope.is_sparse(&name) => {}
                Some(Origin::Node(_, node)) if node.op_type() == "Constant" => {}
                Some(Origin::Node(inner, node)) if looked <= MAX_LOOKS && !node.input.is_empty() => {
                    open.extend(node.input.iter().filter(|i| !i.is_empty()).map(|i| (inner, i.clone())));
                }
                _ => return false,
            }
        }
        true
    }

    /// True when `name` is a constant in sparse storage here or around.
    fn is_sparse(&self, name: &str) -> bool {
        self.sparse.contains(name) || matches!(&self.around, Around::Graph(outer) if outer.is_sparse(name))
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
            let label = names.called(&node_label(node, index));
            let outermost = if names.outermost.is_empty() { &label } else { &names.outermost };
            for body in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
                let mut inner = Names::of_graph(body, Around::Graph(names));
                inner.inside = Some(match node.op_type() {
                    "If" => format!("it runs only when `{label}` takes its branch"),
                    op => format!("it runs once per turn of `{label}` ({op})"),
                });
                inner.path = format!("{label}/");
                inner.outermost.clone_from(outermost);
                self.nodes(&inner, &body.node, depth + 1)?;
            }
            if let Some(function) = self.functions.get(&(node.domain(), node.op_type())).copied() {
                let given = function.input.iter().map(String::as_str).zip(node.input.iter().map(String::as_str)).collect();
                let mut inner = Names::new(&function.node, &[], Around::Call(names, given));
                inner.inside = Some(format!("it is inside the function `{}`, whose shapes are not known", function.name()));
                inner.path = format!("{label}/");
                inner.outermost.clone_from(outermost);
                let before = if names.inside.is_none() { Some(&[][..]) } else { names.calls.as_deref() };
                inner.calls = before.map(|before| [before, &[index]].concat());
                self.nodes(&inner, &function.node, depth + 1)?;
            }
        }
        Ok(())
    }
}
