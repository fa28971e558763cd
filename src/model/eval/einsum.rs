//! `Einsum`, by its definition: a sum over all axes that the result does not have.

use super::args::Args;
use super::layout::{Nest, broadcast, count, strides};
use super::types::{Number, numbers, wrap, wrap2};
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
    let mut order: Labels = result.clone();
    labels.iter().flatten().for_each(|c| {
        if !order.contains(c) {
            order.push(*c);
        }
    });
    let mut sizes = vec![1usize; order.len()];
    for (label, t) in labels.iter().zip(&operands) {
        for (c, &d) in label.iter().zip(t.shape()) {
            let Some(at) = order.iter().position(|o| o == c) else { continue };
            sizes[at] = broadcast(&[sizes[at]], &[d])?[0];
        }
    }
    let total = count(&sizes[..result.len()])?;
    let inner = count(&sizes[result.len()..])?;
    if total.checked_mul(inner).is_none_or(|n| n > MAX_STEPS) {
        return Err(Error::bad_input(format!("an einsum over {sizes:?} is too large")));
    }
    // How far each operand moves when a label's coordinate grows by one.
    let steps: Vec<Vec<isize>> = labels
        .iter()
        .zip(&operands)
        .map(|(label, t)| {
            let own = strides(t.shape());
            order
                .iter()
                .map(|c| label.iter().zip(t.shape()).zip(&own).filter(|((l, d), _)| *l == c && **d != 1).map(|(_, s)| s).sum())
                .collect()
        })
        .collect();
    let mut product = one_like(operands[0], &sizes)?;
    for (t, step) in operands.iter().zip(&steps) {
        product = multiply(&product, t, &sizes, step)?;
    }
    let data = numbers!(wrap!(product.data(), v => v.chunks(inner.max(1)).map(sum).collect()));
    let data = data.ok_or_else(|| super::binary::type_mismatch(operands[0], operands[0]))?;
    let data = if inner == 0 { one_like(operands[0], &[total])?.into_data() } else { data };
    Tensor::new(sizes[..result.len()].to_vec(), data)
}

fn sum<T: Number>(row: &[T]) -> T {
    if T::IS_FLOAT { T::from_f64(row.iter().map(|x| x.to_f64()).sum()) } else { row.iter().fold(T::default(), |s, &x| s.add(x)) }
}

fn one_like(t: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let total = count(shape)?;
    fn ones<T: Number>(_: &[T], n: usize) -> Vec<T> {
        vec![T::ONE; n]
    }
    let data = numbers!(wrap!(t.data(), v => ones(v, total)));
    Tensor::new(shape.to_vec(), data.ok_or_else(|| Error::bad_input(format!("{} cannot be multiplied", t.dtype().name())))?)
}

/// `product · t`, where `t` is read with `steps` over the axes `sizes`.
fn multiply(product: &Tensor, t: &Tensor, sizes: &[usize], steps: &[isize]) -> Result<Tensor> {
    let nest = Nest::new(sizes, [&strides(sizes), steps], [0, 0]);
    let [_, step] = nest.steps;
    let mut places = Vec::with_capacity(product.len());
    nest.rows(|[_, at]| places.extend((0..nest.row as isize).map(|i| (at as isize + i * step) as usize)));
    let data = numbers!(wrap2!(product.data(), t.data(), p, v => p.iter().zip(&places).map(|(&p, &at)| p.mul(v[at])).collect()));
    Tensor::new(sizes.to_vec(), data.ok_or_else(|| super::binary::type_mismatch(product, t))?)
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
