//! `Det`.

use super::args::Args;
use super::cast::cast;
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// `Det` of the matrices in the last two axes, by elimination with row pivots.
pub(super) fn determinant(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let &[ref batch @ .., n, m] = x.shape() else { return Err(Error::bad_input(format!("{:?} holds no matrices", x.shape()))) };
    if n != m || n > 1024 {
        return Err(Error::bad_input(format!("a matrix of {n} × {m} is not square, or too large")));
    }
    let Data::F64(mut v) = cast(x, DType::F64)?.into_data() else { return Err(Error::bad_input("expected floats")) };
    let matrices = batch.iter().product::<usize>();
    let results: Vec<f64> = (0..matrices).map(|i| eliminate(&mut v[i * n * n..][..n * n], n)).collect();
    cast(&Tensor::new(batch.to_vec(), Data::F64(results))?, x.dtype())
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
