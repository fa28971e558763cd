//! `QuantizeLinear` and `DequantizeLinear`, per tensor and per axis.

use super::args::Args;
use super::layout::{around, axis};
use crate::onnx::dtype_from_onnx;
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// Scales along one axis: the tensor is seen as `[outer, scales, inner]`.
struct Grid<'a> {
    scales: &'a [f32],
    inner: usize,
}

impl<'a> Grid<'a> {
    /// Checks that scale and zero point fit the tensor.
    fn new(args: &Args<'a>) -> Result<Self> {
        let (x, scale) = (args.tensor(0)?, args.tensor(1)?);
        if args.int_or("block_size", 0) != 0 {
            return Err(Error::bad_input("blocked quantization is not supported").hint("quantize per tensor or per axis"));
        }
        let inner = match scale.len() {
            1 if scale.shape().len() <= 1 => x.len().max(1),
            n => {
                let (_, length, inner) = around(x.shape(), axis(args.int_or("axis", 1), x.shape().len())?);
                if length != n || scale.shape().len() != 1 {
                    return Err(Error::bad_input(format!("{n} scales do not fit an axis of {length}")));
                }
                inner
            }
        };
        match args.optional(2) {
            Some(zero) if zero.len() != scale.len() => {
                Err(Error::bad_input(format!("{} zero points do not fit {} scales", zero.len(), scale.len())))
            }
            _ => Ok(Grid { scales: scale.as_f32()?, inner }),
        }
    }

    /// Applies `f(value, scale, zero point)` to all values.
    fn map<A: Copy, R>(&self, v: &[A], zeros: &[i32], f: impl Fn(A, f32, i32) -> R) -> Vec<R> {
        let mut out = Vec::with_capacity(v.len());
        for (i, row) in v.chunks(self.inner.max(1)).enumerate() {
            let c = i % self.scales.len();
            let (scale, zero) = (self.scales[c], zeros.get(c).copied().unwrap_or(0));
            out.extend(row.iter().map(|&x| f(x, scale, zero)));
        }
        out
    }
}

/// `(x − zero_point) · scale`.
pub(super) fn dequantize(args: &Args) -> Result<Tensor> {
    let (x, grid) = (args.tensor(0)?, Grid::new(args)?);
    if let Some(zero) = args.optional(2).filter(|zero| zero.dtype() != x.dtype()) {
        return Err(Error::bad_input(format!("values of {} have zero points of {}", x.dtype().name(), zero.dtype().name())));
    }
    let zeros = zero_points(args)?;
    let out = match x.data() {
        Data::I8(v) => grid.map(v, &zeros, |q, s, z| (i32::from(q) - z) as f32 * s),
        Data::U8(v) => grid.map(v, &zeros, |q, s, z| (i32::from(q) - z) as f32 * s),
        Data::I16(v) => grid.map(v, &zeros, |q, s, z| (i32::from(q) - z) as f32 * s),
        Data::I32(v) => grid.map(v, &zeros, |q, s, z| q.wrapping_sub(z) as f32 * s),
        _ => return Err(Error::bad_input(format!("{} is not a quantized type", x.dtype().name()))),
    };
    Tensor::f32(x.shape(), out)
}

/// `saturate(round(x / scale) + zero_point)`, ties to even; `uint8` unless zero point or `output_dtype` say otherwise.
pub(super) fn quantize(args: &Args) -> Result<Tensor> {
    let (x, grid) = (args.tensor(0)?, Grid::new(args)?);
    let zeros = zero_points(args)?;
    let to = match (args.optional(2), args.int_or("output_dtype", 0)) {
        (Some(zero), _) => Some(zero.dtype()),
        (None, 0) => Some(DType::U8),
        (None, code) => i32::try_from(code).ok().and_then(dtype_from_onnx),
    };
    let v = x.as_f32()?;
    // The cast from float saturates; adding first keeps one rounding.
    let place = |x: f32, s: f32, z: i32| (x / s).round_ties_even() + z as f32;
    let data = match to {
        Some(DType::U8) => Data::U8(grid.map(v, &zeros, |x, s, z| place(x, s, z) as u8)),
        Some(DType::I8) => Data::I8(grid.map(v, &zeros, |x, s, z| place(x, s, z) as i8)),
        Some(DType::I16) => Data::I16(grid.map(v, &zeros, |x, s, z| place(x, s, z) as i16)),
        _ => return Err(Error::bad_input("the quantized type is not supported").hint("use int8, uint8 or int16")),
    };
    Tensor::new(x.shape().to_vec(), data)
}

/// The zero points; empty when none are given.
fn zero_points(args: &Args) -> Result<Vec<i32>> {
    Ok(match args.optional(2).map(Tensor::data) {
        None => vec![],
        Some(Data::I8(v)) => v.iter().map(|&z| z.into()).collect(),
        Some(Data::U8(v)) => v.iter().map(|&z| z.into()).collect(),
        Some(Data::I16(v)) => v.iter().map(|&z| z.into()).collect(),
        Some(Data::I32(v)) => v.clone(),
        Some(_) => return Err(Error::bad_input("zero points must be int8, uint8, int16 or int32")),
    })
}
