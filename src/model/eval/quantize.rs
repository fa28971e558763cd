//! `QuantizeLinear`, `DequantizeLinear`: per tensor, per axis and per block; `DynamicQuantizeLinear`.

use super::args::Args;
use super::cast::{cast, dtype};
use super::layout::{around, axis};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// Which scale each element has: the tensor is seen as `[outer, scales · block, inner]`.
struct Grid {
    scales: Vec<f32>,
    /// Zero points, none or one for each scale.
    zeros: Vec<i64>,
    /// Elements of one step along the axis.
    inner: usize,
    /// Length of the axis.
    length: usize,
    /// Elements of the axis that share a scale.
    block: usize,
    /// Whether the scales differ after the axis too: blocks have one for each place beside it.
    blocked: bool,
}

impl Grid {
    /// Checks that scale and zero point fit the tensor.
    fn new(args: &Args) -> Result<Self> {
        let (x, scale) = (args.tensor(0)?, args.tensor(1)?);
        let scales = cast(scale, DType::F32)?.as_f32()?.to_vec();
        let zeros = args.optional(2).map(|z| cast(z, DType::I64)).transpose()?.map_or(Ok(vec![]), |z| z.as_i64().map(<[i64]>::to_vec))?;
        if args.optional(2).is_some_and(|z| z.len() != scale.len()) {
            return Err(Error::bad_input(format!("{} zero points do not fit {} scales", zeros.len(), scales.len())));
        }
        if scale.len() == 1 && scale.shape().len() <= 1 {
            return Ok(Grid { scales, zeros, inner: x.len().max(1), length: 1, block: 1, blocked: false });
        }
        let at = axis(args.int_or("axis", 1), x.shape().len())?;
        let (_, length, inner) = around(x.shape(), at);
        let misfit = || Error::bad_input(format!("scales of shape {:?} do not fit {:?} along axis {at}", scale.shape(), x.shape()));
        if scale.shape().len() == 1 {
            let grid = Grid { scales, zeros, inner, length, block: 1, blocked: false };
            return if grid.scales.len() == length { Ok(grid) } else { Err(misfit()) };
        }
        let blocks = scale.shape().get(at).copied().filter(|&b| b > 0).ok_or_else(misfit)?;
        let block = match usize::try_from(args.int_or("block_size", 0)) {
            Ok(0) | Err(_) => length.div_ceil(blocks),
            Ok(given) => given,
        };
        let fits = scale.shape().len() == x.shape().len()
            && (0..x.shape().len()).all(|a| a == at || scale.shape()[a] == x.shape()[a])
            && block > 0
            && length.div_ceil(block) == blocks;
        if fits { Ok(Grid { scales, zeros, inner, length, block, blocked: true }) } else { Err(misfit()) }
    }

    /// Applies `f(value, scale, zero point)` to all values.
    fn map<A: Copy, R>(&self, v: &[A], f: impl Fn(A, f32, i64) -> R) -> Vec<R> {
        let mut out = Vec::with_capacity(v.len());
        let (inner, length) = (self.inner.max(1), self.length.max(1));
        let blocks = length.div_ceil(self.block);
        let at = |c: usize| (self.scales[c], self.zeros.get(c).copied().unwrap_or(0));
        for (step, row) in v.chunks(inner).enumerate() {
            let (outer, along) = (step / length, step % length);
            if self.blocked {
                let first = (outer * blocks + along / self.block) * inner;
                out.extend(row.iter().enumerate().map(|(i, &x)| {
                    let (scale, zero) = at(first + i);
                    f(x, scale, zero)
                }));
            } else {
                let (scale, zero) = at(along);
                out.extend(row.iter().map(|&x| f(x, scale, zero)));
            }
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
    macro_rules! values {
        ($v:expr) => {
            grid.map($v, |q, s, z| (i64::from(q) - z) as f32 * s)
        };
    }
    let out = match x.data() {
        Data::I8(v) | Data::I4(v) => values!(v),
        Data::U8(v) | Data::U4(v) => values!(v),
        Data::I16(v) => values!(v),
        Data::U16(v) => values!(v),
        Data::I32(v) => values!(v),
        _ => return Err(Error::bad_input(format!("{} is not a quantized type", x.dtype().name()))),
    };
    let to = match args.int_or("output_dtype", 0) {
        0 => args.tensor(1)?.dtype(),
        code => dtype(code)?,
    };
    cast(&Tensor::f32(x.shape(), out)?, to)
}

/// `saturate(round(x / scale) + zero_point)`, ties to even; `uint8` unless zero point or `output_dtype` say otherwise.
pub(super) fn quantize(args: &Args) -> Result<Tensor> {
    let (x, grid) = (args.tensor(0)?, Grid::new(args)?);
    let to = match (args.optional(2), args.int_or("output_dtype", 0)) {
        (Some(zero), _) => zero.dtype(),
        (None, 0) => DType::U8,
        (None, code) => dtype(code)?,
    };
    let wide = cast(x, DType::F32)?;
    let v = wide.as_f32()?;
    // The cast from float saturates; adding first keeps one rounding.
    let place = |x: f32, s: f32, z: i64| (x / s).round_ties_even() + z as f32;
    let data = match to {
        DType::U8 => Data::U8(grid.map(v, |x, s, z| place(x, s, z) as u8)),
        DType::I8 => Data::I8(grid.map(v, |x, s, z| place(x, s, z) as i8)),
        DType::I16 => Data::I16(grid.map(v, |x, s, z| place(x, s, z) as i16)),
        DType::U16 => Data::U16(grid.map(v, |x, s, z| place(x, s, z) as u16)),
        DType::I4 => Data::I4(grid.map(v, |x, s, z| place(x, s, z).clamp(-8.0, 7.0) as i8)),
        DType::U4 => Data::U4(grid.map(v, |x, s, z| place(x, s, z).clamp(0.0, 15.0) as u8)),
        _ => return Err(Error::bad_input("the quantized type is not supported").hint("use integers of 4, 8 or 16 bits")),
    };
    Tensor::new(x.shape().to_vec(), data)
}

/// `DynamicQuantizeLinear`: uint8 over the range of the data, which is made to hold 0; with its scale and zero point.
pub(super) fn dynamic(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let v = x.as_f32()?;
    let low = v.iter().fold(0.0f32, |m, &x| m.min(x));
    let high = v.iter().fold(0.0f32, |m, &x| m.max(x));
    let scale = (high - low) / 255.0;
    let zero = if scale == 0.0 { 0.0 } else { (-low / scale).clamp(0.0, 255.0).round_ties_even() };
    let quantized = v.iter().map(|&x| if scale == 0.0 { 0 } else { ((x / scale).round_ties_even() + zero) as u8 }).collect();
    Ok(vec![
        Tensor::new(x.shape().to_vec(), Data::U8(quantized))?,
        Tensor::f32([], vec![scale])?,
        Tensor::new(vec![], Data::U8(vec![zero as u8]))?,
    ])
}
