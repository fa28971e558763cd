//! Matrix products: `Gemm` and `MatMul`.

use crate::model::eval::{Args, broadcast, broadcast_strides, count};
use crate::sys::gemm::{Matrix, gemm};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// `Gemm`: `alpha·A'·B' + beta·C` with `A'` `[M, K]`, `B'` `[K, N]` (each transposed on demand) and `C` broadcast to `[M, N]`.
///
/// # Errors
/// Operands are not float32 matrices, or do not fit.
pub(super) fn gemm_node(args: &Args) -> Result<Tensor> {
    let (a, b) = (args.tensor(0)?, args.tensor(1)?);
    let (a, b) = (operand(a, args.int_or("transA", 0) != 0)?, operand(b, args.int_or("transB", 0) != 0)?);
    let shape = [a.rows(), b.columns()];
    let mut out = vec![0.0; count(&shape)?];
    if let Some(c) = args.optional(2) {
        if broadcast(c.shape(), &shape)? != shape {
            return Err(Error::bad_input(format!("a summand of shape {:?} does not fit a product of shape {shape:?}", c.shape())));
        }
        let (beta, values) = (args.float_or("beta", 1.0), c.as_f32()?);
        let strides = broadcast_strides(c.shape(), &shape);
        for (i, row) in out.chunks_exact_mut(shape[1].max(1)).enumerate() {
            for (j, o) in row.iter_mut().enumerate() {
                *o = beta * values[i * strides[0] as usize + j * strides[1] as usize];
            }
        }
    }
    gemm(args.float_or("alpha", 1.0), a, b, 1.0, &mut out)?;
    Tensor::f32(shape, out)
}

fn operand(t: &Tensor, transposed: bool) -> Result<Matrix<'_>> {
    let &[rows, columns] = t.shape() else {
        return Err(Error::bad_input(format!("expected a matrix, found shape {:?}", t.shape())));
    };
    let m = Matrix::new(t.as_f32()?, rows, columns)?;
    Ok(if transposed { m.t() } else { m })
}

/// `MatMul` as NumPy does it: batches broadcast, a vector on the left is a row, on the right a column.
///
/// # Errors
/// Operands are not float32, are scalars, or do not fit.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mismatch = || Error::bad_input(format!("shapes {:?} and {:?} cannot be multiplied", a.shape(), b.shape()));
    let (x, y) = (a.as_f32()?, b.as_f32()?);
    let (batch_a, m, k) = match a.shape() {
        [] => return Err(mismatch()),
        [k] => (&[][..], 1, *k),
        [batch @ .., m, k] => (batch, *m, *k),
    };
    let (batch_b, k2, n) = match b.shape() {
        [] => return Err(mismatch()),
        [k] => (&[][..], *k, 1),
        [batch @ .., k, n] => (batch, *k, *n),
    };
    if k != k2 {
        return Err(mismatch());
    }
    let batch = broadcast(batch_a, batch_b).map_err(|_| mismatch())?;
    let total = count(&[&batch[..], &[m, n]].concat())?;
    let mut out = vec![0.0; total];
    if batch_b.iter().all(|&d| d == 1) {
        // One right-hand side for all batches: they are the rows of one product.
        let rows = count(batch_a)? * m;
        gemm(1.0, Matrix::new(x, rows, k)?, Matrix::new(y, k, n)?, 0.0, &mut out)?;
    } else if total > 0 {
        let [sa, sb] = [(batch_a, m * k), (batch_b, k * n)].map(|(s, size)| (broadcast_strides(s, &batch), size));
        for (i, out) in out.chunks_exact_mut(m * n).enumerate() {
            let [i, j] = [&sa, &sb].map(|(strides, size)| offset(i, &batch, strides) * size);
            gemm(1.0, Matrix::new(&x[i..], m, k)?, Matrix::new(&y[j..], k, n)?, 0.0, out)?;
        }
    }
    let mut shape = batch;
    shape.extend((a.shape().len() > 1).then_some(m));
    shape.extend((b.shape().len() > 1).then_some(n));
    Tensor::f32(shape, out)
}

/// Where the `flat`-th entry of `shape` lies under `strides`.
fn offset(mut flat: usize, shape: &[usize], strides: &[isize]) -> usize {
    let mut at = 0;
    for (&n, &s) in shape.iter().zip(strides).rev() {
        at += flat % n * s as usize;
        flat /= n;
    }
    at
}
