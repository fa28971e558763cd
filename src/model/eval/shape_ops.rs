//! Operators that make constants and shapes, or give the same elements another shape.

use super::args::{Args, integers, scalar};
use super::layout::{axes, count, dimension, strides};
use super::types::{Number, numbers};
use crate::onnx::{Attributes, pb, tensor_from_proto};
use crate::tensor::map_data;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// `Constant`.
pub(super) fn constant(args: &Args) -> Result<Tensor> {
    let node = args.node;
    if let Some(a) = node.attr("value") {
        return tensor_from_proto(&a.t);
    }
    if let Some(v) = node.int("value_int") {
        return Tensor::new(vec![], Data::I64(vec![v]));
    }
    if let Some(v) = node.ints("value_ints") {
        return Ok(Tensor::i64s(v.to_vec()));
    }
    if let Some(v) = node.float("value_float") {
        return Tensor::f32([], vec![v]);
    }
    if let Some(a) = node.attr("value_floats") {
        return Tensor::f32([a.floats.len()], a.floats.clone());
    }
    if let Some(a) = node.attr("sparse_value") {
        return sparse(&a.sparse_tensor);
    }
    Err(Error::bad_input("the constant holds no numbers").hint("strings are not computed with"))
}

/// A sparse tensor as a dense one: values at flat places, or at coordinates.
pub(crate) fn sparse(s: &pb::SparseTensorProto) -> Result<Tensor> {
    let (values, indices) = (tensor_from_proto(&s.values)?, tensor_from_proto(&s.indices)?);
    let shape = s.dims.iter().map(|&d| dimension(d)).collect::<Result<Vec<_>>>()?;
    let total = count(&shape)?;
    let steps = strides(&shape);
    let (width, steps) = if indices.shape().len() == 2 { (shape.len(), &steps[..]) } else { (1, &[1][..]) };
    let wrong = || Error::bad_input(format!("the places of a sparse tensor do not fit its shape {shape:?}"));
    if width == 0 || indices.len() != values.len() * width {
        return Err(wrong());
    }
    let at = |row: &[i64]| {
        let inside = width == 1 || row.iter().zip(&shape).all(|(&i, &n)| (0..n as i64).contains(&i));
        let flat = row.iter().zip(steps).map(|(&i, &s)| i.saturating_mul(s as i64)).fold(0i64, i64::saturating_add);
        usize::try_from(flat).ok().filter(|&f| inside && f < total).ok_or_else(wrong)
    };
    let places = indices.as_i64()?.chunks(width).map(at).collect::<Result<Vec<_>>>()?;
    let data = map_data!(values.data(), v => {
        let mut out = vec![Default::default(); total];
        places.iter().zip(v).for_each(|(&p, &x)| out[p] = x);
        out
    });
    Tensor::new(shape, data)
}

/// `Shape`, of the axes from `start` to `end`.
pub(super) fn shape(args: &Args) -> Result<Tensor> {
    let dims = args.tensor(0)?.shape();
    let rank = dims.len() as i64;
    let clamped = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (start, end) = (clamped(args.int_or("start", 0)), clamped(args.int_or("end", rank)));
    Ok(Tensor::i64s(dims.get(start..end).unwrap_or_default().iter().map(|&d| d as i64).collect()))
}

/// `Reshape`: 0 keeps the dimension in that place (unless `allowzero`), one −1 is worked out.
pub(super) fn reshape(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let wanted = integers(args.tensor(1)?)?;
    let keep_zero = args.int_or("allowzero", 0) != 0;
    let impossible = || Error::bad_input(format!("{:?} cannot be reshaped to {wanted:?}", x.shape()));
    let mut free = None;
    let mut shape = Vec::with_capacity(wanted.len());
    for (i, &d) in wanted.iter().enumerate() {
        shape.push(match d {
            0 if !keep_zero => *x.shape().get(i).ok_or_else(impossible)?,
            -1 if free.is_none() => {
                free = Some(i);
                1
            }
            _ => usize::try_from(d).map_err(|_| impossible())?,
        });
    }
    let known = count(&shape)?;
    if let Some(i) = free {
        shape[i] = x.len().checked_div(known).ok_or_else(impossible)?;
    }
    x.clone().reshaped(shape).map_err(|_| impossible())
}

/// `Flatten` to a matrix, split before `axis` (1 when not given).
pub(super) fn flatten(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let (axis, rank) = (args.int_or("axis", 1), x.shape().len());
    let at = usize::try_from(if axis < 0 { axis.saturating_add(rank as i64) } else { axis })
        .ok()
        .filter(|&a| a <= rank)
        .ok_or_else(|| Error::bad_input(format!("axis {axis} does not exist in a tensor of rank {rank}")))?;
    let (rows, columns) = x.shape().split_at(at);
    x.clone().reshaped(vec![rows.iter().product(), columns.iter().product()])
}

/// `Squeeze`: removes the named axes, or all of length 1.
pub(super) fn squeeze(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let remove = match args.ints("axes", 1)? {
        Some(named) => axes(&named, x.shape().len())?,
        None => (0..x.shape().len()).filter(|&i| x.shape()[i] == 1).collect(),
    };
    if let Some(&a) = remove.iter().find(|&&a| x.shape()[a] != 1) {
        return Err(Error::bad_input(format!("axis {a} of {:?} cannot be squeezed: its length is not 1", x.shape())));
    }
    x.clone().reshaped((0..x.shape().len()).filter(|i| !remove.contains(i)).map(|i| x.shape()[i]).collect())
}

/// `Unsqueeze`: inserts axes of length 1, numbered in the result.
pub(super) fn unsqueeze(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let named = args.ints("axes", 1)?.ok_or_else(|| Error::bad_input("no axes are given"))?;
    let mut shape = x.shape().to_vec();
    for a in axes(&named, shape.len() + named.len())? {
        shape.insert(a, 1);
    }
    count(&shape)?;
    x.clone().reshaped(shape)
}

/// `ConstantOfShape`: the shape is the input, the value an attribute (float 0 when not given).
pub(super) fn constant_of_shape(args: &Args) -> Result<Tensor> {
    let shape = integers(args.tensor(0)?)?.into_iter().map(dimension).collect::<Result<Vec<_>>>()?;
    let total = count(&shape)?;
    let data = match args.node.attr("value") {
        None => Data::F32(vec![0.0; total]),
        Some(a) => {
            let value = tensor_from_proto(&a.t)?;
            map_data!(value.data(), v => vec![scalar(v, "`value`")?; total])
        }
    };
    Tensor::new(shape, data)
}

/// `Range` from `start` by `delta` up to, without, `limit`.
pub(super) fn range(args: &Args) -> Result<Tensor> {
    let (start, limit, delta) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let length = |n: f64| match n.ceil() {
        n if n.is_nan() => Err(Error::bad_input("the range has no length: `delta` is 0 or a bound is not a number")),
        n => count(&[n.max(0.0) as usize]),
    };
    fn run<T: Number>(s: &[T], l: &[T], d: &[T], length: impl Fn(f64) -> Result<usize>) -> Result<Vec<T>> {
        let (s, l, d) = (scalar(s, "`start`")?, scalar(l, "`limit`")?, scalar(d, "`delta`")?);
        let n = length(if d == T::default() { f64::NAN } else { (l.to_f64() - s.to_f64()) / d.to_f64() })?;
        // Steps of integers add up exactly; those of floats would add up their rounding.
        let mut next = s;
        let mut step = |i: usize| {
            let now = next;
            next = next.add(d);
            if T::IS_FLOAT { s.add(T::from_f64(i as f64).mul(d)) } else { now }
        };
        Ok((0..n).map(&mut step).collect())
    }
    macro_rules! of {
        ([$($t:ident)*]) => {
            match (start.data(), limit.data(), delta.data()) {
                $((Data::$t(s), Data::$t(l), Data::$t(d)) => Data::$t(run(s, l, d, length)?),)*
                _ => return Err(Error::bad_input("bounds and step must be numbers of one type")),
            }
        };
    }
    let data = numbers!(of!());
    let n = data.len();
    Tensor::new(vec![n], data)
}
