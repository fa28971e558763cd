//! Depthwise convolution: one input channel for each filter, so there is no matrix product to make of it.
//!
//! The plane is copied once into a frame of zeros. Then kernel element `(i, j)` adds the frame, shifted by `i` rows and `j` columns, to
//! the result: with row step 1 that is a single loop over all rows at once, edges included. What falls between the rows of the result,
//! or between columns that a stride skips, is computed and left behind, which costs less than short loops.

use super::conv::ConvSpec;
use super::window::Window;
use crate::Result;
use crate::model::eval::count;

/// Working memory for planes of one geometry.
pub(super) struct Depthwise<'a> {
    window: &'a Window,
    /// Filters for each input channel.
    filters: usize,
    /// The input plane with its padding.
    frame: Vec<f32>,
    /// Length of the frame's rows.
    pitch: usize,
    /// The result before unwanted columns are left out.
    sums: Vec<f32>,
}

impl<'a> Depthwise<'a> {
    /// # Errors
    /// The padded plane is too large.
    pub(super) fn new(spec: &'a ConvSpec) -> Result<Self> {
        let window = &spec.window;
        let [height, pitch] =
            [0, 1].map(|a| (window.output[a].max(1) - 1) * window.stride[a] + (window.kernel[a] - 1) * window.dilation[a] + 1);
        let frame = vec![0.0; count(&[height, pitch])?];
        let sums = vec![0.0; count(&[window.output[0], pitch])?];
        Ok(Depthwise { window, filters: spec.out_channels / spec.groups, frame, pitch, sums })
    }

    /// Adds one sample's convolution to `result`: `sample` is `[C, H, W]`, `weights` `[O, 1, KH, KW]`, `result` `[O, OH, OW]`.
    pub(super) fn add(&mut self, sample: &[f32], weights: &[f32], result: &mut [f32]) {
        let outputs = result.chunks_exact_mut(self.window.output_len()).zip(weights.chunks_exact(self.window.kernel_len()));
        for (o, (out, filter)) in outputs.enumerate() {
            if o % self.filters == 0 {
                self.load(&sample[o / self.filters * self.window.input_len()..][..self.window.input_len()]);
            }
            self.convolve(filter, out);
        }
    }

    /// Copies a plane into the frame; the padding around it stays 0.
    fn load(&mut self, plane: &[f32]) {
        let [top, left] = self.window.pad_begin;
        let width = self.window.input[1];
        let Some(length) = self.pitch.checked_sub(left) else { return };
        let length = length.min(width);
        for (row, line) in self.frame.chunks_exact_mut(self.pitch).skip(top).zip(plane.chunks_exact(width.max(1))) {
            row[left..left + length].copy_from_slice(&line[..length]);
        }
    }

    fn convolve(&mut self, filter: &[f32], out: &mut [f32]) {
        let Window { kernel: [_, kw], stride: [down, across], dilation, output: [oh, ow], .. } = *self.window;
        let reach = (ow - 1) * across + 1;
        // Rows that follow each other in the frame as in the result are one long row.
        let (rows, length) = if down == 1 { (1, (oh - 1) * self.pitch + reach) } else { (oh, reach) };
        self.sums.fill(0.0);
        for (k, &weight) in filter.iter().enumerate() {
            let shift = k / kw * dilation[0] * self.pitch + k % kw * dilation[1];
            for y in 0..rows {
                let from = &self.frame[y * down * self.pitch + shift..][..length];
                let sums = &mut self.sums[y * self.pitch..][..length];
                sums.iter_mut().zip(from).for_each(|(s, &v)| *s += weight * v);
            }
        }
        for (out, sums) in out.chunks_exact_mut(ow).zip(self.sums.chunks_exact(self.pitch)) {
            match across {
                1 => out.iter_mut().zip(sums).for_each(|(o, &s)| *o += s),
                _ => out.iter_mut().zip(sums.iter().step_by(across)).for_each(|(o, &s)| *o += s),
            }
        }
    }
}
