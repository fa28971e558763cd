//! Reductions over axes.

use super::args::Args;
use super::layout::{around, axes, axis, count};
use super::movement::permute;
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// `ReduceMean`, `ReduceSum`, `ReduceMax`, `ReduceMin`, `ReduceProd`; axes as attribute or input, all when none are named.
pub(super) fn reduce(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let rank = x.shape().len();
    let named = args.ints("axes", 1)?.unwrap_or_default();
    if named.is_empty() && args.int_or("noop_with_empty_axes", 0) != 0 {
        return Ok(x.clone());
    }
    let reduced = if named.is_empty() { (0..rank).collect() } else { axes(&named, rank)? };
    let kept: Vec<usize> = (0..rank).filter(|a| !reduced.contains(a)).collect();
    let shape = match args.int_or("keepdims", 1) {
        0 => kept.iter().map(|&a| x.shape()[a]).collect(),
        _ => (0..rank).map(|a| if reduced.contains(&a) { 1 } else { x.shape()[a] }).collect::<Vec<_>>(),
    };
    // With the reduced axes last, every result belongs to one row of memory.
    let order = [kept, reduced.clone()].concat();
    let moved;
    let rows = if order.is_sorted() {
        x
    } else {
        moved = permute(x, &order)?;
        &moved
    };
    let row: usize = reduced.iter().map(|&a| x.shape()[a]).product();
    let total = count(&shape)?;
    let op = args.node.op_type();
    let data = match rows.data() {
        Data::F32(v) => Data::F32(each_row(v, total, row, |r| float_row(op, r))),
        Data::I64(v) => Data::I64(each_row(v, total, row, |r| integer_row(op, r, i64::MIN, i64::MAX))),
        Data::I32(v) => {
            // Sums of 32-bit integers wrap at 32 bits, as in the runtimes.
            let wide: Vec<i64> = v.iter().map(|&x| x.into()).collect();
            Data::I32(each_row(&wide, total, row, |r| integer_row(op, r, i32::MIN.into(), i32::MAX.into()) as i32))
        }
        _ => return Err(Error::bad_input(format!("reductions of {} are not supported", x.dtype().name()))),
    };
    Tensor::new(shape, data)
}

/// Applies `f` to `total` rows of `row` elements.
fn each_row<T, R>(v: &[T], total: usize, row: usize, f: impl Fn(&[T]) -> R) -> Vec<R> {
    (0..total).map(|i| f(&v[i * row..][..row])).collect()
}

fn float_row(op: &str, row: &[f32]) -> f32 {
    match op {
        "ReduceMean" => (sum(row) / row.len() as f64) as f32,
        "ReduceSum" => sum(row) as f32,
        "ReduceMax" => row.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m || x.is_nan() { x } else { m }),
        "ReduceMin" => row.iter().fold(f32::INFINITY, |m, &x| if x < m || x.is_nan() { x } else { m }),
        _ => row.iter().product(),
    }
}

fn integer_row(op: &str, row: &[i64], least: i64, most: i64) -> i64 {
    let sum = || row.iter().fold(0i64, |s, &x| s.wrapping_add(x));
    match op {
        "ReduceMean" => sum().checked_div(row.len() as i64).unwrap_or(0),
        "ReduceSum" => sum(),
        "ReduceMax" => row.iter().fold(least, |m, &x| m.max(x)),
        "ReduceMin" => row.iter().fold(most, |m, &x| m.min(x)),
        _ => row.iter().fold(1i64, |p, &x| p.wrapping_mul(x)),
    }
}

/// The sum in double precision, in eight interleaved parts: fast, and always in the same order.
pub(crate) fn sum(values: &[f32]) -> f64 {
    let (blocks, rest) = values.as_chunks::<8>();
    let mut parts = [0.0f64; 8];
    for block in blocks {
        for (part, &x) in parts.iter_mut().zip(block) {
            *part += f64::from(x);
        }
    }
    parts.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x)).sum::<f64>()
}

/// `ArgMax`: the number of the first (or last) largest element along an axis.
pub(super) fn arg_max(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let axis = axis(args.int_or("axis", 0), x.shape().len())?;
    let (outer, n, inner) = around(x.shape(), axis);
    let mut shape = x.shape().to_vec();
    shape[axis] = 1;
    if n == 0 {
        return Err(Error::bad_input("an empty axis has no largest element"));
    }
    let last = args.int_or("select_last_index", 0) != 0;
    macro_rules! largest {
        ($v:expr) => {
            (0..outer * inner)
                .map(|i| {
                    let at = |k: usize| $v[(i / inner * n + k) * inner + i % inner];
                    (1..n).fold(0, |best, k| if at(k) > at(best) || (last && at(k) == at(best)) { k } else { best }) as i64
                })
                .collect::<Vec<_>>()
        };
    }
    let found = match x.data() {
        Data::F32(v) => largest!(v),
        Data::F64(v) => largest!(v),
        Data::I64(v) => largest!(v),
        Data::I32(v) => largest!(v),
        Data::I8(v) => largest!(v),
        Data::U8(v) => largest!(v),
        _ => return Err(Error::bad_input(format!("{} has no order here", x.dtype().name()))),
    };
    if args.node.int("keepdims") == Some(0) {
        shape.remove(axis);
    }
    Tensor::new(shape, Data::I64(found))
}
