//! Typed access to a node's attributes.

use super::pb;

/// Codes of `AttributeProto.type`.
mod code {
    pub(super) const FLOAT: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const STRING: i32 = 3;
    pub(super) const INTS: i32 = 7;
}

/// Reads and writes attributes by name. A missing attribute is `None`: the caller states the operator's default.
pub trait Attributes {
    /// True for an operator of ONNX itself, false for one of another domain, whatever its name.
    fn is_standard(&self) -> bool;
    /// The attribute message.
    fn attr(&self, name: &str) -> Option<&pb::AttributeProto>;
    /// An integer.
    fn int(&self, name: &str) -> Option<i64> {
        self.attr(name).map(|a| a.i())
    }
    /// A float.
    fn float(&self, name: &str) -> Option<f32> {
        self.attr(name).map(|a| a.f())
    }
    /// A list of integers.
    fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attr(name).map(|a| a.ints.as_slice())
    }
    /// A string; `None` also when it is not UTF-8.
    fn string(&self, name: &str) -> Option<&str> {
        self.attr(name).and_then(|a| std::str::from_utf8(a.s()).ok())
    }
    /// Sets an integer.
    fn set_int(&mut self, name: &str, value: i64);
    /// Sets a list of integers.
    fn set_ints(&mut self, name: &str, value: Vec<i64>);
    /// Sets a float.
    fn set_float(&mut self, name: &str, value: f32);
    /// Sets a string.
    fn set_string(&mut self, name: &str, value: &str);
}

impl Attributes for pb::NodeProto {
    fn is_standard(&self) -> bool {
        matches!(self.domain(), "" | "ai.onnx")
    }

    fn attr(&self, name: &str) -> Option<&pb::AttributeProto> {
        self.attribute.iter().find(|a| a.name() == name)
    }

    fn set_int(&mut self, name: &str, value: i64) {
        let a = entry(self, name, code::INT);
        a.set_i(value);
    }

    fn set_ints(&mut self, name: &str, value: Vec<i64>) {
        entry(self, name, code::INTS).ints = value;
    }

    fn set_float(&mut self, name: &str, value: f32) {
        entry(self, name, code::FLOAT).set_f(value);
    }

    fn set_string(&mut self, name: &str, value: &str) {
        entry(self, name, code::STRING).set_s(value.as_bytes().to_vec().into());
    }
}

/// The attribute of that name, emptied of other values, made when absent.
fn entry<'a>(node: &'a mut pb::NodeProto, name: &str, type_code: i32) -> &'a mut pb::AttributeProto {
    let index = node.attribute.iter().position(|a| a.name() == name).unwrap_or_else(|| {
        node.attribute.push(pb::AttributeProto::new());
        node.attribute.len() - 1
    });
    let a = &mut node.attribute[index];
    *a = pb::AttributeProto::new();
    a.set_name(name.to_owned());
    a.set_type(type_code);
    a
}
