//! Convolution by im2col and matrix product.
//!
//! Layout: for one sample, the columns are the row-major matrix `[C·KH·KW, OH·OW]`: row `(c, kh, kw)`, column `(oh, ow)`. With the
//! weights as `[O, C·KH·KW]` (their layout in ONNX) the product is the output `[O, OH·OW]` in place. For least squares over samples,
//! `H += columns · columnsᵀ` is one call of [`gemm`] with [`Matrix::t`].

use super::depthwise::Depthwise;
use super::window::Window;
use crate::model::eval::{Args, count};
use crate::onnx::pb;
use crate::sys::gemm::{Matrix, gemm};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::ops::Range;

/// Geometry of a convolution of `[N, channels, H, W]` (or `[N, channels, W]`) to `[N, out_channels, OH, OW]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSpec {
    /// The sliding window.
    pub(crate) window: Window,
    /// Input channels.
    pub(crate) channels: usize,
    /// Output channels.
    pub(crate) out_channels: usize,
    /// Groups; divides both.
    pub(crate) groups: usize,
    /// True for one spatial dimension: `[N, C, W]`.
    pub(crate) one_dimensional: bool,
}

impl ConvSpec {
    /// Geometry of a `Conv` node for an input and weights of these shapes.
    ///
    /// # Errors
    /// Ranks other than 3 and 4, channels that do not fit the groups, or a window that does not fit the input.
    pub fn new(node: &pb::NodeProto, x: &[usize], w: &[usize]) -> Result<Self> {
        let args = Args::new(node, 0, &[]);
        let mismatch = |why: &str| Error::bad_input(format!("weights of shape {w:?} do not fit an input of shape {x:?}: {why}"));
        let ([_, channels, spatial @ ..], [out_channels, per_group, kernel @ ..]) = (x, w) else {
            return Err(mismatch("the ranks are too small"));
        };
        let groups = usize::try_from(args.int_or("group", 1)).ok().filter(|&g| g > 0).ok_or_else(|| mismatch("`group` is not positive"))?;
        if per_group.checked_mul(groups) != Some(*channels) || out_channels % groups != 0 {
            return Err(mismatch(&format!("the channels do not fit {groups} groups")));
        }
        if let Some(stated) = crate::onnx::Attributes::ints(node, "kernel_shape")
            && !stated.iter().map(|&k| k as usize).eq(kernel.iter().copied())
        {
            return Err(mismatch(&format!("`kernel_shape` is {stated:?}")));
        }
        let window = Window::new(&args, spatial, kernel)?;
        let spec = ConvSpec { window, channels: *channels, out_channels: *out_channels, groups, one_dimensional: spatial.len() == 1 };
        count(&[*channels / groups, window.kernel_len(), window.output_len()])?;
        Ok(spec)
    }

    /// The sliding window.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Input channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Output channels.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// Groups; divides both numbers of channels.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Input channels that one output channel sees.
    pub fn channels_per_group(&self) -> usize {
        self.channels / self.groups
    }

    /// Rows of the column matrix of one group, which is also the length of one output channel's weights.
    pub fn column_rows(&self) -> usize {
        self.channels_per_group() * self.window.kernel_len()
    }

    /// True when every channel has filters of its own, with one input channel each.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.channels && self.groups > 1
    }

    /// Shape of the output for `samples` samples.
    pub fn output_shape(&self, samples: usize) -> Vec<usize> {
        let [h, w] = self.window.output;
        if self.one_dimensional { vec![samples, self.out_channels, w] } else { vec![samples, self.out_channels, h, w] }
    }

    /// Checks that `x` has this geometry and returns its number of samples.
    fn samples(&self, x: &Tensor) -> Result<usize> {
        let [h, w] = self.window.input;
        let sample: &[usize] = if self.one_dimensional { &[self.channels, w] } else { &[self.channels, h, w] };
        match x.shape() {
            [n, rest @ ..] if rest == sample => Ok(*n),
            shape => Err(Error::bad_input(format!("an input of shape {shape:?} does not have samples of {sample:?}"))),
        }
    }
}

/// Columns of some samples and channels: a tensor `[samples, C·KH·KW, OH·OW]` with `C = channels.len()`.
///
/// For a grouped convolution give one group's channels at a time.
///
/// # Errors
/// `x` does not have the geometry of `spec`, or a range is outside it.
pub fn im2col(x: &Tensor, spec: &ConvSpec, samples: Range<usize>, channels: Range<usize>) -> Result<Tensor> {
    let n = spec.samples(x)?;
    if samples.start > samples.end || samples.end > n || channels.start > channels.end || channels.end > spec.channels {
        return Err(Error::bad_input(format!("samples {samples:?} or channels {channels:?} are outside {:?}", x.shape())));
    }
    let (window, plane) = (&spec.window, spec.window.input_len());
    let shape = vec![samples.len(), channels.len() * window.kernel_len(), window.output_len()];
    let mut columns = vec![0.0; count(&shape)?];
    let size = shape[1] * shape[2];
    for (i, sample) in samples.enumerate() {
        let image = &x.as_f32()?[(sample * spec.channels + channels.start) * plane..][..channels.len() * plane];
        fill_columns(image, window, &mut columns[i * size..][..size]);
    }
    Tensor::f32(shape, columns)
}

/// Writes the columns of the planes in `image` (`[C, H, W]`) into `columns` (`[C·KH·KW, OH·OW]`), padding included.
pub(crate) fn fill_columns(image: &[f32], window: &Window, columns: &mut [f32]) {
    let ([kh, kw], [_, ow]) = (window.kernel, window.output);
    if columns.is_empty() || image.is_empty() {
        columns.fill(0.0);
        return;
    }
    let planes = image.chunks_exact(window.input_len());
    let rows = columns.chunks_exact_mut(window.output_len());
    let taps = planes.flat_map(|plane| (0..kh).flat_map(move |i| (0..kw).map(move |j| (plane, i, j))));
    for (row, (plane, i, j)) in rows.zip(taps) {
        let (down, across) = (window.inside(0, i), window.inside(1, j));
        for (y, out) in row.chunks_exact_mut(ow).enumerate() {
            if !down.contains(&y) || across.is_empty() {
                out.fill(0.0);
                continue;
            }
            let line = &plane[window.source(0, i, y) * window.input[1]..][..window.input[1]];
            let from = &line[window.source(1, j, across.start)..];
            out[..across.start].fill(0.0);
            out[across.end..].fill(0.0);
            let out = &mut out[across.clone()];
            match window.stride[1] {
                1 => out.copy_from_slice(&from[..out.len()]),
                step => out.iter_mut().zip(from.iter().step_by(step)).for_each(|(o, &v)| *o = v),
            }
        }
    }
}

/// `Conv`: `x` `[N, C, H, W]`, `w` `[O, C/groups, KH, KW]`, `bias` `[O]`; the result is `[N, O, OH, OW]` (one dimension: without H).
///
/// # Errors
/// The tensors are not float32 or do not fit `spec`.
pub fn conv(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, spec: &ConvSpec) -> Result<Tensor> {
    let n = spec.samples(x)?;
    let (image, weights) = (x.as_f32()?, w.as_f32()?);
    if weights.len() != spec.out_channels * spec.column_rows() {
        return Err(Error::bad_input(format!("weights of shape {:?} do not fit the convolution", w.shape())));
    }
    let bias = bias.map(Tensor::as_f32).transpose()?;
    if let Some(b) = bias.filter(|b| b.len() != spec.out_channels) {
        return Err(Error::bad_input(format!("{} biases do not fit {} output channels", b.len(), spec.out_channels)));
    }
    let shape = spec.output_shape(n);
    let mut out = vec![0.0; count(&shape)?];
    let (input_size, output_size) = (spec.channels * spec.window.input_len(), spec.out_channels * spec.window.output_len());
    if out.is_empty() {
        return Tensor::f32(shape, out);
    }
    let mut depthwise = spec.is_depthwise().then(|| Depthwise::new(spec)).transpose()?;
    let needs_columns = depthwise.is_none() && !spec.window.is_pointwise();
    let mut columns = vec![0.0; if needs_columns { spec.column_rows() * spec.window.output_len() } else { 0 }];
    for (i, result) in out.chunks_exact_mut(output_size).enumerate() {
        let sample = &image[i * input_size..][..input_size];
        if let Some(bias) = bias {
            result.chunks_exact_mut(spec.window.output_len()).zip(bias).for_each(|(plane, &b)| plane.fill(b));
        }
        if let Some(depthwise) = &mut depthwise {
            depthwise.add(sample, weights, result);
        } else {
            grouped(sample, weights, spec, &mut columns, result)?;
        }
    }
    Tensor::f32(shape, out)
}

/// Adds one sample's convolution to `result`, group by group.
fn grouped(sample: &[f32], weights: &[f32], spec: &ConvSpec, columns: &mut [f32], result: &mut [f32]) -> Result<()> {
    let (rows, places, outputs) = (spec.column_rows(), spec.window.output_len(), spec.out_channels / spec.groups);
    let group_size = spec.channels_per_group() * spec.window.input_len();
    for (g, result) in result.chunks_exact_mut(outputs * places).enumerate() {
        let image = &sample[g * group_size..][..group_size];
        let columns = if spec.window.is_pointwise() {
            image
        } else {
            fill_columns(image, &spec.window, columns);
            &*columns
        };
        let weights = Matrix::new(&weights[g * outputs * rows..], outputs, rows)?;
        gemm(1.0, weights, Matrix::new(columns, rows, places)?, 1.0, result)?;
    }
    Ok(())
}
