//! Weights as plain initializers.

use super::count;
use crate::Result;
use crate::model::{Graph, eval};
use crate::onnx::{Attributes, Model, dtype_from_onnx, pb, tensor_to_proto};
use crate::tensor::Tensor;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Takes initializers off the list of inputs. There they are mere defaults that a caller may replace, their dimensions are
/// stated twice, and one that is removed would turn into an input that must be fed. Version 4 of the format made them optional.
pub fn own_initializers(model: &mut Model) -> Vec<String> {
    let names: HashSet<String> = model.graph().initializer.iter().map(|t| t.name().to_owned()).collect();
    let before = model.graph().input.len();
    model.graph_mut().input.retain(|i| !names.contains(i.name()));
    let taken = before - model.graph().input.len();
    let mut lines = Vec::new();
    if taken > 0 {
        lines.push(format!("{} no longer listed as inputs too", count(taken, "initializer is", "initializers are")));
    }
    let version = model.proto().ir_version();
    if version < 4 {
        model.proto_mut().set_ir_version(4);
        lines.push(format!("format version {version} became 4, whose constants need not be inputs"));
    }
    lines
}

/// Operators that move or convert numbers and round nothing that an engine would round otherwise.
const EXACT: &[&str] =
    &["Constant", "Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Concat", "Split"];

/// Operators whose operands become plain.
const LAYERS: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "BatchNormalization"];

/// Bytes that chains may take for each byte that the file's constants have: a few hostile nodes can stand for gigabytes.
const GROWTH: u64 = 16;

/// The same for sparse constants that become dense, whose bytes in the file say less.
const DENSE_GROWTH: u64 = 64;

/// Makes the operands of layers initializers where they are worked out from constants by moving and converting numbers alone:
/// Constant nodes, and what stands behind Cast, Transpose, Reshape, Concat and their like. Quantized weights stay behind their
/// DequantizeLinear. Operands in sparse storage become dense. What would take more than `max_bytes` together stays.
///
/// # Errors
/// A constant cannot be decoded.
pub fn plain_weights(model: &mut Model, max_bytes: u64) -> Result<Vec<String>> {
    let mut lines = dense_weights(model, max_bytes)?;
    let found = evaluate(model, max_bytes)?;
    if found.plain.is_empty() {
        return Ok(lines);
    }
    let graph = model.graph_mut();
    let names: HashSet<&str> = found.plain.iter().map(|t| t.name()).collect();
    graph.node.retain(|n| !n.output.iter().any(|o| names.contains(o.as_str())));
    let plain = found.plain.len();
    graph.initializer.extend(found.plain);
    let behind = found.operators.into_iter().collect::<Vec<_>>().join(", ");
    lines.push(format!("{} that stood behind {behind} became plain", count(plain, "constant", "constants")));
    Ok(lines)
}

fn is_layer(node: &pb::NodeProto) -> bool {
    node.is_standard() && LAYERS.contains(&node.op_type())
}

/// Makes sparse initializers that layers read dense.
fn dense_weights(model: &mut Model, max_bytes: u64) -> Result<Vec<String>> {
    let graph = model.graph_mut();
    let operands: HashSet<&str> = graph.node.iter().filter(|n| is_layer(n)).flat_map(|n| n.input.iter().map(String::as_str)).collect();
    let stored = graph.sparse_initializer.iter().map(|s| stored_bytes(&s.values)).fold(0, u64::saturating_add);
    let mut left = max_bytes.min((1 << 24) + stored.saturating_mul(DENSE_GROWTH));
    let (mut dense, mut stays) = (Vec::new(), Vec::new());
    for s in &graph.sparse_initializer {
        let bytes = elements(&s.dims).saturating_mul(8);
        let fits = operands.contains(s.values.name()) && bytes <= left;
        stays.push(!fits);
        if fits {
            left -= bytes;
            dense.push(tensor_to_proto(s.values.name(), &eval::sparse(s)?));
        }
    }
    if dense.is_empty() {
        return Ok(Vec::new());
    }
    let line = format!("{} dense", count(dense.len(), "sparse constant became", "sparse constants became"));
    let mut stays = stays.into_iter();
    graph.sparse_initializer.retain(|_| stays.next().unwrap_or(true));
    graph.initializer.extend(dense);
    Ok(vec![line])
}

#[derive(Default)]
struct Found {
    plain: Vec<pb::TensorProto>,
    /// What stood between.
    operators: BTreeSet<String>,
}

fn evaluate(model: &Model, max_bytes: u64) -> Result<Found> {
    let graph = Graph::new(model);
    let needed = needed(&graph);
    let in_nodes = graph.nodes().iter().filter_map(|n| n.attr("value")?.t.as_ref());
    let stored = model.graph().initializer.iter().chain(in_nodes).map(stored_bytes).fold(0, u64::saturating_add);
    let mut left = max_bytes.min((1 << 20) + stored.saturating_mul(GROWTH));
    let mut values: HashMap<&str, Tensor> = HashMap::new();
    let mut found = Found::default();
    let roots = needed.roots;
    for index in needed.nodes {
        let node = graph.node(index);
        let is_root = node.output.iter().any(|o| roots.contains(o.as_str()));
        // The tensor of a Constant node is moved as it is.
        if let (true, "Constant", Some(t), [name]) =
            (is_root, node.op_type(), node.attr("value").and_then(|a| a.t.as_ref()), &node.output[..])
        {
            let mut plain = t.clone();
            plain.set_name(name.clone());
            found.plain.push(plain);
            found.operators.insert("Constant".into());
            // Others behind it read the node's tensor from the model.
            continue;
        }
        let bytes = bytes_taken(&graph, node, &values);
        if bytes > left {
            continue;
        }
        let mut inputs: Vec<Option<Tensor>> = Vec::new();
        for name in &node.input {
            inputs.push(match (name.is_empty(), values.get(name.as_str())) {
                (true, _) => None,
                (false, Some(value)) => Some(value.clone()),
                (false, None) => graph.constant(name)?,
            });
        }
        if inputs.iter().zip(&node.input).any(|(value, name)| value.is_none() && !name.is_empty()) {
            continue;
        }
        let given: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
        // What contradicts itself is found and explained by shape inference.
        let Ok(Some(made)) = eval::eval(node, model.opset(), &given) else { continue };
        left -= bytes;
        if made.len() < node.output.len() {
            continue;
        }
        found.operators.insert(node.op_type().to_owned());
        for (name, value) in node.output.iter().zip(made).filter(|(n, _)| !n.is_empty()) {
            if is_root {
                found.plain.push(tensor_to_proto(name, &value));
            }
            values.insert(name, value);
        }
    }
    if found.plain.is_empty() { Ok(Found::default()) } else { Ok(found) }
}

struct Needed<'m> {
    /// Nodes to evaluate, in order.
    nodes: BTreeSet<usize>,
    /// Operands of layers among their results.
    roots: HashSet<&'m str>,
}

/// The chains that lead from constants to operands of layers.
fn needed<'m>(graph: &Graph<'m>) -> Needed<'m> {
    let mut constant: HashSet<&str> = HashSet::new();
    let is_exact = |n: &pb::NodeProto| n.is_standard() && EXACT.contains(&n.op_type());
    for node in graph.nodes().iter().filter(|n| is_exact(n)) {
        let mut inputs = node.input.iter().filter(|i| !i.is_empty());
        let is_source = node.op_type() == "Constant";
        if (is_source || !node.input.is_empty()) && inputs.all(|i| constant.contains(i.as_str()) || graph.initializer(i).is_some()) {
            constant.extend(node.output.iter().map(String::as_str));
        }
    }
    let layers = graph.nodes().iter().filter(|n| is_layer(n));
    let operands = layers.flat_map(|n| n.input.iter()).filter(|i| constant.contains(i.as_str()));
    let mut needed = Needed { nodes: BTreeSet::new(), roots: HashSet::new() };
    let mut open = Vec::new();
    for name in operands {
        // A result that is an output too is made where it is.
        if let Some(node) = graph.producer(name).filter(|&p| !graph.node(p).output.iter().any(|o| graph.is_output(o))) {
            needed.roots.insert(name);
            open.push(node);
        }
    }
    while let Some(node) = open.pop() {
        if needed.nodes.insert(node) {
            open.extend(graph.node(node).input.iter().filter_map(|i| graph.producer(i)));
        }
    }
    needed
}

fn stored_bytes(t: &pb::TensorProto) -> u64 {
    dtype_from_onnx(t.data_type()).map_or(0, |d| elements(&t.dims).saturating_mul(d.bits() as u64) / 8)
}

fn elements(dims: &[i64]) -> u64 {
    dims.iter().fold(1u64, |n, &d| n.saturating_mul(d.max(0).unsigned_abs()))
}

/// An upper bound on what evaluating `node` takes in memory: constants that are decoded for it, and its results.
fn bytes_taken(graph: &Graph<'_>, node: &pb::NodeProto, values: &HashMap<&str, Tensor>) -> u64 {
    let target = node.int("to").and_then(|code| dtype_from_onnx(i32::try_from(code).ok()?)).filter(|_| node.op_type() == "Cast");
    let bytes = |name: &String| {
        let known = values.get(name.as_str());
        let stored = || {
            Some((
                graph.constant_shape(name)?.iter().fold(1usize, |n, &d| n.saturating_mul(d)),
                dtype_from_onnx(graph.constant_type(name)?)?,
            ))
        };
        let Some((elements, dtype)) = known.map(|t| (t.len(), t.dtype())).or_else(stored) else { return 0 };
        let per_element = target.unwrap_or(dtype).size() + if known.is_some() { 0 } else { dtype.size() };
        (elements as u64).saturating_mul(per_element as u64)
    };
    let sparse = node.attr("sparse_value").map_or(0, |a| elements(&a.sparse_tensor.dims).saturating_mul(8));
    node.input.iter().map(bytes).fold(sparse, u64::saturating_add)
}
