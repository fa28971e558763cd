//! Single-precision matrix product by the crate `matrixmultiply`, whose raw-pointer interface is made safe here.
//!
//! Single-threaded: for one processor type, the same operands give the same bits whatever else runs.

use crate::{Error, Result};

/// A matrix that lies in a slice with any strides.
///
/// ```
/// use joulefront::sys::gemm::{Matrix, gemm};
/// let a = Matrix::new(&[1.0, 2.0, 3.0, 4.0], 2, 2)?;
/// let mut c = [0.0; 4];
/// gemm(1.0, a, a.t(), 0.0, &mut c)?;
/// assert_eq!(c, [5.0, 11.0, 11.0, 25.0]);
/// # Ok::<(), joulefront::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The first `rows · columns` elements of `data`, row by row.
    ///
    /// # Errors
    /// `data` is shorter.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Result<Self> {
        Self::strided(data, rows, columns, columns, 1)
    }

    /// Element `(i, j)` is `data[i · row_stride + j · column_stride]`.
    ///
    /// # Errors
    /// An element lies outside `data`.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> Result<Self> {
        let end = || {
            let last = (rows - 1).checked_mul(row_stride)?.checked_add((columns - 1).checked_mul(column_stride)?)?;
            last.checked_add(1)
        };
        let fits = rows == 0 || columns == 0 || end().is_some_and(|end| end <= data.len() && isize::try_from(end).is_ok());
        match fits {
            true => Ok(Matrix { data, rows, columns, row_stride, column_stride }),
            false => Err(Error::bad_input(format!("a {rows}×{columns} matrix does not fit into {} elements", data.len()))),
        }
    }

    /// The transpose: the same elements, read the other way.
    #[must_use]
    pub fn t(self) -> Self {
        Matrix { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// `c ← alpha·a·b + beta·c`, `c` being dense and row-major. With `beta` 0, what `c` held does not matter.
///
/// # Errors
/// The inner dimensions differ, or `c` does not have `a.rows() · b.columns()` elements.
#[expect(unsafe_code, reason = "matrixmultiply takes raw pointers; the bounds they need are checked first")]
pub fn gemm(alpha: f32, a: Matrix, b: Matrix, beta: f32, c: &mut [f32]) -> Result<()> {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    if k != b.rows || m.checked_mul(n) != Some(c.len()) {
        let shapes = format!("[{m}, {k}] · [{}, {n}] into {} elements", b.rows, c.len());
        return Err(Error::bad_input(format!("these matrices do not fit: {shapes}")));
    }
    let stride = |s: usize| s as isize;
    // SAFETY: `Matrix::strided` proved every (i, j) of `a` and `b` inside its slice (empty matrices are never read); `c` has m·n
    // elements with strides n and 1; `c` is borrowed exclusively, so it does not overlap `a` or `b`.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            alpha,
            a.data.as_ptr(),
            stride(a.row_stride),
            stride(a.column_stride),
            b.data.as_ptr(),
            stride(b.row_stride),
            stride(b.column_stride),
            beta,
            c.as_mut_ptr(),
            stride(n),
            1,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_definition(m in 0usize..20, k in 0usize..20, n in 0usize..20, ta: bool, tb: bool, beta in prop::sample::select(vec![0.0f32, 1.0, -0.5])) {
            let fill = |len: usize, seed: usize| (0..len).map(|i| ((i * 7 + seed) % 11) as f32 - 5.0).collect::<Vec<_>>();
            let (x, y, start) = (fill(m * k, 1), fill(k * n, 2), fill(m * n, 3));
            let a = if ta { Matrix::new(&x, k, m).unwrap().t() } else { Matrix::new(&x, m, k).unwrap() };
            let b = if tb { Matrix::new(&y, n, k).unwrap().t() } else { Matrix::new(&y, k, n).unwrap() };
            let mut c = if beta == 0.0 { vec![f32::NAN; m * n] } else { start.clone() };
            gemm(2.0, a, b, beta, &mut c).unwrap();
            for i in 0..m {
                for j in 0..n {
                    let dot: f32 = (0..k).map(|l| x[if ta { l * m + i } else { i * k + l }] * y[if tb { j * k + l } else { l * n + j }]).sum();
                    prop_assert_eq!(c[i * n + j], 2.0 * dot + if beta == 0.0 { 0.0 } else { beta * start[i * n + j] });
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Matrix::new(&[0.0; 5], 2, 3).is_err());
        assert!(Matrix::strided(&[0.0; 5], usize::MAX, 2, usize::MAX, 1).is_err());
        let a = Matrix::new(&[0.0; 6], 2, 3).unwrap();
        assert!(gemm(1.0, a, a, 0.0, &mut [0.0; 6]).is_err());
        assert!(gemm(1.0, a, a.t(), 0.0, &mut [0.0; 3]).is_err());
    }
}
