//! The ONNX file: load, check, save without losing a byte of meaning.
//!
//! Fields that this program does not know survive a load and save, because the protobuf layer keeps unknown fields. Large files are
//! mapped, and the data of their tensors is never copied until somebody decodes one. Data in other files is read beneath the
//! model's own folder only.

mod attributes;
mod check;
mod external;
mod functions;
mod tensors;
mod walk;
mod wire;

/// The generated protobuf messages.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::unwrap_used, clippy::panic, clippy::expect_used)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/onnx_pb/mod.rs"));
    pub use self::onnx::*;
}

pub use attributes::Attributes;
pub(crate) use functions::bound_body;
pub use tensors::{dtype_from_onnx, dtype_to_onnx, tensor_from_proto, tensor_to_proto, zero_count};
pub(crate) use tensors::{elements_from_le, elements_to_le};

use crate::{Error, Result, atomic, sys};
use bytes::Bytes;
use protobuf::{CodedInputStream, Message};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// Protobuf's bound on one message; a larger model keeps its data in another file.
const MAX_MESSAGE: u64 = i32::MAX as u64;

/// An ONNX model in memory: the protobuf message itself, so that nothing the file says is lost.
///
/// Tensors share the memory of the file; cloning a model copies its nodes and names, not its weights.
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
    /// Reads and checks the file at `path`, and the files beside it that hold its tensors' data.
    ///
    /// # Errors
    /// The file cannot be read, is not ONNX, is truncated, its graph contradicts itself, or its data lies outside its folder;
    /// the message says which.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = File::open(path).and_then(sys::contents).map_err(|e| Error::read(path, e))?;
        Self::parse(&bytes, &path.display().to_string(), Some(path))
    }

    /// Parses and checks the bytes of a file; `origin` names them in messages. Data in other files is not looked for.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self> {
        Self::parse(&Bytes::copy_from_slice(bytes), origin, None)
    }

    /// Like [`Model::from_bytes`], sharing the bytes' memory. With the `path` of the file, data beside it is read.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn parse(bytes: &Bytes, origin: &str, path: Option<&Path>) -> Result<Self> {
        let not_onnx = |why: String| {
            Error::bad_input(format!("`{origin}` is not a readable ONNX model: {why}"))
                .hint("give a complete model file saved as ONNX (for PyTorch: torch.onnx.export)")
        };
        if bytes.is_empty() {
            return Err(not_onnx("the file is empty".into()));
        }
        wire::check(bytes).map_err(|why| not_onnx(format!("the file {why}")))?;
        let mut input = CodedInputStream::from_tokio_bytes(bytes);
        let mut proto = pb::ModelProto::new();
        proto
            .merge_from(&mut input)
            .and_then(|()| input.check_eof())
            .map_err(|e| not_onnx(format!("the bytes are damaged, cut short or another format ({e})")))?;
        if proto.graph.is_none() {
            return Err(not_onnx("it holds no graph".into()));
        }
        let located = |e: Error| e.context(format!("`{origin}`"));
        if let Some(path) = path {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            external::resolve(&mut proto, folder).map_err(located)?;
        }
        let model = Model { proto };
        check::check(&model).map_err(located)?;
        Ok(model)
    }

    /// The whole model as the bytes of one file; data from other files is inside. The same model always gives the same bytes.
    /// Read again it may keep fields that this program does not know in another order, as protobuf allows.
    ///
    /// # Errors
    /// The message is over protobuf's 2 GB, or the data of a tensor was not read.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let embedded = if self.has_external_data() { Some(external::embedded(&self.proto)?) } else { None };
        let proto = embedded.as_ref().unwrap_or(&self.proto);
        if proto.compute_size() > MAX_MESSAGE {
            return Err(Error::bad_input("the model does not fit into one file: protobuf messages end at 2 GB")
                .hint("save it to a path: its data then goes into a second file"));
        }
        proto.write_to_bytes().map_err(|e| Error::bad_input(format!("the model cannot be written as ONNX: {e}")))
    }

    /// True when the file says that tensors have their data in other files.
    pub fn has_external_data(&self) -> bool {
        external::any(&self.proto)
    }

    /// The data of tensors that came from other files, in the order of the model; shared, not copied.
    pub fn external_data(&self) -> Vec<Bytes> {
        external::data(&self.proto)
    }

    /// Writes the file atomically, piece by piece: a reader sees the old file or the new one, never half of it.
    ///
    /// A model that came with data in other files, or that is over 2 GB, is written as two: tensors from 1 KiB on go to `PATH.data`.
    ///
    /// # Errors
    /// The folder is not writable or the disk is full.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let split = match self.has_external_data() || self.proto.compute_size() > MAX_MESSAGE {
            true => Some(external::write_data(&self.proto, path)?),
            false => None,
        };
        let proto = split.as_ref().unwrap_or(&self.proto);
        if proto.compute_size() > MAX_MESSAGE {
            return Err(Error::bad_input("the model cannot be written: without its tensors it is still over protobuf's 2 GB"));
        }
        atomic::write_with(path, |file| {
            let mut buffered = BufWriter::new(file);
            proto.write_to_writer(&mut buffered)?;
            std::io::Write::flush(&mut buffered)
        })
    }

    /// `graph` with this file's operator sets and functions.
    pub(crate) fn with_graph(&self, graph: pb::GraphProto) -> Model {
        let mut proto = pb::ModelProto::new();
        proto.ir_version = self.proto.ir_version;
        proto.producer_name.clone_from(&self.proto.producer_name);
        proto.producer_version.clone_from(&self.proto.producer_version);
        proto.opset_import.clone_from(&self.proto.opset_import);
        proto.functions.clone_from(&self.proto.functions);
        proto.graph = Some(graph).into();
        Model { proto }
    }

    /// Checks that the graph does not contradict itself, as loading does.
    pub(crate) fn check(&self) -> Result<()> {
        check::check(self)
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
    sha256_of([bytes])
}

/// SHA-256 of all `parts`, one after the other.
pub(crate) fn sha256_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    parts.into_iter().for_each(|part| hash.update(part));
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
