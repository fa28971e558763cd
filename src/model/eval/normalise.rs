//! Operators that look at a whole axis or matrix: `LpNormalization`, `MeanVarianceNormalization`, `Det`.

use super::args::Args;
use super::cast::cast;
use super::layout::{around, axes, axis};
use super::movement::permute;
use crate::onnx::Attributes;
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// The elements in double precision, in which these operators are computed.
fn wide(x: &Tensor) -> Result<Vec<f64>> {
    match cast(x, DType::F64)?.into_data() {
        Data::F64(v) if x.dtype().is_float() => Ok(v),
        _ => Err(Error::bad_input(format!("expected floats, found {}", x.dtype().name()))),
    }
}

fn back(like: &Tensor, shape: &[usize], v: Vec<f64>) -> Result<Tensor> {
    cast(&Tensor::new(shape.to_vec(), Data::F64(v))?, like.dtype())
}

/// `LpNormalization`: along an axis divided by its sum of magnitudes (`p` 1) or its length (`p` 2); zeros stay zeros.
pub(super) fn lp(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let (outer, n, inner) = around(x.shape(), axis(args.int_or("axis", -1), x.shape().len())?);
    let p = args.int_or("p", 2);
    if !matches!(p, 1 | 2) {
        return Err(Error::bad_input(format!("`p` is {p}, not 1 or 2")));
    }
    let mut v = wide(x)?;
    for i in 0..outer * inner {
        let at = |k: usize| (i / inner * n + k) * inner + i % inner;
        let norm = match p {
            1 => (0..n).map(|k| v[at(k)].abs()).sum::<f64>(),
            _ => (0..n).map(|k| v[at(k)] * v[at(k)]).sum::<f64>().sqrt(),
        };
        (0..n).filter(|_| norm != 0.0).for_each(|k| v[at(k)] /= norm);
    }
    back(x, x.shape(), v)
}

/// `MeanVarianceNormalization`: over the named axes mean 0 and variance 1.
pub(super) fn mean_variance(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let rank = x.shape().len();
    let named = axes(args.node.ints("axes").unwrap_or(&[0, 2, 3]), rank)?;
    let order: Vec<usize> = (0..rank).filter(|a| !named.contains(a)).chain(named.iter().copied()).collect();
    let row = named.iter().map(|&a| x.shape()[a]).product::<usize>().max(1);
    let moved = permute(x, &order)?;
    let mut v = wide(&moved)?;
    for row in v.chunks_mut(row) {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let deviation = (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        // The constant is that of ONNX's definition of the operator.
        row.iter_mut().for_each(|x| *x = (*x - mean) / (deviation + 1e-9));
    }
    let mut inverse = vec![0; rank];
    order.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
    permute(&back(x, moved.shape(), v)?, &inverse)
}

/// `Det` of the matrices in the last two axes, by elimination with row pivots.
pub(super) fn determinant(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let &[ref batch @ .., n, m] = x.shape() else { return Err(Error::bad_input(format!("{:?} holds no matrices", x.shape()))) };
    if n != m || n > 4096 {
        return Err(Error::bad_input(format!("a matrix of {n} × {m} is not square, or too large")));
    }
    let mut v = wide(x)?;
    let matrices = batch.iter().product::<usize>();
    let results = (0..matrices).map(|i| eliminate(&mut v[i * n * n..][..n * n], n)).collect();
    back(x, batch, results)
}

fn eliminate(a: &mut [f64], n: usize) -> f64 {
    let mut determinant = 1.0;
    for c in 0..n {
        let pivot = (c..n).fold(c, |best, r| if a[r * n + c].abs() > a[best * n + c].abs() { r } else { best });
        if pivot != c {
            (0..n).for_each(|k| a.swap(pivot * n + k, c * n + k));
            determinant = -determinant;
        }
        let head = a[c * n + c];
        determinant *= head;
        if head == 0.0 {
            return determinant;
        }
        for r in c + 1..n {
            let factor = a[r * n + c] / head;
            (c..n).for_each(|k| a[r * n + k] -= factor * a[c * n + k]);
        }
    }
    determinant
}
