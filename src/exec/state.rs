//! Operators that carry a state from step to step: `LinearAttention`, `CausalConvWithState`.

use crate::model::eval::Args;
use crate::onnx::Attributes;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// `LinearAttention`: for each head a matrix of keys by values that decays (`gated`), is corrected (`delta`), takes up `kᵀ·v` and is read
/// by `q` (Yang et al., Gated Delta Networks, 2024). Inputs are `[batch, time, heads · size]`; returns the outputs and the last state.
pub(super) fn linear_attention(args: &Args) -> Result<Vec<Tensor>> {
    let (q, k, v) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let wrong = |what: &str| Error::bad_input(format!("{what} does not fit queries of shape {:?}", q.shape()));
    let count = |name: &str| usize::try_from(args.int_or(name, 0)).ok().filter(|&n| n > 0).ok_or_else(|| wrong(name));
    let (heads, groups) = (count("q_num_heads")?, count("kv_num_heads")?);
    let (&[batch, time, q_all], &[kb, kt, k_all], &[vb, vt, v_all]) = (q.shape(), k.shape(), v.shape()) else {
        return Err(wrong("a number of axes"));
    };
    let size = q_all / heads;
    let width = v_all / groups;
    if heads % groups != 0
        || size * heads != q_all
        || size * groups != k_all
        || width * groups != v_all
        || [kb, kt, vb, vt] != [batch, time, batch, time]
    {
        return Err(wrong("the number of heads, keys or values"));
    }
    let rule = args.node.string("update_rule").unwrap_or("gated_delta");
    let (gated, delta) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Error::bad_input(format!("the update rule `{other}` is not one of ONNX"))),
    };
    // A gate for each head, or for each of its keys; a strength for each head, or for all.
    let side = |index: usize, on: bool, lengths: [usize; 2]| match args.optional(index).filter(|_| on) {
        None if on => Err(wrong("a missing input")),
        None => Ok((&[][..], 0)),
        Some(t) => match *t.shape() {
            [b, s, n] if (b, s) == (batch, time) && lengths.contains(&n) => Ok((t.as_f32()?, n)),
            _ => Err(wrong("a gate or strength")),
        },
    };
    let (decay, decays) = side(4, gated, [groups, groups * size])?;
    let (beta, betas) = side(5, delta, [groups, 1])?;
    let scale = match args.float_or("scale", 0.0) {
        0.0 => (size as f32).sqrt().recip(),
        given => given,
    };
    let shape = [batch, groups, size, width];
    let mut state = match args.optional(3) {
        Some(past) if past.shape() != shape => return Err(wrong("the state")),
        Some(past) => past.as_f32()?.to_vec(),
        None => vec![0.0; crate::model::eval::count(&shape)?],
    };
    let (qs, ks, vs) = (q.as_f32()?, k.as_f32()?, v.as_f32()?);
    let total = crate::model::eval::count(&[batch, time, heads, width])?;
    let mut out = vec![0.0f32; total];
    for (b, t, g) in (0..batch).flat_map(|b| (0..time).flat_map(move |t| (0..groups).map(move |g| (b, t, g)))) {
        let step = b * time + t;
        let state = &mut state[(b * groups + g) * size * width..][..size * width];
        let key = &ks[step * k_all + g * size..][..size];
        if gated {
            for (d, row) in state.chunks_exact_mut(width.max(1)).enumerate() {
                let gate = decay[step * decays + if decays == groups { g } else { g * size + d }].exp();
                row.iter_mut().for_each(|s| *s *= gate);
            }
        }
        let mut value = vs[step * v_all + g * width..][..width].to_vec();
        if delta {
            let strength = beta[step * betas + if betas == 1 { 0 } else { g }];
            read(state, key, width).iter().zip(&mut value).for_each(|(r, v)| *v = strength * (*v - r));
        }
        for (row, k) in state.chunks_exact_mut(width.max(1)).zip(key) {
            row.iter_mut().zip(&value).for_each(|(s, v)| *s += k * v);
        }
        let each = heads / groups;
        for h in g * each..(g + 1) * each {
            let query = &qs[step * q_all + h * size..][..size];
            let result = &mut out[(step * heads + h) * width..][..width];
            result.iter_mut().zip(read(state, query, width)).for_each(|(o, r)| *o = scale * r);
        }
    }
    Ok(vec![Tensor::f32([batch, time, heads * width], out)?, Tensor::f32(shape, state)?])
}

/// `keyᵀ · state`.
fn read(state: &[f32], key: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for (row, k) in state.chunks_exact(width.max(1)).zip(key) {
        sum.iter_mut().zip(row).for_each(|(s, r)| *s += k * r);
    }
    sum
}

/// `CausalConvWithState`: each channel of `[batch, channels, time]` convolved with its own kernel over what came before; the state is
/// what the next call needs of this one.
pub(super) fn causal_conv(args: &Args) -> Result<Vec<Tensor>> {
    let (x, w) = (args.tensor(0)?, args.tensor(1)?);
    let (&[batch, channels, time], &[filters, 1, taps]) = (x.shape(), w.shape()) else {
        return Err(Error::bad_input(format!("kernels of shape {:?} on an input of shape {:?}", w.shape(), x.shape())));
    };
    let before = taps.checked_sub(1).ok_or_else(|| Error::bad_input("the kernels are empty"))?;
    let past = args.optional(3);
    if filters != channels
        || past.is_some_and(|p| p.shape() != [batch, channels, before])
        || args.optional(2).is_some_and(|b| b.len() != channels)
    {
        return Err(Error::bad_input(format!("kernels of shape {:?}, bias or state do not fit {:?}", w.shape(), x.shape())));
    }
    let gate = match args.node.string("activation").unwrap_or("none") {
        "none" => false,
        "silu" | "swish" => true,
        other => return Err(Error::bad_input(format!("the activation `{other}` is not one of ONNX"))),
    };
    let (values, kernels) = (x.as_f32()?, w.as_f32()?);
    let bias = args.optional(2).map(Tensor::as_f32).transpose()?;
    let past = past.map(Tensor::as_f32).transpose()?;
    let (mut out, mut state) = (Vec::with_capacity(x.len()), Vec::new());
    for row in 0..batch * channels {
        let c = row % channels;
        let mut line = past.map_or_else(|| vec![0.0; before], |p| p[row * before..][..before].to_vec());
        line.extend(&values[row * time..][..time]);
        for window in line.windows(taps) {
            let sum = bias.map_or(0.0, |b| b[c]) + window.iter().zip(&kernels[c * taps..][..taps]).map(|(x, w)| x * w).sum::<f32>();
            out.push(if gate { sum / (1.0 + (-sum).exp()) } else { sum });
        }
        state.extend(&line[line.len() - before..]);
    }
    Ok(vec![Tensor::f32(x.shape(), out)?, Tensor::f32([batch, channels, before], state)?])
}
