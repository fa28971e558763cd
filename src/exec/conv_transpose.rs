//! `ConvTranspose`: the transpose of a convolution, over any number of axes.

use super::volume::{advance, list};
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
    let rank = spatial.len();
    if rank == 0 || kernel.len() != rank || c != c2 || groups == 0 || c % groups != 0 || kernel.contains(&0) {
        return Err(misfit());
    }
    let (stride, dilation) = (list(args, "strides", rank, 1, 1)?, list(args, "dilations", rank, 1, 1)?);
    let geometry = geometry(args, spatial, kernel, &stride, &dilation)?;
    let m = each.checked_mul(groups).ok_or_else(misfit)?;
    let shape = [&[*n, m][..], &geometry.output].concat();
    let total = count(&shape)?;
    let bias = args.optional(2).map(Tensor::as_f32).transpose()?;
    if bias.is_some_and(|b| b.len() != m) {
        return Err(Error::bad_input(format!("the bias does not have one value for each of {m} filters")));
    }
    let (image, weights) = (x.as_f32()?, w.as_f32()?);
    let (plane, taps): (usize, usize) = (spatial.iter().product(), kernel.iter().product());
    let size: usize = geometry.output.iter().product();
    let (inner, rows) = (c / groups, each * taps);
    count(&[rows, plane])?;
    let mut out = vec![0.0f32; total];
    let mut columns = vec![0.0; rows * plane];
    let spread = geometry.places(spatial, kernel, &stride, &dilation);
    for (sample, group) in (0..*n).flat_map(|s| (0..groups).map(move |g| (s, g))) {
        let a = Matrix::new(&weights[group * inner * rows..], inner, rows)?.t();
        let b = Matrix::new(&image[(sample * c + group * inner) * plane..], inner, plane)?;
        gemm(1.0, a, b, 0.0, &mut columns)?;
        for filter in 0..*each {
            let target = &mut out[(sample * m + group * each + filter) * size..][..size];
            for tap in 0..taps {
                let row = &columns[(filter * taps + tap) * plane..][..plane];
                for (&v, place) in row.iter().zip(&spread[tap * plane..]) {
                    if let Some(at) = place {
                        target[*at as usize] += v;
                    }
                }
            }
        }
    }
    if let Some(bias) = bias {
        for (i, target) in out.chunks_exact_mut(size.max(1)).enumerate() {
            target.iter_mut().for_each(|o| *o += bias[i % m]);
        }
    }
    Tensor::f32(shape, out)
}

struct Geometry {
    begin: Vec<usize>,
    output: Vec<usize>,
}

fn geometry(args: &Args, input: &[usize], kernel: &[usize], stride: &[usize], dilation: &[usize]) -> Result<Geometry> {
    let rank = input.len();
    let (pads, extra) = (list(args, "pads", 2 * rank, 0, 0)?, list(args, "output_padding", rank, 0, 0)?);
    let auto = args.node.string("auto_pad").unwrap_or("NOTSET");
    let wanted = args.node.ints("output_shape").map(|_| list(args, "output_shape", rank, 0, 1)).transpose()?;
    let (mut begin, mut output) = (vec![], vec![]);
    for i in 0..rank {
        let full = (input[i].max(1) - 1)
            .checked_mul(stride[i])
            .and_then(|f| f.checked_add(super::window::extent(kernel[i], dilation[i]).ok()?))
            .and_then(|f| f.checked_add(extra[i]))
            .ok_or_else(|| Error::bad_input("the output is too large"))?;
        let length = match &wanted {
            Some(wanted) => Some(wanted[i]),
            None if auto.starts_with("SAME") => input[i].checked_mul(stride[i]),
            None => None,
        };
        let (before, length) = match length {
            // The padding follows from the length; the odd one goes to the end for SAME_UPPER, else to the beginning.
            Some(length) => {
                let total = full.saturating_sub(length);
                (if auto == "SAME_UPPER" { total / 2 } else { total - total / 2 }, length)
            }
            None if auto == "VALID" => (0, full),
            None => (
                pads[i],
                full.checked_sub(pads[i] + pads[i + rank]).ok_or_else(|| Error::bad_input("the padding is larger than the output"))?,
            ),
        };
        begin.push(before);
        output.push(length);
    }
    count(&output)?;
    Ok(Geometry { begin, output })
}

impl Geometry {
    /// For each element of the kernel and each input place the flat output place, or `None` where it is cut off.
    fn places(&self, input: &[usize], kernel: &[usize], stride: &[usize], dilation: &[usize]) -> Vec<Option<u32>> {
        let mut places = Vec::new();
        let mut tap = vec![0; kernel.len()];
        for _ in 0..kernel.iter().product::<usize>() {
            let mut at = vec![0; input.len()];
            for _ in 0..input.iter().product::<usize>() {
                let flat = (0..input.len()).try_fold(0usize, |flat, i| {
                    let place = (at[i] * stride[i] + tap[i] * dilation[i]).checked_sub(self.begin[i])?;
                    (place < self.output[i]).then_some(flat * self.output[i] + place)
                });
                places.push(flat.map(|f| f as u32));
                advance(&mut at, input);
            }
            advance(&mut tap, kernel);
        }
        places
    }
}
