//! How each operator passes channels on: one function per family, called once per node in topological order.

use super::groups::{ChannelAxis, Edit, Tracker};
use crate::model::{Facts, Format, Graph, Layer, LayerKind};
use crate::onnx::{Attributes, pb};
use crate::{Result, model::node_label};

/// Follows the channels of the inputs of node `index` to its outputs. What an operator mixes or is not understood here
/// freezes the groups it touches, with the reason.
pub(super) fn follow(t: &mut Tracker, graph: &Graph<'_>, facts: &Facts, index: usize, layer: Option<(usize, &Layer)>) -> Result<()> {
    let node = graph.node(index);
    let step = Step { graph, facts, node, index };
    match node.op_type() {
        op if !node.is_standard() => {
            step.freeze_all(t, &format!("channels are not followed through {op} of the domain `{}`", node.domain()));
        }
        "Conv" | "Gemm" | "MatMul" => step.layer(t, layer),
        "Relu" | "LeakyRelu" | "Clip" | "Sigmoid" | "Tanh" | "HardSigmoid" | "HardSwish" | "Elu" | "Selu" | "Gelu" | "Erf" | "Softplus"
        | "Identity" | "Dropout" | "Neg" | "Abs" | "Sqrt" | "Reciprocal" | "Exp" | "Log" | "Cast" | "Mish" => step.pass(t),
        "BatchNormalization" => step.batch_norm(t),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "PRelu" => step.elementwise(t),
        "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" => step.spatial(t),
        "Flatten" | "Reshape" => step.flatten(t),
        "Transpose" => step.transpose(t),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" => step.reduce(t),
        "Constant" => {}
        op => step.freeze_all(t, &format!("channels are not followed through {op} (`{}`)", node_label(node, index))),
    }
    Ok(())
}

struct Step<'a, 'm> {
    graph: &'a Graph<'m>,
    facts: &'a Facts,
    node: &'m pb::NodeProto,
    index: usize,
}

impl Step<'_, '_> {
    fn input(&self) -> &str {
        self.node.input.first().map_or("", String::as_str)
    }

    fn output(&self) -> &str {
        self.node.output.first().map_or("", String::as_str)
    }

    fn rank(&self, tensor: &str) -> usize {
        self.facts.shape(tensor).map_or(0, <[usize]>::len)
    }

    fn set(&self, t: &mut Tracker, axis: ChannelAxis) {
        t.axes.insert(self.output().to_owned(), axis);
    }

    fn freeze_all(&self, t: &mut Tracker, why: &str) {
        for name in &self.node.input {
            t.freeze_tensor(name, why);
        }
    }

    /// The output has the input's channels on the same axis.
    fn pass(&self, t: &mut Tracker) {
        if let Some(a) = t.axes.get(self.input()).copied() {
            self.set(t, a);
        }
    }

    /// Windows over the spatial axes leave channels alone.
    fn spatial(&self, t: &mut Tracker) {
        match t.axes.get(self.input()).copied() {
            Some(a) if a.axis == 1 && a.repeat == 1 => self.set(t, a),
            _ => self.freeze_all(t, &format!("`{}` pools over them", node_label(self.node, self.index))),
        }
    }

    fn layer(&self, t: &mut Tracker, layer: Option<(usize, &Layer)>) {
        let Some((number, layer)) = layer else { return };
        let x = t.axes.get(self.input()).copied();
        let weight = match (layer.editable(), &layer.weight) {
            (Ok((_, weight)), _) => weight,
            (Err(_), None) if layer.kind == LayerKind::ActivationMatMul => {
                return self.freeze_all(t, &format!("`{}` multiplies two activations", layer.name));
            }
            (Err(_), Some(w)) if !matches!(w.format, Format::Float(_)) => {
                return self.freeze_all(t, &format!("the weights of `{}` are quantized already: prune before quantizing", layer.name));
            }
            (Err(why), _) => return self.freeze_all(t, &format!("`{}` cannot be pruned: {why}", layer.name)),
        };
        if let Err(why) = &layer.macs {
            return self.freeze_all(t, &format!("the multiply–adds of `{}` are not known: {why}", layer.name));
        }
        match layer.kind {
            LayerKind::DepthwiseConv => {
                let Some(x) = x else { return };
                let computed_bias = layer.bias.is_none() && self.node.input.get(2).is_some_and(|b| !b.is_empty());
                if x.axis != 1 || x.repeat != 1 || computed_bias {
                    return self.freeze_all(t, &format!("`{}` reads them along another axis, or its bias is computed", layer.name));
                }
                let set = t.set_mut(x.group);
                set.producers.push(number);
                set.edits.push(slice(&weight.name, 0, 1));
                set.edits.extend(layer.bias.iter().map(|b| slice(b, 0, 1)));
                set.edits.push(Edit::DepthwiseGroup { node: self.index });
                self.set(t, x);
            }
            LayerKind::GroupedConv => self.freeze_all(t, &format!("`{}` is a grouped convolution", layer.name)),
            _ => self.dense(t, number, layer, x),
        }
    }

    /// A layer that mixes all input channels into new output channels.
    fn dense(&self, t: &mut Tracker, number: usize, layer: &Layer, x: Option<ChannelAxis>) {
        let (Some(weight), Some(output_shape)) = (&layer.weight, &layer.output_shape) else { return };
        let is_conv = layer.kind == LayerKind::Conv;
        let expected = if is_conv { 1 } else { self.rank(self.input()).saturating_sub(1) };
        let transposed = self.node.int("transA") == Some(1);
        match x {
            Some(x) if x.axis == expected && !transposed && weight.shape.len() == self.weight_rank(layer) => {
                let set = t.set_mut(x.group);
                set.consumers.push(number);
                set.edits.push(slice(&weight.name, weight.input_axis, x.repeat));
            }
            _ => self.freeze_all(t, &format!("`{}` reads them along another axis", layer.name)),
        }
        let out = t.new_set(weight.shape[weight.output_axis]);
        let set = t.set_mut(out);
        set.producers.push(number);
        set.edits.push(slice(&weight.name, weight.output_axis, 1));
        if let Some(bias) = &layer.bias {
            match self.graph.constant_shape(bias) {
                // A Gemm may broadcast a scalar bias.
                Some(s) if s.last() == Some(&weight.shape[weight.output_axis]) => set.edits.push(slice(bias, s.len() - 1, 1)),
                _ => {}
            }
        } else if self.node.input.get(2).is_some_and(|b| !b.is_empty()) {
            t.freeze(out, format!("the bias of `{}` is computed", layer.name));
        }
        if transposed || weight.shape.len() != self.weight_rank(layer) {
            t.freeze(out, format!("the matrices of `{}` are transposed or batched", layer.name));
        }
        let axis = if is_conv { 1 } else { output_shape.len().saturating_sub(1) };
        self.set(t, ChannelAxis { group: out, axis, repeat: 1 });
    }

    fn weight_rank(&self, layer: &Layer) -> usize {
        if layer.kind == LayerKind::Conv { self.rank(self.input()) } else { 2 }
    }

    fn batch_norm(&self, t: &mut Tracker) {
        match t.axes.get(self.input()).copied() {
            Some(a) if a.axis == 1 && a.repeat == 1 => {
                let constants: Vec<&String> = self.node.input.iter().skip(1).collect();
                if constants.iter().all(|c| self.graph.is_constant(c)) {
                    let set = t.set_mut(a.group);
                    set.edits.extend(constants.into_iter().map(|c| slice(c, 0, 1)));
                    self.set(t, a);
                } else {
                    self.freeze_all(t, "a BatchNormalization has computed parameters");
                }
            }
            _ => self.freeze_all(t, "a BatchNormalization normalises another axis"),
        }
    }

    /// Broadcasting arithmetic: activations with the full channel axis are tied together, constants along it are sliced.
    fn elementwise(&self, t: &mut Tracker) {
        let label = node_label(self.node, self.index);
        let followed: Vec<(&String, ChannelAxis)> = self.node.input.iter().filter_map(|i| t.axes.get(i).copied().map(|a| (i, a))).collect();
        let Some(&(first, a)) = followed.first() else { return };
        let out_rank = self.rank(self.output());
        let from_end = |name: &str, axis: usize| self.rank(name).checked_sub(axis);
        let Some(distance) = from_end(first, a.axis) else { return };
        let full = t.channels(a.group) * a.repeat;
        for name in &self.node.input {
            let Some(shape) = self.facts.shape(name) else {
                return self.freeze_all(t, &format!("`{label}` has an input of unknown shape"));
            };
            let along = shape.len().checked_sub(distance).map(|axis| (axis, shape[axis]));
            match (t.axes.get(name).copied(), along) {
                (Some(b), Some((axis, size))) if b.axis == axis && b.repeat == a.repeat && size == full => t.join(a.group, b.group),
                (Some(_), _) => return self.freeze_all(t, &format!("`{label}` combines differently laid out activations")),
                (None, None | Some((_, 1))) => {}
                (None, Some((axis, size))) if size == full && self.graph.is_constant(name) => {
                    t.set_mut(a.group).edits.push(slice(name, axis, a.repeat));
                }
                (None, _) => return self.freeze_all(t, &format!("`{label}` combines them with something that is not followed")),
            }
        }
        match out_rank.checked_sub(distance) {
            Some(axis) => self.set(t, ChannelAxis { axis, ..a }),
            None => self.freeze_all(t, &format!("`{label}` changes their layout")),
        }
    }

    /// Flatten, and Reshape that does the same: each channel becomes `repeat` consecutive features.
    fn flatten(&self, t: &mut Tracker) {
        let label = node_label(self.node, self.index);
        let Some(a) = t.axes.get(self.input()).copied() else { return };
        let (Some(from), Some(to)) = (self.facts.shape(self.input()), self.facts.shape(self.output())) else {
            return self.freeze_all(t, &format!("the shapes around `{label}` are not known"));
        };
        let flattens = a.axis == 1 && to.len() == 2 && from.first() == to.first();
        if !flattens {
            return self.freeze_all(t, &format!("`{label}` rearranges them"));
        }
        let repeat = a.repeat * from.iter().skip(2).product::<usize>();
        if self.node.op_type() == "Reshape" {
            let target = self.node.input.get(1).map_or("", String::as_str);
            let position = match self.graph.constant(target).ok().flatten().as_ref().and_then(|v| v.as_i64().ok()?.get(1).copied()) {
                Some(-1) => None,
                Some(n) if n > 0 => Some(1),
                _ => return self.freeze_all(t, &format!("the target of `{label}` is computed in the graph")),
            };
            if let Some(position) = position {
                t.set_mut(a.group).edits.push(Edit::ReshapeTarget { constant: target.to_owned(), position, repeat });
            }
        } else if self.node.int("axis").unwrap_or(1) != 1 {
            return self.freeze_all(t, &format!("`{label}` flattens another axis"));
        }
        self.set(t, ChannelAxis { repeat, ..a });
    }

    fn transpose(&self, t: &mut Tracker) {
        let Some(a) = t.axes.get(self.input()).copied() else { return };
        let rank = self.rank(self.input());
        let new_axis = match self.node.ints("perm") {
            Some(perm) => perm.iter().position(|&p| p == a.axis as i64),
            None => rank.checked_sub(1 + a.axis),
        };
        match new_axis {
            Some(axis) => self.set(t, ChannelAxis { axis, ..a }),
            None => self.freeze_all(t, "a Transpose is malformed"),
        }
    }

    /// A reduction over other axes keeps the channels; one over the channels mixes them.
    fn reduce(&self, t: &mut Tracker) {
        let label = node_label(self.node, self.index);
        let Some(a) = t.axes.get(self.input()).copied() else { return };
        let rank = self.rank(self.input());
        let given = match self.node.input.get(1).filter(|n| !n.is_empty()) {
            Some(name) => self.facts.value(name).and_then(|v| v.as_i64().ok()),
            None => self.node.ints("axes"),
        };
        let Some(given) = given.filter(|g| !g.is_empty()) else {
            return self.freeze_all(t, &format!("`{label}` reduces over them"));
        };
        let axes: Vec<usize> = given.iter().map(|&x| if x < 0 { (x + rank as i64) as usize } else { x as usize }).collect();
        if axes.contains(&a.axis) {
            return self.freeze_all(t, &format!("`{label}` reduces over them"));
        }
        let keep = self.node.int("keepdims").unwrap_or(1) == 1;
        let gone = if keep { 0 } else { axes.iter().filter(|&&x| x < a.axis).count() };
        self.set(t, ChannelAxis { axis: a.axis - gone, ..a });
    }
}

fn slice(constant: &str, axis: usize, repeat: usize) -> Edit {
    Edit::Slice { constant: constant.to_owned(), axis, repeat }
}
