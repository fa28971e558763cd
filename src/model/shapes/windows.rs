//! Operators that slide a window over the spatial axes: convolutions and pooling.

use super::args::{Args, Rule, Stop, dimension, dimensions, one, wrong};
use crate::onnx::Attributes;
use crate::tensor::DType;

/// Strides, dilations and pads above this are nonsense, and below it no sum overflows.
const MAX_STEP: i64 = 1 << 30;

/// `Conv`, `DeformConv`: `[N, C, …]` with weights `[M, C / group, …]` to `[N, M, …]`.
pub(super) fn conv(args: &Args) -> Rule {
    one(args.input(0)?.dtype, conv_shape(args, args.shape(0)?, args.shape(1)?)?)
}

/// `ConvInteger`: sums in 32 bits.
pub(super) fn conv_integer(args: &Args) -> Rule {
    one(DType::I32, conv_shape(args, args.shape(0)?, args.shape(1)?)?)
}

/// `QLinearConv`: data, scale and zero point, then those of the weights, then those of the result.
pub(super) fn qlinear_conv(args: &Args) -> Rule {
    one(args.input(7)?.dtype, conv_shape(args, args.shape(0)?, args.shape(3)?)?)
}

fn conv_shape(args: &Args, x: &[usize], w: &[usize]) -> Result<Vec<usize>, Stop> {
    if x.len() < 3 || w.len() != x.len() || w.contains(&0) {
        return wrong(format!("input {x:?} and weights {w:?} do not fit"));
    }
    let group = args.positive("group", 1)?;
    if group.checked_mul(w[1]) != Some(x[1]) {
        return wrong(format!("the input has {} channels, the weights are for {group} groups of {}", x[1], w[1]));
    }
    let spatial = Window::new(args, &w[2..])?.outputs(&x[2..], false)?;
    Ok([&[x[0], w[0]][..], &spatial].concat())
}

/// `ConvTranspose`: `[N, C, …]` with weights `[C, M / group, …]` to `[N, M, …]`.
pub(super) fn conv_transpose(args: &Args) -> Rule {
    let (x, w) = (args.input(0)?, args.shape(1)?);
    if x.shape.len() < 3 || w.len() != x.shape.len() || w.contains(&0) || x.shape[1] != w[0] {
        return wrong(format!("input {:?} and weights {w:?} do not fit", x.shape));
    }
    let spatial = w.len() - 2;
    let window = Window::new(args, &w[2..])?;
    let extra = numbers(args, "output_padding", 0, 0, spatial)?;
    let wanted = args.node.ints("output_shape").map(dimensions).transpose()?;
    if let Some(wanted) = &wanted
        && wanted.len() != spatial
    {
        return wrong(format!("`output_shape` has {} numbers for {spatial} spatial axes", wanted.len()));
    }
    let mut shape = vec![x.shape[0], w[1].saturating_mul(args.positive("group", 1)?)];
    for i in 0..spatial {
        let (input, stride) = (x.shape[i + 2] as i128, window.strides[i] as i128);
        let full = stride * (input - 1) + extra[i] as i128 + window.reach(i) as i128;
        shape.push(match &wanted {
            Some(wanted) => wanted[i],
            None if window.auto.starts_with("SAME") => dimension(input * stride)?,
            None => dimension(full - window.padding(i) as i128)?,
        });
    }
    one(x.dtype, shape)
}

/// `MaxPool` with the indices it may give, `AveragePool`, `LpPool`.
pub(super) fn pool(args: &Args) -> Rule {
    let x = args.input(0)?;
    if x.shape.len() < 3 {
        return wrong(format!("{:?} has no spatial axes to pool over", x.shape));
    }
    let window = Window::new(args, &kernel_shape(args, x.shape.len() - 2)?)?;
    let shape = [&x.shape[..2], &window.outputs(&x.shape[2..], args.flag("ceil_mode", false))?].concat();
    Ok([one(x.dtype, shape.clone())?, one(DType::I64, shape)?].concat())
}

/// `MaxUnpool`: undoes a pooling, whose rounding may have lost some of the size (`output_shape` restores it).
pub(super) fn unpool(args: &Args) -> Rule {
    let x = args.input(0)?;
    if let Some(shape) = args.integers(2)? {
        return one(x.dtype, dimensions(&shape)?);
    }
    if x.shape.len() < 3 {
        return wrong(format!("{:?} has no spatial axes", x.shape));
    }
    let window = Window::new(args, &kernel_shape(args, x.shape.len() - 2)?)?;
    let mut shape = x.shape.clone();
    for (i, d) in shape.iter_mut().skip(2).enumerate() {
        let full = (*d as i128 - 1) * window.strides[i] as i128 + window.reach(i) as i128;
        *d = dimension(full - window.padding(i) as i128)?;
    }
    one(x.dtype, shape)
}

/// `GlobalAveragePool` and its kin: every spatial axis becomes 1.
pub(super) fn global_pool(args: &Args) -> Rule {
    let x = args.input(0)?;
    one(x.dtype, x.shape.iter().enumerate().map(|(i, &d)| if i < 2 { d } else { 1 }).collect::<Vec<_>>())
}

/// `Col2Im`: `[N, C · block, L]` to `[N, C, image…]`.
pub(super) fn col2im(args: &Args) -> Rule {
    let x = args.input(0)?;
    let (Some(image), Some(block)) = (args.integers(1)?, args.integers(2)?) else { return wrong("input 1 or 2 is missing") };
    let (image, block) = (dimensions(&image)?, dimensions(&block)?);
    let size = block.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n > 0);
    match (x.shape.as_slice(), size) {
        (&[n, c, _], Some(size)) if c % size == 0 => one(x.dtype, [&[n, c / size][..], &image].concat()),
        _ => wrong(format!("{:?} is no array of blocks {block:?}", x.shape)),
    }
}

fn kernel_shape(args: &Args, spatial: usize) -> Result<Vec<usize>, Stop> {
    if args.node.ints("kernel_shape").is_none() {
        return wrong("`kernel_shape` is missing");
    }
    numbers(args, "kernel_shape", 1, 1, spatial)
}

/// A list attribute of exactly `len` numbers, each at least `least`.
fn numbers(args: &Args, name: &str, default: i64, least: i64, len: usize) -> Result<Vec<usize>, Stop> {
    let v = args.node.ints(name).map_or_else(|| vec![default; len], <[i64]>::to_vec);
    if v.len() != len || v.iter().any(|x| !(least..=MAX_STEP).contains(x)) {
        return wrong(format!("`{name}` must be {len} numbers from {least} on, found {v:?}"));
    }
    Ok(v.into_iter().map(|x| x as usize).collect())
}

/// The geometry that convolutions and pooling share. All lists have one entry per spatial axis, `pads` two.
struct Window<'a> {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
    auto: &'a str,
}

impl<'a> Window<'a> {
    fn new(args: &Args<'a>, kernel: &[usize]) -> Result<Self, Stop> {
        let spatial = kernel.len();
        Ok(Window {
            kernel: kernel.to_vec(),
            strides: numbers(args, "strides", 1, 1, spatial)?,
            dilations: numbers(args, "dilations", 1, 1, spatial)?,
            pads: numbers(args, "pads", 0, 0, 2 * spatial)?,
            auto: args.node.string("auto_pad").unwrap_or("NOTSET"),
        })
    }

    /// Elements from the first to the last that the window touches along axis `i`.
    fn reach(&self, i: usize) -> usize {
        (self.kernel[i].max(1) - 1).saturating_mul(self.dilations[i]).saturating_add(1)
    }

    /// Stated padding along axis `i`, both sides.
    fn padding(&self, i: usize) -> usize {
        if self.auto == "VALID" { 0 } else { self.pads[i] + self.pads[i + self.kernel.len()] }
    }

    /// Spatial output sizes: floor or ceil of (in + pads − reach) / stride + 1; SAME is ceil(in / stride).
    fn outputs(&self, input: &[usize], ceil: bool) -> Result<Vec<usize>, Stop> {
        let size = |i: usize| {
            let stride = self.strides[i];
            if self.auto.starts_with("SAME") {
                return Ok(input[i].div_ceil(stride));
            }
            let (reach, padded) = (self.reach(i), input[i] + self.padding(i));
            let Some(free) = padded.checked_sub(reach) else {
                return wrong(format!("a window of {reach} does not fit into {padded} (padding included)"));
            };
            let out = if ceil { free.div_ceil(stride) } else { free / stride } + 1;
            // With ceil_mode a last window that would start in the padding on the right is dropped (ONNX, AveragePool).
            let begin = if self.auto == "VALID" { 0 } else { self.pads[i] };
            let outside = ceil && out > 1 && (out - 1) * stride >= input[i] + begin;
            Ok(if outside { out - 1 } else { out })
        };
        (0..self.kernel.len()).map(size).collect()
    }
}
