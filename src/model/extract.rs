//! A part of a graph as a model of its own: for measuring one layer alone, and for trying forms of it.

use super::clean::names::read_within;
use super::{Facts, Graph};
use crate::onnx::{Attributes, Model, dtype_to_onnx, pb, tensor_to_proto};
use crate::{Error, Result};
use std::collections::{BTreeSet, HashSet};

/// Operators that give something else each time.
const RANDOM: &[&str] = &["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"];

/// Functions of one tensor that engines work out while they write a layer's result.
const ACTIVATIONS: &[&str] = &[
    "Celu",
    "Clip",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "PRelu",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
];

/// What engines work out likewise, or fold into the weights, when all but one operand is constant.
const WITH_CONSTANTS: &[&str] = &["Add", "BatchNormalization", "Div", "Mul", "Sub"];

/// The given `nodes` of the main graph (indices, in any order) as a model of its own.
///
/// What they read and do not make themselves comes along where it is constant: initializers, nodes that work on constants only, and
/// as an initializer what is the same for every input once the dimensions are fixed (`Facts::value`: a shape, say). The rest
/// become inputs, in the order in which they are read. What the rest of the graph reads of theirs, and outputs of the graph,
/// become outputs, in the order in which they are made. Inputs and outputs have the types and the shapes, all numbers, that `facts`
/// knows; every name stays.
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// use joulefront::model::{Facts, Graph, extract, fused};
/// use joulefront::onnx::Model;
/// let model = Model::load("models/fashion-resnet8.onnx")?;
/// let facts = Facts::infer(&model, 1)?;
/// let stem = extract(&model, &facts, fused(&Graph::new(&model), 0))?;
/// let operators: Vec<&str> = stem.graph().node.iter().map(|n| n.op_type()).collect();
/// assert_eq!(operators, ["Conv", "Relu"]);
/// assert_eq!(stem.graph().input[0].name(), "input");
/// assert_eq!(stem.graph().output[0].name(), "/stem/stem.2/Relu_output_0");
/// # Ok(()) }
/// ```
///
/// # Errors
/// There is no such node, type or shape of an input or output is not known (the message names the tensor and who reads or makes it),
/// or nothing that depends on the inputs comes out.
pub fn extract(model: &Model, facts: &Facts, nodes: impl IntoIterator<Item = usize>) -> Result<Model> {
    let graph = Graph::new(model);
    let chosen: BTreeSet<usize> = nodes.into_iter().collect();
    let count = graph.nodes().len();
    if let Some(&node) = chosen.iter().find(|&&n| n >= count) {
        return Err(Error::bad_input(format!("there is no node {node} to extract: the graph has {count}")));
    }
    let fixed = Fixed::of(&graph);
    let kept = fixed.with_makers(&graph, &chosen);
    let mut part = pb::GraphProto::new();
    part.set_name(model.graph().name().to_owned());
    part.node = kept.iter().map(|&n| graph.node(n).clone()).collect();
    let made: HashSet<&str> = kept.iter().flat_map(|&n| graph.node(n).output.iter().map(String::as_str)).collect();
    let mut seen = HashSet::new();
    for &index in &kept {
        for name in reads(graph.node(index)).filter(|name| !made.contains(name)) {
            if !seen.insert(name) {
                continue;
            }
            if let Some(constant) = graph.initializer(name) {
                part.initializer.push(constant.clone());
            } else if let Some(sparse) = model.graph().sparse_initializer.iter().find(|s| s.values.name() == name) {
                part.sparse_initializer.push(sparse.clone());
            } else if let Some(value) = facts.value(name) {
                part.initializer.push(tensor_to_proto(name, value));
            } else if graph.producer(name).is_some() || model.graph().input.iter().any(|i| i.name() == name) {
                // Any other name is one of a graph within the node.
                part.input.push(described(facts, name, "is read by", &graph.label(index))?);
            }
        }
    }
    let elsewhere: HashSet<&str> = (0..count).filter(|n| !kept.contains(n)).flat_map(|n| reads(graph.node(n))).collect();
    for &index in chosen.iter().filter(|n| !fixed.nodes.contains(n)) {
        for name in graph.node(index).output.iter().filter(|o| graph.is_output(o) || elsewhere.contains(o.as_str())) {
            part.output.push(described(facts, name, "is made by", &graph.label(index))?);
        }
    }
    if part.output.is_empty() {
        let labels: Vec<String> = chosen.iter().take(3).map(|&n| format!("`{}`", graph.label(n))).collect();
        return Err(Error::bad_input(format!(
            "the {} nodes to extract ({}) give nothing that depends on data and is read elsewhere",
            chosen.len(),
            labels.join(", ")
        )));
    }
    // What inference could not work out and the file states would be unknown in the part.
    part.value_info = model.graph().value_info.iter().filter(|v| made.contains(v.name()) && facts.is_stated(v.name())).cloned().collect();
    part.quantization_annotation =
        model.graph().quantization_annotation.iter().filter(|a| made.contains(a.tensor_name())).cloned().collect();
    let part = model.with_graph(part);
    part.check()?;
    Ok(part)
}

/// The layer at `node` with what engines run in one go with it, in order: its activation, a bias or a scale by constants, a
/// BatchNormalization, and around a layer between QuantizeLinear and DequantizeLinear these.
///
/// Whether an engine really does is seen when it runs.
pub fn fused(graph: &Graph<'_>, node: usize) -> Vec<usize> {
    let fixed = Fixed::of(graph);
    let captured: HashSet<&str> = graph.nodes().iter().flat_map(read_within).collect();
    let only_reader = |node: usize| {
        let mut outputs = graph.node(node).output.iter().filter(|o| !o.is_empty());
        let (Some(output), None) = (outputs.next(), outputs.next()) else { return None };
        match graph.consumers(output) {
            [one] if !graph.is_output(output) && !captured.contains(output.as_str()) => Some(one.node),
            _ => None,
        }
    };
    let follows = |next: usize| {
        let n = graph.node(next);
        let open = n.input.iter().filter(|i| !i.is_empty() && !fixed.names.contains(i.as_str())).count();
        n.is_standard() && open == 1 && [ACTIVATIONS, WITH_CONSTANTS, &["QuantizeLinear"]].iter().any(|l| l.contains(&n.op_type()))
    };
    // Only its reader can make a dequantized input part of the layer: others need the numbers too.
    let before = graph
        .node(node)
        .input
        .iter()
        .filter_map(|i| graph.producer(i))
        .filter(|&p| !fixed.nodes.contains(&p) && graph.node(p).op_type() == "DequantizeLinear" && only_reader(p) == Some(node));
    let mut nodes: Vec<usize> = before.chain([node]).collect();
    let mut last = node;
    while let Some(next) = only_reader(last).filter(|&next| graph.node(last).op_type() != "QuantizeLinear" && follows(next)) {
        nodes.push(next);
        last = next;
    }
    nodes
}

/// All that is the same for every input and every shape of it.
struct Fixed<'m> {
    names: HashSet<&'m str>,
    nodes: HashSet<usize>,
}

impl<'m> Fixed<'m> {
    fn of(graph: &Graph<'m>) -> Self {
        let main = graph.model().graph();
        let sparse = main.sparse_initializer.iter().map(|s| s.values.name());
        let names = main.initializer.iter().map(|t| t.name()).chain(sparse).collect();
        let mut fixed = Fixed { names, nodes: HashSet::new() };
        for (index, node) in graph.nodes().iter().enumerate() {
            let known = node.is_standard() && !RANDOM.contains(&node.op_type()) && node.attribute.iter().all(|a| a.g.is_none());
            if known && node.input.iter().all(|i| i.is_empty() || fixed.names.contains(i.as_str())) {
                fixed.names.extend(node.output.iter().filter(|o| !o.is_empty()).map(String::as_str));
                fixed.nodes.insert(index);
            }
        }
        fixed
    }

    /// `chosen` and the nodes that make constants for them.
    fn with_makers(&self, graph: &Graph<'m>, chosen: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut kept = chosen.clone();
        let mut open: Vec<usize> = chosen.iter().copied().collect();
        while let Some(node) = open.pop() {
            let makers = reads(graph.node(node)).filter_map(|name| graph.producer(name)).filter(|p| self.nodes.contains(p));
            open.extend(makers.filter(|&p| kept.insert(p)).collect::<Vec<_>>());
        }
        kept
    }
}

/// Names that a node and the graphs within it read, those that the inner graphs make themselves among them.
fn reads(node: &pb::NodeProto) -> impl Iterator<Item = &str> {
    node.input.iter().map(String::as_str).chain(read_within(node)).filter(|n| !n.is_empty())
}

/// `name` with the type and shape that `facts` knows.
fn described(facts: &Facts, name: &str, how: &str, node: &str) -> Result<pb::ValueInfoProto> {
    let missing = |what: &str| {
        let cause = facts.unknown().first().map_or(String::new(), |(_, why)| format!(": {why}"));
        Err(Error::bad_input(format!("the {what} of `{name}`, which {how} `{node}`, is not known{cause}"))
            .hint("give open dimensions a number with `--shape`"))
    };
    let Some(fact) = facts.get(name) else { return missing("shape") };
    let Some(dtype) = fact.dtype else { return missing("element type") };
    let mut info = pb::ValueInfoProto::new();
    info.set_name(name.to_owned());
    let tensor = info.type_.mut_or_insert_default().tensor_type.mut_or_insert_default();
    tensor.set_elem_type(dtype_to_onnx(dtype));
    let number = |&n: &usize| {
        let mut dim = pb::tensor_shape_proto::Dimension::new();
        dim.set_dim_value(n as i64);
        dim
    };
    tensor.shape.mut_or_insert_default().dim = fact.shape.iter().map(number).collect();
    Ok(info)
}
