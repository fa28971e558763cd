//! What a layer is fitted to: a tensor of the original.

use crate::Result;
use crate::compress::activation::{self, Bounds};
use crate::model::{Facts, Graph, Layer, LayerKind, layers};
use crate::onnx::Model;
use std::collections::HashMap;

/// Which of the original's tensors a layer is fitted to.
pub(super) struct Target {
    /// Name of the tensor, and the node that makes it.
    pub(super) tensor: String,
    pub(super) node: usize,
    /// The layer's bias: its own, or a constant that a following Add brings in.
    pub(super) bias: Option<String>,
    /// Where a residual addition reads the other summand, which is subtracted as the variant has it.
    minus: Option<usize>,
    /// Where the activation that reads it cuts its values off, when nothing else reads it.
    pub(super) bounds: Option<Bounds>,
}

impl Target {
    /// By the tensor that the layer itself makes.
    pub(super) fn all(model: &Model, batch: usize) -> Result<HashMap<String, Self>> {
        let (facts, graph) = (Facts::infer(model, batch)?, Graph::new(model));
        let list = layers(&graph, &facts)?;
        Ok(list.iter().filter_map(|l| Some((graph.node(l.node?).output[0].clone(), Target::of(&graph, &facts, l)?))).collect())
    }

    fn of(graph: &Graph<'_>, facts: &Facts, layer: &Layer) -> Option<Self> {
        let (index, _) = layer.editable().ok()?;
        let output_shape = layer.output_shape.as_deref()?;
        let mut target =
            Target { tensor: graph.node(index).output[0].clone(), node: index, bias: layer.bias.clone(), minus: None, bounds: None };
        if layer.kind == LayerKind::MatMul
            && let Some((add, other)) = only_add(graph, &target.tensor)
            && let Some(constant) = graph.node(add).input.get(other)
            && graph.constant_shape(constant).as_deref() == output_shape.last().map(std::slice::from_ref)
        {
            target =
                Target { tensor: graph.node(add).output[0].clone(), node: add, bias: Some(constant.clone()), minus: None, bounds: None };
        }
        if let Some((add, other)) = only_add(graph, &target.tensor)
            && let Some(summand) = graph.node(add).input.get(other)
            && !graph.is_constant(summand)
            // A summand that is broadcast has no value of its own for each output.
            && facts.shape(summand) == Some(output_shape)
            && graph.producer(summand).is_none_or(|p| p < index)
        {
            target = Target { tensor: graph.node(add).output[0].clone(), node: add, minus: Some(other), ..target };
        }
        target.bounds = cut_off(graph, &target.tensor);
        Some(target)
    }

    /// The other summand by the variant's name: there it may have passed through a quantizer. `Err` says why there is none: the variant may
    /// do without the whole branch.
    pub(super) fn summand(&self, variant: &Model) -> Result<Option<String>, &'static str> {
        let Some(input) = self.minus else { return Ok(None) };
        let graph = Graph::new(variant);
        let node = graph.producer(&self.tensor).map(|n| graph.node(n)).filter(|n| n.op_type() == "Add");
        node.and_then(|n| n.input.get(input)).cloned().map(Some).ok_or("nothing is added to its output any more")
    }
}

/// When the only reader of `tensor` is an Add: its index and which input is the other summand.
fn only_add(graph: &Graph<'_>, tensor: &str) -> Option<(usize, usize)> {
    let [reader] = graph.consumers(tensor) else { return None };
    let node = graph.node(reader.node);
    let other = 1usize.checked_sub(reader.input)?;
    (node.op_type() == "Add" && !node.output.is_empty() && !graph.is_output(tensor)).then_some((reader.node, other))
}

/// The bounds that all readers of `tensor` keep to.
fn cut_off(graph: &Graph<'_>, tensor: &str) -> Option<Bounds> {
    let mut readers = graph.consumers(tensor).iter().map(|r| activation::bounds(graph, graph.node(r.node)));
    let first = readers.next()??;
    (!graph.is_output(tensor) && readers.all(|r| r == Some(first))).then_some(first)
}
