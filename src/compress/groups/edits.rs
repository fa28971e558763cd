//! What removing channels changes in a graph.

use super::{Channel, Kept};
use crate::model::Graph;
use crate::onnx::{Attributes, Model};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// One change, and the channels that it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is changed.
    pub change: Change,
    /// The channel of each entry.
    pub channels: Arc<[Channel]>,
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Along `axis` of a constant the entries of the kept channels stay.
    Slice {
        /// Name of the constant.
        constant: String,
        /// Axis of the constant.
        axis: usize,
    },
    /// The `group` attribute of a convolution becomes the number of kept entries over `each`.
    Groups {
        /// Index of the node.
        node: usize,
        /// Entries that one of the convolution's groups reads.
        each: usize,
    },
    /// One of the integers that a node is given becomes the number of kept entries within `range`: an entry of a Reshape's
    /// target, a part of a Split, a bound of a Slice.
    Count {
        /// Index of the node.
        node: usize,
        /// Which of its inputs holds the integers; `None`: its attribute `split`.
        input: Option<usize>,
        /// Entry of the integers.
        position: usize,
        /// The entries that count.
        range: Range<usize>,
    },
}

/// Makes one edit; nothing where all its channels stay.
pub(in crate::compress) fn apply(model: &mut Model, edit: &Edit, kept: &Kept) -> Result<()> {
    let entries = kept.entries(&edit.channels);
    if entries.len() == edit.channels.len() {
        return Ok(());
    }
    match &edit.change {
        Change::Slice { constant, axis } => {
            let value = Graph::new(model)
                .constant(constant)?
                .ok_or_else(|| Error::bad_input(format!("`{constant}` is not a constant of this model")))?;
            model.set_constant(constant, &select(&value, *axis, &entries)?)
        }
        Change::Groups { node, each } => {
            model.graph_mut().node[*node].set_int("group", (entries.len() / (*each).max(1)) as i64);
            Ok(())
        }
        Change::Count { node, input, position, range } => {
            let count = entries.iter().filter(|e| range.contains(e)).count();
            set_integer(model, *node, *input, *position, count as i64)
        }
    }
}

/// Writes one integer. An operand gets a constant of its own: others may read the old one.
fn set_integer(model: &mut Model, node: usize, input: Option<usize>, position: usize, value: i64) -> Result<()> {
    let put = |mut integers: Vec<i64>| {
        if integers.len() <= position {
            integers.resize(position + 1, 0);
        }
        integers[position] = value;
        integers
    };
    let at = &model.graph().node[node];
    let Some(input) = input else {
        let integers = put(at.ints("split").map(<[i64]>::to_vec).unwrap_or_default());
        model.graph_mut().node[node].set_ints("split", integers);
        return Ok(());
    };
    let name = at.input.get(input).cloned().unwrap_or_default();
    let old = match Graph::new(model).constant(&name)?.map(Tensor::into_data) {
        Some(Data::I64(v)) => v,
        Some(Data::I32(v)) => v.into_iter().map(i64::from).collect(),
        None if name.is_empty() => Vec::new(),
        _ => return Err(Error::bad_input(format!("`{name}` is not a list of integers"))),
    };
    let stem = if name.is_empty() { format!("{}__sizes", at.output.first().map_or("", String::as_str)) } else { name };
    let name = model.add_initializer(&stem, &Tensor::i64s(put(old)));
    let at = &mut model.graph_mut().node[node];
    at.input.resize(at.input.len().max(input + 1), String::new());
    at.input[input] = name;
    // A Split in equal parts, from opset 18 on.
    at.attribute.retain(|a| a.name() != "num_outputs");
    Ok(())
}

/// The given entries along `axis`, in the given order.
fn select(t: &Tensor, axis: usize, entries: &[usize]) -> Result<Tensor> {
    let data = t.as_f32()?;
    let size = t.shape().get(axis).copied().unwrap_or(0);
    if entries.iter().any(|&e| e >= size) {
        return Err(Error::bad_input(format!("entry outside an axis of {size}")));
    }
    let inner: usize = t.shape()[axis + 1..].iter().product();
    let mut out = Vec::with_capacity(data.len() / size.max(1) * entries.len());
    for block in data.chunks_exact((size * inner).max(1)) {
        for &e in entries {
            out.extend_from_slice(&block[e * inner..(e + 1) * inner]);
        }
    }
    let mut shape = t.shape().to_vec();
    shape[axis] = entries.len();
    Tensor::f32(shape, out)
}

/// The inverse of [`select`]: an axis of `size` with `t`'s entries at the given places and zeros elsewhere.
pub(in crate::compress) fn scatter(t: &Tensor, axis: usize, entries: &[usize], size: usize) -> Result<Tensor> {
    let data = t.as_f32()?;
    let inner: usize = t.shape()[axis + 1..].iter().product();
    let mut shape = t.shape().to_vec();
    shape[axis] = size;
    let mut out = vec![0.0; shape.iter().product()];
    let blocks = data.chunks_exact((entries.len() * inner).max(1));
    for (block, out) in blocks.zip(out.chunks_exact_mut((size * inner).max(1))) {
        for (&e, values) in entries.iter().zip(block.chunks_exact(inner.max(1))) {
            out[e * inner..(e + 1) * inner].copy_from_slice(values);
        }
    }
    Tensor::f32(shape, out)
}
