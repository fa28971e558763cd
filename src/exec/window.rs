//! The geometry that convolution and pooling share: a window that slides over the planes of an image, a signal or a volume.

use crate::model::eval::{Args, count};
use crate::onnx::Attributes;
use crate::{Error, Result};
use std::ops::Range;

/// Spatial axes that a [`Window`] has: depth, height, width.
pub(crate) const AXES: usize = 3;

/// A window sliding over blocks of depth × height × width elements. A plane has depth 1, a signal also height 1.
///
/// Along each axis, output `o` sees the inputs `o·stride − pad_begin + k·dilation` for `k < kernel`; what lies outside is padding.
/// Made from a node's attributes, so that it always fits its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Spatial axes that the node has: the last of the three.
    pub(crate) rank: usize,
    /// Lengths of the input.
    pub(crate) input: [usize; AXES],
    /// Lengths of the kernel.
    pub(crate) kernel: [usize; AXES],
    /// Steps between windows.
    pub(crate) stride: [usize; AXES],
    /// Distance of kernel elements.
    pub(crate) dilation: [usize; AXES],
    /// Padding before the first element.
    pub(crate) pad_begin: [usize; AXES],
    /// Padding after the last element.
    pub(crate) pad_end: [usize; AXES],
    /// Lengths of the output.
    pub(crate) output: [usize; AXES],
}

/// `strides`, `dilations`, `pads` and `auto_pad` of a node with `rank` spatial axes, checked.
pub(super) struct Steps<'a> {
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    /// Those before, then those after.
    pub(super) pads: Vec<usize>,
    pub(super) auto_pad: &'a str,
}

impl<'a> Steps<'a> {
    /// # Errors
    /// A list has the wrong length, or numbers that are out of range.
    pub(super) fn of(args: &Args<'a>, rank: usize) -> Result<Self> {
        Ok(Steps {
            strides: list(args, "strides", rank, 1, 1)?,
            dilations: list(args, "dilations", rank, 1, 1)?,
            pads: list(args, "pads", 2 * rank, 0, 0)?,
            auto_pad: args.node.string("auto_pad").unwrap_or("NOTSET"),
        })
    }
}

/// The attribute `name`: `n` numbers, none below `least`.
pub(super) fn list(args: &Args, name: &str, n: usize, default: usize, least: i64) -> Result<Vec<usize>> {
    let Some(values) = args.node.ints(name).filter(|v| !v.is_empty()) else { return Ok(vec![default; n]) };
    match values.iter().all(|&v| (least..=1 << 30).contains(&v)) && values.len() == n {
        true => Ok(values.iter().map(|&v| v as usize).collect()),
        false => Err(Error::bad_input(format!("`{name}` is {values:?}, expected {n} numbers of at least {least}"))),
    }
}

impl Window {
    /// Reads `strides`, `dilations`, `pads`, `auto_pad` and `ceil_mode` of a node whose spatial input and kernel are given.
    ///
    /// # Errors
    /// Other than one to three spatial axes, attributes of the wrong length or sign, or a window that does not fit.
    pub(crate) fn new(args: &Args, spatial: &[usize], kernel: &[usize]) -> Result<Self> {
        let rank = check_rank(spatial, kernel)?;
        let steps = Steps::of(args, rank)?;
        let ceil = args.int_or("ceil_mode", 0) != 0;
        let mut window = Window::unit(rank);
        for i in 0..rank {
            let axis = Axis { input: spatial[i], stride: steps.strides[i], extent: extent(kernel[i], steps.dilations[i])?, ceil };
            let (begin, end, output) = axis.place(steps.auto_pad, steps.pads[i], steps.pads[i + rank])?;
            let at = AXES - rank + i;
            (window.input[at], window.kernel[at], window.stride[at]) = (spatial[i], kernel[i], steps.strides[i]);
            (window.dilation[at], window.pad_begin[at], window.pad_end[at]) = (steps.dilations[i], begin, end);
            window.output[at] = output;
        }
        window.checked()
    }

    /// One element that slides over one element, to be filled in along the last `rank` axes.
    pub(super) fn unit(rank: usize) -> Self {
        let (one, zero) = ([1; AXES], [0; AXES]);
        Window { rank, input: one, kernel: one, stride: one, dilation: one, pad_begin: zero, pad_end: zero, output: one }
    }

    /// The window, unless its blocks are too large.
    pub(super) fn checked(self) -> Result<Self> {
        count(&self.input)?;
        count(&self.output)?;
        count(&self.kernel)?;
        Ok(self)
    }

    /// Lengths of the kernel along the node's spatial axes.
    pub fn kernel(&self) -> &[usize] {
        &self.kernel[AXES - self.rank..]
    }

    /// Lengths of the input along the node's spatial axes.
    pub fn input(&self) -> &[usize] {
        &self.input[AXES - self.rank..]
    }

    /// Lengths of the output along the node's spatial axes.
    pub fn output(&self) -> &[usize] {
        &self.output[AXES - self.rank..]
    }

    /// Elements of one input plane.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Elements of one output plane.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    /// Elements of the kernel.
    pub fn kernel_len(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Outputs along `axis` for which kernel element `k` lies inside the input: `begin..end`.
    pub(crate) fn inside(&self, axis: usize, k: usize) -> Range<usize> {
        let (offset, pad, stride) = (k * self.dilation[axis], self.pad_begin[axis], self.stride[axis]);
        let begin = pad.saturating_sub(offset).div_ceil(stride);
        let end = (self.input[axis] + pad).saturating_sub(offset).div_ceil(stride).min(self.output[axis]);
        begin.min(end)..end
    }

    /// The input that kernel element `k` sees at `output`; only inside the range of [`Window::inside`].
    pub(crate) fn source(&self, axis: usize, k: usize, output: usize) -> usize {
        output * self.stride[axis] + k * self.dilation[axis] - self.pad_begin[axis]
    }

    /// The kernel's elements in row-major order, by their places along the axes.
    pub(crate) fn taps(&self) -> impl Iterator<Item = [usize; AXES]> + use<> {
        let [depth, height, width] = self.kernel;
        (0..depth).flat_map(move |d| (0..height).flat_map(move |h| (0..width).map(move |w| [d, h, w])))
    }

    /// The place along the axes of output number `position`.
    pub(crate) fn output_place(&self, position: usize) -> [usize; AXES] {
        let [_, height, width] = self.output;
        [position / (height * width), position / width % height, position % width]
    }

    /// Calls `f(first output, first input, length)` for every row of outputs for which `tap` lies inside the input. Along a row the
    /// output moves by 1 and the input by the last stride.
    pub(crate) fn for_each_row(&self, tap: [usize; AXES], mut f: impl FnMut(usize, usize, usize)) {
        let across = self.inside(2, tap[2]);
        if across.is_empty() {
            return;
        }
        let first = self.source(2, tap[2], across.start);
        for d in self.inside(0, tap[0]) {
            let slice = self.source(0, tap[0], d) * self.input[1];
            for h in self.inside(1, tap[1]) {
                let from = (slice + self.source(1, tap[1], h)) * self.input[2] + first;
                f((d * self.output[1] + h) * self.output[2] + across.start, from, across.len());
            }
        }
    }
}

/// The number of spatial axes, when it is one that is supported and the kernel has the same.
pub(super) fn check_rank(spatial: &[usize], kernel: &[usize]) -> Result<usize> {
    match spatial.len() {
        rank @ 1..=AXES if kernel.len() == rank => Ok(rank),
        _ => Err(Error::bad_input(format!("a kernel of shape {kernel:?} cannot slide over an input of shape {spatial:?}"))
            .hint("one to three spatial dimensions are supported")),
    }
}

/// Length of a kernel with its gaps.
pub(super) fn extent(kernel: usize, dilation: usize) -> Result<usize> {
    kernel
        .checked_sub(1)
        .and_then(|k| k.checked_mul(dilation))
        .filter(|&e| e < 1 << 31)
        .map(|e| e + 1)
        .ok_or_else(|| Error::bad_input(format!("a kernel of length {kernel} with dilation {dilation} is impossible")))
}

/// One spatial axis.
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) stride: usize,
    pub(super) extent: usize,
    pub(super) ceil: bool,
}

impl Axis {
    /// Padding before, padding after, output length.
    pub(super) fn place(&self, auto_pad: &str, begin: usize, end: usize) -> Result<(usize, usize, usize)> {
        match auto_pad {
            "" | "NOTSET" => Ok((begin, end, self.output(begin, end)?)),
            "VALID" => Ok((0, 0, self.output(0, 0)?)),
            "SAME_UPPER" | "SAME_LOWER" => {
                let output = self.input.div_ceil(self.stride);
                let total = (output.max(1) - 1).saturating_mul(self.stride).saturating_add(self.extent).saturating_sub(self.input);
                let (less, more) = (total / 2, total - total / 2);
                Ok(if auto_pad == "SAME_UPPER" { (less, more, output) } else { (more, less, output) })
            }
            other => Err(unknown_padding(other)),
        }
    }

    fn output(&self, begin: usize, end: usize) -> Result<usize> {
        let room = (self.input + begin + end).checked_sub(self.extent).ok_or_else(|| {
            Error::bad_input(format!(
                "a kernel that covers {} does not fit into {} with padding {begin} and {end}",
                self.extent, self.input
            ))
        })?;
        if !self.ceil {
            return Ok(room / self.stride + 1);
        }
        let output = room.div_ceil(self.stride) + 1;
        // A last window that would start in the padding after the input is left out.
        Ok(if (output - 1) * self.stride >= self.input + begin { output - 1 } else { output })
    }
}

/// The error for an `auto_pad` that does not exist.
pub(super) fn unknown_padding(value: &str) -> Error {
    Error::bad_input(format!("`auto_pad` is `{value}`, which ONNX does not define"))
}
