//! Reductions.

use super::args::{Args, Rule, one};
use crate::model::eval::axis;
use crate::tensor::DType;

/// `ReduceSum` and its kin: the axes are an attribute or an input; none means all, or none with `noop_with_empty_axes`.
pub(super) fn reduce(args: &Args) -> Rule {
    let x = args.input(0)?;
    let rank = x.shape.len();
    let axes: Vec<usize> = match args.list(1, "axes")? {
        Some(axes) if !axes.is_empty() => axes.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
        _ if args.flag("noop_with_empty_axes", false) => vec![],
        _ => (0..rank).collect(),
    };
    one(x.dtype, without(&x.shape, &axes, args.flag("keepdims", true)))
}

/// `ArgMax` and `ArgMin`.
pub(super) fn arg(args: &Args) -> Rule {
    let x = args.shape(0)?;
    let axis = args.axis(0, x.len())?;
    one(DType::I64, without(x, &[axis], args.flag("keepdims", true)))
}

fn without(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let dim = |(i, &d): (usize, &usize)| match (axes.contains(&i), keep) {
        (false, _) => Some(d),
        (true, true) => Some(1),
        (true, false) => None,
    };
    shape.iter().enumerate().filter_map(dim).collect()
}
