//! `RotaryEmbedding` and `SwiGLU`: the elementwise parts of transformers.

use super::args::{Args, integers};
use super::binary::type_mismatch;
use super::layout::dimension;
use super::types::{Number, numbers, wrap2};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// `RotaryEmbedding` (Su et al., RoFormer, 2021): pairs of features turned by angles that depend on the position. The input is
/// `[batch, heads, time, size]`, or `[batch, time, heads · size]` with `num_heads`; a pair is two halves apart, or neighbours.
pub(super) fn embed(args: &Args) -> Result<Tensor> {
    let (x, cos, sin) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let wrong = || Error::bad_input(format!("angles of shape {:?} do not fit an input of shape {:?}", cos.shape(), x.shape()));
    let heads = dimension(args.int_or("num_heads", 0))?;
    let (batch, time, heads, size, heads_first) = match *x.shape() {
        [b, h, t, s] => (b, t, h, s, true),
        [b, t, hidden] if heads > 0 && hidden % heads == 0 => (b, t, heads, hidden / heads, false),
        _ => return Err(wrong()),
    };
    let turned = match dimension(args.int_or("rotary_embedding_dim", 0))? {
        0 => size,
        some => some,
    };
    let half = turned / 2;
    if turned > size || turned % 2 != 0 || sin.shape() != cos.shape() || cos.shape().last() != Some(&half) {
        return Err(wrong());
    }
    // The row of angles of each batch and time.
    let rows = match args.optional(3) {
        Some(ids) => integers(ids)?.into_iter().map(dimension).collect::<Result<Vec<_>>>()?,
        None => (0..batch * time).collect(),
    };
    let known = cos.shape().iter().rev().skip(1).product::<usize>();
    if rows.len() != batch * time || rows.iter().any(|&r| r >= known) {
        return Err(wrong());
    }
    let interleaved = args.int_or("interleaved", 0) != 0;
    let (x, cos, sin) = (x, cos.as_f32()?, sin.as_f32()?);
    let mut out = x.as_f32()?.to_vec();
    for (i, vector) in out.chunks_exact_mut(size.max(1)).enumerate() {
        let (b, t) = if heads_first { (i / (heads * time), i % time) } else { (i / (time * heads), i / heads % time) };
        let angles = rows[b * time + t] * half;
        for k in 0..half {
            let (p, q) = if interleaved { (2 * k, 2 * k + 1) } else { (k, k + half) };
            let (c, s, u, v) = (cos[angles + k], sin[angles + k], vector[p], vector[q]);
            (vector[p], vector[q]) = (c * u - s * v, s * u + c * v);
        }
    }
    Tensor::f32(x.shape(), out)
}

/// `SwiGLU`: `a · sigmoid(alpha · a) · b`, without broadcasting.
pub(super) fn swiglu(args: &Args) -> Result<Tensor> {
    fn run<T: Number>(a: &[T], b: &[T], alpha: f64) -> Vec<T> {
        let gate = |a: f64| a / (1.0 + (-alpha * a).exp());
        a.iter().zip(b).map(|(&a, &b)| T::from_f64(gate(a.to_f64()) * b.to_f64())).collect()
    }
    let (a, b) = (args.tensor(0)?, args.tensor(1)?);
    if a.shape() != b.shape() {
        return Err(Error::bad_input(format!("the halves have different shapes, {:?} and {:?}", a.shape(), b.shape())));
    }
    let alpha = f64::from(args.float_or("alpha", 1.0));
    let data = numbers!(wrap2!(a.data(), b.data(), v, w => run(v, w, alpha)));
    Tensor::new(a.shape().to_vec(), data.ok_or_else(|| type_mismatch(a, b))?)
}
