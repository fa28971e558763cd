//! `Einsum`, by its definition: a sum over all axes that the result does not have.

use super::args::Args;
use super::cast::cast;
use super::layout::{Nest, broadcast, count, strides};
use super::types::{Number, numbers, wrap2};
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// Multiplications that are done at most: a hostile equation names many long axes.
const MAX_STEPS: usize = 1 << 33;

/// The axes of one operand or of the result: letters, where broadcast axes (`...`) are capitals of their own kind.
type Labels = Vec<char>;

/// The first label that stands for a broadcast axis; letters are below.
const BROADCAST: u32 = 0xE000;

/// `Einsum` on any number of operands of one type, with ellipses; repeated letters in an operand take the diagonal.
pub(super) fn einsum(args: &Args) -> Result<Tensor> {
    let equation: String = args.node.string("equation").unwrap_or("").chars().filter(|c| !c.is_whitespace()).collect();
    let operands = args.all()?;
    let (left, right) = equation.split_once("->").map_or((equation.as_str(), None), |(l, r)| (l, Some(r)));
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != operands.len() {
        return Err(Error::bad_input(format!("the equation has {} operands, there are {}", terms.len(), operands.len())));
    }
    let labels = terms.iter().zip(&operands).map(|(term, t)| labels(term, t.shape().len())).collect::<Result<Vec<_>>>()?;
    let free = labels.iter().map(|l| l.iter().filter(|&&c| c as u32 >= BROADCAST).count()).max().unwrap_or(0);
    let result = match right {
        Some(right) => labels_of_result(right, free)?,
        None => implied(&labels, free),
    };
    if let Some(c) = result.iter().find(|c| !labels.iter().any(|l| l.contains(c))) {
        return Err(Error::bad_input(format!("no operand has the axis `{c}` of the result")));
    }
    // One operand after the other; an axis is summed as soon as nobody needs it any more.
    let mut product = (one_like(operands[0])?, Labels::new());
    for (i, (&t, own)) in operands.iter().zip(&labels).enumerate() {
        let needed = |c: &char| result.contains(c) || labels[i + 1..].iter().any(|l| l.contains(c));
        let keep: Labels = match i + 1 == operands.len() {
            true => result.clone(),
            false => distinct(product.1.iter().chain(own)).into_iter().filter(needed).collect(),
        };
        product = (contract((&product.0, &product.1), (t, own), &keep)?, keep);
    }
    Ok(product.0)
}

/// The sum of `a · b` over all labels that are not in `keep`.
fn contract((a, la): (&Tensor, &[char]), (b, lb): (&Tensor, &[char]), keep: &[char]) -> Result<Tensor> {
    let summed: Labels = distinct(la.iter().chain(lb)).into_iter().filter(|c| !keep.contains(c)).collect();
    let size = |c: &char| {
        let of = |labels: &[char], t: &Tensor| labels.iter().zip(t.shape()).filter(|(l, _)| *l == c).map(|(_, &d)| d).collect::<Vec<_>>();
        of(la, a).into_iter().chain(of(lb, b)).try_fold(1, |n, d| Ok::<_, Error>(broadcast(&[n], &[d])?[0]))
    };
    let outer = keep.iter().map(size).collect::<Result<Vec<_>>>()?;
    let inner = summed.iter().map(size).collect::<Result<Vec<_>>>()?;
    let (total, each) = (count(&outer)?, count(&inner)?);
    if total.checked_mul(each).is_none_or(|n| n > MAX_STEPS) {
        return Err(Error::bad_input(format!("an einsum over {outer:?} and {inner:?} is too large")));
    }
    let [ao, bo] = [steps(a, la, keep), steps(b, lb, keep)];
    let [ai, bi] = [steps(a, la, &summed), steps(b, lb, &summed)];
    let rows = Nest::new(&outer, [&ao, &bo], [0, 0]);
    let data = numbers!(wrap2!(a.data(), b.data(), x, y => {
        let mut out = Vec::with_capacity(total);
        rows.rows(|[i, j]| {
            for r in 0..rows.row as isize {
                let start = [i as isize + r * rows.steps[0], j as isize + r * rows.steps[1]];
                out.push(dot(x, y, &Nest::new(&inner, [&ai, &bi], start)));
            }
        });
        out
    }));
    Tensor::new(outer, data.ok_or_else(|| super::binary::type_mismatch(a, b))?)
}

/// The sum of products over a nest: of floats in double precision, of integers wrapping.
fn dot<T: Number>(x: &[T], y: &[T], nest: &Nest<2>) -> T {
    let (mut wide, mut own) = (0.0, T::default());
    let [p, q] = nest.steps;
    nest.rows(|[i, j]| {
        let pairs = (0..nest.row as isize).map(|r| (x[(i as isize + r * p) as usize], y[(j as isize + r * q) as usize]));
        match T::IS_FLOAT {
            true => wide += pairs.map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>(),
            false => own = pairs.fold(own, |sum, (a, b)| sum.add(a.mul(b))),
        }
    });
    if T::IS_FLOAT { T::from_f64(wide) } else { own }
}

/// How far `t` moves when the coordinate of each of `wanted` grows by one: along a diagonal where a label is repeated.
fn steps(t: &Tensor, labels: &[char], wanted: &[char]) -> Vec<isize> {
    let own = strides(t.shape());
    let moves = |c: &char| labels.iter().zip(t.shape()).zip(&own).filter(|((l, d), _)| *l == c && **d != 1).map(|(_, s)| s).sum();
    wanted.iter().map(moves).collect()
}

fn distinct<'a>(labels: impl Iterator<Item = &'a char>) -> Labels {
    labels.fold(Labels::new(), |mut seen, c| {
        if !seen.contains(c) {
            seen.push(*c);
        }
        seen
    })
}

/// The scalar 1 of a tensor's type.
fn one_like(t: &Tensor) -> Result<Tensor> {
    cast(&Tensor::new(vec![], Data::I64(vec![1]))?, t.dtype())
}

/// The labels of an operand of `rank` axes.
fn labels(term: &str, rank: usize) -> Result<Labels> {
    let (before, after) = term.split_once("...").map_or((term, None), |(b, a)| (b, Some(a)));
    let named = before.chars().count() + after.map_or(0, |a| a.chars().count());
    let misfit = || Error::bad_input(format!("`{term}` does not fit a tensor of {rank} axes"));
    let free = rank.checked_sub(named).filter(|&n| n == 0 || after.is_some()).ok_or_else(misfit)?;
    if !before.chars().chain(after.unwrap_or("").chars()).all(|c| c.is_ascii_alphabetic()) {
        return Err(misfit());
    }
    // Broadcast axes are counted from the last.
    let dots = (0..free as u32).rev().filter_map(|i| char::from_u32(BROADCAST + i));
    Ok(before.chars().chain(dots).chain(after.unwrap_or("").chars()).collect())
}

fn labels_of_result(term: &str, free: usize) -> Result<Labels> {
    let dots = if term.contains("...") { free } else { 0 };
    let named = term.replace("...", "");
    let repeated = named.chars().enumerate().any(|(i, c)| named.chars().take(i).any(|d| d == c));
    if repeated {
        return Err(Error::bad_input(format!("`{term}` names an axis twice")));
    }
    labels(term, named.chars().count() + dots)
}

/// Without an arrow: broadcast axes, then the letters that occur once, in order.
fn implied(labels: &[Labels], free: usize) -> Labels {
    let mut once: Labels = labels.iter().flatten().copied().filter(|c| (*c as u32) < BROADCAST).collect();
    once.sort_unstable();
    let single = once.iter().filter(|c| once.iter().filter(|d| d == c).count() == 1).copied().collect::<Labels>();
    (0..free as u32).rev().filter_map(|i| char::from_u32(BROADCAST + i)).chain(single).collect()
}
