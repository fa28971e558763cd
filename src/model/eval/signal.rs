//! Signals: windows, mel weights, and Fourier transforms by their definition.

use super::args::{Args, integers, scalar};
use super::cast::{cast, dtype};
use super::layout::{around, axis, count, dimension};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};
use std::f64::consts::TAU;

/// Products that one transform takes at most.
const MAX_STEPS: usize = 1 << 33;

/// `HannWindow`, `HammingWindow`, `BlackmanWindow`: sums of cosines.
pub(super) fn window(args: &Args) -> Result<Tensor> {
    let n = count(&[dimension(scalar(&integers(args.tensor(0)?)?, "the size")?)?])?;
    let [a, b, c] = match args.node.op_type() {
        "HannWindow" => [0.5, 0.5, 0.0],
        "HammingWindow" => [25.0 / 46.0, 21.0 / 46.0, 0.0],
        _ => [0.42, 0.5, 0.08],
    };
    let period = if args.int_or("periodic", 1) != 0 { n } else { n.saturating_sub(1).max(1) } as f64;
    let value = |i: usize| {
        let turn = TAU * i as f64 / period;
        a - b * turn.cos() + c * (2.0 * turn).cos()
    };
    cast(&Tensor::new(vec![n], Data::F64((0..n).map(value).collect()))?, dtype(args.int_or("output_datatype", 1))?)
}

/// `MelWeightMatrix`: triangles that are equally spaced on the mel scale, `2595 · log10(1 + f / 700)`, over the bins of a spectrum.
pub(super) fn mel_weights(args: &Args) -> Result<Tensor> {
    let whole = |i: usize| integers(args.tensor(i)?).and_then(|v| scalar(&v, "a parameter")).and_then(dimension);
    let real = |i: usize| cast(args.tensor(i)?, DType::F32).and_then(|t| scalar(t.as_f32()?, "a frequency")).map(f64::from);
    let (bands, length, rate) = (whole(0)?, whole(1)?, whole(2)?.max(1) as f64);
    let bins = length / 2 + 1;
    let shape = vec![bins, bands];
    let mut out = vec![0.0; count(&shape)?];
    let mel = |f: f64| 2595.0 * (1.0 + f / 700.0).log10();
    let (low, high) = (mel(real(3)?), mel(real(4)?));
    let step = (high - low) / (bands + 2) as f64;
    let frequency = |i: usize| 700.0 * (10f64.powf((low + i as f64 * step) / 2595.0) - 1.0);
    let bin = |i: usize| ((length as f64 + 1.0) * frequency(i) / rate).floor().clamp(0.0, bins as f64 - 1.0) as usize;
    for band in 0..bands {
        let (start, centre, end) = (bin(band), bin(band + 1), bin(band + 2));
        for j in start..=centre {
            out[j * bands + band] = if centre > start { (j - start) as f64 / (centre - start) as f64 } else { 1.0 };
        }
        for j in centre..end {
            out[j * bands + band] = (end - j) as f64 / (end - centre) as f64;
        }
    }
    cast(&Tensor::new(shape, Data::F64(out))?, dtype(args.int_or("output_datatype", 1))?)
}

/// A Fourier transform of one length, with its roots of unity; not fast, but exact.
struct Transform {
    /// `(cos, ∓sin)` of `2πk/n`.
    roots: Vec<(f64, f64)>,
    inverse: bool,
}

impl Transform {
    fn new(n: usize, inverse: bool) -> Self {
        let root = |k: usize| {
            let turn = TAU * k as f64 / n as f64;
            (turn.cos(), if inverse { turn.sin() } else { -turn.sin() })
        };
        Transform { roots: (0..n).map(root).collect(), inverse }
    }

    /// Value `k` of the transform of `signal`, which is as long as the transform or shorter.
    fn value(&self, signal: impl Iterator<Item = (f64, f64)>, k: usize) -> (f64, f64) {
        let n = self.roots.len();
        let turned = signal.enumerate().map(|(j, (re, im))| {
            let (c, s) = self.roots[j * k % n];
            (re * c - im * s, re * s + im * c)
        });
        let (re, im) = turned.fold((0.0, 0.0), |(a, b), (re, im)| (a + re, b + im));
        let scale = if self.inverse { 1.0 / n as f64 } else { 1.0 };
        (re * scale, im * scale)
    }
}

fn within(steps: Option<usize>) -> Result<()> {
    match steps {
        Some(n) if n <= MAX_STEPS => Ok(()),
        _ => Err(Error::bad_input("the Fourier transform is too long")),
    }
}

/// `DFT` along an axis of a real (`[…, 1]`) or complex (`[…, 2]`) signal, cut or filled with zeros to a length; the inverse of a
/// one-sided transform is real.
pub(super) fn dft(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let wrong = || Error::bad_input(format!("{:?} is no signal: its last axis must hold one or two parts", x.shape()));
    let Some((&parts @ (1 | 2), signal)) = x.shape().split_last() else { return Err(wrong()) };
    let named = match args.optional(2) {
        Some(a) => scalar(&integers(a)?, "the axis")?,
        None => args.int_or("axis", if args.opset < 20 { 1 } else { -2 }),
    };
    let at = axis(named, x.shape().len())?;
    if at >= signal.len() {
        return Err(wrong());
    }
    let (inverse, onesided) = (args.int_or("inverse", 0) != 0, args.int_or("onesided", 0) != 0);
    let (outer, given, inner) = around(signal, at);
    let n = match args.optional(1) {
        Some(n) => dimension(scalar(&integers(n)?, "the length")?)?,
        None if inverse && onesided => 2 * given.saturating_sub(1),
        None => given,
    };
    let kept = if onesided && !inverse { n / 2 + 1 } else { n };
    let real = inverse && onesided;
    let mut shape = x.shape().to_vec();
    shape[at] = kept;
    shape[signal.len()] = if real { 1 } else { 2 };
    let total = count(&shape)?;
    // No matter how many: the roots of unity take memory for each element of the axis.
    within(count(&[n])?.checked_mul(total.max(1)))?;
    let Data::F64(v) = cast(x, DType::F64)?.into_data() else { return Err(wrong()) };
    let element = |o: usize, j: usize, i: usize| {
        let p = ((o * given + j) * inner + i) * parts;
        (v[p], if parts == 2 { v[p + 1] } else { 0.0 })
    };
    let transform = Transform::new(n, inverse);
    let mut out = Vec::with_capacity(total);
    for (o, k, i) in (0..outer * kept * inner).map(|f| (f / (kept * inner), f / inner % kept, f % inner)) {
        // The missing half of a one-sided spectrum is the conjugate of the half that is there.
        let mirrored = |j: usize| match real && j > n / 2 {
            true if n - j < given => element(o, n - j, i),
            false if j < given => element(o, j, i),
            _ => (0.0, 0.0),
        };
        let conjugate = |j: usize| if real && j > n / 2 { (mirrored(j).0, -mirrored(j).1) } else { mirrored(j) };
        let (re, im) = transform.value((0..n).map(conjugate), k);
        out.push(re);
        if !real {
            out.push(im);
        }
    }
    cast(&Tensor::new(shape, Data::F64(out))?, x.dtype())
}

/// `STFT`: the transforms of windowed frames of a signal `[batch, length, parts]`, every `frame_step` elements.
pub(super) fn stft(args: &Args) -> Result<Tensor> {
    let (x, step) = (args.tensor(0)?, scalar(&integers(args.tensor(1)?)?, "the step")?);
    let (&[batch, length, parts @ (1 | 2)], Some(step)) = (x.shape(), usize::try_from(step).ok().filter(|&s| s > 0)) else {
        return Err(Error::bad_input(format!("{:?} is no signal, or the step {step} is not positive", x.shape())));
    };
    let window = args.optional(2).map(|w| cast(w, DType::F64)).transpose()?.map(Tensor::into_data);
    let n = match (args.optional(3), &window) {
        (Some(n), _) => dimension(scalar(&integers(n)?, "the length")?)?,
        (None, Some(w)) => w.len(),
        (None, None) => return Err(Error::bad_input("neither a window nor the length of a frame is given")),
    };
    let window = match window {
        Some(Data::F64(w)) => w,
        _ => vec![1.0; count(&[n])?],
    };
    if n == 0 || n > length || window.len() != n {
        return Err(Error::bad_input(format!("frames of {n} do not fit a signal of {length} or a window of {}", window.len())));
    }
    let frames = (length - n) / step + 1;
    let bins = if args.int_or("onesided", 1) != 0 { n / 2 + 1 } else { n };
    let shape = vec![batch, frames, bins, 2];
    let total = count(&shape)?;
    within(n.checked_mul(total))?;
    let Data::F64(v) = cast(x, DType::F64)?.into_data() else { return Err(Error::bad_input("expected floats")) };
    let transform = Transform::new(n, false);
    let mut out = Vec::with_capacity(total);
    for f in 0..batch * frames * bins {
        let start = f / (frames * bins) * length + f / bins % frames * step;
        let frame = window.iter().enumerate().map(|(j, w)| {
            let p = (start + j) * parts;
            (v[p] * w, if parts == 2 { v[p + 1] * w } else { 0.0 })
        });
        let (re, im) = transform.value(frame, f % bins);
        out.extend([re, im]);
    }
    cast(&Tensor::new(shape, Data::F64(out))?, x.dtype())
}
