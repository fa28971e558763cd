//! Residual blocks: branches that an addition can do without, so that a model becomes less deep.

use crate::model::{Facts, Graph, Layer};
use crate::onnx::{Attributes, Model};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use std::collections::BTreeSet;

/// Nodes of one branch at most: a bound on what a strange graph can cost.
const MOST: usize = 4096;

/// A branch from a tensor to the addition that adds it to that tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Index of the Add.
    pub(super) add: usize,
    /// The summand that stays.
    pub(super) stays: String,
    /// Indices of the branch's nodes.
    pub(super) nodes: BTreeSet<usize>,
    /// Indices (into the layer list) of its layers.
    pub(super) layers: Vec<usize>,
}

/// All blocks of a graph: additions of a tensor and of something that is made of it alone and that nothing else reads.
pub(super) fn find(graph: &Graph<'_>, facts: &Facts, layers: &[Layer]) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (add, node) in graph.nodes().iter().enumerate() {
        let ("Add", true, [a, b], [sum]) = (node.op_type(), node.is_standard(), node.input.as_slice(), node.output.as_slice()) else {
            continue;
        };
        let shape = facts.shape(sum);
        if graph.is_output(sum) || shape.is_none() || [a, b].iter().any(|t| graph.is_constant(t) || facts.shape(t) != shape) {
            continue;
        }
        for (stays, goes) in [(a, b), (b, a)] {
            let Some(nodes) = branch(graph, add, stays, goes) else { continue };
            let layers: Vec<usize> =
                layers.iter().enumerate().filter(|(_, l)| l.node.is_some_and(|n| nodes.contains(&n))).map(|(i, _)| i).collect();
            if !layers.is_empty() {
                blocks.push(Block { add, stays: stays.clone(), nodes, layers });
                break;
            }
        }
    }
    blocks
}

/// The nodes that lead from `start` and from constants to `end`, if that is all that leads there and nobody but node `add`
/// reads what they make.
fn branch(graph: &Graph<'_>, add: usize, start: &str, end: &str) -> Option<BTreeSet<usize>> {
    let mut nodes = BTreeSet::new();
    let mut open = vec![graph.producer(end)?];
    let mut starts = false;
    while let Some(index) = open.pop() {
        if !nodes.insert(index) {
            continue;
        }
        for name in graph.node(index).input.iter().filter(|n| !n.is_empty() && !graph.is_constant(n)) {
            if name == start {
                starts = true;
            } else {
                open.push(graph.producer(name)?);
            }
        }
        if nodes.len() > MOST {
            return None;
        }
    }
    let inside = |tensor: &String| {
        let readers = graph.consumers(tensor);
        !graph.is_output(tensor) && readers.iter().all(|r| nodes.contains(&r.node) || (r.node == add && tensor == end))
    };
    (starts && nodes.iter().all(|&n| graph.node(n).output.iter().all(inside))).then_some(nodes)
}

impl Block {
    /// The sum becomes the summand that stays. The branch is left to be removed as dead, so that nodes keep their numbers.
    pub(super) fn bypass(&self, model: &mut Model) {
        let node = &mut model.graph_mut().node[self.add];
        node.set_op_type("Identity".into());
        node.input = vec![self.stays.clone()];
    }

    /// The constants that make a branch zero when they are zero.
    pub(super) fn constants(&self, model: &Model) -> Vec<String> {
        let graph = Graph::new(model);
        let linear =
            |n: &&usize| matches!(graph.node(**n).op_type(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "Add" | "BatchNormalization");
        let inputs = self.nodes.iter().filter(linear).flat_map(|&n| graph.node(n).input.iter().take(3));
        // Scalars may be shared with the rest of the graph.
        let own = |name: &&String| graph.is_constant(name) && graph.consumers(name).iter().all(|r| self.nodes.contains(&r.node));
        inputs.filter(own).cloned().collect()
    }
}

/// Zeros in place of a float constant.
pub(super) fn zeroed(model: &mut Model, constant: &str) -> Result<()> {
    let value = Graph::new(model).constant(constant)?.ok_or_else(|| Error::bad_input(format!("`{constant}` is not a constant")))?;
    if value.dtype() != DType::F32 {
        return Ok(());
    }
    model.set_constant(constant, &Tensor::f32(value.shape(), vec![0.0; value.len()])?)
}
