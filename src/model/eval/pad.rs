//! `Pad` and `CenterCropPad`: more or fewer entries at the ends of axes.

use super::args::{Args, integers, scalar};
use super::layout::{axis, count, dimension, strides};
use super::types::{every, wrap2};
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor, map_data};
use crate::{Error, Result};

/// `Pad` with a constant, or with the nearest (`edge`), mirrored (`reflect`) or repeated (`wrap`) elements; negative pads crop.
pub(super) fn pad(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let rank = x.shape().len();
    // The name of the attribute in operator set 1 was another.
    let given = args.ints("pads", 1)?.or_else(|| args.node.ints("paddings").map(<[i64]>::to_vec));
    let pads = given.ok_or_else(|| Error::bad_input("`pads` is missing"))?;
    let named = match args.optional(3) {
        Some(t) => integers(t)?.into_iter().map(|a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * named.len() {
        return Err(Error::bad_input(format!("{} pads do not fit {} axes", pads.len(), named.len())));
    }
    let mut ends = vec![(0, 0); rank];
    named.iter().enumerate().for_each(|(i, &a)| ends[a] = (pads[i], pads[i + named.len()]));
    let mode = Mode::of(args.node.string("mode").unwrap_or("constant"))?;
    let fill = match (x.data(), args.optional(2)) {
        (Data::F32(_), None) => Some(Tensor::f32([1], vec![args.float_or("value", 0.0)])?),
        (_, value) => value.cloned(),
    };
    padded(x, &ends, mode, fill.as_ref())
}

/// `CenterCropPad`: crops or pads axes on both sides to a shape; of an odd number the larger half is at the end.
pub(super) fn center_crop_pad(args: &Args) -> Result<Tensor> {
    let (x, wanted) = (args.tensor(0)?, integers(args.tensor(1)?)?);
    let rank = x.shape().len();
    let named = match args.node.ints("axes") {
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if wanted.len() != named.len() {
        return Err(Error::bad_input(format!("{} lengths do not fit {} axes", wanted.len(), named.len())));
    }
    let mut ends = vec![(0, 0); rank];
    for (&a, &length) in named.iter().zip(&wanted) {
        let more = count(&[dimension(length)?])? as i64 - x.shape()[a] as i64;
        // Division truncates, so that crops as well as pads have the smaller half before.
        ends[a] = (more / 2, more - more / 2);
    }
    padded(x, &ends, Mode::Constant, None)
}

/// What is put where the input has nothing.
#[derive(Clone, Copy)]
enum Mode {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

impl Mode {
    fn of(name: &str) -> Result<Self> {
        Ok(match name {
            "constant" => Mode::Constant,
            "edge" => Mode::Edge,
            "reflect" => Mode::Reflect,
            "wrap" => Mode::Wrap,
            _ => return Err(Error::bad_input(format!("the padding mode `{name}` is not one of ONNX"))),
        })
    }

    /// Which of `n` elements stands at place `i` of the padded axis, whose first element has place 0; `None` is padding.
    fn source(self, i: i64, n: i64) -> Result<Option<usize>> {
        let at = match self {
            _ if (0..n).contains(&i) => i,
            Mode::Constant => return Ok(None),
            Mode::Edge => i.clamp(0, (n - 1).max(0)),
            Mode::Reflect if i < 0 => -i,
            Mode::Reflect => 2 * (n - 1) - i,
            Mode::Wrap => i.checked_rem_euclid(n).unwrap_or(0),
        };
        match usize::try_from(at).ok().filter(|_| at < n) {
            None => Err(Error::bad_input(format!("an axis of {n} is too short for this padding"))),
            found => Ok(found),
        }
    }
}

/// `x` with so many entries more (or, when negative, fewer) before and after each axis.
fn padded(x: &Tensor, ends: &[(i64, i64)], mode: Mode, fill: Option<&Tensor>) -> Result<Tensor> {
    let too_large = || Error::bad_input("the pads are too large");
    let mut sources = Vec::with_capacity(ends.len());
    for (&n, &(before, after)) in x.shape().iter().zip(ends) {
        let n = n as i64;
        let length = before.checked_add(n).and_then(|l| l.checked_add(after)).ok_or_else(too_large)?;
        count(&[dimension(length)?])?;
        sources.push((0..length).map(|o| mode.source(o - before, n)).collect::<Result<Vec<_>>>()?);
    }
    let shape: Vec<usize> = sources.iter().map(Vec::len).collect();
    let total = count(&shape)?;
    let strides: Vec<usize> = strides(x.shape()).into_iter().map(|s| s as usize).collect();
    let data = match fill {
        None => map_data!(x.data(), v => emit(v, Default::default(), &sources, &strides, total)),
        Some(fill) => every!(wrap2!(x.data(), fill.data(), v, c => emit(v, scalar(c, "the padding")?, &sources, &strides, total)))
            .ok_or_else(|| Error::bad_input("the padding must have the input's element type"))?,
    };
    Tensor::new(shape, data)
}

fn emit<T: Copy>(src: &[T], fill: T, sources: &[Vec<Option<usize>>], strides: &[usize], total: usize) -> Vec<T> {
    fn axis<T: Copy>(out: &mut Vec<T>, src: &[T], fill: T, sources: &[Vec<Option<usize>>], strides: &[usize], at: Option<usize>) {
        match (sources, strides) {
            ([first, rest @ ..], [stride, strides @ ..]) => {
                for s in first {
                    axis(out, src, fill, rest, strides, at.zip(*s).map(|(at, s)| at + s * stride));
                }
            }
            _ => out.push(at.map_or(fill, |at| src[at])),
        }
    }
    let mut out = Vec::with_capacity(total);
    if total > 0 {
        axis(&mut out, src, fill, sources, strides, Some(0));
    }
    out
}
