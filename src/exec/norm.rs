//! Normalisation.

use crate::model::eval::{Args, axis, count, sum};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// `BatchNormalization` in inference: `(x − mean)/√(var + ε)·scale + bias` per channel (axis 1).
///
/// # Errors
/// Training mode, or parameters that do not fit the channels.
pub(super) fn batch_norm(args: &Args) -> Result<Tensor> {
    if args.int_or("training_mode", 0) != 0 {
        return Err(Error::bad_input("batch normalisation in training mode is not supported").hint("export the model in inference mode"));
    }
    let x = args.tensor(0)?;
    let [_, channels, spatial @ ..] = x.shape() else {
        return Err(Error::bad_input(format!("an input of shape {:?} has no channels", x.shape())));
    };
    let parameter = |i: usize| per_channel(args, i, *channels);
    let (scale, bias, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
    let epsilon = args.float_or("epsilon", 1e-5);
    let mut out = x.as_f32()?.to_vec();
    for (i, plane) in out.chunks_exact_mut(spatial.iter().product::<usize>().max(1)).enumerate() {
        let c = i % channels;
        let (factor, shift) = (scale[c] / (variance[c] + epsilon).sqrt(), bias[c]);
        plane.iter_mut().for_each(|v| *v = (*v - mean[c]) * factor + shift);
    }
    Tensor::f32(x.shape(), out)
}

/// `InstanceNormalization`: every plane by its own mean and variance, then scale and bias per channel.
///
/// # Errors
/// Parameters that do not fit the channels.
pub(super) fn instance_norm(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let [_, channels, spatial @ ..] = x.shape() else {
        return Err(Error::bad_input(format!("an input of shape {:?} has no channels", x.shape())));
    };
    let (scale, bias) = (per_channel(args, 1, *channels)?, per_channel(args, 2, *channels)?);
    let epsilon = args.float_or("epsilon", 1e-5);
    let mut out = x.as_f32()?.to_vec();
    for (i, plane) in out.chunks_exact_mut(spatial.iter().product::<usize>().max(1)).enumerate() {
        standardise(plane, epsilon);
        let c = i % channels;
        plane.iter_mut().for_each(|v| *v = *v * scale[c] + bias[c]);
    }
    Tensor::f32(x.shape(), out)
}

/// `LayerNormalization` over the axes from `axis` (−1 when not given) on; also gives mean and 1/σ where the node asks for them.
///
/// # Errors
/// Scale or bias do not have the shape of the normalised axes.
pub(super) fn layer_norm(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let axis = axis(args.int_or("axis", -1), x.shape().len())?;
    let (kept, normalised) = x.shape().split_at(axis);
    let row: usize = normalised.iter().product();
    let parameter = |t: &'_ Tensor| match t.len() == row {
        true => t.as_f32().map(<[f32]>::to_vec),
        false => Err(Error::bad_input(format!("a parameter of shape {:?} does not fit the axes {normalised:?}", t.shape()))),
    };
    let scale = parameter(args.tensor(1)?)?;
    let bias = args.optional(2).map_or_else(|| Ok(vec![0.0; row]), parameter)?;
    let epsilon = args.float_or("epsilon", 1e-5);
    let mut out = x.as_f32()?.to_vec();
    let (mut means, mut inverses) = (vec![], vec![]);
    for row in out.chunks_exact_mut(row.max(1)) {
        let (mean, inverse) = standardise(row, epsilon);
        means.push(mean);
        inverses.push(inverse);
        row.iter_mut().zip(&scale).zip(&bias).for_each(|((v, &s), &b)| *v = *v * s + b);
    }
    let mut outputs = vec![Tensor::f32(x.shape(), out)?];
    if args.node.output.len() > 1 {
        let shape: Vec<usize> = kept.iter().copied().chain(normalised.iter().map(|_| 1)).collect();
        if count(&shape)? != means.len() {
            return Err(Error::bad_input("empty axes have no mean"));
        }
        outputs.push(Tensor::f32(shape.clone(), means)?);
        outputs.push(Tensor::f32(shape, inverses)?);
    }
    Ok(outputs)
}

/// Makes mean 0 and variance 1 (the population's, plus `epsilon`); returns the mean and the factor 1/√(var + ε).
fn standardise(values: &mut [f32], epsilon: f32) -> (f32, f32) {
    let n = values.len() as f64;
    let mean = (sum(values) / n) as f32;
    values.iter_mut().for_each(|v| *v -= mean);
    let variance = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / n;
    let inverse = (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32;
    values.iter_mut().for_each(|v| *v *= inverse);
    (mean, inverse)
}

/// Input `index`, one value for each channel.
fn per_channel<'a>(args: &Args<'a>, index: usize, channels: usize) -> Result<&'a [f32]> {
    let values = args.tensor(index)?.as_f32()?;
    match values.len() == channels {
        true => Ok(values),
        false => Err(Error::bad_input(format!("input {index} has {} values for {channels} channels", values.len()))),
    }
}
