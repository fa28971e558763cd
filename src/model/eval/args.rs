//! A node with its input tensors: checked access for the operators.

use crate::onnx::{Attributes, pb};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// A node with its evaluated inputs. Errors do not name the node: the dispatcher does, once, with [`label`].
#[derive(Clone, Copy)]
pub(crate) struct Args<'a> {
    pub(crate) node: &'a pb::NodeProto,
    pub(crate) opset: i64,
    inputs: &'a [Option<&'a Tensor>],
}

impl<'a> Args<'a> {
    pub(crate) fn new(node: &'a pb::NodeProto, opset: i64, inputs: &'a [Option<&'a Tensor>]) -> Self {
        Args { node, opset, inputs }
    }

    /// Input `index`, which the operator requires.
    pub(crate) fn tensor(&self, index: usize) -> Result<&'a Tensor> {
        self.optional(index).ok_or_else(|| Error::bad_input(format!("input {index} is missing")))
    }

    /// Input `index`, which may be left out.
    pub(crate) fn optional(&self, index: usize) -> Option<&'a Tensor> {
        self.inputs.get(index).copied().flatten()
    }

    /// All inputs of a variadic operator: at least one, none left out.
    pub(crate) fn all(&self) -> Result<Vec<&'a Tensor>> {
        (0..self.inputs.len().max(1)).map(|i| self.tensor(i)).collect()
    }

    /// Integers that older operator sets give as the attribute `name` and newer ones as input `index`.
    pub(crate) fn ints(&self, name: &str, index: usize) -> Result<Option<Vec<i64>>> {
        match (self.node.ints(name), self.optional(index)) {
            (Some(values), _) => Ok(Some(values.to_vec())),
            (None, Some(t)) => integers(t).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// An integer attribute, or its default.
    pub(crate) fn int_or(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    /// A float attribute, or its default.
    pub(crate) fn float_or(&self, name: &str, default: f32) -> f32 {
        self.node.float(name).unwrap_or(default)
    }
}

/// The elements of an integer tensor of any width.
pub(crate) fn integers(t: &Tensor) -> Result<Vec<i64>> {
    match t.data() {
        Data::I64(v) => Ok(v.clone()),
        Data::I32(v) => Ok(v.iter().map(|&x| x.into()).collect()),
        Data::I16(v) => Ok(v.iter().map(|&x| x.into()).collect()),
        Data::I8(v) => Ok(v.iter().map(|&x| x.into()).collect()),
        Data::U8(v) => Ok(v.iter().map(|&x| x.into()).collect()),
        _ => Err(Error::bad_input(format!("expected integers, found {}", t.dtype().name()))),
    }
}

/// The only element of a tensor.
pub(crate) fn scalar<T: Copy>(values: &[T], what: &str) -> Result<T> {
    match values {
        [x] => Ok(*x),
        _ => Err(Error::bad_input(format!("{what} must be one value, found {}", values.len()))),
    }
}

/// How a node is called in messages.
pub(crate) fn label(node: &pb::NodeProto) -> String {
    let name = if node.name().is_empty() { node.output.first().map_or("", String::as_str) } else { node.name() };
    format!("node `{name}` ({})", node.op_type())
}
