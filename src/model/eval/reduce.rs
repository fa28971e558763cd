//! Reductions over axes.

use super::args::Args;
use super::layout::{axes, count};
use super::movement::permute;
use super::types::{Number, numbers, wrap};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// `ReduceMean` and its kin; axes as attribute or input, all when none are named.
pub(super) fn reduce(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let rank = x.shape().len();
    let named = args.ints("axes", 1)?.unwrap_or_default();
    // With `noop_with_empty_axes` every element is a set of its own, which for most operators changes nothing.
    let all = named.is_empty() && args.int_or("noop_with_empty_axes", 0) == 0;
    let reduced = if all { (0..rank).collect() } else { axes(&named, rank)? };
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
        // Truth values: the largest is "any", the smallest "all".
        Data::Bool(v) if op == "ReduceMax" => Data::Bool(each_row(v, total, row, |r| r.contains(&true))),
        Data::Bool(v) if op == "ReduceMin" => Data::Bool(each_row(v, total, row, |r| !r.contains(&false))),
        other => numbers!(wrap!(other, v => each_row(v, total, row, |r| any_row(op, r))))
            .ok_or_else(|| Error::bad_input(format!("reductions of {} are not supported", x.dtype().name())))?,
    };
    Tensor::new(shape, data)
}

/// Applies `f` to `total` rows of `row` elements.
fn each_row<T, R>(v: &[T], total: usize, row: usize, f: impl Fn(&[T]) -> R) -> Vec<R> {
    (0..total).map(|i| f(&v[i * row..][..row])).collect()
}

/// The frequent ones on float32 by themselves, so that they are fast.
fn float_row(op: &str, row: &[f32]) -> f32 {
    match op {
        "ReduceMean" => (sum(row) / row.len() as f64) as f32,
        "ReduceSum" => sum(row) as f32,
        _ => any_row(op, row),
    }
}

fn any_row<T: Number>(op: &str, row: &[T]) -> T {
    // Sums of integers wrap in their own type, as in the runtimes; those of floats are in double precision.
    let sum = || row.iter().fold(T::default(), |s, &x| s.add(x));
    let wide = |f: fn(f64) -> f64| row.iter().map(|x| f(x.to_f64())).sum::<f64>();
    let largest = || row.iter().fold(T::LEAST, |m, &x| m.max(x));
    match op {
        "ReduceSum" if T::IS_FLOAT => T::from_f64(wide(|x| x)),
        "ReduceSum" => sum(),
        "ReduceMean" if T::IS_FLOAT => T::from_f64(wide(|x| x) / row.len() as f64),
        "ReduceMean" => T::from_f64((sum().to_f64() / row.len() as f64).trunc()),
        "ReduceMax" => largest(),
        "ReduceMin" => row.iter().fold(T::MOST, |m, &x| m.min(x)),
        "ReduceL1" => T::from_f64(wide(f64::abs)),
        "ReduceL2" => T::from_f64(wide(|x| x * x).sqrt()),
        "ReduceSumSquare" => T::from_f64(wide(|x| x * x)),
        "ReduceLogSum" => T::from_f64(wide(|x| x).ln()),
        "ReduceLogSumExp" => {
            // Shifted by the largest, so that nothing overflows.
            let shift = if row.is_empty() { f64::NEG_INFINITY } else { largest().to_f64() };
            let finite = if shift.is_finite() { shift } else { 0.0 };
            T::from_f64(finite + row.iter().map(|x| (x.to_f64() - finite).exp()).sum::<f64>().ln())
        }
        _ => row.iter().fold(T::ONE, |p, &x| p.mul(x)),
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
