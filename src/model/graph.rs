//! Who makes and who reads each tensor of an ONNX graph.

use crate::onnx::{Model, pb, tensor_from_proto, zero_count};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};

/// One reading of a tensor: input number `input` of node number `node`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Use {
    /// Index of the node in `graph.node`.
    pub node: usize,
    /// Index in the node's inputs.
    pub input: usize,
}

/// An index over a model's main graph. It borrows the model: edit, then index again (it costs microseconds).
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// let model = joulefront::onnx::Model::load("models/fashion-mlp.onnx")?;
/// let graph = joulefront::model::Graph::new(&model);
/// let first = graph.producer(&graph.node(0).output[0]);
/// assert_eq!(first, Some(0));
/// assert!(graph.is_constant("f.1.weight"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Graph<'m> {
    model: &'m Model,
    producers: HashMap<&'m str, usize>,
    consumers: HashMap<&'m str, Vec<Use>>,
    initializers: HashMap<&'m str, usize>,
    outputs: HashSet<&'m str>,
}

impl<'m> Graph<'m> {
    /// Indexes `model`.
    pub fn new(model: &'m Model) -> Self {
        let graph = model.graph();
        let mut producers = HashMap::new();
        let mut consumers: HashMap<&str, Vec<Use>> = HashMap::new();
        for (index, node) in graph.node.iter().enumerate() {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                producers.insert(output.as_str(), index);
            }
            for (input, name) in node.input.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
                consumers.entry(name).or_default().push(Use { node: index, input });
            }
        }
        Graph {
            model,
            producers,
            consumers,
            initializers: graph.initializer.iter().enumerate().map(|(i, t)| (t.name(), i)).collect(),
            outputs: graph.output.iter().map(|o| o.name()).collect(),
        }
    }

    /// The model that is indexed.
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// All nodes, in topological order (checked when the file was loaded).
    pub fn nodes(&self) -> &'m [pb::NodeProto] {
        &self.model.graph().node
    }

    /// Node number `index`.
    pub fn node(&self, index: usize) -> &'m pb::NodeProto {
        &self.model.graph().node[index]
    }

    /// The node that makes `tensor`; `None` for graph inputs and initializers.
    pub fn producer(&self, tensor: &str) -> Option<usize> {
        self.producers.get(tensor).copied()
    }

    /// Who reads `tensor`, in node order.
    pub fn consumers(&self, tensor: &str) -> &[Use] {
        self.consumers.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// True when `tensor` is an output of the graph.
    pub fn is_output(&self, tensor: &str) -> bool {
        self.outputs.contains(tensor)
    }

    /// The initializer of that name.
    pub fn initializer(&self, tensor: &str) -> Option<&'m pb::TensorProto> {
        self.initializers.get(tensor).map(|&i| &self.model.graph().initializer[i])
    }

    /// The constant `tensor` as the file holds it.
    pub(crate) fn stored(&self, tensor: &str) -> Option<&'m pb::TensorProto> {
        self.constant_proto(tensor)
    }

    /// The node's constant message: an initializer, or the `value` of a Constant node.
    fn constant_proto(&self, tensor: &str) -> Option<&'m pb::TensorProto> {
        use crate::onnx::Attributes;
        self.initializer(tensor).or_else(|| {
            let node = self.node(self.producer(tensor)?);
            (node.op_type() == "Constant").then(|| node.attr("value")?.t.as_ref()).flatten()
        })
    }

    /// True when `tensor` is an initializer or the tensor of a Constant node.
    pub fn is_constant(&self, tensor: &str) -> bool {
        self.constant_proto(tensor).is_some()
    }

    /// Dimensions of a constant without decoding it.
    pub fn constant_shape(&self, tensor: &str) -> Option<Vec<usize>> {
        self.constant_proto(tensor)?.dims.iter().map(|&d| usize::try_from(d).ok()).collect()
    }

    /// ONNX element-type code of a constant without decoding it.
    pub fn constant_type(&self, tensor: &str) -> Option<i32> {
        self.constant_proto(tensor).map(|t| t.data_type())
    }

    /// Decodes a constant; `None` when `tensor` is not one.
    ///
    /// # Errors
    /// Its bytes do not fit its dimensions, or its type is not supported.
    pub fn constant(&self, tensor: &str) -> Result<Option<Tensor>> {
        self.constant_proto(tensor).map(tensor_from_proto).transpose()
    }

    /// How many elements of a constant are exactly zero; 0 when `tensor` is none. Large constants are not decoded as a whole.
    ///
    /// # Errors
    /// Its bytes do not fit its dimensions, or its type is not supported.
    pub fn zeros(&self, tensor: &str) -> Result<u64> {
        self.constant_proto(tensor).map_or(Ok(0), zero_count)
    }

    /// Graph inputs that are not initializers: what a caller must feed.
    pub fn inputs(&self) -> impl Iterator<Item = &'m pb::ValueInfoProto> {
        self.model.graph().input.iter().filter(|i| !self.initializers.contains_key(i.name()))
    }

    /// How node `index` is called in messages.
    pub fn label(&self, index: usize) -> String {
        node_label(self.node(index), index)
    }
}

/// How a node is called in messages: by its name, else by operator and position.
pub fn node_label(node: &pb::NodeProto, index: usize) -> String {
    if node.name().is_empty() { format!("#{index} {}", node.op_type()) } else { node.name().to_owned() }
}

impl Model {
    /// Adds an initializer and returns its name: `stem`, or `stem_2`, `stem_3`, … when the graph has that name already.
    pub fn add_initializer(&mut self, stem: &str, value: &Tensor) -> String {
        let name = self.free_name(stem);
        self.graph_mut().initializer.push(crate::onnx::tensor_to_proto(&name, value));
        name
    }

    /// `stem`, or the first of `stem_2`, `stem_3`, … that no tensor of the graph has.
    pub fn free_name(&self, stem: &str) -> String {
        let graph = self.graph();
        let taken = |name: &str| {
            graph.initializer.iter().any(|t| t.name() == name)
                || graph.input.iter().any(|i| i.name() == name)
                || graph.node.iter().any(|n| n.output.iter().any(|o| o == name))
        };
        let numbered = (2..).map(|i| format!("{stem}_{i}"));
        std::iter::once(stem.to_owned()).chain(numbered).find(|n| !taken(n)).unwrap_or_default()
    }

    /// Replaces the constant `name` (initializer or Constant node).
    ///
    /// # Errors
    /// There is no constant of that name.
    pub fn set_constant(&mut self, name: &str, value: &Tensor) -> Result<()> {
        use crate::onnx::tensor_to_proto;
        let graph = self.graph_mut();
        let slot = match graph.initializer.iter_mut().position(|t| t.name() == name) {
            Some(i) => Some(&mut graph.initializer[i]),
            None => graph
                .node
                .iter_mut()
                .find(|n| n.op_type() == "Constant" && n.output.first().is_some_and(|o| o == name))
                .and_then(|n| n.attribute.iter_mut().find(|a| a.name() == "value"))
                .and_then(|a| a.t.as_mut()),
        };
        let slot = slot.ok_or_else(|| Error::bad_input(format!("there is no constant `{name}` to replace")))?;
        // Name and documentation stay the file's; only what the numbers need changes.
        let fresh = tensor_to_proto(slot.name(), value);
        slot.dims = fresh.dims;
        slot.data_type = fresh.data_type;
        slot.raw_data = fresh.raw_data;
        slot.float_data.clear();
        slot.int32_data.clear();
        slot.int64_data.clear();
        slot.double_data.clear();
        slot.uint64_data.clear();
        Ok(())
    }
}
