//! `Unique`.

use super::args::Args;
use super::cast::cast;
use super::layout::{around, axis};
use super::movement::permute;
use super::types::{Number, numbers, read};
use crate::onnx::Attributes;
use crate::tensor::{DType, Data, Tensor, map_data};
use crate::{Error, Result};
use std::cmp::Ordering;

/// `Unique`: the different entries of an axis (or elements of the flattened tensor), sorted or in their order; where each is first, which
/// one every entry is, and how many there are of it.
pub(super) fn unique(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let named = args.node.int("axis").map(|a| axis(a, x.shape().len())).transpose()?;
    // With the axis first, every entry is one row of memory.
    let rows = match named {
        Some(at) => permute(x, &front(at, x.shape().len()))?,
        None => x.clone().reshaped(vec![x.len()])?,
    };
    let (_, n, length) = around(rows.shape(), 0);
    let comparable = if x.dtype() == DType::Bool { cast(&rows, DType::U8)? } else { rows.clone() };
    let order = numbers!(read!(comparable.data(), v => sorted(v, n, length)));
    let order = order.ok_or_else(|| Error::bad_input(format!("{} has no order here", x.dtype().name())))?;
    // Groups of equal entries, each in its order.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, same) in order {
        match groups.last_mut().filter(|_| same) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    if args.int_or("sorted", 1) == 0 {
        groups.sort_by_key(|g| g.first().copied());
    }
    let first: Vec<usize> = groups.iter().filter_map(|g| g.first().copied()).collect();
    let mut inverse = vec![0i64; n];
    groups.iter().enumerate().for_each(|(k, g)| g.iter().for_each(|&i| inverse[i] = k as i64));
    let data = map_data!(rows.data(), v => first.iter().flat_map(|&i| &v[i * length..][..length]).copied().collect());
    let mut shape = rows.shape().to_vec();
    shape[0] = first.len();
    let mut values = Tensor::new(shape, data)?;
    if let Some(at) = named {
        let order = front(at, x.shape().len());
        let back: Vec<usize> = (0..order.len()).map(|a| order.iter().position(|&o| o == a).unwrap_or(a)).collect();
        values = permute(&values, &back)?;
    }
    let counts = groups.iter().map(|g| g.len() as i64).collect();
    Ok(vec![values, Tensor::i64s(first.iter().map(|&i| i as i64).collect()), Tensor::i64s(inverse), Tensor::i64s(counts)])
}

/// The axes with `at` in front.
fn front(at: usize, rank: usize) -> Vec<usize> {
    std::iter::once(at).chain((0..rank).filter(|&a| a != at)).collect()
}

/// The rows in order, equal ones in theirs, and whether each equals the one before.
fn sorted<T: Number>(v: &[T], n: usize, length: usize) -> Vec<(usize, bool)> {
    let row = |i: usize| &v[i * length..][..length];
    let compare = |a: usize, b: usize| row(a).iter().zip(row(b)).map(|(&x, &y)| x.order(y)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| compare(a, b));
    let same = |k: usize| k > 0 && compare(order[k - 1], order[k]).is_eq();
    (0..n).map(|k| (order[k], same(k))).collect()
}
