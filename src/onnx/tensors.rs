//! `TensorProto` from and to [`Tensor`].

use super::pb;
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// Largest tensor that is decoded: a lying header must not make us allocate without bound.
const MAX_ELEMENTS: usize = 1 << 31;

/// The element type of an ONNX type code (`TensorProto.DataType`), if it is one we compute with.
pub fn dtype_from_onnx(code: i32) -> Option<DType> {
    Some(match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
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
    }
}

/// Decodes an initializer or a constant.
///
/// # Errors
/// The element type is not supported, data lies in another file, or the bytes do not fit the dimensions.
pub fn tensor_from_proto(t: &pb::TensorProto) -> Result<Tensor> {
    let bad = |why: String| Error::bad_input(format!("tensor `{}`: {why}", t.name()));
    let dtype = dtype_from_onnx(t.data_type()).ok_or_else(|| bad(format!("element type {} is not supported", t.data_type())))?;
    if t.data_location() == 1 || !t.external_data.is_empty() {
        return Err(bad("its data lies in an external file, which this version does not read".into())
            .hint("save the model as one file (onnx.save_model with save_as_external_data=False)"));
    }
    let shape =
        t.dims.iter().map(|&d| usize::try_from(d).map_err(|_| bad(format!("dimension {d} is negative")))).collect::<Result<Vec<_>>>()?;
    let count = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| bad(format!("dimensions {shape:?} are too large")))?;
    let data = if t.raw_data.is_some() { elements_from_le(dtype, t.raw_data(), count) } else { from_fields(dtype, t) };
    let data = data
        .filter(|d| d.len() == count)
        .ok_or_else(|| bad(format!("dimensions {shape:?} need {count} elements of {}, the file holds another number", dtype.name())))?;
    Tensor::new(shape, data)
}

/// Checks that the data a tensor holds is as long as its dimensions say, without decoding it. Types that are not computed
/// with here and data in other files pass.
pub(super) fn check_size(t: &pb::TensorProto) -> Result<()> {
    let Some(dtype) = dtype_from_onnx(t.data_type()) else { return Ok(()) };
    if t.data_location() == 1 || !t.external_data.is_empty() {
        return Ok(());
    }
    let found = match dtype {
        _ if t.raw_data.is_some() => t.raw_data().len() / dtype.size(),
        DType::F32 => t.float_data.len(),
        DType::F64 => t.double_data.len(),
        DType::I64 => t.int64_data.len(),
        _ => t.int32_data.len(),
    };
    let count = t.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    match count {
        Some(n) if n == found => Ok(()),
        _ => Err(Error::bad_input(format!("tensor `{}`: dimensions {:?} do not fit the {found} elements it holds", t.name(), t.dims))
            .hint("the file is damaged or was cut; export the model again")),
    }
}

/// Encodes a tensor as raw little-endian bytes.
pub fn tensor_to_proto(name: &str, t: &Tensor) -> pb::TensorProto {
    let mut p = pb::TensorProto::new();
    p.set_name(name.to_owned());
    p.dims = t.shape().iter().map(|&d| d as i64).collect();
    p.set_data_type(dtype_to_onnx(t.dtype()));
    p.set_raw_data(elements_to_le(t.data()));
    p
}

/// Little-endian bytes of the elements.
pub(crate) fn elements_to_le(data: &Data) -> Vec<u8> {
    match data {
        Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::F16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I8(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::U8(v) => v.clone(),
        Data::Bool(v) => v.iter().map(|&b| u8::from(b)).collect(),
    }
}

/// `None` when the number of bytes does not fit.
pub(crate) fn elements_from_le(dtype: DType, raw: &[u8], count: usize) -> Option<Data> {
    if Some(raw.len()) != count.checked_mul(dtype.size()) {
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
        DType::I8 => Data::I8(read!(i8)),
        DType::I16 => Data::I16(read!(i16)),
        DType::I32 => Data::I32(read!(i32)),
        DType::I64 => Data::I64(read!(i64)),
        DType::U8 => Data::U8(raw.to_vec()),
        DType::Bool => Data::Bool(raw.iter().map(|&b| b != 0).collect()),
    })
}

/// From the typed fields; small integers travel in `int32_data`.
fn from_fields(dtype: DType, t: &pb::TensorProto) -> Option<Data> {
    fn narrow<T: TryFrom<i32>>(v: &[i32]) -> Option<Vec<T>> {
        v.iter().map(|&x| T::try_from(x).ok()).collect()
    }
    Some(match dtype {
        DType::F32 => Data::F32(t.float_data.clone()),
        DType::F64 => Data::F64(t.double_data.clone()),
        DType::I64 => Data::I64(t.int64_data.clone()),
        DType::I32 => Data::I32(t.int32_data.clone()),
        DType::F16 => Data::F16(narrow(&t.int32_data)?),
        DType::I8 => Data::I8(narrow(&t.int32_data)?),
        DType::I16 => Data::I16(narrow(&t.int32_data)?),
        DType::U8 => Data::U8(narrow(&t.int32_data)?),
        DType::Bool => Data::Bool(t.int32_data.iter().map(|&b| b != 0).collect()),
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
            for t in [Tensor::f32(vec![v.len()], v.clone()).unwrap(), Tensor::i64s(w.clone())] {
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
        }
    }
}
