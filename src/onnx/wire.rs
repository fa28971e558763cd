//! What a file's messages would cost in memory, counted on its bytes before they are parsed.
//!
//! Two bytes of a file can stand for an empty node, which takes hundreds in memory: without a bound a hostile file of megabytes
//! fills gigabytes. The scan follows the fields that are messages or names and steps over all data.

use super::pb;
use std::mem::size_of;

/// Memory for messages, names and unknown fields that any file may take.
const FREE_BYTES: u64 = 256 << 20;
/// And for each byte of the file. Real files stay below 8: their names and attributes are longer than hostile ones.
const PER_FILE_BYTE: u64 = 10;
/// Messages within messages; the parser's own limit.
const MAX_DEPTH: usize = 100;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    NestedType,
    Shape,
    Dimension,
    Entry,
    Function,
    Training,
    Annotation,
    /// Bytes that are copied: a name or a field this program does not know.
    Copied,
    /// Bytes that are shared with the file, or packed numbers.
    Data,
}

use Kind::*;

/// What field number `field` of a message of kind `kind` holds when it is length-delimited.
fn child(kind: Kind, field: u64) -> Kind {
    match (kind, field) {
        (Model, 7) | (Attribute, 6 | 11) | (Training, 1 | 2) => Graph,
        (Model, 8) | (Function, 9) => Entry,
        (Model, 14) | (Tensor, 13) | (Training, 3 | 4) | (Annotation, 2) => Entry,
        (Model, 20) => Training,
        (Model, 25) => Function,
        (Graph, 1) | (Function, 7) => Node,
        (Graph, 5) | (Attribute, 5 | 10) | (Sparse, 1 | 2) => Tensor,
        (Graph, 11..=13) | (Function, 12) => ValueInfo,
        (Graph, 14) => Annotation,
        (Graph, 15) | (Attribute, 22 | 23) => Sparse,
        (Node, 5) | (Function, 11) => Attribute,
        (Attribute, 14 | 15) | (ValueInfo, 2) | (NestedType, 1 | 2) => Type,
        (Type, 1 | 8) => TensorType,
        (Type, 4 | 5 | 9) => NestedType,
        (TensorType, 2) => Shape,
        (Shape, 1) => Dimension,
        (Tensor, 4 | 5 | 7 | 9..=11) | (Attribute, 4 | 7 | 8) => Data,
        _ => Copied,
    }
}

/// Bytes that a message of this kind takes in memory besides its contents.
fn memory(kind: Kind) -> usize {
    match kind {
        Model => size_of::<pb::ModelProto>(),
        Graph => size_of::<pb::GraphProto>(),
        Node => size_of::<pb::NodeProto>(),
        Attribute => size_of::<pb::AttributeProto>(),
        Tensor => size_of::<pb::TensorProto>(),
        Sparse => size_of::<pb::SparseTensorProto>(),
        ValueInfo => size_of::<pb::ValueInfoProto>(),
        Type => size_of::<pb::TypeProto>(),
        TensorType | NestedType => size_of::<pb::type_proto::Tensor>(),
        Shape => size_of::<pb::TensorShapeProto>(),
        Dimension => size_of::<pb::tensor_shape_proto::Dimension>(),
        Entry => size_of::<pb::StringStringEntryProto>(),
        Function => size_of::<pb::FunctionProto>(),
        Training => size_of::<pb::TrainingInfoProto>(),
        Annotation => size_of::<pb::TensorAnnotation>(),
        Copied | Data => size_of::<String>(),
    }
}

/// Checks that the messages in `file` are nested within bounds and would not take memory out of proportion.
///
/// No length may go beyond the message it stands in: the parser sets memory aside for a list as soon as it has read how long it is.
///
/// # Errors
/// What is wrong, in words that follow "the file".
pub(super) fn check(file: &[u8]) -> Result<(), &'static str> {
    let limit = FREE_BYTES.saturating_add(PER_FILE_BYTE.saturating_mul(file.len() as u64));
    let mut used = 0u64;
    let mut open: Vec<(Kind, &[u8])> = vec![(Model, file)];
    while let Some((kind, rest)) = open.last_mut() {
        let kind = *kind;
        if rest.is_empty() {
            open.pop();
            continue;
        }
        let Some((tag, field)) = next(rest) else { return Err("is damaged, cut short or of another format") };
        match field {
            // A number in a list takes up to 8 bytes; where there is one only, this counts too much.
            None => used += 8,
            Some(bytes) => match child(kind, tag >> 3) {
                Data => used += size_of::<String>() as u64,
                Copied => used += (size_of::<String>() + bytes.len()) as u64,
                inner => {
                    // Lists double when they are full.
                    used += 2 * memory(inner) as u64;
                    open.push((inner, bytes));
                }
            },
        }
        if used > limit {
            return Err("declares more nodes, names or other parts than its length allows for");
        }
        if open.len() > MAX_DEPTH {
            return Err("nests its parts too deeply");
        }
    }
    Ok(())
}

/// The next field: its tag, and its bytes when it is length-delimited. `None` at what is no field. (Groups, which protobuf gave up
/// before ONNX began, are none either.)
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let tag = varint(rest)?;
    let skip = match tag & 7 {
        0 => {
            varint(rest)?;
            return Some((tag, None));
        }
        1 => 8,
        2 => usize::try_from(varint(rest)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (bytes, after) = rest.split_at_checked(skip)?;
    *rest = after;
    Some((tag, (tag & 7 == 2).then_some(bytes)))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *rest = &rest[i + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut len = content.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend(content);
        out
    }

    #[test]
    fn many_empty_nodes_and_deep_nesting_are_refused() {
        let nodes = field(7, &field(1, &[]).repeat(2_000_000));
        assert!(check(&nodes).is_err());
        assert!(check(&field(7, &field(1, &[]).repeat(100_000))).is_ok());
        // Graph in attribute in node in graph …
        let mut inner = vec![];
        for _ in 0..40 {
            inner = field(1, &field(5, &field(6, &inner)));
        }
        assert!(check(&field(7, &inner)).is_err());
    }

    #[test]
    fn lengths_beyond_their_message_are_refused() {
        // A tensor of packed int64 (field 7 of an initializer, field 5 of the graph) that claims 128 MiB.
        let tensor = [0x3A, 0xFF, 0xFF, 0xFF, 0x3F, 1, 2];
        assert!(check(&field(7, &field(5, &tensor))).is_err());
        // One byte more than the graph has; the file has it.
        let inner = [0x3A, 3, 1, 2];
        assert!(check(&[&field(7, &field(5, &inner))[..], &[0x40, 1]].concat()).is_err());
        assert!(check(&field(7, &field(5, &[0x3A, 2, 1, 2]))).is_ok());
        for damaged in [&[0x3B][..], &[0x08], &[0x08, 0x80], &[0x3A, 5, 0], &[0x09, 1, 2]] {
            assert!(check(damaged).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn real_models_are_far_from_the_bound() {
        for name in ["fashion-resnet8", "fashion-vit", "cifar-resnet8"] {
            let bytes = std::fs::read(format!("{}/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap();
            assert!(check(&bytes).is_ok(), "{name}");
        }
    }
}
