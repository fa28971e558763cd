//! Forms are checked on their engines: what is known to be wrong is caught, and what is right passes; a screening from outside.

use crate::support::{joulefront, model, repository, small_data};
use joulefront::data::Dataset;
use joulefront::engine::LoadOptions;
use joulefront::exec::Executor;
use joulefront::lower::{Form, lower};
use joulefront::model::Graph;
use joulefront::onnx::{Attributes, Model, pb, tensor_to_proto};
use joulefront::runner::Program;
use joulefront::screen::{Checked, Fault, Probe, Suspect, check, classes};
use joulefront::tensor::{Data, Tensor};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const SAMPLES: usize = 200;

fn probe() -> Probe {
    let split = Dataset::open(repository("models/fashion-mnist")).unwrap().split("validation").unwrap();
    Probe {
        names: vec!["input".into()],
        inputs: vec![split.batch(0..SAMPLES).unwrap()],
        labels: Some(split.labels().unwrap()[..SAMPLES].to_vec()),
    }
}

/// Checks `model`, which stands for `quantized`, on an engine.
fn checked(model: &Model, quantized: &Model, form: Form, engine: &str) -> Result<Checked, Fault> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    model.save(&path).unwrap();
    let (probe, options) = (probe(), LoadOptions::default());
    let quantized = classes(quantized, &probe).unwrap();
    let suspect = Suspect { model, path: &path, form, engine, options: &options, quantized: &quantized };
    let program = Program::at(env!("CARGO_BIN_EXE_joulefront"));
    check(&program, &suspect, &probe, Duration::from_secs(120), &AtomicBool::new(false)).unwrap()
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> pb::NodeProto {
    let mut n = pb::NodeProto::new();
    n.set_name(format!("{op} {}", outputs[0]));
    n.set_op_type(op.into());
    n.input = inputs.iter().map(|&s| s.to_owned()).collect();
    n.output = outputs.iter().map(|&s| s.to_owned()).collect();
    n
}

fn scalar(model: &mut Model, name: &str, data: Data) {
    let t = Tensor::new(Vec::new(), data).unwrap();
    model.graph_mut().initializer.push(tensor_to_proto(name, &t));
}

/// ResNet8 with every convolution as ConvInteger on uint8 that is quantized as it comes: what other tools make of it.
fn conv_integer() -> Model {
    let original = Model::load(model("fashion-resnet8")).unwrap();
    let mut made = original.clone();
    let graph = Graph::new(&original);
    made.graph_mut().node.clear();
    for (i, n) in original.graph().node.iter().enumerate() {
        if n.op_type() != "Conv" {
            made.graph_mut().node.push(n.clone());
            continue;
        }
        let name = |what: &str| format!("{what}_{i}");
        let weight = graph.constant(&n.input[1]).unwrap().unwrap();
        let values = weight.as_f32().unwrap();
        let scale = values.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
        let integers: Vec<i8> = values.iter().map(|v| (v / scale).round() as i8).collect();
        let integers = Tensor::new(weight.shape().to_vec(), Data::I8(integers)).unwrap();
        made.graph_mut().initializer.push(tensor_to_proto(&name("w"), &integers));
        scalar(&mut made, &name("wz"), Data::I8(vec![0]));
        scalar(&mut made, &name("ws"), Data::F32(vec![scale]));
        let mut conv = node("ConvInteger", &[&name("q"), &name("w"), &name("z"), &name("wz")], &[&name("sum")]);
        conv.attribute = n.attribute.clone();
        let mut cast = node("Cast", &[&name("sum")], &[&name("float")]);
        cast.set_int("to", 1);
        let mut nodes = vec![
            node("DynamicQuantizeLinear", &[&n.input[0]], &[&name("q"), &name("s"), &name("z")]),
            conv,
            cast,
            node("Mul", &[&name("s"), &name("ws")], &[&name("scale")]),
        ];
        let product = if n.input.len() > 2 { name("product") } else { n.output[0].clone() };
        nodes.push(node("Mul", &[&name("float"), &name("scale")], &[&product]));
        if n.input.len() > 2 {
            let bias = graph.constant(&n.input[2]).unwrap().unwrap();
            let bias = Tensor::f32([1, bias.len(), 1, 1], bias.as_f32().unwrap().to_vec()).unwrap();
            made.graph_mut().initializer.push(tensor_to_proto(&name("bias"), &bias));
            nodes.push(node("Add", &[&product, &name("bias")], &[&n.output[0]]));
        }
        made.graph_mut().node.extend(nodes);
    }
    made
}

/// The vision transformer with QuantizeLinear and DequantizeLinear around every node of the given operators, as exporters put them.
fn pairs_around(operators: &[&str]) -> Model {
    let original = Model::load(model("fashion-vit")).unwrap();
    let graph = Graph::new(&original);
    let chosen: Vec<usize> = (0..graph.nodes().len()).filter(|&n| operators.contains(&graph.node(n).op_type())).collect();
    let executor = Executor::new(&original).unwrap();
    let x = &probe().inputs[0];
    let mut made = original.clone();
    let mut before: Vec<(usize, Vec<pb::NodeProto>)> = Vec::new();
    for &n in &chosen {
        let tensors: Vec<&String> = graph.node(n).input.iter().filter(|i| !graph.is_constant(i)).collect();
        let mut pair = Vec::new();
        for (k, tensor) in tensors.iter().enumerate() {
            let value = &executor.run(&[("input", x)], &[tensor.as_str()]).unwrap()[tensor.as_str()];
            let Ok(values) = value.as_f32() else { continue };
            let (low, high) = values.iter().fold((0.0f32, 0.0f32), |(l, h), &v| (l.min(v), h.max(v)));
            let scale = ((high - low) / 255.0).max(1e-6);
            let name = |what: &str| format!("{what}_{n}_{k}");
            scalar(&mut made, &name("scale"), Data::F32(vec![scale]));
            scalar(&mut made, &name("zero"), Data::U8(vec![(-low / scale).round() as u8]));
            pair.push(node("QuantizeLinear", &[tensor, &name("scale"), &name("zero")], &[&name("quantized")]));
            pair.push(node("DequantizeLinear", &[&name("quantized"), &name("scale"), &name("zero")], &[&name("back")]));
            let input = made.graph_mut().node[n].input.iter_mut().find(|i| i == tensor).unwrap();
            *input = name("back");
        }
        before.push((n, pair));
    }
    let nodes = std::mem::take(&mut made.graph_mut().node);
    for (n, one) in nodes.into_iter().enumerate() {
        if let Some((_, pair)) = before.iter().find(|(at, _)| *at == n) {
            made.graph_mut().node.extend(pair.iter().cloned());
        }
        made.graph_mut().node.push(one);
    }
    made
}

#[test]
fn a_convolution_of_integers_that_rten_gets_wrong_is_caught() {
    let original = Model::load(model("fashion-resnet8")).unwrap();
    let integers = conv_integer();
    // The file is right: tract agrees with the reference execution, and hardly a sample changes its class.
    let right = checked(&integers, &original, Form::Dynamic, "tract");
    assert!(right.is_ok(), "{right:?}");
    match checked(&integers, &original, Form::Dynamic, "rten") {
        Err(fault @ Fault::Outputs { difference, .. }) => assert!(difference > 0.2 && fault.is_wrong(), "{fault}"),
        other => panic!("rten runs ConvInteger right by now: offer it ({other:?})"),
    }
}

#[test]
fn quantization_around_softmax_and_mul_that_tract_gets_wrong_is_caught() {
    let original = Model::load(model("fashion-vit")).unwrap();
    let pairs = pairs_around(&["Softmax", "Mul"]);
    let right = checked(&pairs, &original, Form::Qdq, "rten");
    assert!(right.is_ok(), "{right:?}");
    match checked(&pairs, &original, Form::Qdq, "tract") {
        Err(fault) => assert!(fault.is_wrong(), "{fault}"),
        Ok(right) => panic!("tract runs Q/DQ around Softmax and Mul right by now: offer it ({right:?})"),
    }
}

#[test]
fn what_is_refused_or_no_number_is_told_apart_from_what_is_wrong() {
    let original = Model::load(model("fashion-mlp")).unwrap();
    let mut unknown = original.clone();
    unknown.graph_mut().node.iter_mut().find(|n| n.op_type() == "Relu").unwrap().set_domain("com.example".into());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unknown.onnx");
    unknown.save(&path).unwrap();
    let (probe, options) = (probe(), LoadOptions::default());
    // The engine is asked for another file than the one that stands for it.
    let suspect = |path| Suspect { model: &original, path, form: Form::Float, engine: "tract", options: &options, quantized: &[] };
    let program = Program::at(env!("CARGO_BIN_EXE_joulefront"));
    let ask = |path| check(&program, &suspect(path), &probe, Duration::from_secs(120), &AtomicBool::new(false)).unwrap();
    match ask(&path) {
        Err(fault @ Fault::Refused(_)) => assert!(!fault.is_wrong(), "{fault}"),
        other => panic!("{other:?}"),
    }
    // Weights without a number give outputs without one, where there should be some.
    let mut nothing = original.clone();
    let last = nothing.graph().initializer.iter().position(|t| t.dims.len() == 1).unwrap();
    let name = nothing.graph().initializer[last].name().to_owned();
    let len = nothing.graph().initializer[last].dims[0] as usize;
    nothing.graph_mut().initializer[last] = tensor_to_proto(&name, &Tensor::f32([len], vec![f32::NAN; len]).unwrap());
    let path = folder.path().join("nothing.onnx");
    nothing.save(&path).unwrap();
    assert!(matches!(ask(&path), Err(Fault::NotNumbers | Fault::Outputs { .. })));
}

#[test]
fn a_form_that_is_less_accurate_than_the_quantized_model_is_caught() {
    let original = Model::load(model("fashion-mlp")).unwrap();
    // 2-bit weights instead of the 8-bit ones that they are said to stand for: the engine is right, the form is not.
    let (two, _) = joulefront::compress::quantize_weights(&original, 2).unwrap();
    let two = lower(&two, Form::Float, &|_| true).unwrap().model;
    match checked(&two, &original, Form::Float, "tract") {
        Err(Fault::Accuracy { points }) => assert!(points > 1.0, "{points}"),
        other => panic!("{other:?}"),
    }
    let right = checked(&two, &two, Form::Float, "tract").unwrap();
    assert_eq!(right.loss_points, Some(0.0));
    assert!(right.difference < 1e-4 && right.agreement == 1.0, "{right:?}");
}

/// A few short processes: whether the table is whole, not what it says of this machine.
#[test]
fn a_screening_has_every_engine_form_and_layer_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_data(folder.path(), 100);
    let data = data.to_str().unwrap();
    let args = ["bench", "--screen", "models/fashion-mlp.onnx", "--data", data, "--engine", "tract,rten"];
    let quick = ["--processes", "2", "--window", "10ms", "--threads", "1", "--batch", "1,4", "--disturbance", "100%", "--quiet"];
    let json = joulefront(&[&args[..], &quick[..], &["--json"]].concat()).json();
    assert!(json["findings"].is_array() && json["environment"].is_object());
    let ways = json["screening"]["ways"].as_array().unwrap();
    let rows = |engine: &str, form: &str| -> Vec<&serde_json::Value> {
        ways.iter().filter(|w| w["engine"] == engine && w["form"] == form).collect()
    };
    for engine in ["tract", "rten"] {
        // Batches of 1 and of 4, and of 1 with the batch left open.
        let float = rows(engine, "float");
        assert_eq!(float.len(), 3, "{engine}");
        assert!(float.iter().all(|w| w["outcome"]["outcome"] == "measured" && w["outcome"]["latency_p50"].as_f64().unwrap() > 0.0));
        assert_eq!(float.iter().filter(|w| w["symbolic"] == true).count(), 1);
        let integers = rows(engine, "dequantize-linear");
        assert!(!integers.is_empty() && integers.iter().all(|w| w["outcome"]["outcome"] == "measured"), "{engine}: {integers:?}");
        assert!(integers.iter().all(|w| w["outcome"]["own"]["latency"]["ratio"]["value"].as_f64().unwrap() > 0.0));
    }
    let layers = json["screening"]["layers"].as_array().unwrap();
    let of = |engine: &str, form: &str| layers.iter().filter(|l| l["engine"] == engine && l["form"] == form).count();
    // Three products, each of its own shape.
    assert_eq!((of("tract", "qlinear"), of("tract", "nbits"), of("rten", "dynamic"), of("rten", "nbits")), (3, 3, 3, 3), "{layers:#?}");
    assert!(layers.iter().all(|l| l["operator"] == "Gemm" && l["shape"].as_str().unwrap().contains(" on ")));
    let text = joulefront(&[&args[..], &quick[..], &["--format", "markdown", "--form", "dynamic"]].concat());
    assert_eq!(text.code, Some(0), "{}", text.stderr);
    assert!(text.stdout.contains("| engine | form | threads |") && text.stdout.contains("| layer | share of work |"), "{}", text.stdout);
}

#[test]
fn a_screening_is_refused_with_a_reason() {
    joulefront(&["bench", "--screen", "models/fashion-mlp.onnx", "models/fashion-vit.onnx"]).refused(2, &["one model is screened"]);
    joulefront(&["bench", "--screen", "models/fashion-mlp.onnx", "--form", "int8"]).refused(2, &["there is no form `int8`"]);
    joulefront(&["bench", "--screen", "models/fashion-mlp.onnx", "--engine", "tract,tract"]).refused(2, &["named twice"]);
    joulefront(&["bench", "models/fashion-mlp.onnx", "--form", "dynamic"]).refused(2, &["--screen"]);
}
