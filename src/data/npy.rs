//! NumPy's `.npy` format (NEP 1): a magic, a version, a header written as a Python dictionary, the elements.
//!
//! The header is parsed here, without recursion and with its length bounded, because it comes from a stranger: general
//! readers of Python literals allocate what the length field says and multiply the shape without checking.

use super::array::{Element, Endian, Layout, Order};
use super::source::{broken, printable};
use crate::tensor::DType;
use crate::{Error, Result};
use std::io::Read;

/// NumPy itself writes headers of 128 bytes and refuses to read more than 10,000 characters.
const MAX_HEADER_BYTES: u32 = 10_000;

/// What the file says of its array, whose elements are all that follows.
pub(super) fn header(reader: &mut impl Read) -> Result<Layout> {
    let [m0, m1, m2, m3, m4, m5, major, _minor] = bytes(reader)?;
    if [m0, m1, m2, m3, m4, m5] != *b"\x93NUMPY" {
        return Err(Error::bad_input("this is not a NumPy array"));
    }
    let length = match major {
        1 => u16::from_le_bytes(bytes(reader)?).into(),
        2 | 3 => u32::from_le_bytes(bytes(reader)?),
        _ => return Err(Error::bad_input(format!("version {major} of NumPy's format is not known"))),
    };
    if length > MAX_HEADER_BYTES {
        return Err(Error::bad_input(format!("the array's header of {length} bytes is too long")));
    }
    let mut text = vec![0; length as usize];
    reader.read_exact(&mut text).map_err(broken)?;
    let text = String::from_utf8(text).map_err(|_| malformed())?;
    Dictionary(&text).layout()
}

fn bytes<const N: usize>(reader: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(broken)?;
    Ok(bytes)
}

fn malformed() -> Error {
    Error::bad_input("the array's header is not one NumPy writes").hint("save it again with `numpy.save` or `numpy.savez_compressed`")
}

/// What is left of the header's text.
struct Dictionary<'a>(&'a str);

impl<'a> Dictionary<'a> {
    fn layout(mut self) -> Result<Layout> {
        let (mut element, mut order, mut dims) = (None, None, None);
        self.expect('{')?;
        while !self.eat('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => element = Some(self.element()?),
                "fortran_order" => order = Some(if self.boolean()? { Order::Fortran } else { Order::C }),
                "shape" => dims = Some(self.tuple()?),
                _ => return Err(malformed()),
            }
            if !self.eat(',') {
                self.expect('}')?;
                break;
            }
        }
        match (element, order, dims) {
            (Some(element), Some(order), Some(dims)) if self.0.trim().is_empty() => Ok(Layout { element, order, dims }),
            _ => Err(malformed()),
        }
    }

    fn element(&mut self) -> Result<Element> {
        if self.0.trim_start().starts_with('[') {
            return Err(Error::bad_input("arrays with named fields are not supported").hint("save each field as an array of its own"));
        }
        let descr = self.string()?;
        let (endian, kind) = match descr.split_at_checked(1) {
            Some((">", kind)) => (Endian::Big, kind),
            Some(("<" | "|" | "=", kind)) => (Endian::Little, kind),
            _ => (Endian::Little, descr),
        };
        let dtype = match kind {
            "b1" => DType::Bool,
            "u1" => DType::U8,
            "i1" => DType::I8,
            "i2" => DType::I16,
            "i4" => DType::I32,
            "i8" => DType::I64,
            "u2" => DType::U16,
            "u4" => DType::U32,
            "u8" => DType::U64,
            "f4" => DType::F32,
            "f8" => DType::F64,
            "O" => {
                return Err(Error::bad_input("the array holds Python objects, which are code and are not loaded")
                    .hint("save plain numbers, for example with `.astype(numpy.float32)`"));
            }
            _ => {
                return Err(Error::bad_input(format!("element type `{}` is not supported", printable(descr)))
                    .hint("supported are bool, (u)int8 to (u)int64, float32 and float64; convert with `.astype`"));
            }
        };
        Ok(Element { dtype, endian })
    }

    fn tuple(&mut self) -> Result<Vec<u64>> {
        self.expect('(')?;
        let mut dims = Vec::new();
        while !self.eat(')') {
            self.0 = self.0.trim_start();
            let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let (number, rest) = self.0.split_at(digits);
            dims.push(number.parse().map_err(|_| malformed())?);
            // Python 2 wrote long integers with an L.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if !self.eat(',') {
                self.expect(')')?;
                break;
            }
        }
        // NumPy's own bound is 64.
        if dims.len() <= 64 { Ok(dims) } else { Err(malformed()) }
    }

    fn boolean(&mut self) -> Result<bool> {
        let rest = self.0.trim_start();
        let (value, rest) = match (rest.strip_prefix("True"), rest.strip_prefix("False")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(malformed()),
        };
        self.0 = rest;
        Ok(value)
    }

    /// A quoted string; NumPy's keys and element types need no escapes.
    fn string(&mut self) -> Result<&'a str> {
        let rest = self.0.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or_else(malformed)?;
        let (string, rest) = rest[1..].split_once(quote).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(string)
    }

    fn expect(&mut self, c: char) -> Result<()> {
        if self.eat(c) { Ok(()) } else { Err(malformed()) }
    }

    fn eat(&mut self, c: char) -> bool {
        let rest = self.0.trim_start().strip_prefix(c);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}
