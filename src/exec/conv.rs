//! Convolution: its geometry, and the forward kernel.

use super::arena::Arena;
use super::frame::Frame;
use super::window::Window;
use crate::model::eval::{Args, count};
use crate::onnx::pb;
use crate::sys::tile::{LARGEST, SINGLE, Tile};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Geometry of a convolution of `[N, channels, …]` to `[N, out_channels, …]` with one to three spatial axes.
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
}

impl ConvSpec {
    /// Geometry of a `Conv` node for an input and weights of these shapes.
    ///
    /// # Errors
    /// Other than one to three spatial axes, channels that do not fit the groups, or a window that does not fit the input.
    pub fn new(node: &pb::NodeProto, x: &[usize], w: &[usize]) -> Result<Self> {
        let args = Args::new(node, 0, &[]);
        let mismatch = |why: &str| Error::bad_input(format!("weights of shape {w:?} do not fit an input of shape {x:?}: {why}"));
        let ([_, channels, spatial @ ..], [out_channels, per_group, kernel @ ..]) = (x, w) else {
            return Err(mismatch("the ranks are too small"));
        };
        let groups = groups(&args).ok_or_else(|| mismatch("`group` is not positive"))?;
        if per_group.checked_mul(groups) != Some(*channels) || out_channels % groups != 0 {
            return Err(mismatch(&format!("the channels do not fit {groups} groups")));
        }
        if let Some(why) = contradicts(&args, kernel) {
            return Err(mismatch(&why));
        }
        ConvSpec { window: Window::new(&args, spatial, kernel)?, channels: *channels, out_channels: *out_channels, groups }.checked()
    }

    /// The geometry, unless its columns would be too large.
    pub(super) fn checked(self) -> Result<Self> {
        count(&[self.channels_per_group(), self.window.kernel_len(), self.window.output_len()])?;
        Ok(self)
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
        [&[samples, self.out_channels], self.window.output()].concat()
    }

    /// Checks that `x` has this geometry and returns its number of samples.
    pub(super) fn samples(&self, x: &Tensor) -> Result<usize> {
        match x.shape() {
            [n, channels, spatial @ ..] if *channels == self.channels && spatial == self.window.input() => Ok(*n),
            shape => Err(Error::bad_input(format!(
                "an input of shape {shape:?} does not have {} channels of {:?}",
                self.channels,
                self.window.input()
            ))),
        }
    }
}

/// The attribute `group`, unless it is not positive.
pub(super) fn groups(args: &Args) -> Option<usize> {
    usize::try_from(args.int_or("group", 1)).ok().filter(|&g| g > 0)
}

/// What is wrong when the attribute `kernel_shape` is not the shape of the weights.
pub(super) fn contradicts(args: &Args, kernel: &[usize]) -> Option<String> {
    let stated = crate::onnx::Attributes::ints(args.node, "kernel_shape").filter(|s| !s.is_empty())?;
    (!stated.iter().map(|&k| k as usize).eq(kernel.iter().copied())).then(|| format!("`kernel_shape` is {stated:?}"))
}

/// `Conv`: `x` `[N, C, …]`, `w` `[O, C/groups, …]`, `bias` `[O]`; the result is `[N, O, …]`.
///
/// # Errors
/// The tensors are not float32 or do not fit `spec`.
pub fn conv(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, spec: &ConvSpec) -> Result<Tensor> {
    conv_in(x, w, bias, spec, &mut Arena::default())
}

/// [`conv`] with memory from `arena`.
pub(super) fn conv_in(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, spec: &ConvSpec, arena: &mut Arena) -> Result<Tensor> {
    let n = spec.samples(x)?;
    let (image, weights) = (x.as_f32()?, w.as_f32()?);
    if weights.len() != spec.out_channels * spec.column_rows() {
        return Err(Error::bad_input(format!("weights of shape {:?} do not fit the convolution", w.shape())));
    }
    let bias = bias_values(bias, spec.out_channels)?;
    let shape = spec.output_shape(n);
    let total = count(&shape)?;
    if total == 0 || weights.is_empty() {
        return Tensor::f32(shape, vec![0.0; total]);
    }
    let mut out = arena.take(total);
    let mut kernel = Direct::new(spec, weights)?;
    let (input_size, output_size) = (spec.channels * spec.window.input_len(), spec.out_channels * spec.window.output_len());
    for (i, result) in out.chunks_exact_mut(output_size).enumerate() {
        kernel.convolve(&image[i * input_size..][..input_size], bias, result);
    }
    Tensor::f32(shape, out)
}

/// The biases, one for each output channel.
pub(super) fn bias_values(bias: Option<&Tensor>, channels: usize) -> Result<Option<&[f32]>> {
    let bias = bias.map(Tensor::as_f32).transpose()?;
    match bias {
        Some(b) if b.len() != channels => Err(Error::bad_input(format!("{} biases do not fit {channels} output channels", b.len()))),
        _ => Ok(bias),
    }
}

/// A convolution that reads its input from a [`Frame`].
struct Direct<'a> {
    spec: &'a ConvSpec,
    tile: Tile,
    /// Output channels that are summed together.
    rows: usize,
    columns: usize,
    frame: Frame,
    planes: Vec<f32>,
    offsets: Vec<usize>,
    /// By group and block of `rows` output channels: `[column_rows, rows]`, zeros for channels that there are not.
    weights: Vec<f32>,
}

/// Weights up to this size stay in the first-level cache while a tile's block of the frame is read over and over.
const CACHED: usize = 8192;

impl<'a> Direct<'a> {
    fn new(spec: &'a ConvSpec, weights: &[f32]) -> Result<Self> {
        let tile = Tile::best();
        let outputs = spec.out_channels / spec.groups;
        let (rows, columns) = if outputs == 1 { (1, SINGLE) } else { (tile.rows(), tile.columns()) };
        let frame = Frame::new(&spec.window, spec.channels_per_group(), columns)?;
        let length = spec.column_rows();
        let mut packed = vec![0.0; count(&[spec.groups, outputs.div_ceil(rows), rows, length])?];
        let blocks = weights.chunks_exact(outputs * length).flat_map(|group| group.chunks(rows * length));
        for (block, packed) in blocks.zip(packed.chunks_exact_mut(rows * length)) {
            for (m, channel) in block.chunks_exact(length).enumerate() {
                channel.iter().enumerate().for_each(|(k, &w)| packed[k * rows + m] = w);
            }
        }
        let (planes, offsets) = (frame.empty(), frame.offsets(spec.channels_per_group()));
        Ok(Direct { spec, tile, rows, columns, frame, planes, offsets, weights: packed })
    }

    /// One sample: `[C, …]` to `[O, …]`.
    fn convolve(&mut self, sample: &[f32], bias: Option<&[f32]>, result: &mut [f32]) {
        let outputs = self.spec.out_channels / self.spec.groups;
        let groups = sample.chunks_exact(self.spec.channels_per_group() * self.spec.window.input_len());
        let results = result.chunks_exact_mut(outputs * self.spec.window.output_len());
        for (g, (planes, result)) in groups.zip(results).enumerate() {
            self.frame.load(planes, &mut self.planes);
            let bias = bias.map(|b| &b[g * outputs..][..outputs]);
            let size = self.weights.len() / self.spec.groups;
            let blocks = self.weights[g * size..][..size].chunks_exact(self.rows * self.offsets.len()).enumerate();
            if size <= CACHED {
                self.frame.tiles().iter().for_each(|t| blocks.clone().for_each(|(b, w)| self.tile(t, b, w, bias, result)));
            } else {
                blocks.for_each(|(b, w)| self.frame.tiles().iter().for_each(|t| self.tile(t, b, w, bias, result)));
            }
        }
    }

    /// Writes the outputs of one tile for one block of channels, with their bias.
    fn tile(&self, tile: &super::frame::Tile, block: usize, weights: &[f32], bias: Option<&[f32]>, result: &mut [f32]) {
        let mut sums = [0.0; LARGEST];
        let frame = &self.planes[tile.first..];
        match self.rows {
            1 => self.tile.sum_single(weights, &self.offsets, frame, &mut sums),
            _ => self.tile.sum(weights, &self.offsets, frame, &mut sums),
        }
        let planes = result.chunks_exact_mut(self.spec.window.output_len()).enumerate().skip(block * self.rows);
        for ((o, plane), sums) in planes.zip(sums.chunks_exact(self.columns).take(self.rows)) {
            let bias = bias.map_or(0.0, |b| b[o]);
            for piece in self.frame.pieces(tile) {
                let target = &mut plane[piece.to..][..piece.len];
                target.iter_mut().zip(&sums[piece.from..]).for_each(|(t, &s)| *t = s + bias);
            }
        }
    }
}
