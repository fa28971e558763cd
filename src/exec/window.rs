//! The geometry that convolution and pooling share: a window that slides over a plane.

use crate::model::eval::{Args, count};
use crate::onnx::Attributes;
use crate::{Error, Result};

/// A window sliding over planes of `input[0]` × `input[1]` elements. One-dimensional windows have height 1.
///
/// Output `(i, j)` sees input rows `i·stride − pad_begin + k·dilation` for `k < kernel`, and columns likewise; what lies outside is
/// padding. Made by [`super::ConvSpec::new`], so that it always fits its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the input.
    pub(crate) input: [usize; 2],
    /// Height and width of the kernel.
    pub(crate) kernel: [usize; 2],
    /// Steps between windows.
    pub(crate) stride: [usize; 2],
    /// Distance of kernel elements.
    pub(crate) dilation: [usize; 2],
    /// Padding above and on the left.
    pub(crate) pad_begin: [usize; 2],
    /// Padding below and on the right.
    pub(crate) pad_end: [usize; 2],
    /// Height and width of the output.
    pub(crate) output: [usize; 2],
}

impl Window {
    /// Reads `strides`, `dilations`, `pads`, `auto_pad` and `ceil_mode` of a node whose spatial input and kernel are given.
    ///
    /// # Errors
    /// Other than one or two spatial dimensions, attributes of the wrong length or sign, or a window that does not fit.
    pub(crate) fn new(args: &Args, spatial: &[usize], kernel: &[usize]) -> Result<Self> {
        let rank = spatial.len();
        if !(1..=2).contains(&rank) || kernel.len() != rank {
            return Err(Error::bad_input(format!("a kernel of shape {kernel:?} cannot slide over an input of shape {spatial:?}"))
                .hint("one and two spatial dimensions are supported"));
        }
        let list = |name: &str, n: usize, default: usize, least: i64| -> Result<Vec<usize>> {
            let Some(values) = args.node.ints(name) else { return Ok(vec![default; n]) };
            match values.iter().all(|&v| (least..=1 << 30).contains(&v)) && values.len() == n {
                true => Ok(values.iter().map(|&v| v as usize).collect()),
                false => Err(Error::bad_input(format!("`{name}` is {values:?}, expected {n} numbers of at least {least}"))),
            }
        };
        let (strides, dilations, pads) = (list("strides", rank, 1, 1)?, list("dilations", rank, 1, 1)?, list("pads", 2 * rank, 0, 0)?);
        let auto_pad = args.node.string("auto_pad").unwrap_or("NOTSET");
        let ceil = args.int_or("ceil_mode", 0) != 0;
        // A one-dimensional window becomes a row.
        let mut window =
            Window { input: [1; 2], kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad_begin: [0; 2], pad_end: [0; 2], output: [1; 2] };
        for i in 0..rank {
            let axis = Axis { input: spatial[i], stride: strides[i], extent: extent(kernel[i], dilations[i])?, ceil };
            let (begin, end, output) = axis.place(auto_pad, pads[i], pads[i + rank])?;
            let at = 2 - rank + i;
            (window.input[at], window.kernel[at], window.stride[at]) = (spatial[i], kernel[i], strides[i]);
            (window.dilation[at], window.pad_begin[at], window.pad_end[at], window.output[at]) = (dilations[i], begin, end, output);
        }
        count(&window.input)?;
        count(&window.output)?;
        count(&window.kernel)?;
        Ok(window)
    }

    /// Height and width of the kernel.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        self.output
    }

    /// Elements of one input plane.
    pub fn input_len(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Elements of one output plane.
    pub fn output_len(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Elements of the kernel.
    pub fn kernel_len(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// True when every output sees exactly the input at its own place: a 1×1 kernel, step 1, no padding.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.input == self.output
    }

    /// Outputs along `axis` (0 rows, 1 columns) for which kernel element `k` lies inside the input: `begin..end`.
    pub(crate) fn inside(&self, axis: usize, k: usize) -> std::ops::Range<usize> {
        let (offset, pad, stride) = (k * self.dilation[axis], self.pad_begin[axis], self.stride[axis]);
        let begin = pad.saturating_sub(offset).div_ceil(stride);
        let end = (self.input[axis] + pad).saturating_sub(offset).div_ceil(stride).min(self.output[axis]);
        begin.min(end)..end
    }

    /// The input that kernel element `k` sees at `output`; only inside the range of [`Window::inside`].
    pub(crate) fn source(&self, axis: usize, k: usize, output: usize) -> usize {
        output * self.stride[axis] + k * self.dilation[axis] - self.pad_begin[axis]
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
            other => Err(Error::bad_input(format!("`auto_pad` is `{other}`, which ONNX does not define"))),
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
