//! Matrix products: `Gemm` and `MatMul`.

use crate::model::eval::{Args, broadcast, broadcast_strides, count};
use crate::sys::gemm::{Matrix, gemm};
use crate::tensor::{Data, Tensor};
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

/// `MatMul` as NumPy does it: batches broadcast, a vector on the left is a row, on the right a column. Integers wrap.
///
/// # Errors
/// Operands are not numbers of one type (of 32 or 64 bits), are scalars, or do not fit.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let p = Products::new(a.shape(), b.shape())?;
    let data = match (a.data(), b.data()) {
        (Data::F32(x), Data::F32(y)) => Data::F32(p.f32(x, y)?),
        (Data::F64(x), Data::F64(y)) => Data::F64(p.any(x, y, |sum, x, y| sum + x * y)),
        (Data::I32(x), Data::I32(y)) => Data::I32(p.any(x, y, |sum, x, y| x.wrapping_mul(y).wrapping_add(sum))),
        (Data::I64(x), Data::I64(y)) => Data::I64(p.any(x, y, |sum, x, y| x.wrapping_mul(y).wrapping_add(sum))),
        (Data::U32(x), Data::U32(y)) => Data::U32(p.any(x, y, |sum, x, y| x.wrapping_mul(y).wrapping_add(sum))),
        (Data::U64(x), Data::U64(y)) => Data::U64(p.any(x, y, |sum, x, y| x.wrapping_mul(y).wrapping_add(sum))),
        _ => return Err(Error::bad_input(format!("{} and {} cannot be multiplied", a.dtype().name(), b.dtype().name()))),
    };
    Tensor::new(p.shape, data)
}

/// The products that a `MatMul` consists of: `[m, k] · [k, n]` for each entry of the batch.
struct Products {
    batch: Vec<usize>,
    /// For each operand: the elements of a matrix, and the strides of the batch in matrices.
    operands: [(usize, Vec<isize>); 2],
    /// Matrices on the left, and whether all have the same one on the right.
    left: usize,
    one_right: bool,
    m: usize,
    k: usize,
    n: usize,
    total: usize,
    shape: Vec<usize>,
}

impl Products {
    fn new(a: &[usize], b: &[usize]) -> Result<Self> {
        let mismatch = || Error::bad_input(format!("shapes {a:?} and {b:?} cannot be multiplied"));
        let (batch_a, m, k) = match a {
            [] => return Err(mismatch()),
            [k] => (&[][..], 1, *k),
            [batch @ .., m, k] => (batch, *m, *k),
        };
        let (batch_b, k2, n) = match b {
            [] => return Err(mismatch()),
            [k] => (&[][..], *k, 1),
            [batch @ .., k, n] => (batch, *k, *n),
        };
        if k != k2 {
            return Err(mismatch());
        }
        let batch = broadcast(batch_a, batch_b).map_err(|_| mismatch())?;
        let total = count(&[&batch[..], &[m, n]].concat())?;
        let mut shape = batch.clone();
        shape.extend((a.len() > 1).then_some(m));
        shape.extend((b.len() > 1).then_some(n));
        let operands = [(batch_a, m * k), (batch_b, k * n)].map(|(s, size)| (size, broadcast_strides(s, &batch)));
        let (left, one_right) = (count(batch_a)?, batch_b.iter().all(|&d| d == 1));
        Ok(Products { batch, operands, left, one_right, m, k, n, total, shape })
    }

    /// Calls `f` with the first elements of both operands of every product.
    fn each(&self, mut f: impl FnMut(usize, usize, usize) -> Result<()>) -> Result<()> {
        let products = self.total.checked_div(self.m * self.n).unwrap_or(0);
        (0..products).try_for_each(|i| {
            let [x, y] = [0, 1].map(|o| offset(i, &self.batch, &self.operands[o].1) * self.operands[o].0);
            f(i, x, y)
        })
    }

    fn f32(&self, x: &[f32], y: &[f32]) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.total];
        if self.one_right {
            // One right-hand side for all batches: they are the rows of one product.
            gemm(1.0, Matrix::new(x, self.left * self.m, self.k)?, Matrix::new(y, self.k, self.n)?, 0.0, &mut out)?;
            return Ok(out);
        }
        let size = self.m * self.n;
        self.each(|i, a, b| {
            let (a, b) = (Matrix::new(&x[a..], self.m, self.k)?, Matrix::new(&y[b..], self.k, self.n)?);
            gemm(1.0, a, b, 0.0, &mut out[i * size..][..size])
        })?;
        Ok(out)
    }

    /// The products by their definition; `f` is `sum + x·y`.
    fn any<T: Copy + Default>(&self, x: &[T], y: &[T], f: impl Fn(T, T, T) -> T) -> Vec<T> {
        let mut out = vec![T::default(); self.total];
        let (m, k, n) = (self.m, self.k, self.n);
        // Nothing here can fail.
        let _ = self.each(|i, a, b| {
            for (row, out) in out[i * m * n..][..m * n].chunks_exact_mut(n).enumerate() {
                for (l, &x) in x[a + row * k..][..k].iter().enumerate() {
                    out.iter_mut().zip(&y[b + l * n..][..n]).for_each(|(o, &y)| *o = f(*o, x, y));
                }
            }
            Ok(())
        });
        out
    }
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
