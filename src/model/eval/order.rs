//! Operators that compare along an axis: `TopK`, `ArgMax`, `ArgMin`, `Hardmax`.

use super::args::{Args, integers, scalar};
use super::layout::{around, axis, dimension};
use super::types::{Number, numbers, read, wrap};
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

fn no_order(x: &Tensor) -> Error {
    Error::bad_input(format!("{} has no order here", x.dtype().name()))
}

/// `ArgMax` and `ArgMin`: the number of the first (or last) extreme element along an axis.
pub(super) fn arg(args: &Args) -> Result<Tensor> {
    fn run<T: Number>(v: &[T], (outer, n, inner): (usize, usize, usize), largest: bool, last: bool) -> Vec<i64> {
        let best = |i: usize| {
            let at = |k: usize| v[(i / inner * n + k) * inner + i % inner];
            let better = |a: T, b: T| if largest { a > b } else { a < b };
            (1..n).fold(0, |best, k| if better(at(k), at(best)) || (last && at(k) == at(best)) { k } else { best }) as i64
        };
        (0..outer * inner).map(best).collect()
    }
    let x = args.tensor(0)?;
    let axis = axis(args.int_or("axis", 0), x.shape().len())?;
    let parts = around(x.shape(), axis);
    if parts.1 == 0 {
        return Err(Error::bad_input("an empty axis has no extreme element"));
    }
    let (largest, last) = (args.node.op_type() == "ArgMax", args.int_or("select_last_index", 0) != 0);
    let found = numbers!(read!(x.data(), v => run(v, parts, largest, last))).ok_or_else(|| no_order(x))?;
    let mut shape = x.shape().to_vec();
    shape[axis] = 1;
    if args.node.int("keepdims") == Some(0) {
        shape.remove(axis);
    }
    Tensor::new(shape, Data::I64(found))
}

/// `TopK`: the extreme elements of each row along an axis in order, and their numbers; of equals the first comes first.
pub(super) fn top_k(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let at = axis(args.int_or("axis", -1), x.shape().len())?;
    let k = match args.optional(1) {
        Some(k) => scalar(&integers(k)?, "`k`")?,
        None => args.int_or("k", 0),
    };
    let (outer, n, inner) = around(x.shape(), at);
    let k = dimension(k)?;
    if k > n {
        return Err(Error::bad_input(format!("the first {k} of an axis of {n} were asked for")));
    }
    let largest = args.int_or("largest", 1) != 0;
    fn numbers_of<T: Number>(v: &[T], n: usize, inner: usize, k: usize, largest: bool, i: usize) -> Vec<usize> {
        let at = |j: usize| v[(i / inner * n + j) * inner + i % inner];
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| if largest { at(b).order(at(a)) } else { at(a).order(at(b)) });
        order.truncate(k);
        order
    }
    let rows: Option<Vec<Vec<usize>>> =
        numbers!(read!(x.data(), v => (0..outer * inner).map(|i| numbers_of(v, n, inner, k, largest, i)).collect()));
    let rows = rows.ok_or_else(|| no_order(x))?;
    let mut shape = x.shape().to_vec();
    shape[at] = k;
    // In the order of the result: outer, k, inner.
    let picks: Vec<(usize, usize)> =
        (0..outer * k * inner).map(|f| (f / (k * inner) * inner + f % inner, f / inner % k)).map(|(row, j)| (row, rows[row][j])).collect();
    let values = numbers!(wrap!(x.data(), v => picks.iter().map(|&(row, j)| v[(row / inner * n + j) * inner + row % inner]).collect()));
    let indices = Data::I64(picks.iter().map(|&(_, j)| j as i64).collect());
    Ok(vec![Tensor::new(shape.clone(), values.ok_or_else(|| no_order(x))?)?, Tensor::new(shape, indices)?])
}

/// `Hardmax`: 1 at the first largest element along an axis, 0 elsewhere; before operator set 13 all axes from there on are one.
pub(super) fn hardmax(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let flattens = args.opset < 13;
    let at = axis(args.int_or("axis", if flattens { 1 } else { -1 }), x.shape().len())?;
    let (outer, n, inner) =
        if flattens { (x.shape()[..at].iter().product(), x.shape()[at..].iter().product(), 1) } else { around(x.shape(), at) };
    let v = x.as_f32()?;
    let mut out = vec![0.0; v.len()];
    for i in 0..outer * inner {
        let place = |k: usize| (i / inner * n + k) * inner + i % inner;
        let best = (1..n).fold(0, |best, k| if v[place(k)] > v[place(best)] { k } else { best });
        if n > 0 {
            out[place(best)] = 1.0;
        }
    }
    Tensor::f32(x.shape(), out)
}
