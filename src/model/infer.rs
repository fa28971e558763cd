//! Shapes and element types of every tensor, with a given batch size, and the values of tensors that are constant.

use super::{eval, graph::Graph, shape_rules};
use crate::onnx::{Attributes, Model, dtype_from_onnx};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use std::collections::HashMap;

/// Values are carried only for tensors this small: shapes, axes, per-channel constants, not weights.
const MAX_FOLDED: usize = 4096;

/// Type and dimensions of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Vec<usize>,
}

/// What is known of a graph's tensors once the free dimensions have a number.
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// use joulefront::{model::Facts, onnx::Model};
/// let model = Model::load("models/fashion-vit.onnx")?;
/// let facts = Facts::infer(&model, 2)?;
/// assert_eq!(facts.shape("logits"), Some(&[2, 10][..]));
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Facts {
    facts: HashMap<String, Fact>,
    values: HashMap<String, Tensor>,
    unknown: Vec<(usize, String)>,
}

impl Facts {
    /// Infers with every free first dimension of an input set to `batch`.
    ///
    /// An operator without a rule leaves its outputs unknown ([`Facts::unknown`]) and inference goes on; a rule that is
    /// violated is an error.
    ///
    /// # Errors
    /// An input has a free dimension other than the first, or shapes contradict each other: the message names the node.
    pub fn infer(model: &Model, batch: usize) -> Result<Self> {
        let graph = Graph::new(model);
        let mut facts = Facts::default();
        for input in graph.inputs() {
            if let Some(fact) = input_fact(input, batch)? {
                facts.facts.insert(input.name().to_owned(), fact);
            }
        }
        for t in &model.graph().initializer {
            facts.learn_constant(&graph, t.name())?;
        }
        let opset = model.opset();
        for (index, node) in graph.nodes().iter().enumerate() {
            let in_context = |e: Error| e.context(format!("{} ({})", graph.label(index), node.op_type()));
            let planned = shape_rules::outputs(node, opset, &facts);
            // A few hostile bytes can stand for gigabytes (Expand, ConstantOfShape): large values are not worked out.
            let is_large = |f: &Fact| eval::count(&f.shape).is_ok_and(|n| n > MAX_FOLDED);
            let large = planned.as_ref().is_ok_and(|p| p.as_ref().is_ok_and(|outputs| outputs.iter().any(is_large)));
            if !large && facts.fold(node, opset).map_err(in_context)? {
                continue;
            }
            match planned.map_err(in_context)? {
                Ok(outputs) => {
                    for (name, fact) in node.output.iter().zip(outputs).filter(|(n, _)| !n.is_empty()) {
                        // From here on products of dimensions cannot overflow.
                        eval::count(&fact.shape).map_err(in_context)?;
                        facts.facts.insert(name.clone(), fact);
                    }
                }
                Err(reason) => facts.unknown.push((index, reason)),
            }
        }
        Ok(facts)
    }

    /// Type and shape of `tensor`.
    pub fn get(&self, tensor: &str) -> Option<&Fact> {
        self.facts.get(tensor)
    }

    /// Dimensions of `tensor`.
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.facts.get(tensor).map(|f| f.shape.as_slice())
    }

    /// The value of a small tensor that is the same for every input.
    pub fn value(&self, tensor: &str) -> Option<&Tensor> {
        self.values.get(tensor)
    }

    /// Nodes whose outputs could not be inferred, with the reason.
    pub fn unknown(&self) -> &[(usize, String)] {
        &self.unknown
    }

    /// Evaluates the node when all its inputs are known small values; true when it did.
    fn fold(&mut self, node: &crate::onnx::pb::NodeProto, opset: i64) -> Result<bool> {
        // The shape of a tensor is known as soon as its dimensions are, whatever its values.
        if node.op_type() == "Shape" {
            let Some(shape) = node.input.first().and_then(|i| self.shape(i)) else { return Ok(false) };
            let value = shape_value(node, shape);
            return Ok(self.learn_outputs(node, Some(vec![value])));
        }
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            match (name.is_empty(), self.values.get(name)) {
                (true, _) => inputs.push(None),
                (false, Some(v)) => inputs.push(Some(v)),
                (false, None) => return Ok(false),
            }
        }
        let value = eval::eval(node, opset, &inputs)?;
        Ok(self.learn_outputs(node, value))
    }

    fn learn_outputs(&mut self, node: &crate::onnx::pb::NodeProto, values: Option<Vec<Tensor>>) -> bool {
        let Some(values) = values else { return false };
        for (name, value) in node.output.iter().zip(values) {
            self.learn(name, value);
        }
        true
    }

    fn learn(&mut self, name: &str, value: Tensor) {
        self.facts.insert(name.to_owned(), Fact { dtype: value.dtype(), shape: value.shape().to_vec() });
        if value.len() <= MAX_FOLDED {
            self.values.insert(name.to_owned(), value);
        }
    }

    fn learn_constant(&mut self, graph: &Graph<'_>, name: &str) -> Result<()> {
        let (Some(shape), Some(dtype)) = (graph.constant_shape(name), graph.constant_type(name).and_then(dtype_from_onnx)) else {
            return Ok(());
        };
        let elements = eval::count(&shape).map_err(|e| e.context(format!("constant `{name}`")))?;
        if elements <= MAX_FOLDED
            && let Some(value) = graph.constant(name)?
        {
            self.values.insert(name.to_owned(), value);
        }
        self.facts.insert(name.to_owned(), Fact { dtype, shape });
        Ok(())
    }
}

/// What a Shape node answers for an input of these dimensions (`start` and `end` since operator set 15).
fn shape_value(node: &crate::onnx::pb::NodeProto, shape: &[usize]) -> Tensor {
    let rank = shape.len() as i64;
    let bound = |name: &str, default: i64| {
        let v = node.int(name).unwrap_or(default);
        (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize
    };
    let (start, end) = (bound("start", 0), bound("end", rank));
    Tensor::i64s(shape[start..end.max(start)].iter().map(|&d| d as i64).collect())
}

/// Type and dimensions of a graph input; `None` when the file states no tensor type.
fn input_fact(input: &crate::onnx::pb::ValueInfoProto, batch: usize) -> Result<Option<Fact>> {
    let Some(tensor) = input.type_.as_ref().and_then(|t| t.tensor_type.as_ref()) else { return Ok(None) };
    let Some(dtype) = dtype_from_onnx(tensor.elem_type()) else { return Ok(None) };
    let shape = tensor.shape.dim.iter().enumerate().map(|(axis, dim)| {
        let fixed = usize::try_from(dim.dim_value()).ok().filter(|&d| d > 0);
        match (fixed, axis) {
            (Some(d), _) => Ok(d),
            (None, 0) => Ok(batch),
            (None, _) => Err(Error::bad_input(format!(
                "input `{}` leaves dimension {axis} (`{}`) open; only the first, the batch, may be",
                input.name(),
                dim.dim_param()
            ))
            .hint("fix the other dimensions when exporting the model")),
        }
    });
    let shape = shape.collect::<Result<Vec<_>>>()?;
    eval::count(&shape).map_err(|e| e.context(format!("input `{}`", input.name())))?;
    Ok(Some(Fact { dtype, shape }))
}
