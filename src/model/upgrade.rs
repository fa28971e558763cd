//! Operator sets upwards: each node rewritten into the form that later sets give it. Never downwards.

use super::{Facts, Graph};
use crate::onnx::{Attributes, Model, pb, tensor_to_proto};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The newest operator set that models are converted to: all that quantized weights in blocks need.
pub const NEWEST: i64 = 21;
/// The oldest that can be converted from.
pub const OLDEST: i64 = 6;

/// Reductions whose axes became an input with operator set 18 (`ReduceSum` did with 13).
#[rustfmt::skip]
const REDUCTIONS_18: &[&str] = &[
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare",
];

/// Makes `model` a model of operator set `to`, and says which nodes were rewritten. Nothing is done when it is one of `to` or later.
///
/// # Errors
/// The operator set is older than [`OLDEST`], `to` is newer than [`NEWEST`], a node has no later form here (the message names it), or
/// the model holds functions or graphs within graphs. The model is as it was then.
pub fn upgrade(original: &mut Model, to: i64) -> Result<Vec<String>> {
    let mut model = original.clone();
    let rewritten = convert(&mut model, to)?;
    *original = model;
    Ok(rewritten)
}

fn convert(model: &mut Model, to: i64) -> Result<Vec<String>> {
    let from = model.opset();
    if from >= to {
        return Ok(Vec::new());
    }
    let refused = |why: String| {
        Error::bad_input(format!("operator set {from} cannot be converted to {to}: {why}"))
            .hint("export the model with a newer operator set")
    };
    if from < OLDEST || to > NEWEST {
        return Err(refused(format!("only {OLDEST} to {NEWEST} are")));
    }
    if !model.proto().functions.is_empty()
        || model.graph().node.iter().any(|n| n.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()))
    {
        return Err(refused("it holds functions, or graphs within graphs".into()));
    }
    let ranks = Ranks::of(model)?;
    let mut rewritten = Vec::new();
    let mut nodes = std::mem::take(&mut model.graph_mut().node);
    let mut made = Vec::with_capacity(nodes.len());
    for (index, mut node) in nodes.drain(..).enumerate() {
        let label = super::node_label(&node, index);
        let before = node.clone();
        let mut around = Around::default();
        if node.is_standard() {
            let step = Step { from, to, ranks: &ranks };
            if let Err(why) = step.rewrite(model, &mut node, &mut around) {
                return Err(refused(format!("`{label}` ({}) {why}", before.op_type())));
            }
        }
        if node != before || !around.is_empty() {
            rewritten.push(label);
        }
        made.append(&mut around.before);
        made.push(node);
        made.append(&mut around.after);
    }
    model.graph_mut().node = made;
    for import in model.proto_mut().opset_import.iter_mut().filter(|o| matches!(o.domain(), "" | "ai.onnx")) {
        import.set_version(to);
    }
    // The file's own format must be one that knows the operator set (ONNX, Versioning: 13 needs 7, 19 needs 9, 21 needs 10).
    let ir = match to {
        ..13 => 4,
        13..19 => 7,
        19..21 => 9,
        _ => 10,
    };
    if model.proto().ir_version() < ir {
        model.proto_mut().set_ir_version(ir);
    }
    // A node may have more outputs than its operator: those that others read must not get lost.
    model.check().map_err(|e| refused(e.to_string()))?;
    Ok(rewritten)
}

/// Nodes to stand before and after the one that is rewritten.
#[derive(Default)]
struct Around {
    before: Vec<pb::NodeProto>,
    after: Vec<pb::NodeProto>,
}

impl Around {
    fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// Ranks of tensors, where they are known.
struct Ranks(std::collections::HashMap<String, usize>);

impl Ranks {
    fn of(model: &Model) -> Result<Self> {
        let facts = Facts::infer(model, 1)?;
        let graph = Graph::new(model);
        let names = graph.nodes().iter().flat_map(|n| n.input.iter());
        Ok(Ranks(names.filter_map(|n| Some((n.clone(), facts.shape(n)?.len()))).collect()))
    }
}

struct Step<'a> {
    from: i64,
    to: i64,
    ranks: &'a Ranks,
}

impl Step<'_> {
    /// True when the conversion passes operator set `version`.
    fn passes(&self, version: i64) -> bool {
        self.from < version && version <= self.to
    }

    /// Rewrites one node; the error says why that cannot be, in words that follow its name.
    fn rewrite(&self, model: &mut Model, node: &mut pb::NodeProto, around: &mut Around) -> Result<(), String> {
        let op = node.op_type().to_owned();
        match op.as_str() {
            "Add" | "Sub" | "Mul" | "Div" | "And" | "Or" | "Xor" | "Equal" | "Greater" | "Less" | "Pow" | "PRelu" if self.passes(7) => {
                self.align(model, node)?
            }
            "Gemm" if self.passes(7) => drop(node, &["broadcast"]),
            "BatchNormalization" => {
                if node.int("spatial") == Some(0) {
                    return Err("normalises each element by itself, which no later operator set does".into());
                }
                drop(node, if self.passes(9) { &["spatial", "is_test", "consumed_inputs"] } else { &[] });
                if self.passes(14) && node.output.iter().skip(1).any(|o| !o.is_empty()) {
                    return Err("is in training mode".into());
                }
                node.output.truncate(if self.passes(14) { 1 } else { node.output.len() });
            }
            "Dropout" if self.passes(12) => drop(node, &["ratio", "is_test"]),
            "Slice" if self.passes(10) => {
                for (name, at) in [("starts", 1), ("ends", 2), ("axes", 3)] {
                    to_input(model, node, name, at);
                }
            }
            "TopK" if self.passes(10) => {
                if let Some(k) = node.int("k") {
                    set_input(model, node, "k", 1, &Tensor::i64s(vec![k]));
                }
            }
            "Upsample" if self.passes(10) => self.resize(model, node)?,
            "Resize" if self.passes(11) => self.resize(model, node)?,
            "Scatter" if self.passes(11) => node.set_op_type("ScatterElements".into()),
            "Clip" if self.passes(11) => {
                for (name, at) in [("min", 1), ("max", 2)] {
                    if let Some(bound) = node.float(name) {
                        set_input(model, node, name, at, &scalar(bound)?);
                    }
                }
            }
            "Pad" if self.passes(11) => {
                let value = node.float("value");
                to_input(model, node, "pads", 1);
                if let Some(value) = value.filter(|_| node.string("mode").unwrap_or("constant") == "constant") {
                    set_input(model, node, "value", 2, &scalar(value)?);
                }
                drop(node, &["value"]);
            }
            "Softmax" | "LogSoftmax" | "Hardmax" if self.passes(13) => self.flatten(model, node, around)?,
            "Squeeze" | "Unsqueeze" | "ReduceSum" if self.passes(13) => to_input(model, node, "axes", 1),
            "Split" => {
                if self.passes(13) {
                    to_input(model, node, "split", 1);
                }
                if self.passes(18) && node.input.get(1).is_none_or(String::is_empty) {
                    let parts = node.output.len() as i64;
                    node.set_int("num_outputs", parts);
                }
            }
            "GridSample" if self.passes(20) => match node.string("mode") {
                Some("bicubic") => node.set_string("mode", "cubic"),
                Some("nearest") => {}
                _ => node.set_string("mode", "linear"),
            },
            "GroupNormalization" if self.passes(21) => return Err("scales each group, later ones each channel".into()),
            "DFT" if self.passes(20) => return Err("takes its axis in another way later".into()),
            "Scan" | "Loop" | "If" => return Err("holds a graph".into()),
            reduction if REDUCTIONS_18.contains(&reduction) && self.passes(18) => to_input(model, node, "axes", 1),
            _ => {}
        }
        Ok(())
    }

    /// Before 7 the second operand could be laid along any axes of the first: it gets the axes that NumPy's rule needs.
    fn align(&self, model: &mut Model, node: &mut pb::NodeProto) -> Result<(), String> {
        let axis = match (node.op_type(), node.int("axis")) {
            ("PRelu", _) => Some(1),
            (_, axis) => axis.filter(|_| node.int("broadcast") == Some(1)),
        };
        drop(node, &["broadcast", "axis", "consumed_inputs"]);
        let Some(axis) = axis else { return Ok(()) };
        let rank = |i: usize| node.input.get(i).and_then(|n| self.ranks.0.get(n)).copied();
        let (Some(a), Some(b)) = (rank(0), rank(1)) else { return Err("broadcasts tensors of unknown rank".into()) };
        let axis = if axis < 0 { axis + a as i64 } else { axis };
        let behind = (a as i64 - axis - b as i64).max(0);
        if b == 0 || behind == 0 || (node.op_type() == "PRelu" && b != 1) {
            return Ok(());
        }
        let value = Graph::new(model).constant(&node.input[1]).map_err(|e| e.to_string())?;
        let Some(value) = value else { return Err("broadcasts a tensor that is not constant along given axes".into()) };
        let shape = [value.shape(), &vec![1; behind as usize]].concat();
        let reshaped = value.reshaped(shape).map_err(|e| e.to_string())?;
        node.input[1] = model.add_initializer(&format!("{}__aligned", node.input[1]), &reshaped);
        Ok(())
    }

    /// `Upsample` and the first `Resize` become the `Resize` of 11, told to do what they did.
    fn resize(&self, model: &mut Model, node: &mut pb::NodeProto) -> Result<(), String> {
        if let Some(scales) = node.attr("scales").map(|a| a.floats.clone()) {
            drop(node, &["scales"]);
            let scales = Tensor::f32([scales.len()], scales).map_err(|e| e.to_string())?;
            set_input(model, node, "scales", 1, &scales);
        }
        if self.to < 11 {
            node.set_op_type("Resize".into());
            return Ok(());
        }
        node.set_op_type("Resize".into());
        node.input.insert(1, String::new());
        node.set_string("coordinate_transformation_mode", "asymmetric");
        if node.string("mode").unwrap_or("nearest") == "nearest" {
            node.set_string("nearest_mode", "floor");
        }
        Ok(())
    }

    /// Before 13 softmax took all axes from `axis` on together: the last axis stays one node, others are flattened around it.
    fn flatten(&self, model: &mut Model, node: &mut pb::NodeProto, around: &mut Around) -> Result<(), String> {
        let axis = node.int("axis").unwrap_or(1);
        let (Some(x), Some(y)) = (node.input.first().cloned(), node.output.first().cloned()) else { return Ok(()) };
        let rank = self.ranks.0.get(&x).copied();
        if rank.is_some_and(|r| axis == r as i64 - 1) || axis == -1 {
            node.set_int("axis", -1);
            return Ok(());
        }
        let [flat, result, shape] = ["flat", "result", "shape"].map(|what| model.free_name(&format!("{y}__{what}")));
        let new = |op: &str, inputs: &[&str], output: &str| {
            let mut n = pb::NodeProto::new();
            n.set_op_type(op.into());
            n.set_name(format!("{output}__{op}"));
            n.input = inputs.iter().map(|&i| i.to_owned()).collect();
            n.output = vec![output.to_owned()];
            n
        };
        let mut flattening = new("Flatten", &[&x], &flat);
        flattening.set_int("axis", axis);
        around.before = vec![new("Shape", &[&x], &shape), flattening];
        around.after = vec![new("Reshape", &[&result, &shape], &y)];
        node.input = vec![flat];
        node.output = vec![result];
        node.set_int("axis", -1);
        Ok(())
    }
}

fn drop(node: &mut pb::NodeProto, names: &[&str]) {
    node.attribute.retain(|a| !names.contains(&a.name()));
}

fn scalar(value: f32) -> Result<Tensor, String> {
    Tensor::f32([], vec![value]).map_err(|e| e.to_string())
}

/// The integers of attribute `name` become input `at`.
fn to_input(model: &mut Model, node: &mut pb::NodeProto, name: &str, at: usize) {
    if let Some(values) = node.ints(name).map(<[i64]>::to_vec) {
        set_input(model, node, name, at, &Tensor::i64s(values));
    }
}

/// Attribute `name` goes, and a new constant is input `at`.
fn set_input(model: &mut Model, node: &mut pb::NodeProto, name: &str, at: usize, value: &Tensor) {
    drop(node, &[name]);
    let stem = format!("{}__{name}", node.output.first().map_or("", String::as_str));
    let constant = model.free_name(&stem);
    model.graph_mut().initializer.push(tensor_to_proto(&constant, value));
    if node.input.len() <= at {
        node.input.resize(at + 1, String::new());
    }
    node.input[at] = constant;
}
