//! Operators whose output has the shape of an input, or the inputs' common broadcast shape.

use super::args::{Args, Rule, one, unknown, wrong};
use crate::model::eval::broadcast;
use crate::tensor::DType;

/// Type and shape of the first input.
pub(super) fn same(args: &Args) -> Rule {
    Ok(vec![args.input(0)?.clone()])
}

/// The shape of the first input, as truth values.
pub(super) fn test(args: &Args) -> Rule {
    one(DType::Bool, args.shape(0)?)
}

/// The broadcast shape of all inputs, in the first one's type.
pub(super) fn broadcast_all(args: &Args) -> Rule {
    let first = args.input(0)?;
    // Before operator set 7 the second input was fitted into the first where the attributes said.
    if args.opset < 7 && args.flag("broadcast", false) {
        return one(first.dtype, first.shape.clone());
    }
    one(first.dtype, common(args, 0)?)
}

/// The broadcast shape of both inputs, as truth values.
pub(super) fn compare(args: &Args) -> Rule {
    one(DType::Bool, common(args, 0)?)
}

/// `Where`: condition, then the two choices.
pub(super) fn choose(args: &Args) -> Rule {
    one(args.input(1)?.dtype, common(args, 0)?)
}

/// The broadcast shape of the inputs from number `from` on.
fn common(args: &Args, from: usize) -> Result<Vec<usize>, super::args::Stop> {
    let mut shape = args.shape(from)?.to_vec();
    for i in from + 1..args.inputs() {
        shape = broadcast(&shape, args.shape(i)?)?;
    }
    Ok(shape)
}

/// `PRelu`: the slope is fitted to the input, never the other way round.
pub(super) fn prelu(args: &Args) -> Rule {
    let (x, slope) = (args.input(0)?, args.shape(1)?);
    // Before operator set 7 one slope per channel was written as a vector, whatever the rank.
    let per_channel = args.opset < 7 || (slope.len() == 1 && x.shape.get(1) == slope.first());
    if !per_channel && broadcast(&x.shape, slope)? != x.shape {
        return wrong(format!("a slope of shape {slope:?} does not fit the input {:?}", x.shape));
    }
    one(x.dtype, x.shape.clone())
}

/// `Cast` and `BitCast`.
pub(super) fn cast(args: &Args) -> Rule {
    let shape = args.shape(0)?;
    match args.dtype("to")? {
        Some(dtype) => one(dtype, shape),
        None => unknown("the type to cast to is not given as a number"),
    }
}

/// `CastLike`: the second input's type.
pub(super) fn cast_like(args: &Args) -> Rule {
    one(args.input(1)?.dtype, args.shape(0)?)
}

/// `Dropout`, with its mask.
pub(super) fn dropout(args: &Args) -> Rule {
    let x = args.input(0)?;
    // Until operator set 9 the mask had the data's type.
    let mask = if args.opset < 10 { x.dtype } else { Some(DType::Bool) };
    Ok([one(x.dtype, x.shape.clone())?, one(mask, x.shape.clone())?].concat())
}

/// `BatchNormalization`: what inference makes, and the running or saved statistics that training makes.
pub(super) fn batch_norm(args: &Args) -> Rule {
    let x = args.input(0)?;
    let mut outputs = vec![x.clone()];
    for i in 1..args.node.output.len().min(5) {
        // mean, variance, and once more (saved) before operator set 14
        outputs.push(args.input(if i % 2 == 1 { 3 } else { 4 })?.clone());
    }
    Ok(outputs)
}

/// `LayerNormalization`: the output, then mean and inverse deviation over the axes from `axis` on.
pub(super) fn layer_norm(args: &Args) -> Rule {
    let x = args.input(0)?;
    let axis = args.axis(-1, x.shape.len())?;
    let statistics: Vec<usize> = x.shape.iter().enumerate().map(|(i, &d)| if i < axis { d } else { 1 }).collect();
    let stash = if args.int("stash_type", 1) == 1 { Some(DType::F32) } else { x.dtype };
    Ok([one(x.dtype, x.shape.clone())?, one(stash, statistics.clone())?, one(stash, statistics)?].concat())
}
