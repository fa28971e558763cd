//! Windows, spectra, and other operators on signals.

use super::args::{Args, Rule, dimension, dimensions, one, unknown, wrong};
use crate::model::eval::axis;
use crate::onnx::{Attributes, dtype_from_onnx};
use crate::tensor::DType;

/// The element type that attribute `output_datatype` asks for.
fn asked(args: &Args) -> Option<DType> {
    i32::try_from(args.int("output_datatype", 1)).ok().and_then(dtype_from_onnx)
}

/// `HannWindow` and its kin: as many numbers as the input says.
pub(super) fn window(args: &Args) -> Rule {
    match args.integer(0)? {
        Some(n) => one(asked(args), [dimension(n.into())?]),
        None => wrong("the size is missing"),
    }
}

/// `MelWeightMatrix`: `[bins of a one-sided spectrum, bands]`.
pub(super) fn mel_weights(args: &Args) -> Rule {
    match (args.integer(0)?, args.integer(1)?) {
        (Some(bands), Some(length)) => one(asked(args), [dimension(i128::from(length / 2) + 1)?, dimension(bands.into())?]),
        _ => wrong("the number of bands or the length is missing"),
    }
}

/// `DFT`: the axis gets the transform's length, or about half of it, and the last axis holds real and imaginary part.
pub(super) fn dft(args: &Args) -> Rule {
    let x = args.input(0)?;
    let named = match args.integer(2)? {
        Some(named) => named,
        None => args.int("axis", if args.opset < 20 { 1 } else { -2 }),
    };
    let at = axis(named, x.shape.len())?;
    let (inverse, onesided) = (args.int("inverse", 0) != 0, args.int("onesided", 0) != 0);
    let n = match args.integer(1)? {
        Some(n) => dimension(n.into())?,
        None if inverse && onesided => dimension(2 * (x.shape[at] as i128 - 1).max(0))?,
        None => x.shape[at],
    };
    let mut shape = x.shape.clone();
    shape[at] = if onesided && !inverse { n / 2 + 1 } else { n };
    if let Some(parts) = shape.last_mut() {
        *parts = if inverse && onesided { 1 } else { 2 };
    }
    one(x.dtype, shape)
}

/// `STFT`: `[batch, frames, bins, 2]`.
pub(super) fn stft(args: &Args) -> Rule {
    let x = args.input(0)?;
    let (Some(step), &[batch, length, _]) = (args.integer(1)?, x.shape.as_slice()) else {
        return wrong(format!("{:?} is no signal, or the step is missing", x.shape));
    };
    let n = match (args.integer(3)?, args.optional(2)?.map(|w| w.shape.as_slice())) {
        (Some(n), _) => dimension(n.into())?,
        (None, Some(&[n])) => n,
        _ => return wrong("neither a window nor the length of a frame is given"),
    };
    if step <= 0 || n == 0 || n > length {
        return wrong(format!("frames of {n} every {step} do not fit a signal of {length}"));
    }
    let bins = if args.int("onesided", 1) != 0 { n / 2 + 1 } else { n };
    one(x.dtype, [batch, dimension(((length - n) as i128 / i128::from(step)) + 1)?, bins, 2])
}

/// `CenterCropPad`: the named axes, or all, get the lengths of the second input.
pub(super) fn center_crop_pad(args: &Args) -> Rule {
    let x = args.input(0)?;
    let Some(wanted) = args.integers(1)? else { return unknown("the lengths are missing") };
    let rank = x.shape.len();
    let named = match args.node.ints("axes") {
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect::<Vec<_>>(),
    };
    let wanted = dimensions(&wanted)?;
    if wanted.len() != named.len() {
        return wrong(format!("{} lengths do not fit {} axes", wanted.len(), named.len()));
    }
    let mut shape = x.shape.clone();
    named.iter().zip(&wanted).for_each(|(&a, &length)| shape[a] = length);
    one(x.dtype, shape)
}
