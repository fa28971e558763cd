//! `Attention`: softmax(`Q·Kᵀ·scale` + masks)`·V`, with grouped heads, a cache, and masks of all sorts.

use crate::model::eval::{Args, broadcast, broadcast_strides, integers, join, permute};
use crate::onnx::Attributes;
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// What a query may attend to, and how much more or less.
struct Mask<'a> {
    /// Added to the scores; bool is 0 or −∞. Strides over `[batch, head, query]`, and the number of keys it speaks of: others are masked.
    given: Option<(&'a Data, Vec<isize>, usize)>,
    causal: bool,
    /// How far a query may look back and ahead.
    window: [Option<i64>; 2],
    /// For each batch, how many keys are before the first query.
    offsets: Vec<i64>,
    /// For each batch, how many keys are there.
    lengths: Option<Vec<i64>>,
}

impl Mask<'_> {
    /// What is added to the score of a query and a key.
    fn bias(&self, [b, h, i]: [usize; 3], j: usize) -> f32 {
        let ahead = j as i64 - (i as i64).saturating_add(self.offsets[b]);
        let [back, forward] = self.window;
        let hidden = (self.causal && ahead > 0)
            || back.is_some_and(|n| -ahead > n)
            || forward.is_some_and(|n| ahead > n)
            || self.lengths.as_ref().is_some_and(|l| j as i64 >= l[b]);
        match &self.given {
            _ if hidden => f32::NEG_INFINITY,
            None => 0.0,
            Some((_, _, keys)) if j >= *keys => f32::NEG_INFINITY,
            Some((data, steps, _)) => {
                let at = b * steps[0] as usize + h * steps[1] as usize + i * steps[2] as usize + j;
                match data {
                    Data::F32(v) => v[at],
                    Data::Bool(v) if v[at] => 0.0,
                    _ => f32::NEG_INFINITY,
                }
            }
        }
    }
}

/// Runs the node. Inputs are `[batch, heads, time, size]`, or `[batch, time, heads · size]` with the numbers of heads as attributes; the
/// outputs are the result in the same form, the keys and values with those of the cache, and the scores in the form that
/// `qk_matmul_output_mode` names.
pub(super) fn attention(args: &Args) -> Result<Vec<Tensor>> {
    let flat = args.tensor(0)?.shape().len() == 3;
    let q = heads(args.tensor(0)?, args.int_or("q_num_heads", 0))?;
    let [k, v] = [(1, 4), (2, 5)].map(|(new, past)| {
        let new = heads(args.tensor(new)?, args.int_or("kv_num_heads", 0))?;
        args.optional(past).map_or(Ok(new.clone()), |past| join(&[past, &new], 2))
    });
    let (k, v) = (k?, v?);
    let (&[batch, n, queries, size], &[kb, groups, keys, ks], &[vb, vg, vk, width]) = (q.shape(), k.shape(), v.shape()) else {
        return Err(Error::bad_input("queries, keys and values must have 3 or 4 axes"));
    };
    if [kb, vb] != [batch; 2] || vg != groups || vk != keys || ks != size || groups == 0 || n % groups != 0 {
        let shapes = format!("{:?}, keys {:?} and values {:?}", q.shape(), k.shape(), v.shape());
        return Err(Error::bad_input(format!("queries {shapes} do not go together")));
    }
    let mask = mask(args, [batch, n, queries, keys])?;
    let scale = args.node.float("scale").unwrap_or_else(|| (size as f32).sqrt().recip());
    let cap = args.float_or("softcap", 0.0);
    let capped = |x: f32| if cap > 0.0 { cap * (x / cap).tanh() } else { x };
    let mode = args.node.output.get(3).filter(|o| !o.is_empty()).map(|_| args.int_or("qk_matmul_output_mode", 0));
    let (qs, ks, vs) = (q.as_f32()?, k.as_f32()?, v.as_f32()?);
    let mut out = vec![0.0f32; batch * n * queries * width];
    let mut seen = Vec::new();
    let mut bias = vec![0.0f32; keys];
    for (row, place) in (0..batch * n * queries).map(|row| (row, [row / (n * queries), row / queries % n, row % queries])) {
        let [b, h, _] = place;
        let group = (b * groups + h / (n / groups)) * keys;
        let query = &qs[row * size..][..size];
        let raw: Vec<f32> = (0..keys).map(|j| dot(query, &ks[(group + j) * size..][..size]) * scale).collect();
        bias.iter_mut().enumerate().for_each(|(j, b)| *b = mask.bias(place, j));
        let mut scores: Vec<f32> = raw.iter().zip(&bias).map(|(&s, &b)| capped(s) + b).collect();
        match mode {
            Some(0) => seen.extend(&raw),
            Some(1) => seen.extend(raw.iter().map(|&s| capped(s))),
            Some(2) => seen.extend(&scores),
            _ => {}
        }
        softmax(&mut scores, &bias);
        if mode.is_some_and(|m| m > 2) {
            seen.extend(&scores);
        }
        let result = &mut out[row * width..][..width];
        for (j, &p) in scores.iter().enumerate().filter(|(_, p)| **p != 0.0) {
            result.iter_mut().zip(&vs[(group + j) * width..][..width]).for_each(|(r, v)| *r += p * v);
        }
    }
    let mut y = Tensor::f32([batch, n, queries, width], out)?;
    if flat {
        y = permute(&y, &[0, 2, 1, 3])?.reshaped(vec![batch, queries, n * width])?;
    }
    let mut outputs = vec![y];
    if args.node.output.len() > 1 {
        outputs.extend([k, v]);
    }
    if mode.is_some() {
        outputs.push(Tensor::f32([batch, n, queries, keys], seen)?);
    }
    Ok(outputs)
}

/// `[batch, time, heads · size]` as `[batch, heads, time, size]`; four axes are in that form.
fn heads(t: &Tensor, n: i64) -> Result<Tensor> {
    let n = usize::try_from(n).unwrap_or(0);
    match *t.shape() {
        [b, time, hidden] if n > 0 && hidden % n == 0 => permute(&t.clone().reshaped(vec![b, time, n, hidden / n])?, &[0, 2, 1, 3]),
        [_, _, _, _] => Ok(t.clone()),
        _ => Err(Error::bad_input(format!("{:?} cannot be cut into {n} heads", t.shape()))),
    }
}

fn mask<'a>(args: &Args<'a>, [batch, heads, queries, keys]: [usize; 4]) -> Result<Mask<'a>> {
    let given = match args.optional(3) {
        None => None,
        Some(t) => {
            let misfit = || Error::bad_input(format!("a mask of {} {:?} does not fit", t.dtype().name(), t.shape()));
            let (&known, rest) = t.shape().split_last().ok_or_else(misfit)?;
            let over = [batch, heads, queries];
            if known > keys || rest.len() > 3 || broadcast(rest, &over)? != over || !matches!(t.dtype(), DType::F32 | DType::Bool) {
                return Err(misfit());
            }
            Some((t.data(), broadcast_strides(rest, &over).into_iter().map(|s| s * known as isize).collect(), known))
        }
    };
    let lengths = args.optional(6).map(integers).transpose()?;
    if lengths.as_ref().is_some_and(|l| l.len() != batch) {
        return Err(Error::bad_input(format!("there must be {batch} numbers of keys")));
    }
    // Queries stand at the end: behind the cache, or behind the keys that are there.
    let past = args.optional(4).and_then(|p| p.shape().get(2).copied());
    let offsets = match (past, &lengths) {
        (Some(past), _) => vec![past as i64; batch],
        (None, Some(lengths)) => lengths.iter().map(|l| l.saturating_sub(queries as i64)).collect(),
        (None, None) => vec![0; batch],
    };
    let window = ["left_window_size", "right_window_size"].map(|name| args.node.int(name).filter(|&n| n >= 0));
    Ok(Mask { given, causal: args.int_or("is_causal", 0) != 0, window, offsets, lengths })
}

/// Softmax in place, shifted by the largest score. A row in which everything is masked gets no weight at all.
fn softmax(scores: &mut [f32], bias: &[f32]) {
    if bias.iter().all(|&b| b == f32::NEG_INFINITY) {
        scores.fill(0.0);
        return;
    }
    let largest = scores.iter().fold(f32::NEG_INFINITY, |m, &s| m.max(s));
    scores.iter_mut().for_each(|s| *s = (*s - largest).exp());
    let sum = scores.iter().map(|&s| f64::from(s)).sum::<f64>() as f32;
    scores.iter_mut().for_each(|s| *s /= sum);
}

/// The scalar product in eight interleaved parts: fast, and always in the same order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut parts = [0.0f32; 8];
    for (x, y) in a.iter().zip(b) {
        (0..8).for_each(|i| parts[i] += x[i] * y[i]);
    }
    parts.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
}
