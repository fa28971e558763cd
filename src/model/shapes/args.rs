//! What a shape rule sees: one node, the facts of its inputs, and checked access to both.

use super::scope::Scope;
use crate::model::eval::axis;
use crate::model::infer::Fact;
use crate::onnx::{Attributes, dtype_from_onnx, pb};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// Why a rule gives no shapes.
#[derive(Debug)]
pub(in crate::model) enum Stop {
    /// They depend on data, or on something that is not worked out here: the reason for people.
    Unknown(String),
    /// The shape of this tensor is needed and not known.
    Missing(String),
    /// The graph contradicts itself.
    Wrong(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Stop::Wrong(e)
    }
}

/// Facts of the outputs in the node's order; optional ones at the end may be left out.
pub(in crate::model) type Rule = Result<Vec<Fact>, Stop>;

/// The graph contradicts itself.
pub(in crate::model) fn wrong<T>(message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Wrong(Error::bad_input(message)))
}

/// The outputs cannot be known.
pub(in crate::model) fn unknown<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Unknown(reason.into()))
}

/// One output.
pub(in crate::model) fn one(dtype: impl Into<Option<DType>>, shape: impl Into<Vec<usize>>) -> Rule {
    Ok(vec![Fact { dtype: dtype.into(), shape: shape.into() }])
}

/// A node and what is known of its inputs.
#[derive(Clone, Copy)]
pub(in crate::model) struct Args<'a> {
    pub(in crate::model) node: &'a pb::NodeProto,
    /// Version of the operator set the node is written for.
    pub(in crate::model) opset: i64,
    pub(in crate::model) scope: &'a Scope<'a>,
}

impl<'a> Args<'a> {
    /// The name of input `index`; `None` when it is left out.
    pub(in crate::model) fn name(&self, index: usize) -> Option<&'a str> {
        self.node.input.get(index).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// Number of inputs, those left out in the middle included.
    pub(in crate::model) fn inputs(&self) -> usize {
        self.node.input.len()
    }

    /// Input `index`, which the operator requires.
    pub(in crate::model) fn input(&self, index: usize) -> Result<&'a Fact, Stop> {
        match self.optional(index)? {
            Some(fact) => Ok(fact),
            None => wrong(format!("input {index} is missing")),
        }
    }

    /// Input `index`, which may be left out.
    pub(in crate::model) fn optional(&self, index: usize) -> Result<Option<&'a Fact>, Stop> {
        let Some(name) = self.name(index) else { return Ok(None) };
        self.scope.fact(name).map(Some).ok_or_else(|| Stop::Missing(name.to_owned()))
    }

    /// Dimensions of input `index`, which the operator requires.
    pub(in crate::model) fn shape(&self, index: usize) -> Result<&'a [usize], Stop> {
        self.input(index).map(|f| f.shape.as_slice())
    }

    /// The value of input `index`, when it is given; it must be a constant then.
    pub(in crate::model) fn value(&self, index: usize) -> Result<Option<&'a Tensor>, Stop> {
        let Some(name) = self.name(index) else { return Ok(None) };
        match self.scope.value(name) {
            Some(v) => Ok(Some(v)),
            // What its own shape is missing is the nearer reason.
            None => match self.scope.cause(name) {
                Some(cause) => unknown(cause.to_string()),
                None => unknown(format!("the value of `{name}` is worked out while the model runs")),
            },
        }
    }

    /// The integers of input `index`, when it is given.
    pub(in crate::model) fn integers(&self, index: usize) -> Result<Option<Vec<i64>>, Stop> {
        let Some(tensor) = self.value(index)? else { return Ok(None) };
        match integers(tensor) {
            Some(v) => Ok(Some(v)),
            None => wrong(format!("input {index} must be integers, found {}", tensor.dtype().name())),
        }
    }

    /// Integers that newer operator sets give as input `index` and older ones as attribute `name`.
    pub(in crate::model) fn list(&self, index: usize, name: &str) -> Result<Option<Vec<i64>>, Stop> {
        Ok(self.integers(index)?.or_else(|| self.node.ints(name).map(<[i64]>::to_vec)))
    }

    /// The single integer of input `index`, when it is given.
    pub(in crate::model) fn integer(&self, index: usize) -> Result<Option<i64>, Stop> {
        match self.integers(index)?.as_deref() {
            None => Ok(None),
            Some([v]) => Ok(Some(*v)),
            Some(v) => wrong(format!("input {index} must be one number, found {}", v.len())),
        }
    }

    /// An integer attribute, or its default.
    pub(in crate::model) fn int(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    /// An attribute that is 0 or 1.
    pub(in crate::model) fn flag(&self, name: &str, default: bool) -> bool {
        self.int(name, i64::from(default)) != 0
    }

    /// An integer attribute that must be a positive number, or its default.
    pub(in crate::model) fn positive(&self, name: &str, default: i64) -> Result<usize, Stop> {
        let v = self.int(name, default);
        match usize::try_from(v) {
            Ok(n) if n > 0 => Ok(n),
            _ => wrong(format!("`{name}` must be positive, found {v}")),
        }
    }

    /// The attribute `axis` within `rank`.
    pub(in crate::model) fn axis(&self, default: i64, rank: usize) -> Result<usize, Stop> {
        Ok(axis(self.int("axis", default), rank)?)
    }

    /// The element type that attribute `name` asks for.
    pub(in crate::model) fn dtype(&self, name: &str) -> Result<Option<DType>, Stop> {
        let Some(code) = self.node.int(name) else { return Ok(None) };
        match i32::try_from(code).ok().and_then(dtype_from_onnx) {
            Some(dtype) => Ok(Some(dtype)),
            None => unknown(format!("element type {code} is not one that is computed with here")),
        }
    }
}

/// The elements of an integer tensor of any width.
pub(in crate::model) fn integers(t: &Tensor) -> Option<Vec<i64>> {
    fn wide<T: Copy + Into<i64>>(v: &[T]) -> Vec<i64> {
        v.iter().map(|&x| x.into()).collect()
    }
    Some(match t.data() {
        Data::I64(v) => v.clone(),
        Data::I32(v) => wide(v),
        Data::I16(v) => wide(v),
        Data::I8(v) => wide(v),
        Data::U8(v) => wide(v),
        Data::Bool(v) => wide(v),
        _ => return None,
    })
}

/// The elements of a tensor of floats.
pub(in crate::model) fn floats(t: &Tensor) -> Option<Vec<f64>> {
    match t.data() {
        Data::F32(v) => Some(v.iter().map(|&x| x.into()).collect()),
        Data::F64(v) => Some(v.clone()),
        _ => None,
    }
}

/// Dimensions given as integers.
pub(in crate::model) fn dimensions(values: &[i64]) -> Result<Vec<usize>, Stop> {
    let dimension = |&v: &i64| usize::try_from(v).map_err(|_| Error::bad_input(format!("dimension {v} is negative")));
    Ok(values.iter().map(dimension).collect::<Result<_>>()?)
}

/// A dimension worked out with room to spare.
pub(in crate::model) fn dimension(value: i128) -> Result<usize, Stop> {
    usize::try_from(value).map_err(|_| Stop::Wrong(Error::bad_input(format!("a dimension of {value} is not possible"))))
}
