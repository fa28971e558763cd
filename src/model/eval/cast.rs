//! `Cast`, and half precision as bits.

use crate::onnx::{dtype_from_onnx, elements_from_le, elements_to_le};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// Converts the element type. Floats become integers by truncation and saturate; integers wrap; anything but 0 is true.
pub(crate) fn cast(x: &Tensor, to: DType) -> Result<Tensor> {
    macro_rules! convert {
        ($v:expr, $zero:expr) => {
            match to {
                DType::F32 => Data::F32($v.iter().map(|&x| x as f32).collect()),
                DType::F64 => Data::F64($v.iter().map(|&x| x as f64).collect()),
                DType::F16 => Data::F16($v.iter().map(|&x| f16_from_f32(x as f32)).collect()),
                DType::BF16 => Data::BF16($v.iter().map(|&x| bf16_from_f32(x as f32)).collect()),
                DType::I8 => Data::I8($v.iter().map(|&x| x as i8).collect()),
                DType::I16 => Data::I16($v.iter().map(|&x| x as i16).collect()),
                DType::I32 => Data::I32($v.iter().map(|&x| x as i32).collect()),
                DType::I64 => Data::I64($v.iter().map(|&x| x as i64).collect()),
                DType::U8 => Data::U8($v.iter().map(|&x| x as u8).collect()),
                DType::U16 => Data::U16($v.iter().map(|&x| x as u16).collect()),
                DType::U32 => Data::U32($v.iter().map(|&x| x as u32).collect()),
                DType::U64 => Data::U64($v.iter().map(|&x| x as u64).collect()),
                // Four bits: the low half of the truncated value.
                DType::I4 => Data::I4($v.iter().map(|&x| ((x as i64 as i8) << 4) >> 4).collect()),
                DType::U4 => Data::U4($v.iter().map(|&x| x as i64 as u8 & 0xf).collect()),
                DType::Bool => Data::Bool($v.iter().map(|&x| x != $zero).collect()),
            }
        };
    }
    let data = match x.data() {
        same if x.dtype() == to => same.clone(),
        Data::F32(v) => convert!(v, 0.0),
        Data::F64(v) => convert!(v, 0.0),
        Data::I8(v) | Data::I4(v) => convert!(v, 0),
        Data::I16(v) => convert!(v, 0),
        Data::I32(v) => convert!(v, 0),
        Data::I64(v) => convert!(v, 0),
        Data::U8(v) | Data::U4(v) => convert!(v, 0),
        Data::U16(v) => convert!(v, 0),
        Data::U32(v) => convert!(v, 0),
        Data::U64(v) => convert!(v, 0),
        Data::F16(v) => {
            let wide: Vec<f32> = v.iter().map(|&h| f32_from_f16(h)).collect();
            convert!(wide, 0.0)
        }
        Data::BF16(v) => {
            let wide: Vec<f32> = v.iter().map(|&h| f32_from_bf16(h)).collect();
            convert!(wide, 0.0)
        }
        Data::Bool(v) => {
            let bits: Vec<u8> = v.iter().map(|&b| b.into()).collect();
            convert!(bits, 0)
        }
    };
    Tensor::new(x.shape().to_vec(), data)
}

/// The element type of an ONNX type code.
pub(super) fn dtype(code: i64) -> Result<DType> {
    let known = i32::try_from(code).ok().and_then(dtype_from_onnx);
    known.ok_or_else(|| Error::bad_input(format!("element type {code} is not supported")))
}

/// `BitCast`: the same bits as another type of the same width.
pub(super) fn bit_cast(x: &Tensor, to: DType) -> Result<Tensor> {
    if x.dtype().bits() != to.bits() {
        return Err(Error::bad_input(format!("{} and {} have different widths", x.dtype().name(), to.name())));
    }
    let bytes = elements_to_le(x.data());
    let data = elements_from_le(to, &bytes, x.len()).ok_or_else(|| Error::bad_input("the bits have no value of this type"))?;
    Tensor::new(x.shape().to_vec(), data)
}

/// The value of bfloat16 bits; exact.
pub(crate) fn f32_from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bfloat16, ties to even.
pub(crate) fn bf16_from_f32(x: f32) -> u16 {
    if x.is_nan() {
        return 0x7fc0;
    }
    let bits = x.to_bits();
    ((u64::from(bits) + 0x7fff + u64::from((bits >> 16) & 1)) >> 16) as u16
}

/// The value of IEEE 754 binary16 bits; exact.
pub(crate) fn f32_from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    if bits & 0x7c00 == 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | magnitude);
    }
    // Scaling by 2^(127−15) moves the exponent bias and makes subnormal halves normal.
    let scaled = f32::from_bits(magnitude) * f32::from_bits((254 - 15) << 23);
    f32::from_bits(sign | scaled.to_bits())
}

/// The nearest IEEE 754 binary16, ties to even, beyond 65504 infinite.
pub(crate) fn f16_from_f32(x: f32) -> u16 {
    let sign = ((x.to_bits() >> 16) & 0x8000) as u16;
    let bits = x.to_bits() & 0x7fff_ffff;
    let magnitude = if bits > 0x7f80_0000 {
        0x7e00
    } else if bits >= 0x4780_0000 {
        0x7c00
    } else if bits < 0x3880_0000 {
        // Subnormal halves are multiples of 2^-24: adding 0.5, whose last place is 2^-24, rounds to one.
        (f32::from_bits(bits) + 0.5).to_bits() - 0.5f32.to_bits()
    } else {
        // Round away 13 bits of the mantissa, ties to even, and move the exponent bias from 127 to 15; a carry rounds up to infinity.
        (bits + 0xfff + ((bits >> 13) & 1) - (112 << 23)) >> 13
    };
    sign | magnitude as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_way_through_f32() {
        for h in 0..=u16::MAX {
            let wide = f32_from_f16(h);
            let back = f16_from_f32(wide);
            assert!(back == h || (wide.is_nan() && f32_from_f16(back).is_nan()), "{h:#x} became {back:#x}");
        }
    }

    #[test]
    fn halves_are_rounded_to_even() {
        for (x, bits) in [
            (1.0, 0x3c00),
            (65504.0, 0x7bff),
            (65520.0, 0x7c00),
            (65519.0, 0x7bff),
            (1e9, 0x7c00),
            (2f32.powi(-24), 1),
            (2f32.powi(-25), 0),
            (-1.000_488_3, 0xbc00),
            (1.001_464_8, 0x3c02),
        ] {
            assert_eq!(f16_from_f32(x), bits, "{x}");
        }
    }
}
