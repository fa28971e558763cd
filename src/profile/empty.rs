//! What a run costs that computes next to nothing: handing inputs over, waking threads, taking outputs.

use crate::engine::LoadOptions;
use crate::measure::Subject;
use crate::onnx::{Model, pb};
use crate::tensor::Tensor;
use crate::{Error, Result, atomic};
use std::path::Path;
use std::sync::Arc;

/// One number, negated.
fn model() -> Result<Model> {
    let mut node = pb::NodeProto::new();
    node.set_op_type("Neg".into());
    node.input.push("x".into());
    node.output.push("y".into());
    let mut graph = pb::GraphProto::new();
    graph.set_name("nothing".into());
    graph.node.push(node);
    graph.input.push(number("x"));
    graph.output.push(number("y"));
    let mut version = pb::OperatorSetIdProto::new();
    version.set_version(13);
    let mut proto = pb::ModelProto::new();
    proto.set_ir_version(8);
    proto.opset_import.push(version);
    proto.graph = Some(graph).into();
    Model::from_bytes(&proto_bytes(&proto)?, "the empty model")
}

fn proto_bytes(proto: &pb::ModelProto) -> Result<Vec<u8>> {
    use protobuf::Message;
    proto.write_to_bytes().map_err(|e| Error::bad_input(format!("the empty model cannot be written: {e}")))
}

/// A float32 tensor with one element.
fn number(name: &str) -> pb::ValueInfoProto {
    let mut dim = pb::tensor_shape_proto::Dimension::new();
    dim.set_dim_value(1);
    let mut value = pb::ValueInfoProto::new();
    value.set_name(name.to_owned());
    let tensor = value.type_.mut_or_insert_default().tensor_type.mut_or_insert_default();
    tensor.set_elem_type(1);
    tensor.shape.mut_or_insert_default().dim.push(dim);
    value
}

/// The run of nothing on the engine and threads of `whole`; its file is put into `folder`.
///
/// # Errors
/// The file cannot be written.
pub(super) fn empty(whole: &Subject, folder: &Path) -> Result<Subject> {
    let path = folder.join("nothing.onnx");
    atomic::write(&path, &model()?.to_bytes()?)?;
    Ok(Subject {
        label: format!("{}: a run of nothing", whole.label),
        model: path,
        engine: whole.engine.clone(),
        options: LoadOptions { threads: whole.options.threads, ..LoadOptions::default() },
        samples: Arc::new(vec![Tensor::f32([1], vec![1.0])?]),
    })
}
