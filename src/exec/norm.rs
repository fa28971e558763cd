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

/// `RMSNormalization`: `x / √(mean(x²) + ε) · scale` over the axes from `axis` (−1 when not given) on.
///
/// # Errors
/// The scale does not broadcast to the input.
pub(super) fn rms_norm(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let axis = axis(args.int_or("axis", -1), x.shape().len())?;
    let row: usize = x.shape()[axis..].iter().product();
    let epsilon = f64::from(args.float_or("epsilon", 1e-5));
    let mut out = x.as_f32()?.to_vec();
    for row in out.chunks_exact_mut(row.max(1)) {
        let square = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / row.len() as f64;
        let factor = (1.0 / (square + epsilon).sqrt()) as f32;
        row.iter_mut().for_each(|v| *v *= factor);
    }
    crate::model::eval::multiply(&Tensor::f32(x.shape(), out)?, args.tensor(1)?)
}

/// `GroupNormalization`: groups of channels by their own mean and variance, then scale and bias per channel (per group before
/// operator set 21).
///
/// # Errors
/// Groups or parameters that do not fit the channels.
pub(super) fn group_norm(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let groups = usize::try_from(args.int_or("num_groups", 0)).unwrap_or(0);
    let (&[n, channels, ref spatial @ ..], true) = (x.shape(), groups > 0) else {
        return Err(Error::bad_input(format!("{groups} groups of an input of shape {:?}", x.shape())));
    };
    if channels % groups != 0 {
        return Err(Error::bad_input(format!("{channels} channels cannot be put into {groups} groups")));
    }
    let given = if args.opset < 21 { groups } else { channels };
    let (scale, bias) = (per_channel(args, 1, given)?, per_channel(args, 2, given)?);
    let plane = spatial.iter().product::<usize>().max(1);
    let mut out = x.as_f32()?.to_vec();
    for group in out.chunks_exact_mut((channels / groups * plane).max(1)) {
        standardise(group, args.float_or("epsilon", 1e-5));
    }
    for (i, plane) in out.chunks_exact_mut(plane).enumerate().take(n * channels) {
        let c = i % channels;
        let at = if given == channels { c } else { c / (channels / groups) };
        plane.iter_mut().for_each(|v| *v = *v * scale[at] + bias[at]);
    }
    Tensor::f32(x.shape(), out)
}

/// `LRN`: `x / (bias + alpha/size · Σ x²)^beta`, the sum over `size` neighbouring channels.
///
/// # Errors
/// The input has no channels.
pub(super) fn lrn(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let &[_, channels, ref spatial @ ..] = x.shape() else {
        return Err(Error::bad_input(format!("an input of shape {:?} has no channels", x.shape())));
    };
    let size =
        usize::try_from(args.int_or("size", 0)).ok().filter(|&s| s > 0).ok_or_else(|| Error::bad_input("`size` must be positive"))?;
    let (alpha, beta, bias) = (args.float_or("alpha", 1e-4), args.float_or("beta", 0.75), args.float_or("bias", 1.0));
    let plane = spatial.iter().product::<usize>();
    let v = x.as_f32()?;
    let mut out = Vec::with_capacity(v.len());
    for i in 0..v.len() {
        let (c, at) = (i / plane % channels, i - i / plane % channels * plane);
        let (low, high) = (c.saturating_sub((size - 1) / 2), (c + size / 2).min(channels - 1));
        let squares: f32 = (low..=high).map(|c| v[at + c * plane].powi(2)).sum();
        out.push(v[i] / (bias + alpha / size as f32 * squares).powf(beta));
    }
    Tensor::f32(x.shape(), out)
}

/// `LpNormalization`: each line along an axis divided by its norm of order 1 or 2; lines of zeros stay.
///
/// # Errors
/// The axis does not exist.
pub(super) fn lp_norm(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let axis = axis(args.int_or("axis", -1), x.shape().len())?;
    let (outer, n, inner) = crate::model::eval::around(x.shape(), axis);
    let p = args.int_or("p", 2);
    let mut out = x.as_f32()?.to_vec();
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let at = |k: usize| (o * n + k) * inner + i;
        let values = (0..n).map(|k| f64::from(out[at(k)]));
        let norm = if p == 1 { values.map(f64::abs).sum::<f64>() } else { values.map(|v| v * v).sum::<f64>().sqrt() };
        if norm > 0.0 {
            (0..n).for_each(|k| out[at(k)] = (f64::from(out[at(k)]) / norm) as f32);
        }
    }
    Tensor::f32(x.shape(), out)
}

/// `MeanVarianceNormalization`: mean 0 and variance 1 over `axes` (0, 2, 3 when not given).
///
/// # Errors
/// An axis does not exist or is given twice.
pub(super) fn mean_variance(args: &Args) -> Result<Tensor> {
    use crate::onnx::Attributes;
    let x = args.tensor(0)?;
    let given = args.node.ints("axes").unwrap_or(&[0, 2, 3]);
    let axes = crate::model::eval::axes(given, x.shape().len())?;
    let kept: Vec<usize> = (0..x.shape().len()).filter(|a| !axes.contains(a)).collect();
    let order = [&kept[..], &axes].concat();
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &a)| back[a] = i);
    let moved = crate::model::eval::permute(x, &order)?;
    let row: usize = axes.iter().map(|&a| x.shape()[a]).product();
    let mut out = moved.as_f32()?.to_vec();
    // The epsilon of ONNX's own definition.
    out.chunks_exact_mut(row.max(1)).for_each(|row| {
        standardise(row, 1e-9);
    });
    crate::model::eval::permute(&Tensor::f32(moved.shape(), out)?, &back)
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
