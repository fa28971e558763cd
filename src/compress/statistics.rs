//! Second moments of a layer's inputs and targets over the calibration samples.
//!
//! A layer is linear in its columns: x is the patch a convolution sees at one output position (im2col), or one row of a
//! matrix product. With targets t, everything least squares needs is n, Σx, Σt, Σxxᵀ and Σtxᵀ.

use crate::exec::{ConvSpec, Window};
use crate::model::{Layer, LayerKind};
use crate::onnx::{Attributes, pb};
use crate::sys::gemm::{Matrix, gemm};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::ops::Range;

/// Raw sums over rows; `d` inputs and `o` outputs, row-major.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    n: f64,
    sum_x: Vec<f64>,
    xx: Vec<f64>,
    /// Those in which the targets occur.
    pub(super) targets: Targets,
}

/// Relative error of moments that were summed in single precision.
pub(super) const ROUNDING: f64 = 1e-5;

/// Raw sums in which the targets occur.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    d: usize,
    o: usize,
    sum_t: Vec<f64>,
    tx: Vec<f64>,
    tt: Vec<f64>,
}

/// Second moments about the means, or about zero where the means are given as 0: H = Cov(x, x) (d×d), G = Cov(t, x) (o×d), the variance of each target, and the means.
#[derive(Debug, Clone)]
pub(super) struct Centred {
    pub(super) d: usize,
    pub(super) o: usize,
    pub(super) h: Vec<f64>,
    pub(super) g: Vec<f64>,
    pub(super) var_t: Vec<f64>,
    pub(super) mean_x: Vec<f64>,
    pub(super) mean_t: Vec<f64>,
}

impl Moments {
    pub(super) fn new(d: usize, o: usize) -> Self {
        Moments { n: 0.0, sum_x: vec![0.0; d], xx: vec![0.0; d * d], targets: Targets::new(d, o) }
    }

    /// Adds `rows`: x is n×d and t is n×o, row-major. Products are summed in single precision within one call (a few
    /// thousand rows) and in double precision across calls.
    pub(super) fn add(&mut self, x: &[f32], t: &[f32]) -> Result<()> {
        let d = self.targets.d;
        self.targets.add(x, t)?;
        let n = x.len().checked_div(d).unwrap_or(0);
        self.n += n as f64;
        for row in x.chunks_exact(d.max(1)) {
            self.sum_x.iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v));
        }
        add_product(&mut self.xx, x, x, n, d, d)
    }

    /// Adds the sums of another part of the samples.
    pub(super) fn merge(&mut self, other: &Moments) {
        self.n += other.n;
        add(&mut self.sum_x, &other.sum_x);
        add(&mut self.xx, &other.xx);
        self.targets.merge(&other.targets);
    }

    /// Moments about the means; `None` without rows.
    pub(super) fn centred(&self) -> Option<Centred> {
        let mean = |s: &[f64]| s.iter().map(|v| v / self.n).collect();
        self.about(mean(&self.sum_x), mean(&self.targets.sum_t))
    }

    /// Moments about zero, for a layer that has no bias to take up the means; `None` without rows.
    pub(super) fn about_zero(&self) -> Option<Centred> {
        self.about(vec![0.0; self.targets.d], vec![0.0; self.targets.o])
    }

    fn about(&self, mean_x: Vec<f64>, mean_t: Vec<f64>) -> Option<Centred> {
        if self.n < 1.0 {
            return None;
        }
        let Targets { d, o, ref tx, ref tt, .. } = self.targets;
        let n = self.n;
        // Of an input that hardly varies, what is left is the rounding of two large numbers' difference.
        let varies: Vec<bool> = (0..d).map(|i| self.xx[i * d + i] / n > (1.0 + ROUNDING) * mean_x[i] * mean_x[i]).collect();
        let or_zero = |known: bool, value: f64| if known { value } else { 0.0 };
        let h = (0..d * d).map(|i| or_zero(varies[i / d] && varies[i % d], self.xx[i] / n - mean_x[i / d] * mean_x[i % d])).collect();
        let g = (0..o * d).map(|i| or_zero(varies[i % d], tx[i] / n - mean_t[i / d] * mean_x[i % d])).collect();
        let var_t = (0..o).map(|i| (tt[i] / n - mean_t[i] * mean_t[i]).max(0.0)).collect();
        Some(Centred { d, o, h, g, var_t, mean_x, mean_t })
    }
}

impl Targets {
    pub(super) fn new(d: usize, o: usize) -> Self {
        Targets { d, o, sum_t: vec![0.0; o], tx: vec![0.0; o * d], tt: vec![0.0; o] }
    }

    /// As [`Moments::add`].
    pub(super) fn add(&mut self, x: &[f32], t: &[f32]) -> Result<()> {
        let n = x.len().checked_div(self.d).unwrap_or(0);
        if x.len() != n * self.d || t.len() != n * self.o {
            return Err(Error::bad_input("calibration rows and targets differ in number"));
        }
        for row in t.chunks_exact(self.o.max(1)) {
            for ((s, q), &v) in self.sum_t.iter_mut().zip(&mut self.tt).zip(row) {
                *s += f64::from(v);
                *q += f64::from(v) * f64::from(v);
            }
        }
        add_product(&mut self.tx, t, x, n, self.o, self.d)
    }

    /// Adds the sums of another part of the samples.
    pub(super) fn merge(&mut self, other: &Targets) {
        add(&mut self.sum_t, &other.sum_t);
        add(&mut self.tx, &other.tx);
        add(&mut self.tt, &other.tt);
    }
}

fn add(a: &mut [f64], b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(x, y)| *x += y);
}

/// acc (p×q) += aᵀ·b for a n×p and b n×q, row-major.
fn add_product(acc: &mut [f64], a: &[f32], b: &[f32], n: usize, p: usize, q: usize) -> Result<()> {
    let mut product = vec![0.0; p * q];
    gemm(1.0, Matrix::new(a, n, p)?.t(), Matrix::new(b, n, q)?, 0.0, &mut product)?;
    acc.iter_mut().zip(&product).for_each(|(s, &v)| *s += f64::from(v));
    Ok(())
}

/// How a layer's rows are read off its input and output.
#[derive(Debug, Clone)]
pub(super) enum Rows {
    /// A 2-D convolution, or one group of it.
    Conv(Window),
    /// The last axis of the input.
    Dense,
}

impl Rows {
    /// The geometry of a layer; `Err` says why its rows are not read.
    pub(super) fn of(layer: &Layer, node: &pb::NodeProto, input_shape: &[usize], weight_shape: &[usize]) -> Result<Self, String> {
        match layer.kind {
            LayerKind::Gemm if node.int("transA") == Some(1) => Err("its input is transposed".into()),
            LayerKind::Gemm if node.float("alpha").unwrap_or(1.0) != 1.0 || node.float("beta").unwrap_or(1.0) != 1.0 => {
                Err("it scales its product".into())
            }
            LayerKind::Gemm | LayerKind::MatMul if weight_shape.len() == 2 => Ok(Rows::Dense),
            LayerKind::Conv | LayerKind::DepthwiseConv | LayerKind::GroupedConv if weight_shape.len() == 4 && input_shape.len() == 4 => {
                ConvSpec::new(node, input_shape, weight_shape).map(|spec| Rows::Conv(spec.window)).map_err(|e| e.to_string())
            }
            _ => Err("its rank is not handled".into()),
        }
    }

    /// Number of rows one tensor of `shape` gives.
    pub(super) fn count(&self, shape: &[usize]) -> usize {
        match self {
            Rows::Conv(p) => shape[0] * p.output_len(),
            Rows::Dense => shape[..shape.len() - 1].iter().product(),
        }
    }

    /// The inputs of rows `0, step, 2·step, …`, one after the other. `channels` restricts a convolution to these.
    pub(super) fn inputs(&self, x: &Tensor, step: usize, channels: Option<Range<usize>>) -> Result<Vec<f32>> {
        let data = x.as_f32()?;
        let shape = x.shape();
        let rows = (0..self.count(shape)).step_by(step.max(1));
        match self {
            Rows::Dense => {
                let width = shape[shape.len() - 1];
                Ok(rows.flat_map(|r| data[r * width..(r + 1) * width].iter().copied()).collect())
            }
            Rows::Conv(p) => {
                let channels = channels.unwrap_or(0..shape[1]);
                let mut out = Vec::with_capacity(rows.len() * channels.len() * p.kernel_len());
                let plane = p.output_len();
                for r in rows {
                    let (sample, position) = (r / plane, r % plane);
                    gather(p, data, shape[1], sample, p.output_place(position), channels.clone(), &mut out);
                }
                Ok(out)
            }
        }
    }

    /// The outputs of the same rows; `kept` picks and orders channels.
    pub(super) fn targets(&self, t: &Tensor, step: usize, kept: &[usize]) -> Result<Vec<f32>> {
        let data = t.as_f32()?;
        let shape = t.shape();
        let rows = (0..self.count(shape)).step_by(step.max(1));
        let (channels, plane) = match self {
            Rows::Dense => (shape[shape.len() - 1], 1),
            Rows::Conv(p) => (shape[1], p.output_len()),
        };
        let at = |r: usize, c: usize| data[(r / plane * channels + c) * plane + r % plane];
        Ok(rows.flat_map(|r| kept.iter().map(move |&c| at(r, c))).collect())
    }
}

/// Every how many rows one is taken: neighbouring patches overlap, so some 100 rows per unknown carry all there is. The step
/// has no divisor below 11, so that it meets all places of an image, whose sides are products of small numbers.
pub(super) fn row_step(total: usize, d: usize) -> usize {
    let most = (total / (100 * d).clamp(8_192, 131_072)).max(1);
    (1..=most).rev().find(|step| [2, 3, 5, 7].iter().all(|p| step % p != 0)).unwrap_or(1)
}

/// Weights as an o×d matrix in double precision, output channels as rows.
pub(super) fn matrix(w: &Tensor, output_axis: usize) -> Result<Vec<f64>> {
    let data = w.as_f32()?;
    Ok(match (output_axis, w.shape()) {
        (0, _) => data.iter().map(|&v| f64::from(v)).collect(),
        (_, &[d, o]) => (0..o * d).map(|i| f64::from(data[(i % d) * o + i / d])).collect(),
        (_, shape) => return Err(Error::bad_input(format!("weights of shape {shape:?} are not a matrix"))),
    })
}

/// The inverse of [`matrix`].
pub(super) fn tensor_from_matrix(w: &[f64], shape: &[usize], output_axis: usize) -> Result<Tensor> {
    let data = match (output_axis, shape) {
        (0, _) => w.iter().map(|&v| v as f32).collect(),
        (_, &[d, o]) => (0..d * o).map(|i| w[(i % o) * d + i / o] as f32).collect(),
        _ => return Err(Error::bad_input(format!("weights of shape {shape:?} are not a matrix"))),
    };
    Tensor::f32(shape, data)
}

/// Appends the patch that output position `at` of sample `n` sees; padding is zero.
fn gather(w: &Window, x: &[f32], all: usize, n: usize, at: [usize; 3], channels: Range<usize>, out: &mut Vec<f32>) {
    // The input that kernel element `k` sees along `axis`, unless it lies in the padding.
    let source = |axis: usize, k: usize| {
        (at[axis] * w.stride[axis] + k * w.dilation[axis]).checked_sub(w.pad_begin[axis]).filter(|&i| i < w.input[axis])
    };
    for c in channels {
        let plane = &x[(n * all + c) * w.input_len()..][..w.input_len()];
        out.extend(w.taps().map(|[d, h, v]| match (source(0, d), source(1, h), source(2, v)) {
            (Some(d), Some(h), Some(v)) => plane[(d * w.input[1] + h) * w.input[2] + v],
            _ => 0.0,
        }));
    }
}
