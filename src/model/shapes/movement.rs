//! Operators that move, pick and arrange elements.

use super::args::{Args, Rule, Stop, dimension, dimensions, floats, integers, one, wrong};
use crate::model::eval::{axis, broadcast, count};
use crate::onnx::Attributes;
use crate::tensor::DType;

/// `Reshape`: the target is an input, an attribute before operator set 5.
pub(super) fn reshape(args: &Args) -> Rule {
    let x = args.input(0)?;
    let Some(target) = args.list(1, "shape")? else { return wrong("the target shape is missing") };
    one(x.dtype, reshaped(&x.shape, &target, args.flag("allowzero", false))?)
}

fn reshaped(shape: &[usize], target: &[i64], allow_zero: bool) -> Result<Vec<usize>, Stop> {
    let total = count(shape)?;
    let mismatch = || Stop::Wrong(crate::Error::bad_input(format!("{shape:?} cannot be reshaped to {target:?}")));
    let mut out = Vec::with_capacity(target.len());
    for (i, &d) in target.iter().enumerate() {
        out.push(match d {
            0 if !allow_zero => *shape.get(i).ok_or_else(mismatch)?,
            -1 => 1,
            d => usize::try_from(d).map_err(|_| mismatch())?,
        });
    }
    if let Some(free) = target.iter().position(|&d| d == -1) {
        let rest = count(&out)?;
        if rest == 0 || total % rest != 0 {
            return Err(mismatch());
        }
        out[free] = total / rest;
    }
    if count(&out)? == total { Ok(out) } else { Err(mismatch()) }
}

/// `Flatten`: a matrix, the axes before and from `axis`.
pub(super) fn flatten(args: &Args) -> Rule {
    let x = args.input(0)?;
    // 0 to rank; negative ones count from the rank.
    let given = args.int("axis", 1);
    let axis = axis(if given < 0 { given.saturating_add(x.shape.len() as i64) } else { given }, x.shape.len() + 1)?;
    one(x.dtype, [x.shape[..axis].iter().product(), x.shape[axis..].iter().product()])
}

/// `Transpose`: reversed axes unless `perm` says otherwise.
pub(super) fn transpose(args: &Args) -> Rule {
    let x = args.input(0)?;
    let rank = x.shape.len();
    let perm: Vec<usize> = match args.node.ints("perm") {
        Some(p) => p.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut seen = vec![false; rank];
    perm.iter().for_each(|&a| seen[a] = true);
    if perm.len() != rank || seen.contains(&false) {
        return wrong(format!("`perm` {perm:?} is no order of {rank} axes"));
    }
    one(x.dtype, perm.into_iter().map(|a| x.shape[a]).collect::<Vec<_>>())
}

/// `Squeeze`: the named axes, or all of length 1.
pub(super) fn squeeze(args: &Args) -> Rule {
    let x = args.input(0)?;
    let rank = x.shape.len();
    let axes = args.list(1, "axes")?.map(|a| a.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()).transpose()?;
    if let Some(a) = axes.iter().flatten().find(|&&a| x.shape[a] != 1) {
        return wrong(format!("axis {a} of {:?} has not length 1", x.shape));
    }
    let keep = |&(i, d): &(usize, &usize)| match &axes {
        Some(axes) => !axes.contains(&i),
        None => *d != 1,
    };
    one(x.dtype, x.shape.iter().enumerate().filter(keep).map(|(_, &d)| d).collect::<Vec<_>>())
}

/// `Unsqueeze`.
pub(super) fn unsqueeze(args: &Args) -> Rule {
    let x = args.input(0)?;
    let Some(raw) = args.list(1, "axes")? else { return wrong("the axes are missing") };
    let rank = x.shape.len() + raw.len();
    let axes: Vec<usize> = raw.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?;
    let mut old = x.shape.iter();
    one(x.dtype, (0..rank).map(|i| if axes.contains(&i) { 1 } else { old.next().copied().unwrap_or(1) }).collect::<Vec<_>>())
}

/// `Concat`.
pub(super) fn concat(args: &Args) -> Rule {
    let x = args.input(0)?;
    let at = args.axis(1, x.shape.len())?;
    let mut shape = x.shape.clone();
    for i in 1..args.inputs() {
        let other = args.shape(i)?;
        let fits = other.len() == shape.len() && (0..shape.len()).all(|a| a == at || other[a] == shape[a]);
        if !fits {
            return wrong(format!("cannot join {:?} and {other:?} along axis {at}", x.shape));
        }
        shape[at] = shape[at].saturating_add(other[at]);
    }
    one(x.dtype, shape)
}

/// `Split`: given sizes, or equal parts of which the last may be smaller.
pub(super) fn split(args: &Args) -> Rule {
    let x = args.input(0)?;
    let at = args.axis(0, x.shape.len())?;
    let parts = args.node.output.len().max(1);
    let sizes = match args.list(1, "split")? {
        Some(sizes) => dimensions(&sizes)?,
        None => {
            let size = x.shape[at].div_ceil(parts);
            (0..parts).map(|i| size.min(x.shape[at].saturating_sub(i.saturating_mul(size)))).collect()
        }
    };
    if sizes.len() != parts || sizes.iter().fold(0usize, |n, &s| n.saturating_add(s)) != x.shape[at] {
        return wrong(format!("{} cannot be split into {sizes:?}", x.shape[at]));
    }
    let part = |size| {
        let mut shape = x.shape.clone();
        shape[at] = size;
        one(x.dtype, shape)
    };
    sizes.into_iter().map(part).collect::<Result<Vec<_>, _>>().map(|parts| parts.concat())
}

/// `Slice`: attributes before operator set 10, inputs since.
pub(super) fn slice(args: &Args) -> Rule {
    let x = args.input(0)?;
    let (Some(starts), Some(ends)) = (args.list(1, "starts")?, args.list(2, "ends")?) else { return wrong("the bounds are missing") };
    let axes = args.list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = args.integers(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return wrong("starts, ends, axes and steps differ in length");
    }
    let mut shape = x.shape.clone();
    for (((&start, &end), &a), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let at = axis(a, shape.len())?;
        let d = x.shape[at] as i64;
        let wrap = |v: i64| if v < 0 { v.saturating_add(d) } else { v };
        shape[at] = match step {
            0 => return wrong("a slice's step is 0"),
            _ if d == 0 => 0,
            s if s > 0 => (wrap(end).clamp(0, d) - wrap(start).clamp(0, d)).max(0).unsigned_abs().div_ceil(s.unsigned_abs()) as usize,
            s => (wrap(start).clamp(0, d - 1) - wrap(end).clamp(-1, d - 1)).max(0).unsigned_abs().div_ceil(s.unsigned_abs()) as usize,
        };
    }
    one(x.dtype, shape)
}

/// `Pad`: begins and ends of all axes, or of the named ones; negative ones cut. (`paddings` is the name of operator set 1.)
pub(super) fn pad(args: &Args) -> Rule {
    let x = args.input(0)?;
    let rank = x.shape.len();
    let old = args.node.ints("paddings").map(<[i64]>::to_vec);
    let Some(pads) = args.list(1, "pads")?.or(old) else { return wrong("the pads are missing") };
    let axes: Vec<usize> = match args.integers(3)? {
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return wrong(format!("{} pads stand against {} axes", pads.len(), axes.len()));
    }
    let mut shape = x.shape.clone();
    for (i, &a) in axes.iter().enumerate() {
        shape[a] = dimension(shape[a] as i128 + i128::from(pads[i]) + i128::from(pads[i + axes.len()]))?;
    }
    one(x.dtype, shape)
}

/// `Expand`: broadcast with the target.
pub(super) fn expand(args: &Args) -> Rule {
    let x = args.input(0)?;
    let Some(target) = args.integers(1)? else { return wrong("the target shape is missing") };
    one(x.dtype, broadcast(&x.shape, &dimensions(&target)?)?)
}

/// `Tile`: one factor for each axis; operator set 1 had one axis.
pub(super) fn tile(args: &Args) -> Rule {
    let x = args.input(0)?;
    let Some(repeats) = args.integers(1)? else { return wrong("the repeats are missing") };
    if args.opset < 6 {
        let (Some(at), Some([times])) = (args.integer(2)?, Some(repeats.as_slice())) else { return wrong("`tiles` or `axis` is missing") };
        let mut shape = x.shape.clone();
        let at = axis(at, shape.len())?;
        shape[at] = dimension(shape[at] as i128 * i128::from(*times))?;
        return one(x.dtype, shape);
    }
    if repeats.len() != x.shape.len() {
        return wrong(format!("{} repeats stand against {} axes", repeats.len(), x.shape.len()));
    }
    let shape = x.shape.iter().zip(&repeats).map(|(&d, &r)| dimension(d as i128 * i128::from(r)));
    one(x.dtype, shape.collect::<Result<Vec<_>, _>>()?)
}

/// `Gather`: the indices' axes in place of one.
pub(super) fn gather(args: &Args) -> Rule {
    let (x, indices) = (args.input(0)?, args.shape(1)?);
    let at = args.axis(0, x.shape.len())?;
    one(x.dtype, [&x.shape[..at], indices, &x.shape[at + 1..]].concat())
}

/// `GatherElements`: one element for each index.
pub(super) fn gather_elements(args: &Args) -> Rule {
    one(args.input(0)?.dtype, args.shape(1)?)
}

/// `GatherND`: the last axis of the indices holds positions.
pub(super) fn gather_nd(args: &Args) -> Rule {
    let (x, indices) = (args.input(0)?, args.shape(1)?);
    let batch = usize::try_from(args.int("batch_dims", 0)).unwrap_or(usize::MAX);
    match indices.split_last() {
        Some((&depth, rest)) if batch <= rest.len() && batch.saturating_add(depth) <= x.shape.len() => {
            one(x.dtype, [rest, &x.shape[batch + depth..]].concat())
        }
        _ => wrong(format!("indices of shape {indices:?} do not fit {:?}", x.shape)),
    }
}

/// `TopK`: values and indices.
pub(super) fn top_k(args: &Args) -> Rule {
    let x = args.input(0)?;
    let Some(k) = args.list(1, "k")?.and_then(|k| k.first().copied()).or_else(|| args.node.int("k")) else {
        return wrong("`k` is missing");
    };
    let at = args.axis(-1, x.shape.len())?;
    let mut shape = x.shape.clone();
    shape[at] = dimension(i128::from(k))?;
    Ok([one(x.dtype, shape.clone())?, one(DType::I64, shape)?].concat())
}

/// `OneHot`: a new axis of length `depth`.
pub(super) fn one_hot(args: &Args) -> Rule {
    let (indices, values) = (args.shape(0)?, args.input(2)?);
    let depth = match args.value(1)? {
        Some(t) => integers(t).or_else(|| floats(t).map(|v| v.iter().map(|&x| x as i64).collect())),
        None => None,
    };
    let Some(depth) = depth.and_then(|d| d.first().copied()) else { return wrong("the depth is missing") };
    let at = args.axis(-1, indices.len() + 1)?;
    let mut shape = indices.to_vec();
    shape.insert(at, dimension(i128::from(depth))?);
    one(values.dtype, shape)
}

/// `DepthToSpace` and, the other way, `SpaceToDepth`.
pub(super) fn depth_to_space(args: &Args) -> Rule {
    let x = args.input(0)?;
    let block = args.positive("blocksize", 0)?;
    let (&[n, c, h, w], Some(square)) = (x.shape.as_slice(), block.checked_mul(block)) else {
        return wrong(format!("{:?} is no [N, C, H, W]", x.shape));
    };
    match args.node.op_type() {
        "DepthToSpace" if c % square == 0 => one(x.dtype, [n, c / square, h.saturating_mul(block), w.saturating_mul(block)]),
        "SpaceToDepth" if h % block == 0 && w % block == 0 => one(x.dtype, [n, c.saturating_mul(square), h / block, w / block]),
        _ => wrong(format!("{:?} cannot be cut into blocks of {block}", x.shape)),
    }
}
