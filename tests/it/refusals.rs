//! What each engine says of forms that it does not take: a message with a way out, from the engine's own refusal.
//!
//! When an engine learns one of these, the test fails, and the lowerings may use it.

use crate::engines::{engines, job, program};
use joulefront::Result;
use joulefront::engine::LoadOptions;
use joulefront::onnx::{Attributes, Model, pb, tensor_to_proto};
use joulefront::runner::{Job, Runner};
use joulefront::tensor::{Data, Tensor};
use std::path::PathBuf;

const MICROSOFT: &str = "com.microsoft";

fn node(domain: &str, op: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    let mut node = pb::NodeProto::new();
    node.set_domain(domain.into());
    node.set_op_type(op.into());
    node.input = inputs.iter().map(|&i| i.to_owned()).collect();
    node.output = vec![output.to_owned()];
    node
}

fn constant(name: &str, shape: &[usize], data: Data) -> pb::TensorProto {
    tensor_to_proto(name, &Tensor::new(shape.to_vec(), data).unwrap())
}

/// `x` [1, `k`] ↦ `y`, by `nodes` with `constants`, and the scalars `scale`, `zero_u8`, `zero_i8`.
fn model(k: i64, opset: i64, nodes: Vec<pb::NodeProto>, constants: Vec<pb::TensorProto>) -> Model {
    let mut model = Model::load(crate::support::model("fashion-mlp")).unwrap();
    let proto = model.proto_mut();
    proto.set_ir_version(10);
    proto.opset_import[0].set_version(opset);
    let mut domain = pb::OperatorSetIdProto::new();
    domain.set_domain(MICROSOFT.into());
    domain.set_version(1);
    proto.opset_import.push(domain);
    let graph = model.graph_mut();
    graph.value_info.clear();
    graph.initializer = constants;
    graph.initializer.push(constant("scale", &[], Data::F32(vec![0.05])));
    graph.initializer.push(constant("zero_u8", &[], Data::U8(vec![128])));
    graph.initializer.push(constant("zero_i8", &[], Data::I8(vec![0])));
    graph.node = nodes;
    let input = &mut graph.input[0];
    input.set_name("x".into());
    let dims = &mut input.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default().dim;
    dims.truncate(2);
    dims[0].set_dim_value(1);
    dims[1].set_dim_value(k);
    graph.output[0].set_name("y".into());
    graph.output[0].type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.clear();
    model
}

/// Between `QuantizeLinear` and `DequantizeLinear`.
fn quantized(middle: pb::NodeProto) -> Vec<pb::NodeProto> {
    let first = node("", "QuantizeLinear", &["x", "scale", "zero_u8"], "xq");
    vec![first, middle, node("", "DequantizeLinear", &["yq", "scale", "zero_u8"], "y")]
}

fn weights(k: usize, n: usize) -> pb::TensorProto {
    constant("w", &[k, n], Data::I8((0..k * n).map(|i| (i * 37 % 255) as u8 as i8).collect()))
}

fn nbits(k: usize, bits: usize) -> Model {
    let (n, blocks) = (32, k.div_ceil(32));
    let mut product = node(MICROSOFT, "MatMulNBits", &["x", "w", "scales"], "y");
    for (name, value) in [("K", k), ("N", n), ("bits", bits), ("block_size", 32), ("accuracy_level", 4)] {
        product.set_int(name, value as i64);
    }
    let w = constant("w", &[n, blocks, 4 * bits], Data::U8((0..n * blocks * 4 * bits).map(|i| (i * 31 % 251) as u8).collect()));
    let scales = constant("scales", &[n * blocks], Data::F32(vec![0.01; n * blocks]));
    model(k as i64, 21, vec![product], vec![w, scales])
}

/// The forms by name.
fn forms() -> Vec<(&'static str, Model)> {
    let (mut int4, mut blocked) =
        (node("", "DequantizeLinear", &["w", "scale"], "wf"), node("", "DequantizeLinear", &["w", "scales"], "wf"));
    int4.set_int("axis", 0);
    blocked.set_int("axis", 0);
    blocked.set_int("block_size", 32);
    let product = || node("", "MatMul", &["x", "wf"], "y");
    let w4 = constant("w", &[64, 32], Data::I4((0..64 * 32).map(|i| (i % 15) as i8 - 7).collect()));
    let scales = constant("scales", &[2, 32], Data::F32(vec![0.01; 64]));
    let qlinear = node("", "QLinearMatMul", &["xq", "scale", "zero_u8", "w", "scale", "zero_i8", "scale", "zero_u8"], "yq");
    let add = node(MICROSOFT, "QLinearAdd", &["xq", "scale", "zero_u8", "xq", "scale", "zero_u8", "scale", "zero_u8"], "yq");
    let gemm = node(MICROSOFT, "QGemm", &["xq", "scale", "zero_u8", "w", "scale", "zero_i8", "", "scale", "zero_u8"], "yq");
    let relu = |opset| model(64, opset, vec![node("", "Relu", &["x"], "y")], vec![]);
    let mut new_ir = relu(21);
    new_ir.proto_mut().set_ir_version(99);
    vec![
        ("qlinear_matmul", model(64, 21, quantized(qlinear), vec![weights(64, 32)])),
        ("qlinear_add", model(64, 21, quantized(add), vec![])),
        ("qgemm", model(64, 21, quantized(gemm), vec![weights(64, 32)])),
        ("int4", model(64, 21, vec![int4, product()], vec![w4])),
        ("blocked", model(64, 21, vec![blocked, product()], vec![weights(64, 32), scales])),
        ("nbits4", nbits(64, 4)),
        ("nbits4_padded", nbits(100, 4)),
        ("nbits8", nbits(64, 8)),
        ("nbits3", nbits(64, 3)),
        ("custom", model(64, 21, vec![node(MICROSOFT, "Frobnicate", &["x"], "y")], vec![])),
        ("future_opset", relu(99)),
        ("future_ir", new_ir),
    ]
}

/// The words with which `engine` refuses `form`; forms that are not here it runs.
fn refusal(engine: &str, form: &str) -> Option<&'static str> {
    Some(match (engine, form) {
        ("tract" | "rten", "qlinear_add") => "it has no operator `QLinearAdd`",
        ("tract" | "rten", "qgemm") => "it has no operator `QGemm`",
        ("rten", "qlinear_matmul") => "it has no operator `QLinearMatMul`",
        ("tract" | "rten", "int4") => "it has no 4-bit integer tensors",
        ("tract" | "rten", "blocked") => "it does not take a blocked `DequantizeLinear`",
        ("rten", "nbits4_padded") => "it takes no last block that is not full in `MatMulNBits`",
        ("rten", "nbits8" | "nbits3") => "its `MatMulNBits` has 4 bits only",
        ("tract", "nbits8" | "nbits3") => "its `MatMulNBits` has 4 and 2 bits only",
        ("ort", "nbits3") => "its `MatMulNBits` has 2, 4 and 8 bits only",
        ("tract" | "rten", "custom") => "it has no operator `Frobnicate`",
        ("ort", "custom") => "it has no operator `com.microsoft:Frobnicate`",
        ("ort", "future_opset") => "the file's operator set is newer than this ONNX Runtime",
        ("ort", "future_ir") => "the file's IR version is newer than this ONNX Runtime",
        _ => return None,
    })
}

#[test]
fn refused_forms_are_named_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { folder.path().join(format!("{name}.onnx")) };
    let forms = forms();
    forms.iter().for_each(|(name, model)| model.save(file(name)).unwrap());
    for engine in engines() {
        for (form, _) in &forms {
            let ran = run(&job(file(form), engine, LoadOptions::default()));
            match (ran, refusal(engine.name(), form)) {
                (Ok(()), None) => {}
                (Err(e), Some(expect)) => {
                    assert!(e.to_string().contains(expect), "{} {form}: {e}", engine.name());
                    assert!(e.hint_text().is_some_and(|hint| !hint.is_empty()), "{} {form}: {e}", engine.name());
                    assert!(!e.to_string().contains("onnxruntime_src"), "{} {form}: {e}", engine.name());
                }
                (Ok(()), Some(expect)) => panic!("{} runs {form} now; it used to say: {expect}", engine.name()),
                (Err(e), None) => panic!("{} does not run {form}: {e}", engine.name()),
            }
        }
    }
}

/// Loads and runs the form once: some refusals come only then.
fn run(job: &Job) -> Result<()> {
    let mut runner = Runner::spawn(&program(), job)?;
    let x = Tensor::f32(runner.inputs()[0].shape.clone(), (0..runner.inputs()[0].shape[1]).map(|i| (i % 7) as f32 / 7.0).collect())?;
    runner.prepare(&[vec![x]])?;
    runner.run(1).map(drop)
}
