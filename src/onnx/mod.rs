//! The ONNX file: load, check, save without losing a byte of meaning.
//!
//! Fields that this program does not know survive a load and save, because the protobuf layer keeps unknown fields.

mod attributes;
mod tensors;

/// The generated protobuf messages.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::unwrap_used, clippy::panic, clippy::expect_used)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/onnx_pb/mod.rs"));
    pub use self::onnx::*;
}

pub use attributes::Attributes;
pub use tensors::{dtype_from_onnx, dtype_to_onnx, tensor_from_proto, tensor_to_proto};
pub(crate) use tensors::{elements_from_le, elements_to_le};

use crate::{Error, Result, atomic};
use protobuf::Message;
use sha2::{Digest, Sha256};
use std::path::Path;

/// An ONNX model in memory: the protobuf message itself, so that nothing the file says is lost.
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// let model = joulefront::onnx::Model::load("models/fashion-mlp.onnx")?;
/// assert_eq!(model.graph().node.len(), 6);
/// assert_eq!(model.opset(), 13);
/// let again = joulefront::onnx::Model::from_bytes(&model.to_bytes()?, "memory")?;
/// assert_eq!(again, model);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    proto: pb::ModelProto,
}

impl Model {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is not ONNX, is truncated, or its graph contradicts itself; the message says which.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    /// Parses and checks the bytes of a file; `origin` names them in messages.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self> {
        let not_onnx = |why: String| {
            Error::bad_input(format!("`{origin}` is not a readable ONNX model: {why}"))
                .hint("give a complete model file saved as ONNX (for PyTorch: torch.onnx.export)")
        };
        if bytes.is_empty() {
            return Err(not_onnx("the file is empty".into()));
        }
        let proto = pb::ModelProto::parse_from_bytes(bytes)
            .map_err(|e| not_onnx(format!("the bytes are damaged, cut short or another format ({e})")))?;
        if proto.graph.is_none() {
            return Err(not_onnx("it holds no graph".into()));
        }
        let model = Model { proto };
        check::check(&model).map_err(|e| e.context(format!("`{origin}`")))?;
        Ok(model)
    }

    /// The whole file's bytes. The same model always gives the same bytes.
    ///
    /// # Errors
    /// The message is over protobuf's 2 GB.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.proto
            .write_to_bytes()
            .map_err(|e| Error::bad_input(format!("the model cannot be written as ONNX: {e}")).hint("protobuf messages end at 2 GB"))
    }

    /// Writes the file atomically: a reader sees the old file or the new one, never half of it.
    ///
    /// # Errors
    /// The folder is not writable or the disk is full.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        atomic::write(path.as_ref(), &self.to_bytes()?)
    }

    /// The graph.
    pub fn graph(&self) -> &pb::GraphProto {
        &self.proto.graph
    }

    /// The graph, to edit.
    pub fn graph_mut(&mut self) -> &mut pb::GraphProto {
        self.proto.graph.mut_or_insert_default()
    }

    /// The whole message.
    pub fn proto(&self) -> &pb::ModelProto {
        &self.proto
    }

    /// The whole message, to edit.
    pub fn proto_mut(&mut self) -> &mut pb::ModelProto {
        &mut self.proto
    }

    /// Version of the default operator set (`ai.onnx`); 1 when the file names none.
    pub fn opset(&self) -> i64 {
        self.proto.opset_import.iter().find(|o| matches!(o.domain(), "" | "ai.onnx")).map_or(1, |o| o.version())
    }
}

/// SHA-256 of `bytes` as 64 hexadecimal digits: the identity of a model file.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

mod check;
