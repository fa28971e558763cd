//! Products of integers, and of packed weights.

use super::{conv_any, matmul};
use crate::model::eval::{Args, cast, count};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// `x − zero_point` in float32, in which every difference of 8-bit integers is exact. The zero points are one for all, or one for each
/// entry of `axis`.
fn centred(x: &Tensor, zero: Option<&Tensor>, axis: usize) -> Result<Tensor> {
    let wide = cast(x, DType::F32)?;
    let Some(zero) = zero else { return Ok(wide) };
    let zeros = cast(zero, DType::F32)?;
    let zeros = zeros.as_f32()?;
    let length = x.shape().get(axis).copied().unwrap_or(1);
    if zeros.len() != 1 && zeros.len() != length {
        return Err(Error::bad_input(format!("{} zero points do not fit an axis of {length}", zeros.len())));
    }
    let inner: usize = x.shape().iter().skip(axis + 1).product::<usize>().max(1);
    let at = |i: usize| zeros[if zeros.len() == 1 { 0 } else { i / inner % length }];
    Tensor::f32(x.shape(), wide.as_f32()?.iter().enumerate().map(|(i, v)| v - at(i)).collect())
}

/// The exact product of two integer tensors as int32: float32 holds sums below 2²⁴, so long sums are split.
fn exact(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    /// 255·255·256 < 2²⁴.
    const PART: usize = 256;
    let k = a.shape().last().copied().unwrap_or(0);
    if k <= PART {
        return Ok(matmul(a, b)?.as_f32()?.iter().map(|&v| v.into()).collect());
    }
    let (last, rows) = (a.shape().len() - 1, b.shape().len().saturating_sub(2));
    let mut sum: Vec<f64> = vec![];
    for begin in (0..k).step_by(PART) {
        let size = PART.min(k - begin);
        let part = matmul(&crate::model::eval::part(a, last, begin, size)?, &crate::model::eval::part(b, rows, begin, size)?)?;
        let part = part.as_f32()?;
        sum.resize(part.len(), 0.0);
        sum.iter_mut().zip(part).for_each(|(s, &p)| *s += f64::from(p));
    }
    Ok(sum)
}

/// The shape of a product.
fn product_shape(a: &Tensor, b: &Tensor) -> Result<Vec<usize>> {
    let empty = |t: &Tensor| -> Result<Tensor> {
        // A product over an inner axis of 0 has the shape and costs nothing.
        let mut shape = t.shape().to_vec();
        let at = if std::ptr::eq(t, a) { shape.len().checked_sub(1) } else { shape.len().checked_sub(2).or(Some(0)) };
        if let Some(d) = at.and_then(|i| shape.get_mut(i)) {
            *d = 0;
        }
        Tensor::f32(shape, vec![])
    };
    Ok(matmul(&empty(a)?, &empty(b)?)?.shape().to_vec())
}

/// `MatMulInteger`.
pub(super) fn matmul_integer(args: &Args) -> Result<Tensor> {
    let (a, b) = (args.tensor(0)?, args.tensor(1)?);
    let rows = a.shape().len().saturating_sub(2);
    let a = centred(a, args.optional(2), rows)?;
    let b = centred(b, args.optional(3), b.shape().len().saturating_sub(1))?;
    Tensor::new(product_shape(&a, &b)?, Data::I32(exact(&a, &b)?.into_iter().map(|v| v as i32).collect()))
}

/// `QLinearMatMul`: `y = saturate(round(a·b · s_a·s_b / s_y) + z_y)`.
pub(super) fn qlinear_matmul(args: &Args) -> Result<Tensor> {
    let (a, b) = (args.tensor(0)?, args.tensor(3)?);
    let a = centred(a, Some(args.tensor(2)?), a.shape().len().saturating_sub(2))?;
    let b = centred(b, Some(args.tensor(5)?), b.shape().len().saturating_sub(1))?;
    let shape = product_shape(&a, &b)?;
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let sums = exact(&a, &b)?;
    let scale = Requantize::new(args, 1, 4, 6, 7)?;
    scale.apply(shape, sums, |i| i % columns)
}

/// `ConvInteger`.
pub(super) fn conv_integer(args: &Args) -> Result<Tensor> {
    let (x, w) = (centred(args.tensor(0)?, args.optional(2), 0)?, centred(args.tensor(1)?, args.optional(3), 0)?);
    let y = conv_any(args.node, args.opset, &x, &w, None, &mut super::Arena::default())?;
    Tensor::new(y.shape().to_vec(), Data::I32(y.as_f32()?.iter().map(|&v| v.round() as i32).collect()))
}

/// `QLinearConv`, whose bias is int32 of scale `s_x·s_w`.
pub(super) fn qlinear_conv(args: &Args) -> Result<Tensor> {
    let (x, w) = (centred(args.tensor(0)?, Some(args.tensor(2)?), 0)?, centred(args.tensor(3)?, Some(args.tensor(5)?), 0)?);
    let bias = args.optional(8).map(|b| cast(b, DType::F32)).transpose()?;
    let y = conv_any(args.node, args.opset, &x, &w, bias.as_ref(), &mut super::Arena::default())?;
    let shape = y.shape().to_vec();
    let (channels, plane) = (shape[1].max(1), shape[2..].iter().product::<usize>().max(1));
    let sums = y.as_f32()?.iter().map(|&v| f64::from(v)).collect();
    Requantize::new(args, 1, 4, 6, 7)?.apply(shape, sums, |i| i / plane % channels)
}

/// From sums back to the integers of the result.
struct Requantize {
    factors: Vec<f64>,
    zero: f64,
    to: DType,
}

impl Requantize {
    /// The inputs that hold the operands' scales, the result's scale and its zero point.
    fn new(args: &Args, a: usize, b: usize, y: usize, zero: usize) -> Result<Self> {
        let scales = |i: usize| -> Result<Vec<f64>> {
            let t = cast(args.tensor(i)?, DType::F64)?;
            match t.into_data() {
                Data::F64(v) => Ok(v),
                _ => Ok(vec![]),
            }
        };
        let (a, b, y, z) = (scales(a)?, scales(b)?, scales(y)?, scales(zero)?);
        let ([a], [y], [z]) = (a.as_slice(), y.as_slice(), z.as_slice()) else {
            return Err(Error::bad_input("scales and zero points of activations must be one value"));
        };
        Ok(Requantize { factors: b.iter().map(|b| a * b / y).collect(), zero: *z, to: args.tensor(zero)?.dtype() })
    }

    fn apply(&self, shape: Vec<usize>, sums: Vec<f64>, channel: impl Fn(usize) -> usize) -> Result<Tensor> {
        let factor = |i: usize| match self.factors.as_slice() {
            [one] => Some(*one),
            all => all.get(channel(i)).copied(),
        };
        let place = |(i, s): (usize, &f64)| {
            Ok((s * factor(i).ok_or_else(|| Error::bad_input("there are too few scales"))?).round_ties_even() + self.zero)
        };
        let values = sums.iter().enumerate().map(place).collect::<Result<Vec<f64>>>()?;
        let data = match self.to {
            DType::U8 => Data::U8(values.iter().map(|&v| v as u8).collect()),
            DType::I8 => Data::I8(values.iter().map(|&v| v as i8).collect()),
            other => return Err(Error::bad_input(format!("results of {} are not supported", other.name()))),
        };
        Tensor::new(shape, data)
    }
}

/// `MatMulNBits` (com.microsoft): weights `[N, blocks, bytes]` of 2, 4 or 8 bits, lowest bits first, with a scale for each block and,
/// unless given, the zero point 2^(bits − 1).
pub(super) fn matmul_nbits(args: &Args) -> Result<Tensor> {
    let size = |name: &str, default: i64| usize::try_from(args.int_or(name, default)).ok().filter(|&n| n > 0 && n < 1 << 24);
    let (Some(k), Some(n), Some(bits), Some(block)) = (size("K", 0), size("N", 0), size("bits", 4), size("block_size", 0)) else {
        return Err(Error::bad_input("`K`, `N`, `bits` or `block_size` is missing or not positive"));
    };
    if !matches!(bits, 2 | 4 | 8) || block % 16 != 0 {
        return Err(Error::bad_input(format!("{bits} bits in blocks of {block} are not supported")));
    }
    let (packed, scales) = (args.tensor(1)?, cast(args.tensor(2)?, DType::F32)?);
    let Data::U8(bytes) = packed.data() else { return Err(Error::bad_input("packed weights must be uint8")) };
    let scales = scales.as_f32()?;
    let blocks = k.div_ceil(block);
    let (row, zero_row) = (blocks * block * bits / 8, (blocks * bits).div_ceil(8));
    if bytes.len() != n * row || scales.len() != n * blocks {
        return Err(Error::bad_input(format!("weights or scales do not fit {n}×{k} in blocks of {block}")));
    }
    let unpack = |bytes: &[u8], i: usize| f32::from(bytes[i * bits / 8] >> (i * bits % 8) & (0xff >> (8 - bits)) as u8);
    let zeros: Box<dyn Fn(usize, usize) -> f32> = match args.optional(3).map(Tensor::data) {
        None => Box::new(|_, _| (1u32 << (bits - 1)) as f32),
        Some(Data::U8(z)) if z.len() == n * zero_row => Box::new(move |o, b| unpack(&z[o * zero_row..][..zero_row], b)),
        Some(Data::F32(z)) if z.len() == n * blocks => Box::new(move |o, b| z[o * blocks + b]),
        Some(_) => return Err(Error::bad_input("the zero points do not fit the blocks")),
    };
    count(&[k, n])?;
    let mut weights = vec![0.0f32; k * n];
    for (o, bytes) in bytes.chunks_exact(row).enumerate() {
        for i in 0..k {
            weights[i * n + o] = (unpack(bytes, i) - zeros(o, i / block)) * scales[o * blocks + i / block];
        }
    }
    let y = matmul(args.tensor(0)?, &Tensor::f32([k, n], weights)?)?;
    match args.optional(5) {
        Some(bias) => crate::model::eval::add(&y, bias),
        None => Ok(y),
    }
}
