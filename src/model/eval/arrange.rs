//! Operators that repeat, mask and rearrange: `Tile`, `Trilu`, `DepthToSpace`, `OneHot`, `CumSum` and their kin.

use super::args::{Args, integers, scalar};
use super::cast::{cast, dtype};
use super::layout::{around, axis, count, dimension};
use super::movement::permute;
use super::types::{Number, numbers, wrap};
use crate::onnx::Attributes;
use crate::tensor::{DType, Data, Tensor, map_data};
use crate::{Error, Result};

/// `Tile`: each axis repeated.
pub(super) fn tile(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let repeats = integers(args.tensor(1)?)?.into_iter().map(dimension).collect::<Result<Vec<_>>>()?;
    if repeats.len() != x.shape().len() {
        return Err(Error::bad_input(format!("{} repeats do not fit {} axes", repeats.len(), x.shape().len())));
    }
    let shape: Vec<usize> = x.shape().iter().zip(&repeats).map(|(&d, &r)| d.saturating_mul(r)).collect();
    count(&shape)?;
    // As if the tensor had an axis of repeats before each of its own.
    let (mut wide, mut strides) = (Vec::new(), Vec::new());
    for ((&d, &r), &s) in x.shape().iter().zip(&repeats).zip(&super::layout::strides(x.shape())) {
        wide.extend([r, d]);
        strides.extend([0, s]);
    }
    Tensor::new(shape, map_data!(x.data(), v => super::layout::gather(v, &wide, &strides, 0)))
}

/// `Trilu`: the upper (default) or lower triangle of the last two axes.
pub(super) fn trilu(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let &[.., rows, columns] = x.shape() else { return Err(Error::bad_input(format!("{:?} holds no matrices", x.shape()))) };
    let k = args.optional(1).map(integers).transpose()?.map_or(Ok(0), |k| scalar(&k, "`k`"))?;
    let upper = args.int_or("upper", 1) != 0;
    let keeps = |i: usize| {
        let (row, column) = (i / columns.max(1) % rows.max(1), i % columns.max(1));
        let reach = (column as i64).saturating_sub(row as i64);
        if upper { reach >= k } else { reach <= k }
    };
    Tensor::new(
        x.shape().to_vec(),
        map_data!(x.data(), v => v.iter().enumerate().map(|(i, &e)| if keeps(i) { e } else { Default::default() }).collect()),
    )
}

/// `DepthToSpace` and, the other way, `SpaceToDepth`.
pub(super) fn depth_to_space(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let b = dimension(args.int_or("blocksize", 0))?;
    let (&[n, c, h, w], true) = (x.shape(), b > 0 && b < 1 << 16) else {
        return Err(Error::bad_input(format!("blocks of {b} do not fit {:?}", x.shape())));
    };
    let uneven = || Error::bad_input(format!("{:?} cannot be cut into blocks of {b}", x.shape()));
    if args.node.op_type() == "SpaceToDepth" {
        if h % b != 0 || w % b != 0 {
            return Err(uneven());
        }
        let split = x.clone().reshaped(vec![n, c, h / b, b, w / b, b])?;
        let order = if args.node.string("mode") == Some("CRD") { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
        return permute(&split, &order)?.reshaped(vec![n, c * b * b, h / b, w / b]);
    }
    if c % (b * b) != 0 {
        return Err(uneven());
    }
    let (split, order) = match args.node.string("mode").unwrap_or("DCR") {
        "CRD" => (vec![n, c / (b * b), b, b, h, w], [0, 1, 4, 2, 5, 3]),
        _ => (vec![n, b, b, c / (b * b), h, w], [0, 3, 4, 1, 5, 2]),
    };
    permute(&x.clone().reshaped(split)?, &order)?.reshaped(vec![n, c / (b * b), h * b, w * b])
}

/// `ReverseSequence`: the first so many entries of each batch in reverse.
pub(super) fn reverse_sequence(args: &Args) -> Result<Tensor> {
    let (x, lengths) = (args.tensor(0)?, integers(args.tensor(1)?)?);
    let (batch, time) = (args.int_or("batch_axis", 1), args.int_or("time_axis", 0));
    let (&[a, b, ..], true) = (x.shape(), matches!((batch, time), (0, 1) | (1, 0))) else {
        return Err(Error::bad_input(format!("axes {batch} and {time} of {:?} are no batch and time", x.shape())));
    };
    let (batches, steps) = if batch == 0 { (a, b) } else { (b, a) };
    let lengths = lengths.into_iter().map(dimension).collect::<Result<Vec<_>>>()?;
    if lengths.len() != batches || lengths.iter().any(|&l| l > steps) {
        return Err(Error::bad_input(format!("the lengths do not fit {batches} sequences of {steps}")));
    }
    let size: usize = x.shape()[2..].iter().product();
    let from = |i: usize| {
        let (first, second) = (i / b.max(1), i % b.max(1));
        let (n, t) = if batch == 0 { (first, second) } else { (second, first) };
        let t = if t < lengths[n] { lengths[n] - 1 - t } else { t };
        if batch == 0 { n * b + t } else { t * b + n }
    };
    Tensor::new(x.shape().to_vec(), map_data!(x.data(), v => (0..a * b).flat_map(|i| &v[from(i) * size..][..size]).copied().collect()))
}

/// `Compress`: the entries along an axis (or of the flattened tensor) where the condition holds.
pub(super) fn compress(args: &Args) -> Result<Tensor> {
    let (x, condition) = (args.tensor(0)?, args.tensor(1)?);
    let Data::Bool(keep) = condition.data() else { return Err(Error::bad_input("the condition must be bool")) };
    let flat;
    let (x, at) = match args.node.int("axis") {
        Some(a) => (x, axis(a, x.shape().len())?),
        None => {
            flat = x.clone().reshaped(vec![x.len()])?;
            (&flat, 0)
        }
    };
    let (outer, n, inner) = around(x.shape(), at);
    let picks: Vec<usize> = (0..n.min(keep.len())).filter(|&i| keep[i]).collect();
    let mut shape = x.shape().to_vec();
    shape[at] = picks.len();
    let data = map_data!(x.data(), v => (0..outer).flat_map(|o| picks.iter().map(move |&i| (o * n + i) * inner)).flat_map(|p| &v[p..p + inner]).copied().collect());
    Tensor::new(shape, data)
}

/// `OneHot`: `values` are off and on; indices outside the depth are off everywhere.
pub(super) fn one_hot(args: &Args) -> Result<Tensor> {
    let (indices, depth, values) = (cast(args.tensor(0)?, DType::I64)?, cast(args.tensor(1)?, DType::I64)?, args.tensor(2)?);
    let depth = dimension(scalar(depth.as_i64()?, "the depth")?)?;
    let rank = indices.shape().len() + 1;
    let at = axis(args.int_or("axis", -1), rank)?;
    let mut shape = indices.shape().to_vec();
    shape.insert(at, depth);
    let total = count(&shape)?;
    if values.len() != 2 {
        return Err(Error::bad_input("`values` must be two: off and on"));
    }
    let (_, _, inner) = around(&shape, at);
    let picks = indices.as_i64()?;
    let hot = |flat: usize| {
        let (o, k, i) = (flat / (depth * inner), flat / inner % depth, flat % inner);
        let pick = picks[o * inner + i];
        (if pick < 0 { pick.saturating_add(depth as i64) } else { pick }) == k as i64
    };
    Tensor::new(shape, map_data!(values.data(), v => (0..total).map(|i| v[usize::from(hot(i))]).collect()))
}

/// `EyeLike`: ones on a diagonal.
pub(super) fn eye_like(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let &[rows, columns] = x.shape() else { return Err(Error::bad_input(format!("{:?} is no matrix", x.shape()))) };
    let k = args.int_or("k", 0);
    let ones = (0..rows * columns).map(|i| i64::from((i % columns) as i64 == k.saturating_add((i / columns) as i64))).collect();
    let to = match args.node.int("dtype") {
        Some(code) => dtype(code)?,
        None => x.dtype(),
    };
    cast(&Tensor::new(vec![rows, columns], Data::I64(ones))?, to)
}

/// `NonZero`: the coordinates of all elements that are not 0, one column each.
pub(super) fn non_zero(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let Data::Bool(flags) = cast(x, DType::Bool)?.into_data() else { return Err(Error::bad_input("this type has no zero")) };
    let found: Vec<usize> = (0..flags.len()).filter(|&i| flags[i]).collect();
    // A scalar counts as a vector of one.
    let shape = if x.shape().is_empty() { &[1][..] } else { x.shape() };
    let steps = super::layout::strides(shape);
    let rows = shape.iter().zip(&steps).flat_map(|(&n, &s)| found.iter().map(move |&i| (i / s as usize % n) as i64));
    Tensor::new(vec![shape.len(), found.len()], Data::I64(rows.collect()))
}

/// `CumSum` and `CumProd` along an axis, without the element itself (`exclusive`), from the end (`reverse`).
pub(super) fn cumulative(args: &Args) -> Result<Tensor> {
    fn run<T: Number>(v: &[T], (outer, n, inner): (usize, usize, usize), product: bool, exclusive: bool, reverse: bool) -> Vec<T> {
        let mut out = v.to_vec();
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let mut sum = if product { T::ONE } else { T::default() };
            for k in 0..n {
                let at = (o * n + if reverse { n - 1 - k } else { k }) * inner + i;
                let before = sum;
                sum = if product { sum.mul(v[at]) } else { sum.add(v[at]) };
                out[at] = if exclusive { before } else { sum };
            }
        }
        out
    }
    let x = args.tensor(0)?;
    let at = axis(scalar(&integers(args.tensor(1)?)?, "`axis`")?, x.shape().len())?;
    let (exclusive, reverse) = (args.int_or("exclusive", 0) != 0, args.int_or("reverse", 0) != 0);
    let product = args.node.op_type() == "CumProd";
    let data = numbers!(wrap!(x.data(), v => run(v, around(x.shape(), at), product, exclusive, reverse)));
    Tensor::new(x.shape().to_vec(), data.ok_or_else(|| Error::bad_input(format!("{} cannot be summed", x.dtype().name())))?)
}
