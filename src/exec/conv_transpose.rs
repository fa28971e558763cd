//! `ConvTranspose`: the transpose of a convolution, which is also the gradient of one with respect to its input.

use super::columns;
use super::window::{AXES, Steps, Window, check_rank, extent, list, unknown_padding};
use crate::model::eval::{Args, count};
use crate::onnx::Attributes;
use crate::sys::gemm::{Matrix, gemm};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// `[N, C, …]` with weights `[C, M / group, …]` to `[N, M, …]`: each input spreads the kernel over the output around its place. Output
/// length: `stride·(in − 1) + output_padding + (kernel − 1)·dilation + 1 − pads` (ONNX, ConvTranspose).
///
/// # Errors
/// Shapes or attributes do not fit.
pub(super) fn conv_transpose(args: &Args) -> Result<Tensor> {
    let (x, w) = (args.tensor(0)?, args.tensor(1)?);
    let misfit = || Error::bad_input(format!("weights of shape {:?} do not fit an input of shape {:?}", w.shape(), x.shape()));
    let ([n, c, spatial @ ..], [c2, each, kernel @ ..]) = (x.shape(), w.shape()) else { return Err(misfit()) };
    let groups = usize::try_from(args.int_or("group", 1)).unwrap_or(0);
    let rank = check_rank(spatial, kernel)?;
    if c != c2 || groups == 0 || c % groups != 0 {
        return Err(misfit());
    }
    let window = window(args, rank, spatial, kernel)?;
    let m = each.checked_mul(groups).ok_or_else(misfit)?;
    let shape = [&[*n, m][..], window.input()].concat();
    let total = count(&shape)?;
    let bias = args.optional(2).map(Tensor::as_f32).transpose()?;
    if bias.is_some_and(|b| b.len() != m) {
        return Err(Error::bad_input(format!("the bias does not have one value for each of {m} filters")));
    }
    let (image, weights) = (x.as_f32()?, w.as_f32()?);
    let (plane, size) = (window.output_len(), window.input_len());
    let (inner, rows) = (c / groups, each * window.kernel_len());
    count(&[rows, plane])?;
    let mut out = vec![0.0f32; total];
    let mut columns = vec![0.0; rows * plane];
    for (sample, group) in (0..*n).flat_map(|s| (0..groups).map(move |g| (s, g))) {
        let a = Matrix::new(&weights[group * inner * rows..], inner, rows)?.t();
        let b = Matrix::new(&image[(sample * c + group * inner) * plane..], inner, plane)?;
        gemm(1.0, a, b, 0.0, &mut columns)?;
        columns::add(&columns, &window, &mut out[(sample * m + group * each) * size..][..each * size]);
    }
    if let Some(bias) = bias {
        for (i, target) in out.chunks_exact_mut(size.max(1)).enumerate() {
            target.iter_mut().for_each(|o| *o += bias[i % m]);
        }
    }
    Tensor::f32(shape, out)
}

/// The window of the convolution that is transposed: it slides over the output, and its places are the input.
fn window(args: &Args, rank: usize, input: &[usize], kernel: &[usize]) -> Result<Window> {
    let (steps, extra) = (Steps::of(args, rank)?, list(args, "output_padding", rank, 0, 0)?);
    let wanted = args.node.ints("output_shape").map(|_| list(args, "output_shape", rank, 0, 1)).transpose()?;
    let mut window = Window::unit(rank);
    for i in 0..rank {
        let (stride, dilation) = (steps.strides[i], steps.dilations[i]);
        let full = (input[i].max(1) - 1)
            .checked_mul(stride)
            .and_then(|f| f.checked_add(extent(kernel[i], dilation).ok()?))
            .and_then(|f| f.checked_add(extra[i]))
            .ok_or_else(|| Error::bad_input("the output is too large, or the kernel empty"))?;
        let length = match (&wanted, steps.auto_pad) {
            (Some(wanted), _) => Some(wanted[i]),
            (None, "SAME_UPPER" | "SAME_LOWER") => input[i].checked_mul(stride),
            (None, _) => None,
        };
        let (before, length) = match (length, steps.auto_pad) {
            // The padding follows from the length; the odd one goes to the end for SAME_UPPER, else to the beginning.
            (Some(length), auto) => {
                let total = full.saturating_sub(length);
                (if auto == "SAME_UPPER" { total / 2 } else { total - total / 2 }, length)
            }
            (None, "VALID") => (0, full),
            (None, "" | "NOTSET") => {
                let (begin, end) = (steps.pads[i], steps.pads[i + rank]);
                (begin, full.checked_sub(begin + end).ok_or_else(|| Error::bad_input("the padding is larger than the output"))?)
            }
            (None, other) => return Err(unknown_padding(other)),
        };
        let at = AXES - rank + i;
        (window.input[at], window.kernel[at], window.stride[at]) = (length, kernel[i], stride);
        (window.dilation[at], window.pad_begin[at], window.output[at]) = (dilation, before, input[i]);
    }
    window.checked()
}
