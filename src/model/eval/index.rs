//! Elements by position: `GatherElements`, `GatherND`, and the scatters.

use super::args::{Args, integers};
use super::layout::{around, axis, count, dimension, strides};
use super::types::{Number, every, numbers, wrap2};
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor, map_data};
use crate::{Error, Result};

/// `i` of an axis of `n`; negative ones count from the end.
fn place(i: i64, n: usize) -> Result<usize> {
    let at = if i < 0 { i.saturating_add(n as i64) } else { i };
    usize::try_from(at).ok().filter(|&at| at < n).ok_or_else(|| Error::bad_input(format!("index {i} is outside an axis of {n}")))
}

/// For each element of `indices` (rank of `x`), the flat place in `x` where only the coordinate along `at` is the index.
fn along(x: &[usize], indices: &Tensor, at: usize) -> Result<Vec<usize>> {
    let shape = indices.shape();
    if shape.len() != x.len() || (0..x.len()).any(|a| a != at && shape[a] > x[a]) {
        return Err(Error::bad_input(format!("indices of shape {shape:?} do not fit {x:?} along axis {at}")));
    }
    let steps = strides(x);
    let mut coordinates = vec![0usize; shape.len()];
    let mut places = Vec::with_capacity(indices.len());
    for i in integers(indices)? {
        let mut flat = 0;
        for (a, (&c, &s)) in coordinates.iter().zip(&steps).enumerate() {
            flat += if a == at { place(i, x[a])? } else { c } * s as usize;
        }
        places.push(flat);
        for a in (0..shape.len()).rev() {
            coordinates[a] += 1;
            if coordinates[a] < shape[a] {
                break;
            }
            coordinates[a] = 0;
        }
    }
    Ok(places)
}

/// `GatherElements`.
pub(super) fn gather_elements(args: &Args) -> Result<Tensor> {
    let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
    let places = along(x.shape(), indices, axis(args.int_or("axis", 0), x.shape().len())?)?;
    Tensor::new(indices.shape().to_vec(), map_data!(x.data(), v => places.iter().map(|&p| v[p]).collect()))
}

/// For each row of `indices` along its last axis, the flat place of the slice of `x` it names; and the slice's length. The first
/// `batch` axes of both run together.
fn slices(x: &[usize], indices: &Tensor, batch: usize) -> Result<(Vec<usize>, usize)> {
    let shape = indices.shape();
    let wrong = || Error::bad_input(format!("indices of shape {shape:?} do not fit {x:?}"));
    let (&depth, rest) = shape.split_last().ok_or_else(wrong)?;
    if batch > rest.len() || batch.saturating_add(depth) > x.len() || x[..batch] != rest[..batch] {
        return Err(wrong());
    }
    let steps = strides(x);
    let groups: usize = x[..batch].iter().product();
    let rows: usize = rest.iter().product();
    let values = integers(indices)?;
    let (each, size) = (rows / groups.max(1), x[batch..].iter().product::<usize>());
    let mut places = Vec::with_capacity(rows);
    for row in 0..rows {
        let mut flat = row / each.max(1) * size;
        for d in 0..depth {
            flat += place(values[row * depth + d], x[batch + d])? * steps[batch + d] as usize;
        }
        places.push(flat);
    }
    Ok((places, x[batch + depth..].iter().product()))
}

/// `GatherND`.
pub(super) fn gather_nd(args: &Args) -> Result<Tensor> {
    let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
    let batch = usize::try_from(args.int_or("batch_dims", 0)).map_err(|_| Error::bad_input("`batch_dims` is negative"))?;
    let (places, length) = slices(x.shape(), indices, batch)?;
    let depth = indices.shape().last().copied().unwrap_or(0);
    let shape = [&indices.shape()[..indices.shape().len() - 1], &x.shape()[batch + depth..]].concat();
    count(&shape)?;
    Tensor::new(shape, map_data!(x.data(), v => places.iter().flat_map(|&p| &v[p..p + length]).copied().collect()))
}

/// `ScatterElements`, and `Scatter` of older operator sets.
pub(super) fn scatter_elements(args: &Args) -> Result<Tensor> {
    let (x, indices, updates) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    if indices.shape() != updates.shape() {
        return Err(Error::bad_input(format!("{:?} indices and {:?} updates differ", indices.shape(), updates.shape())));
    }
    let places = along(x.shape(), indices, axis(args.int_or("axis", 0), x.shape().len())?)?;
    scatter(args, x, updates, &places, 1)
}

/// `ScatterND`.
pub(super) fn scatter_nd(args: &Args) -> Result<Tensor> {
    let (x, indices, updates) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let (places, length) = slices(x.shape(), indices, 0)?;
    if updates.len() != places.len() * length {
        return Err(Error::bad_input(format!("{} updates stand against {} elements", updates.len(), places.len() * length)));
    }
    scatter(args, x, updates, &places, length)
}

/// Puts row after row of `updates` where `places` says, or combines it with what is there.
fn scatter(args: &Args, x: &Tensor, updates: &Tensor, places: &[usize], length: usize) -> Result<Tensor> {
    fn put<T: Copy>(v: &[T], u: &[T], places: &[usize], length: usize, f: impl Fn(T, T) -> T) -> Vec<T> {
        let mut out = v.to_vec();
        for (&p, row) in places.iter().zip(u.chunks_exact(length.max(1))) {
            out[p..p + length].iter_mut().zip(row).for_each(|(o, &u)| *o = f(*o, u));
        }
        out
    }
    let mismatch = || super::binary::type_mismatch(x, updates);
    let combined = |f: &str| match f {
        "add" => numbers!(wrap2!(x.data(), updates.data(), v, u => put(v, u, places, length, Number::add))),
        "mul" => numbers!(wrap2!(x.data(), updates.data(), v, u => put(v, u, places, length, Number::mul))),
        "max" => numbers!(wrap2!(x.data(), updates.data(), v, u => put(v, u, places, length, Number::max))),
        _ => numbers!(wrap2!(x.data(), updates.data(), v, u => put(v, u, places, length, Number::min))),
    };
    let data = match args.node.string("reduction").unwrap_or("none") {
        "none" => every!(wrap2!(x.data(), updates.data(), v, u => put(v, u, places, length, |_, u| u))),
        f @ ("add" | "mul" | "max" | "min") => combined(f),
        other => return Err(Error::bad_input(format!("the reduction `{other}` is not one of ONNX"))),
    };
    Tensor::new(x.shape().to_vec(), data.ok_or_else(mismatch)?)
}

/// `TensorScatter`: a stretch of a cache `[batch, …, time, …]` replaced from a place of each batch on, wrapping around when `circular`.
pub(super) fn tensor_scatter(args: &Args) -> Result<Tensor> {
    let (cache, update) = (args.tensor(0)?, args.tensor(1)?);
    let (shape, news) = (cache.shape(), update.shape());
    let at = axis(args.int_or("axis", -2), shape.len())?;
    let misfit = || Error::bad_input(format!("an update of shape {news:?} does not fit a cache of shape {shape:?} along axis {at}"));
    if at == 0 || news.len() != shape.len() || (0..shape.len()).any(|a| if a == at { news[a] > shape[a] } else { news[a] != shape[a] }) {
        return Err(misfit());
    }
    let batch = shape[0];
    let starts = args.optional(2).map(integers).transpose()?.unwrap_or_else(|| vec![0; batch]);
    let starts = starts.into_iter().map(dimension).collect::<Result<Vec<_>>>()?;
    let circular = args.node.string("mode") == Some("circular");
    let (n, new) = (shape[at], news[at]);
    if starts.len() != batch || starts.iter().any(|&s| if circular { s >= n.max(1) } else { s.saturating_add(new) > n }) {
        return Err(misfit());
    }
    let (outer, _, inner) = around(shape, at);
    let each = outer.checked_div(batch).unwrap_or(0);
    let data = every!(wrap2!(cache.data(), update.data(), v, u => {
        let mut out = v.to_vec();
        for (o, t) in (0..outer).flat_map(|o| (0..new).map(move |t| (o, t))) {
            let to = (starts[o / each] + t) % n;
            out[(o * n + to) * inner..][..inner].copy_from_slice(&u[(o * new + t) * inner..][..inner]);
        }
        out
    }));
    Tensor::new(shape.to_vec(), data.ok_or_else(|| super::binary::type_mismatch(cache, update))?)
}
