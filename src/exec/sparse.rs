//! Sparse constants, made dense.

use crate::model::eval::{count, integers};
use crate::onnx::{pb, tensor_from_proto};
use crate::tensor::{Data, Tensor, map_data};
use crate::{Error, Result};

/// A dense tensor with zeros where `sparse` names no value. Its indices are flat, `[n]`, or one per axis, `[n, rank]`.
///
/// # Errors
/// Indices do not fit the dimensions or the values, or the dense tensor would be too large.
pub(super) fn dense(sparse: &pb::SparseTensorProto) -> Result<Tensor> {
    let misfit = |why: &str| Error::bad_input(format!("sparse constant `{}`: {why}", sparse.values.name()));
    let shape =
        sparse.dims.iter().map(|&d| usize::try_from(d).map_err(|_| misfit("a dimension is negative"))).collect::<Result<Vec<_>>>()?;
    let total = count(&shape)?;
    let (values, indices) = (tensor_from_proto(&sparse.values)?, tensor_from_proto(&sparse.indices)?);
    let width = if indices.shape().len() == 2 { shape.len() } else { 1 };
    let indices = integers(&indices)?;
    if indices.len() != values.len() * width {
        return Err(misfit("values and indices differ in number"));
    }
    let flat = |index: &[i64]| match index {
        [flat] if width == 1 => usize::try_from(*flat).ok(),
        _ => index.iter().zip(&shape).try_fold(0, |at, (&i, &n)| Some(at * n + usize::try_from(i).ok().filter(|&i| i < n)?)),
    };
    let places = indices
        .chunks(width.max(1))
        .map(|i| flat(i).filter(|&at| at < total).ok_or_else(|| misfit("an index lies outside")))
        .collect::<Result<Vec<_>>>()?;
    let data = map_data!(values.data(), v => {
        let mut out = vec![Default::default(); total];
        places.iter().zip(v).for_each(|(&at, &x)| out[at] = x);
        out
    });
    Tensor::new(shape, data)
}
