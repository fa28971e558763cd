//! Operators that move elements without computing: `Gather`, `Slice`, `Concat`, `Split`, `Transpose`.

use super::args::{Args, integers};
use super::layout::{around, axes, axis, count, dimension, gather, strides};
use crate::onnx::Attributes;
use crate::tensor::map_data;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// `Gather`: entries of one axis by number; negative numbers count from the end.
pub(super) fn take(args: &Args) -> Result<Tensor> {
    let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
    let axis = axis(args.int_or("axis", 0), x.shape().len())?;
    let (outer, n, inner) = around(x.shape(), axis);
    let picks = integers(indices)?
        .into_iter()
        .map(|i| {
            let at = if i < 0 { i.saturating_add(n as i64) } else { i };
            usize::try_from(at).ok().filter(|&at| at < n).ok_or_else(|| Error::bad_input(format!("index {i} is outside an axis of {n}")))
        })
        .collect::<Result<Vec<_>>>()?;
    let shape = [&x.shape()[..axis], indices.shape(), &x.shape()[axis + 1..]].concat();
    let total = count(&shape)?;
    let data = map_data!(x.data(), v => {
        let mut out = Vec::with_capacity(total);
        for o in 0..outer {
            for &i in &picks {
                out.extend_from_slice(&v[(o * n + i) * inner..][..inner]);
            }
        }
        out
    });
    Tensor::new(shape, data)
}

/// `Slice` with attributes (operator set < 10) or inputs; steps may be negative.
pub(super) fn slice(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let missing = |what: &str| Error::bad_input(format!("`{what}` is missing"));
    let starts = args.ints("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let ends = args.ints("ends", 2)?.ok_or_else(|| missing("ends"))?;
    let named = args.ints("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = args.optional(4).map(integers).transpose()?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), named.len(), steps.len()] != [starts.len(); 3] {
        return Err(Error::bad_input("`starts`, `ends`, `axes` and `steps` have different lengths"));
    }
    axes(&named, x.shape().len())?;
    let mut shape = x.shape().to_vec();
    let mut strides = strides(&shape);
    let mut start = 0;
    for (((&a, &from), &to), &step) in named.iter().zip(&starts).zip(&ends).zip(&steps) {
        let a = axis(a, shape.len())?;
        let n = shape[a] as i64;
        // The bounds that NumPy uses: beyond the ends they are cut, and going backwards an end before element 0 is −1.
        let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
        let clamped = |i: i64| (if i < 0 { i + n } else { i }).clamp(low.min(high), high);
        let (from, to) = (clamped(from).max(0), clamped(to));
        let taken = match i128::from(step) {
            0 => return Err(Error::bad_input("a step of 0 takes no elements")),
            s @ 1.. => (i128::from(to - from) + s - 1) / s,
            s => (i128::from(to - from) + s + 1) / s,
        };
        shape[a] = if n == 0 { 0 } else { taken.max(0) as usize };
        start += from as isize * strides[a];
        strides[a] = strides[a].saturating_mul(step as isize);
    }
    count(&shape)?;
    let data = map_data!(x.data(), v => gather(v, &shape, &strides, start));
    Tensor::new(shape, data)
}

/// `Concat` along an existing axis.
pub(super) fn concat(args: &Args) -> Result<Tensor> {
    let inputs = args.all()?;
    let axis = args.node.int("axis").ok_or_else(|| Error::bad_input("`axis` is missing"))?;
    join(&inputs, axis)
}

/// The tensors one after the other along `axis`; they agree in type and in every other axis.
pub(crate) fn join(parts: &[&Tensor], axis: i64) -> Result<Tensor> {
    let first = *parts.first().ok_or_else(|| Error::bad_input("there is nothing to join"))?;
    let axis = super::layout::axis(axis, first.shape().len())?;
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    for t in parts {
        let fits = t.shape().len() == shape.len() && (0..shape.len()).all(|i| i == axis || t.shape()[i] == shape[i]);
        if !fits || t.dtype() != first.dtype() {
            let [f, t] = [first, t].map(|t| format!("{} {:?}", t.dtype().name(), t.shape()));
            return Err(Error::bad_input(format!("{f} and {t} cannot be joined along axis {axis}")));
        }
        shape[axis] = shape[axis].saturating_add(t.shape()[axis]);
    }
    let total = count(&shape)?;
    let outer: usize = shape[..axis].iter().product();
    macro_rules! of_type {
        ($($variant:ident)*) => {
            match first.data() {
                $(Data::$variant(_) => {
                    let mut out = Vec::with_capacity(total);
                    for o in 0..outer {
                        for t in parts {
                            if let Data::$variant(v) = t.data() {
                                let block = v.len() / outer;
                                out.extend_from_slice(&v[o * block..][..block]);
                            }
                        }
                    }
                    Data::$variant(out)
                })*
            }
        };
    }
    let data = of_type!(F32 F64 F16 BF16 I4 I8 I16 I32 I64 U4 U8 U16 U32 U64 Bool);
    Tensor::new(shape, data)
}

/// `Split` into the parts given as attribute or input, or into as many equal parts as there are outputs.
pub(super) fn split(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let axis = axis(args.int_or("axis", 0), x.shape().len())?;
    let n = x.shape()[axis];
    let sizes = match args.ints("split", 1)? {
        Some(sizes) => sizes.into_iter().map(dimension).collect::<Result<Vec<_>>>()?,
        None => {
            let outputs = args.node.output.len().max(1);
            let parts = args.node.int("num_outputs").map_or(Ok(outputs), dimension)?;
            if parts != outputs {
                return Err(Error::bad_input(format!("`num_outputs` is {parts}, the node has {outputs} outputs")));
            }
            // Since operator set 18 the last part may be smaller.
            let size = n.div_ceil(parts);
            (0..parts).map(|i| size.min(n.saturating_sub(i * size))).collect()
        }
    };
    if sizes.is_empty() || sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s)) != Some(n) {
        return Err(Error::bad_input(format!("parts of {sizes:?} do not make up an axis of {n}")));
    }
    let mut begin = 0;
    sizes
        .into_iter()
        .map(|size| {
            let part = part(x, axis, begin, size);
            begin += size;
            part
        })
        .collect()
}

/// `size` entries of `axis` from `begin` on; they exist.
pub(crate) fn part(x: &Tensor, axis: usize, begin: usize, size: usize) -> Result<Tensor> {
    let strides = strides(x.shape());
    let mut shape = x.shape().to_vec();
    shape[axis] = size;
    let data = map_data!(x.data(), v => gather(v, &shape, &strides, begin as isize * strides[axis]));
    Tensor::new(shape, data)
}

/// `Transpose`: reverses the axes when no order is given.
pub(super) fn transpose(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let rank = x.shape().len();
    let order = match args.node.ints("perm") {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
    };
    if axes(&order.iter().map(|&a| a as i64).collect::<Vec<_>>(), rank)?.len() != rank {
        return Err(Error::bad_input(format!("`perm` names {} of {rank} axes", order.len())));
    }
    permute(x, &order)
}

/// The axes in another order, each named once.
pub(crate) fn permute(x: &Tensor, order: &[usize]) -> Result<Tensor> {
    let strides = strides(x.shape());
    let shape: Vec<usize> = order.iter().map(|&a| x.shape()[a]).collect();
    let strides: Vec<isize> = order.iter().map(|&a| strides[a]).collect();
    let data = map_data!(x.data(), v => gather(v, &shape, &strides, 0));
    Tensor::new(shape, data)
}
