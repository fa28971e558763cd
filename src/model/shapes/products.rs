//! Matrix products, in floats and in integers, and `Einsum`.

use super::args::{Args, Rule, Stop, one, unknown, wrong};
use crate::model::eval::broadcast;
use crate::onnx::Attributes;
use crate::tensor::DType;
use std::collections::BTreeMap;

/// `Gemm`: `[M, K]·[K, N]`, each transposed on demand.
pub(super) fn gemm(args: &Args) -> Rule {
    let (a, b) = (args.input(0)?, args.shape(1)?);
    let (&[m0, k0], &[k1, n1]) = (a.shape.as_slice(), b) else {
        return wrong(format!("Gemm needs matrices, found {:?} and {b:?}", a.shape));
    };
    let (m, k) = if args.flag("transA", false) { (k0, m0) } else { (m0, k0) };
    let (kb, n) = if args.flag("transB", false) { (n1, k1) } else { (k1, n1) };
    if k != kb {
        return wrong(format!("the inner dimensions {k} and {kb} differ"));
    }
    one(a.dtype, [m, n])
}

/// `MatMul` and `FusedMatMul` (com.microsoft: either factor transposed).
pub(super) fn matmul(args: &Args) -> Rule {
    let (a, b) = (args.input(0)?, args.shape(1)?);
    one(a.dtype, product(&swapped(&a.shape, args.flag("transA", false)), &swapped(b, args.flag("transB", false)))?)
}

fn swapped(shape: &[usize], swap: bool) -> Vec<usize> {
    let (mut shape, rank) = (shape.to_vec(), shape.len());
    if swap && rank > 1 {
        shape.swap(rank - 1, rank - 2);
    }
    shape
}

/// `MatMulInteger`: sums in 32 bits.
pub(super) fn matmul_integer(args: &Args) -> Rule {
    one(DType::I32, product(args.shape(0)?, args.shape(1)?)?)
}

/// `QLinearMatMul`: each factor with scale and zero point, then those of the result.
pub(super) fn qlinear_matmul(args: &Args) -> Rule {
    one(args.input(7)?.dtype, product(args.shape(0)?, args.shape(3)?)?)
}

/// `MatMulNBits` (com.microsoft): `[…, K]` with packed weights to `[…, N]`.
pub(super) fn matmul_nbits(args: &Args) -> Rule {
    let x = args.input(0)?;
    let (k, n) = (args.positive("K", 0)?, args.positive("N", 0)?);
    match x.shape.split_last() {
        Some((&last, rest)) if last == k => one(x.dtype, [rest, &[n]].concat()),
        _ => wrong(format!("{:?} does not end in {k}", x.shape)),
    }
}

/// NumPy's rule: batches broadcast, a vector on the left is a row, on the right a column.
fn product(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Stop> {
    let mismatch = || Stop::Wrong(crate::Error::bad_input(format!("shapes {a:?} and {b:?} cannot be multiplied")));
    let (batch_a, m, k) = match a {
        [] => return Err(mismatch()),
        [k] => (&[][..], None, *k),
        [batch @ .., m, k] => (batch, Some(*m), *k),
    };
    let (batch_b, k2, n) = match b {
        [] => return Err(mismatch()),
        [k] => (&[][..], *k, None),
        [batch @ .., k, n] => (batch, *k, Some(*n)),
    };
    if k != k2 {
        return Err(mismatch());
    }
    let mut shape = broadcast(batch_a, batch_b)?;
    shape.extend(m);
    shape.extend(n);
    Ok(shape)
}

/// `Einsum`: letters name axes, an ellipsis stands for broadcast ones.
pub(super) fn einsum(args: &Args) -> Rule {
    let equation: String = args.node.string("equation").unwrap_or("").chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != args.inputs() {
        return wrong(format!("the equation has {} operands, there are {}", terms.len(), args.inputs()));
    }
    let mut sizes: BTreeMap<char, usize> = BTreeMap::new();
    let mut count: BTreeMap<char, usize> = BTreeMap::new();
    let mut ellipsis: Vec<usize> = vec![];
    for (i, term) in terms.iter().enumerate() {
        let shape = args.shape(i)?;
        let (before, after) = term.split_once("...").unwrap_or((term, ""));
        let named = before.chars().count() + after.chars().count();
        let Some(free) = shape.len().checked_sub(named).filter(|&n| n == 0 || term.contains("...")) else {
            return wrong(format!("`{term}` does not fit {shape:?}"));
        };
        let split = before.chars().count();
        ellipsis = broadcast(&ellipsis, &shape[split..split + free])?;
        for (letter, &d) in before.chars().zip(&shape[..split]).chain(after.chars().zip(&shape[split + free..])) {
            *count.entry(letter).or_default() += 1;
            let size = sizes.entry(letter).or_insert(d);
            match (*size, d) {
                (s, d) if s == d || d == 1 => {}
                (1, d) => *size = d,
                (s, d) => return wrong(format!("the axis `{letter}` has lengths {s} and {d}")),
            }
        }
    }
    // Without an arrow: the ellipsis, then the letters that occur once, in order.
    let implied: String = "...".chars().chain(count.iter().filter(|&(_, &n)| n == 1).map(|(&c, _)| c)).collect();
    let output = right.unwrap_or(&implied);
    let (before, after) = output.split_once("...").map_or((output, None), |(b, a)| (b, Some(a)));
    let letters = |s: &str| -> Result<Vec<usize>, Stop> {
        s.chars().map(|c| sizes.get(&c).copied().map_or_else(|| wrong(format!("no operand has the axis `{c}`")), Ok)).collect()
    };
    let mut shape = letters(before)?;
    if let Some(after) = after {
        shape.extend(&ellipsis);
        shape.extend(letters(after)?);
    }
    one(args.input(0)?.dtype, shape)
}

/// `Attention` of operator set 23: `[B, H, L, E]`, or `[B, L, H·E]` with the numbers of heads as attributes.
pub(super) fn attention(args: &Args) -> Rule {
    let (q, k, v) = (args.input(0)?, args.shape(1)?, args.shape(2)?);
    let past = args.optional(4)?.map_or(0, |p| p.shape.get(2).copied().unwrap_or(0));
    match (q.shape.as_slice(), k, v) {
        (&[b, h, l, _], &[_, hk, s, e], &[_, _, _, ev]) => {
            let total = s.saturating_add(past);
            let present = |e| one(q.dtype, [b, hk, total, e]);
            Ok([one(q.dtype, [b, h, l, ev])?, present(e)?, present(ev)?, one(q.dtype, [b, h, l, total])?].concat())
        }
        (&[b, l, _], &[_, s, e], &[_, _, ev]) => {
            let (h, hk) = (args.positive("q_num_heads", 0)?, args.positive("kv_num_heads", 0)?);
            let total = s.saturating_add(past);
            let present = |e: usize| one(q.dtype, [b, hk, total, e / hk]);
            Ok([one(q.dtype, [b, l, (ev / hk).saturating_mul(h)])?, present(e)?, present(ev)?, one(q.dtype, [b, h, l, total])?].concat())
        }
        _ => unknown("Attention of tensors that are neither [B, H, L, E] nor [B, L, H·E]"),
    }
}
