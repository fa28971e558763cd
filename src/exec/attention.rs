//! `Attention` (operator set 23 on).

use super::softmax;
use crate::model::eval::{Args, cast, count, integers, join, permute};
use crate::onnx::Attributes;
use crate::sys::gemm::{Matrix, gemm};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// Scaled dot-product attention: `softmax(softcap(Q·Kᵀ·scale) + mask)·V` for each head, with grouped heads, causal and window masks, and
/// caches. A query that may see no key gives zeros.
///
/// Outputs: `Y`, the keys and values with those of the cache before them, and the scores at the stage that `qk_matmul_output_mode` says.
///
/// # Errors
/// Shapes do not fit each other, the heads or the mask.
pub(super) fn attention(args: &Args) -> Result<Vec<Tensor>> {
    let flat = args.tensor(0)?.shape().len() == 3;
    let (q, k, v) = (heads(args, 0, "q_num_heads")?, heads(args, 1, "kv_num_heads")?, heads(args, 2, "kv_num_heads")?);
    let (k, v) = (cached(args.optional(4), k)?, cached(args.optional(5), v)?);
    let (&[batch, q_heads, rows, size], &[b, kv_heads, keys, k_size], &[c, v_heads, values, v_size]) = (q.shape(), k.shape(), v.shape())
    else {
        return Err(Error::bad_input("queries, keys and values must have rank 3 or 4"));
    };
    if (b, c, k_size, v_heads, values) != (batch, batch, size, kv_heads, keys) || kv_heads == 0 || q_heads % kv_heads != 0 {
        return Err(Error::bad_input(format!("queries {:?}, keys {:?} and values {:?} do not fit", q.shape(), k.shape(), v.shape())));
    }
    let scale = args.node.float("scale").unwrap_or(1.0 / (size as f32).sqrt());
    let (softcap, mode) = (args.float_or("softcap", 0.0), args.int_or("qk_matmul_output_mode", 0));
    let mask = Mask::new(args, [batch, q_heads, rows, keys], args.optional(4).map_or(0, |t| t.shape()[2]))?;
    let mut out = vec![0.0; count(&[batch, q_heads, rows, v_size])?];
    let wants_scores = args.node.output.get(3).is_some_and(|o| !o.is_empty());
    let mut seen = Vec::with_capacity(if wants_scores { count(&[batch, q_heads, rows, keys])? } else { 0 });
    let mut scores = vec![0.0; count(&[rows, keys])?];
    let (queries, keyed, valued) = (q.as_f32()?, k.as_f32()?, v.as_f32()?);
    for (b, h) in (0..batch).flat_map(|b| (0..q_heads).map(move |h| (b, h))) {
        let (own, shared) = (b * q_heads + h, b * kv_heads + h / (q_heads / kv_heads));
        let query = Matrix::new(&queries[own * rows * size..], rows, size)?;
        gemm(scale, query, Matrix::new(&keyed[shared * keys * size..], keys, size)?.t(), 0.0, &mut scores)?;
        let mut keep = |stage: i64, scores: &[f32]| {
            if wants_scores && stage == mode {
                seen.extend_from_slice(scores);
            }
        };
        keep(0, &scores);
        if softcap > 0.0 {
            scores.iter_mut().for_each(|s| *s = softcap * (*s / softcap).tanh());
        }
        keep(1, &scores);
        if keys > 0 {
            scores.chunks_exact_mut(keys).enumerate().for_each(|(i, row)| mask.apply([b, h, i], row));
            keep(2, &scores);
            for row in scores.chunks_exact_mut(keys) {
                match row.iter().all(|&s| s == f32::NEG_INFINITY) {
                    true => row.fill(0.0),
                    false => softmax::row(row, false),
                }
            }
            keep(3, &scores);
        }
        let target = &mut out[own * rows * v_size..][..rows * v_size];
        gemm(1.0, Matrix::new(&scores, rows, keys)?, Matrix::new(&valued[shared * keys * v_size..], keys, v_size)?, 0.0, target)?;
    }
    let mut y = Tensor::f32([batch, q_heads, rows, v_size], out)?;
    if flat {
        y = permute(&y, &[0, 2, 1, 3])?.reshaped(vec![batch, rows, q_heads * v_size])?;
    }
    let mut outputs = vec![y, k, v];
    if wants_scores {
        outputs.push(Tensor::f32([batch, q_heads, rows, keys], seen)?);
    }
    Ok(outputs)
}

/// Input `index` as `[batch, heads, length, size]`.
fn heads(args: &Args, index: usize, attribute: &str) -> Result<Tensor> {
    let x = args.tensor(index)?;
    match *x.shape() {
        [batch, length, width] => {
            let heads = usize::try_from(args.int_or(attribute, 0)).ok().filter(|&h| h > 0 && width % h == 0);
            let heads = heads.ok_or_else(|| Error::bad_input(format!("`{attribute}` does not divide a width of {width}")))?;
            permute(&x.clone().reshaped(vec![batch, length, heads, width / heads])?, &[0, 2, 1, 3])
        }
        _ => Ok(x.clone()),
    }
}

/// New keys or values behind those of the cache.
fn cached(past: Option<&Tensor>, new: Tensor) -> Result<Tensor> {
    match past {
        Some(past) if past.shape().len() == 4 => join(&[past, &new], 2),
        Some(past) => Err(Error::bad_input(format!("a cache of shape {:?} does not have rank 4", past.shape()))),
        None => Ok(new),
    }
}

/// What is added to scores: a mask of the caller, and −∞ where a query must not see a key.
struct Mask {
    given: Option<Given>,
    /// Valid keys by sample, where they are told.
    valid: Option<Vec<i64>>,
    causal: bool,
    /// How far before and after its own place a query sees.
    window: [Option<i64>; 2],
    rows: usize,
    past: usize,
}

/// A mask of `columns` keys; keys beyond are masked.
struct Given {
    values: Vec<f32>,
    columns: usize,
    strides: [usize; 3],
}

impl Mask {
    fn new(args: &Args, [batch, heads, rows, keys]: [usize; 4], past: usize) -> Result<Self> {
        let given = args.optional(3).map(|t| Given::new(t, [batch, heads, rows], keys)).transpose()?;
        let valid = args.optional(6).map(integers).transpose()?;
        if let Some(valid) = valid.as_ref().filter(|v| v.len() != batch) {
            return Err(Error::bad_input(format!("{} lengths of valid keys do not fit {batch} samples", valid.len())));
        }
        let window = ["left_window_size", "right_window_size"].map(|name| Some(args.int_or(name, -1)).filter(|&w| w >= 0));
        Ok(Mask { given, valid, causal: args.int_or("is_causal", 0) != 0, window, rows, past })
    }

    /// Masks the scores of one query.
    fn apply(&self, [b, h, i]: [usize; 3], row: &mut [f32]) {
        if let Some(given) = &self.given {
            let start = b * given.strides[0] + h * given.strides[1] + i * given.strides[2];
            row.iter_mut().zip(&given.values[start..][..given.columns]).for_each(|(s, m)| *s += m);
            row[given.columns..].fill(f32::NEG_INFINITY);
        }
        let valid = self.valid.as_ref().map(|v| v[b]);
        // The query's place among the keys.
        let offset = valid.map_or(self.past as i64, |n| n.saturating_sub(self.rows as i64));
        let place = offset.saturating_add(i as i64);
        for (j, s) in row.iter_mut().enumerate() {
            let (j, [left, right]) = (j as i64, self.window);
            let hidden = valid.is_some_and(|n| j >= n)
                || (self.causal && j > place)
                || left.is_some_and(|w| place.saturating_sub(j) > w)
                || right.is_some_and(|w| j.saturating_sub(place) > w);
            if hidden {
                *s = f32::NEG_INFINITY;
            }
        }
    }
}

impl Given {
    fn new(t: &Tensor, places: [usize; 3], keys: usize) -> Result<Self> {
        let misfit = || Error::bad_input(format!("a mask of shape {:?} does not fit {places:?} queries of {keys} keys", t.shape()));
        let values = match t.data() {
            Data::Bool(v) => v.iter().map(|&b| if b { 0.0 } else { f32::NEG_INFINITY }).collect(),
            _ => cast(t, DType::F32)?.as_f32()?.to_vec(),
        };
        let [outer @ .., columns] = t.shape() else { return Err(misfit()) };
        if *columns > keys || outer.len() > 3 {
            return Err(misfit());
        }
        let (mut strides, mut step) = ([0; 3], *columns);
        for (axis, &n) in (3 - outer.len()..3).zip(outer).rev() {
            if n != 1 && n != places[axis] {
                return Err(misfit());
            }
            strides[axis] = if n == 1 { 0 } else { step };
            step *= n;
        }
        Ok(Given { values, columns: *columns, strides })
    }
}
