//! `TensorProto` from and to [`Tensor`].

use super::pb;
use crate::tensor::{DType, Data, Tensor, with_data};
use crate::{Error, Result};

/// Largest tensor that is decoded: a lying header must not make us allocate without bound.
const MAX_ELEMENTS: usize = 1 << 31;

/// The element type of an ONNX type code (`TensorProto.DataType`), if it is one we compute with.
pub fn dtype_from_onnx(code: i32) -> Option<DType> {
    Some(match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        21 => DType::U4,
        22 => DType::I4,
        _ => return None,
    })
}

/// The ONNX type code of an element type.
pub fn dtype_to_onnx(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U16 => 4,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
        DType::U4 => 21,
        DType::I4 => 22,
    }
}

/// Bits per element of an ONNX type code, of the types that are not computed with too; `None` for strings and codes of the future.
fn bits_from_onnx(code: i32) -> Option<usize> {
    Some(match code {
        // FLOAT8 in its four forms and FLOAT8E8M0.
        17..=20 | 24 => 8,
        // COMPLEX64, COMPLEX128.
        14 => 64,
        15 => 128,
        // FLOAT4E2M1, UINT2, INT2, FLOAT6E2M3, FLOAT6E3M2.
        23 => 4,
        25 | 26 => 2,
        27 | 28 => 6,
        _ => dtype_from_onnx(code)?.bits(),
    })
}

/// Decodes an initializer or a constant.
///
/// # Errors
/// The element type is not supported, its data lies in another file that was not read, or the bytes do not fit the dimensions.
pub fn tensor_from_proto(t: &pb::TensorProto) -> Result<Tensor> {
    let bad = |why: String| Error::bad_input(format!("tensor `{}`: {why}", t.name()));
    let dtype = dtype_from_onnx(t.data_type()).ok_or_else(|| bad(format!("element type {} is not supported", t.data_type())))?;
    if is_external(t) && t.raw_data.is_none() {
        return Err(bad("its data lies in another file, which was not read".into())
            .hint("open the model by its path, with the files it came with beside it"));
    }
    let shape =
        t.dims.iter().map(|&d| usize::try_from(d).map_err(|_| bad(format!("dimension {d} is negative")))).collect::<Result<Vec<_>>>()?;
    let count = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| bad(format!("dimensions {shape:?} are too large")))?;
    let data = if t.raw_data.is_some() { elements_from_le(dtype, t.raw_data(), count) } else { from_fields(dtype, t, count) };
    let data = data
        .filter(|d| d.len() == count)
        .ok_or_else(|| bad(format!("dimensions {shape:?} need {count} elements of {}, the file holds another number", dtype.name())))?;
    Tensor::new(shape, data)
}

/// Number of elements that are exactly zero (of either sign), counted on the file's own bytes where they are all there is.
///
/// # Errors
/// As [`tensor_from_proto`].
pub fn zero_count(t: &pb::TensorProto) -> Result<u64> {
    let raw = t.raw_data();
    let zeros = match dtype_from_onnx(t.data_type()) {
        Some(DType::F32) if !raw.is_empty() => raw.as_chunks::<4>().0.iter().filter(|b| f32::from_le_bytes(**b) == 0.0).count(),
        Some(DType::F16 | DType::BF16) if !raw.is_empty() => {
            raw.as_chunks::<2>().0.iter().filter(|b| u16::from_le_bytes(**b) & 0x7fff == 0).count()
        }
        Some(DType::I8 | DType::U8) if !raw.is_empty() => raw.iter().filter(|&&b| b == 0).count(),
        _ => with_data!(tensor_from_proto(t)?.data(), v => v.iter().filter(|&x| is_zero(x)).count()),
    };
    Ok(zeros as u64)
}

/// Zero in any type; halves are given as their bits, which differ from zero for −0.0 alone.
fn is_zero<T: Default + PartialEq>(x: &T) -> bool {
    *x == T::default()
}

/// True when the file says that the tensor's data lies in another file.
pub(super) fn is_external(t: &pb::TensorProto) -> bool {
    t.data_location() == 1
}

/// Checks that the data a tensor holds is as long as its dimensions say, without decoding it. Types of the future and data in
/// other files pass.
pub(super) fn check_size(t: &pb::TensorProto) -> Result<()> {
    if is_external(t) && t.raw_data.is_none() {
        return Ok(());
    }
    let count = t.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let (found, wanted) = match (t.data_type(), bits_from_onnx(t.data_type())) {
        (8, _) => (t.string_data.len(), count),
        (_, None) => return Ok(()),
        (_, Some(bits)) if t.raw_data.is_some() => (t.raw_data().len(), count.and_then(|n| Some(n.checked_mul(bits)?.div_ceil(8)))),
        (1, _) => (t.float_data.len(), count),
        (14, _) => (t.float_data.len(), count.and_then(|n| n.checked_mul(2))),
        (11, _) => (t.double_data.len(), count),
        (15, _) => (t.double_data.len(), count.and_then(|n| n.checked_mul(2))),
        (7, _) => (t.int64_data.len(), count),
        (12 | 13, _) => (t.uint64_data.len(), count),
        // Elements below a byte share one.
        (_, Some(bits)) => (t.int32_data.len(), count.and_then(|n| Some(if bits < 8 { n.checked_mul(bits)?.div_ceil(8) } else { n }))),
    };
    if wanted == Some(found) {
        return Ok(());
    }
    Err(Error::bad_input(format!("tensor `{}`: dimensions {:?} do not fit the data it holds", t.name(), t.dims))
        .hint("the file is damaged or was cut; export the model again"))
}

/// Encodes a tensor as raw little-endian bytes.
pub fn tensor_to_proto(name: &str, t: &Tensor) -> pb::TensorProto {
    let mut p = pb::TensorProto::new();
    p.set_name(name.to_owned());
    p.dims = t.shape().iter().map(|&d| d as i64).collect();
    p.set_data_type(dtype_to_onnx(t.dtype()));
    p.set_raw_data(elements_to_le(t.data()).into());
    p
}

/// Little-endian bytes of the elements, as a file holds them.
pub(crate) fn elements_to_le(data: &Data) -> Vec<u8> {
    macro_rules! bytes {
        ($v:expr) => {
            $v.iter().flat_map(|x| x.to_le_bytes()).collect()
        };
    }
    match data {
        Data::F32(v) => bytes!(v),
        Data::F64(v) => bytes!(v),
        Data::F16(v) | Data::BF16(v) | Data::U16(v) => bytes!(v),
        Data::I8(v) => bytes!(v),
        Data::I16(v) => bytes!(v),
        Data::I32(v) => bytes!(v),
        Data::I64(v) => bytes!(v),
        Data::U32(v) => bytes!(v),
        Data::U64(v) => bytes!(v),
        Data::U8(v) => v.clone(),
        Data::Bool(v) => v.iter().map(|&b| u8::from(b)).collect(),
        Data::I4(v) => v.chunks(2).map(|pair| pack(pair[0] as u8, pair.get(1).map_or(0, |&x| x as u8))).collect(),
        Data::U4(v) => v.chunks(2).map(|pair| pack(pair[0], pair.get(1).copied().unwrap_or(0))).collect(),
    }
}

/// Two elements of 4 bits in one byte: the first in the low half (ONNX, TensorProto.int32_data).
fn pack(low: u8, high: u8) -> u8 {
    (low & 0xf) | (high << 4)
}

/// `None` when the number of bytes does not fit.
pub(crate) fn elements_from_le(dtype: DType, raw: &[u8], count: usize) -> Option<Data> {
    if Some(raw.len()) != dtype.packed_len(count) {
        return None;
    }
    macro_rules! read {
        ($t:ty) => {
            raw.as_chunks().0.iter().map(|&b| <$t>::from_le_bytes(b)).collect()
        };
    }
    Some(match dtype {
        DType::F32 => Data::F32(read!(f32)),
        DType::F64 => Data::F64(read!(f64)),
        DType::F16 => Data::F16(read!(u16)),
        DType::BF16 => Data::BF16(read!(u16)),
        DType::I8 => Data::I8(read!(i8)),
        DType::I16 => Data::I16(read!(i16)),
        DType::I32 => Data::I32(read!(i32)),
        DType::I64 => Data::I64(read!(i64)),
        DType::U8 => Data::U8(raw.to_vec()),
        DType::U16 => Data::U16(read!(u16)),
        DType::U32 => Data::U32(read!(u32)),
        DType::U64 => Data::U64(read!(u64)),
        DType::Bool => Data::Bool(raw.iter().map(|&b| b != 0).collect()),
        DType::U4 => Data::U4(halves(raw, count).collect()),
        DType::I4 => Data::I4(halves(raw, count).map(sign_extend).collect()),
    })
}

/// The `count` elements of 4 bits in `raw`.
fn halves(raw: &[u8], count: usize) -> impl Iterator<Item = u8> {
    raw.iter().flat_map(|b| [b & 0xf, b >> 4]).take(count)
}

fn sign_extend(half: u8) -> i8 {
    ((half << 4) as i8) >> 4
}

/// From the typed fields; small integers travel in `int32_data`, elements of 4 bits two by two.
fn from_fields(dtype: DType, t: &pb::TensorProto, count: usize) -> Option<Data> {
    fn narrow<T: TryFrom<i32>>(v: &[i32]) -> Option<Vec<T>> {
        v.iter().map(|&x| T::try_from(x).ok()).collect()
    }
    let pairs = || t.int32_data.iter().map(|&x| x as u8).collect::<Vec<u8>>();
    Some(match dtype {
        DType::F32 => Data::F32(t.float_data.clone()),
        DType::F64 => Data::F64(t.double_data.clone()),
        DType::I64 => Data::I64(t.int64_data.clone()),
        DType::I32 => Data::I32(t.int32_data.clone()),
        DType::U64 => Data::U64(t.uint64_data.clone()),
        DType::U32 => Data::U32(t.uint64_data.iter().map(|&x| u32::try_from(x).ok()).collect::<Option<_>>()?),
        DType::F16 => Data::F16(narrow(&t.int32_data)?),
        DType::BF16 => Data::BF16(narrow(&t.int32_data)?),
        DType::I8 => Data::I8(narrow(&t.int32_data)?),
        DType::I16 => Data::I16(narrow(&t.int32_data)?),
        DType::U8 => Data::U8(narrow(&t.int32_data)?),
        DType::U16 => Data::U16(narrow(&t.int32_data)?),
        DType::Bool => Data::Bool(t.int32_data.iter().map(|&b| b != 0).collect()),
        DType::U4 => Data::U4(halves(&pairs(), count).collect()),
        DType::I4 => Data::I4(halves(&pairs(), count).map(sign_extend).collect()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn raw_bytes_round_trip(v in prop::collection::vec(any::<f32>().prop_filter("nan", |x| !x.is_nan()), 0..50), w in prop::collection::vec(any::<i64>(), 0..50)) {
            let fours: Vec<i8> = w.iter().map(|x| (x % 8) as i8).collect();
            let fours = Tensor::new(vec![fours.len()], Data::I4(fours)).unwrap();
            for t in [Tensor::f32(vec![v.len()], v.clone()).unwrap(), Tensor::i64s(w.clone()), fours] {
                prop_assert_eq!(&tensor_from_proto(&tensor_to_proto("t", &t)).unwrap(), &t);
            }
        }
    }

    #[test]
    fn lying_dimensions_are_refused() {
        let mut p = tensor_to_proto("w", &Tensor::f32([2], vec![1.0, 2.0]).unwrap());
        for dims in [vec![3], vec![-1], vec![i64::MAX, 8], vec![1 << 33]] {
            p.dims = dims;
            let e = tensor_from_proto(&p).unwrap_err().to_string();
            assert!(e.starts_with("tensor `w`: dimension"), "{e}");
            assert!(check_size(&p).is_err());
        }
    }
}
