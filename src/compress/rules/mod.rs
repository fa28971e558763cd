//! How each operator passes channels on: one function per family, called once per node in topological order.

mod arithmetic;
mod layers;
mod movement;
mod parts;

use super::groups::{Change, Layout, Tracker};
use crate::model::{Facts, Graph, Layer};
use crate::onnx::{Attributes, pb};
use crate::{Result, model::node_label};

/// Follows the channels of the inputs of node `index` to its outputs. What an operator mixes or is not understood here
/// freezes the channels it touches, with the reason.
pub(super) fn follow(t: &mut Tracker, graph: &Graph<'_>, facts: &Facts, index: usize, layer: Option<(usize, &Layer)>) -> Result<()> {
    let node = graph.node(index);
    let step = Step { graph, facts, node, index };
    match node.op_type() {
        op if !node.is_standard() => {
            step.freeze_all(t, &format!("channels are not followed through {op} of the domain `{}`", node.domain()));
        }
        "Conv" | "ConvTranspose" | "Gemm" | "MatMul" => step.layer(t, layer),
        "Relu" | "LeakyRelu" | "Clip" | "Sigmoid" | "Tanh" | "HardSigmoid" | "HardSwish" | "Swish" | "Elu" | "Selu" | "Celu"
        | "ThresholdedRelu" | "Gelu" | "Erf" | "Softplus" | "Softsign" | "Mish" | "Identity" | "Dropout" | "Neg" | "Abs" | "Sqrt"
        | "Reciprocal" | "Exp" | "Log" | "Cast" | "Sign" | "Floor" | "Ceil" | "Round" | "Not" | "IsNaN" | "Sin" | "Cos" => step.pass(t),
        "BatchNormalization" | "InstanceNormalization" => step.norm_of_channels(t),
        "LayerNormalization" | "RMSNormalization" | "LpNormalization" | "Softmax" | "LogSoftmax" | "Hardmax" | "CumSum" | "ArgMax"
        | "ArgMin" => step.along(t),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Min" | "Max" | "Sum" | "Mean" | "PRelu" | "Where" | "Equal" | "Less"
        | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor" => step.elementwise(t),
        "MaxPool" | "AveragePool" | "LpPool" | "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => step.spatial(t),
        "Resize" | "Upsample" | "Pad" => step.resize(t),
        "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => step.reshape(t),
        "Transpose" => step.transpose(t),
        "Concat" => step.concat(t),
        "Split" => step.split(t),
        "Slice" => step.slice(t),
        "Gather" => step.gather(t),
        "Expand" => step.expand(t),
        "Shape" => step.shape(t),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare"
        | "ReduceLogSum" | "ReduceLogSumExp" => step.reduce(t),
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

impl<'m> Step<'_, 'm> {
    /// Name of an input; empty when it is left out.
    fn name(&self, input: usize) -> &'m str {
        self.node.input.get(input).map_or("", String::as_str)
    }

    fn input(&self) -> &'m str {
        self.name(0)
    }

    fn output(&self) -> &'m str {
        self.node.output.first().map_or("", String::as_str)
    }

    fn label(&self) -> String {
        node_label(self.node, self.index)
    }

    fn shape_of(&self, tensor: &str) -> Option<&[usize]> {
        self.facts.shape(tensor)
    }

    fn rank(&self, tensor: &str) -> usize {
        self.shape_of(tensor).map_or(0, <[usize]>::len)
    }

    /// An axis that may be counted from the end.
    fn axis(&self, axis: i64, rank: usize) -> Option<usize> {
        let axis = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
        usize::try_from(axis).ok().filter(|&a| a < rank)
    }

    /// Integers that are the same for every input.
    fn integers(&self, input: usize) -> Option<&[i64]> {
        self.facts.value(self.name(input))?.as_i64().ok()
    }

    fn freeze_all(&self, t: &mut Tracker, why: &str) {
        for name in &self.node.input {
            t.freeze_tensor(name, why);
        }
    }

    /// A constant that an operator broadcasts against `layout` (whose axes are those of an output of rank `rank`) is cut
    /// along with it; `false` when it is not a constant of that form.
    fn follow_constant(&self, t: &mut Tracker, name: &str, layout: &Layout, rank: usize) -> bool {
        let Some(shape) = self.shape_of(name).map(<[usize]>::to_vec) else { return false };
        let own: Vec<(usize, usize)> =
            layout.axes.iter().zip(&layout.dims).filter_map(|(&a, &d)| Some(((a + shape.len()).checked_sub(rank)?, d))).collect();
        if own.iter().all(|&(axis, _)| shape[axis] == 1) {
            return true;
        }
        if !self.graph.is_constant(name) || own.iter().any(|&(axis, size)| shape[axis] != 1 && shape[axis] != size) {
            return false;
        }
        for (axis, _) in own.into_iter().filter(|&(axis, _)| shape[axis] != 1) {
            t.site(slice(name, axis), layout, axis + rank - shape.len());
        }
        true
    }
}

fn slice(constant: &str, axis: usize) -> Change {
    Change::Slice { constant: constant.to_owned(), axis }
}
