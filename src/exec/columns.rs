//! Columns: what a convolution sees at each place of its output, as a matrix.
//!
//! For one sample, the columns are the row-major matrix `[C·KD·KH·KW, OD·OH·OW]`: row `(c, kd, kh, kw)`, column `(od, oh, ow)`. With
//! the weights as `[O, C·KD·KH·KW]` (their layout in ONNX) the product is the output `[O, OD·OH·OW]` in place. [`fill`] and [`add`] are
//! adjoint to each other: one makes columns of planes, the other sums columns into the planes that they came from, which is what
//! transposed convolutions and gradients with respect to inputs need. For least squares over samples, `H += columns · columnsᵀ` is one
//! call of [`gemm`](crate::sys::gemm::gemm) with [`Matrix::t`](crate::sys::gemm::Matrix::t).

use super::conv::ConvSpec;
use super::window::Window;
use crate::model::eval::count;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::ops::Range;

/// Columns of some samples and channels: a tensor `[samples, C·KD·KH·KW, OD·OH·OW]` with `C = channels.len()`.
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
        fill(image, window, &mut columns[i * size..][..size], 0.0);
    }
    Tensor::f32(shape, columns)
}

/// Writes the columns of the planes in `image` (`[C, D, H, W]`) into `columns` (`[C·KD·KH·KW, OD·OH·OW]`); padding is `padding`.
pub(crate) fn fill<T: Copy>(image: &[T], window: &Window, columns: &mut [T], padding: T) {
    columns.fill(padding);
    for_each_run(window, image.len(), columns.len(), |column, pixel, length| {
        let out = &mut columns[column..][..length];
        match window.stride[2] {
            1 => out.copy_from_slice(&image[pixel..][..length]),
            step => out.iter_mut().zip(image[pixel..].iter().step_by(step)).for_each(|(o, &v)| *o = v),
        }
    });
}

/// Adds every element of `columns` (`[C·KD·KH·KW, OD·OH·OW]`) to the element of `image` (`[C, D, H, W]`) that it stands for; what
/// stands for padding is dropped.
pub(crate) fn add(columns: &[f32], window: &Window, image: &mut [f32]) {
    for_each_run(window, image.len(), columns.len(), |column, pixel, length| {
        let values = &columns[column..][..length];
        image[pixel..].iter_mut().step_by(window.stride[2]).zip(values).for_each(|(o, &v)| *o += v);
    });
}

/// Calls `f(first column element, first image element, length)` for all rows of columns that lie inside the image.
fn for_each_run(window: &Window, image: usize, columns: usize, mut f: impl FnMut(usize, usize, usize)) {
    let (plane, places) = (window.input_len(), window.output_len());
    if image == 0 || columns == 0 {
        return;
    }
    for (row, (channel, tap)) in (0..image / plane).flat_map(|c| window.taps().map(move |t| (c, t))).enumerate() {
        window.for_each_row(tap, |output, input, length| f(row * places + output, channel * plane + input, length));
    }
}
