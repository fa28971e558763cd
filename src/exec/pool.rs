//! Pooling over windows and over whole planes.

use super::window::{Steps, Window, list};
use crate::model::eval::{Args, count, integers, sum};
use crate::onnx::Attributes;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// `MaxPool` and `AveragePool` of `[N, C, H, W]` or `[N, C, W]`.
///
/// # Errors
/// Another rank, a window that does not fit, or the positions of the maxima are asked for.
pub(super) fn pool_node(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let [n, c, spatial @ ..] = x.shape() else {
        return Err(Error::bad_input(format!("an input of shape {:?} has no planes", x.shape())));
    };
    let kernel: Vec<usize> = args.node.ints("kernel_shape").unwrap_or_default().iter().map(|&k| usize::try_from(k).unwrap_or(0)).collect();
    let window = Window::new(args, spatial, &kernel)?;
    let max = args.node.op_type() == "MaxPool";
    if max && args.node.output.get(1).is_some_and(|o| !o.is_empty()) {
        return Err(Error::bad_input("the positions of the maxima are not supported"));
    }
    let mut shape = vec![*n, *c];
    shape.extend(window.output());
    let mut out = vec![0.0; count(&shape)?];
    if out.is_empty() || x.is_empty() {
        return match out.is_empty() {
            true => Tensor::f32(shape, out),
            false => Err(Error::bad_input("the planes are empty")),
        };
    }
    let count_padding = args.int_or("count_include_pad", 0) != 0;
    let planes = x.as_f32()?.chunks_exact(window.input_len());
    for (plane, out) in planes.zip(out.chunks_exact_mut(window.output_len())) {
        if max { max_pool(plane, &window, out) } else { average_pool(plane, &window, count_padding, out) }
    }
    Tensor::f32(shape, out)
}

/// The largest element under each window; padding never wins.
pub(super) fn max_pool(plane: &[f32], window: &Window, out: &mut [f32]) {
    out.fill(f32::NEG_INFINITY);
    for_each_tap(window, |at, from| {
        let (o, v) = (&mut out[at], plane[from]);
        if v > *o || v.is_nan() {
            *o = v;
        }
    });
}

/// The mean under each window, over the elements inside the input, or with the padding counted as zeros.
pub(super) fn average_pool(plane: &[f32], window: &Window, count_padding: bool, out: &mut [f32]) {
    out.fill(0.0);
    for_each_tap(window, |at, from| out[at] += plane[from]);
    let [depths, heights, widths] =
        [0, 1, 2].map(|axis| (0..window.output[axis]).map(|o| covered(window, axis, o, count_padding)).collect::<Vec<_>>());
    let areas = depths.iter().flat_map(|d| heights.iter().map(move |h| d * h));
    for (row, area) in out.chunks_exact_mut(window.output[2]).zip(areas) {
        for (o, &width) in row.iter_mut().zip(&widths) {
            *o /= (area * width).max(1) as f32;
        }
    }
}

/// How many elements along `axis` the window at `output` covers. What `ceil_mode` adds beyond the padding never counts.
fn covered(window: &Window, axis: usize, output: usize, count_padding: bool) -> usize {
    let pad = window.pad_begin[axis];
    let (begin, end) = if count_padding { (0, window.input[axis] + pad + window.pad_end[axis]) } else { (pad, window.input[axis] + pad) };
    let first = output * window.stride[axis];
    (0..window.kernel[axis]).filter(|k| (begin..end).contains(&(first + k * window.dilation[axis]))).count()
}

/// Calls `f(output, input)` for every pair of elements that a window connects.
fn for_each_tap(window: &Window, mut f: impl FnMut(usize, usize)) {
    for tap in window.taps() {
        window.for_each_row(tap, |output, input, length| {
            (0..length).for_each(|i| f(output + i, input + i * window.stride[2]));
        });
    }
}

/// `MaxUnpool`: every maximum back at its place, zeros elsewhere. The places count in a tensor of the pooled one's former shape, which
/// lies at the beginning of a larger output where `output_shape` asks for one.
///
/// # Errors
/// Places outside, or an output that is too small.
pub(super) fn max_unpool(args: &Args) -> Result<Tensor> {
    let (x, places) = (args.tensor(0)?, args.tensor(1)?.as_i64()?);
    let [n, c, spatial @ ..] = x.shape() else {
        return Err(Error::bad_input(format!("an input of shape {:?} has no planes", x.shape())));
    };
    let rank = spatial.len();
    let kernel = list(args, "kernel_shape", rank, 1, 1)?;
    let steps = Steps::of(args, rank)?;
    let mut inner = vec![*n, *c];
    for i in 0..rank {
        let full = (spatial[i].max(1) - 1).saturating_mul(steps.strides[i]).saturating_add(kernel[i]);
        let length = full.checked_sub(steps.pads[i] + steps.pads[i + rank]);
        inner.push(length.ok_or_else(|| Error::bad_input("the padding is larger than the output"))?);
    }
    let shape = match args.optional(2) {
        Some(t) => integers(t)?.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect(),
        None => inner.clone(),
    };
    if shape.len() != inner.len() || inner.iter().zip(&shape).any(|(i, o)| i > o) || places.len() != x.len() {
        return Err(Error::bad_input(format!("places of {:?} do not fit an output of {shape:?}", x.shape())));
    }
    let (total, mut out) = (count(&inner)?, vec![0.0; count(&shape)?]);
    for (&v, &place) in x.as_f32()?.iter().zip(places) {
        let mut at =
            usize::try_from(place).ok().filter(|&p| p < total).ok_or_else(|| Error::bad_input("a place lies outside of the output"))?;
        let (mut flat, mut step) = (0, 1);
        for (&i, &o) in inner.iter().zip(&shape).rev() {
            flat += at % i * step;
            at /= i;
            step *= o;
        }
        out[flat] = v;
    }
    Tensor::f32(shape, out)
}

/// `GlobalAveragePool`, `GlobalMaxPool` and `GlobalLpPool`: one value a plane, whatever the number of spatial axes.
pub(super) fn global_pool_node(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let [n, c, spatial @ ..] = x.shape() else {
        return Err(Error::bad_input(format!("an input of shape {:?} has no planes", x.shape())));
    };
    let size: usize = spatial.iter().product();
    if size == 0 {
        return Err(Error::bad_input("the planes are empty"));
    }
    let planes = x.as_f32()?.chunks_exact(size);
    let out = match args.node.op_type() {
        "GlobalMaxPool" => planes.map(|p| p.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m || v.is_nan() { v } else { m })).collect(),
        "GlobalLpPool" => {
            let p = args.int_or("p", 2).max(1) as f64;
            planes.map(|v| v.iter().map(|&x| f64::from(x).abs().powf(p)).sum::<f64>().powf(1.0 / p) as f32).collect()
        }
        _ => planes.map(|p| (sum(p) / size as f64) as f32).collect(),
    };
    let mut shape = vec![*n, *c];
    shape.extend(spatial.iter().map(|_| 1));
    Tensor::f32(shape, out)
}
