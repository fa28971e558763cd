//! The IDX format of the MNIST family: two zero bytes, element type, rank, dimensions, elements; all big-endian.

use super::array::{Element, Endian, Layout, Order};
use super::source::broken;
use crate::tensor::DType;
use crate::{Error, Result};
use std::io::Read;

/// What the file says of its array, whose elements are all that follows.
pub(super) fn header(reader: &mut impl Read) -> Result<Layout> {
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(broken)?;
    let dtype = match magic {
        [0, 0, 0x08, _] => DType::U8,
        [0, 0, 0x09, _] => DType::I8,
        [0, 0, 0x0B, _] => DType::I16,
        [0, 0, 0x0C, _] => DType::I32,
        [0, 0, 0x0D, _] => DType::F32,
        [0, 0, 0x0E, _] => DType::F64,
        _ => return Err(Error::bad_input("this is not an IDX file (its first bytes say otherwise)").hint(super::source::SUPPORTED)),
    };
    let mut dims = Vec::new();
    for _ in 0..magic[3] {
        let mut dim = [0; 4];
        reader.read_exact(&mut dim).map_err(broken)?;
        dims.push(u32::from_be_bytes(dim).into());
    }
    Ok(Layout { element: Element { dtype, endian: Endian::Big }, order: Order::C, dims })
}
