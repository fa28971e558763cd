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
    checked_with(model, quantized, form, engine, &LoadOptions::default())
}

fn checked_with(model: &Model, quantized: &Model, form: Form, engine: &str, options: &LoadOptions) -> Result<Checked, Fault> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    model.save(&path).unwrap();
    let probe = probe();
    let quantized = classes(quantized, &probe).unwrap();
    let suspect = Suspect { model, path: &path, form, engine, options, quantized: &quantized };
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
    let t = Tensor::new(vec![], data).unwrap();
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

/// The vision transformer with QuantizeLinear and DequantizeLinear at what goes into and comes out of every Softmax, as ONNX Runtime's
/// quantizer puts them.
fn pairs_around_softmax() -> Model {
    let original = Model::load(model("fashion-vit")).unwrap();
    let graph = Graph::new(&original);
    let executor = Executor::new(&original).unwrap();
    let x = &probe().inputs[0];
    let mut made = original.clone();
    made.graph_mut().node.clear();
    for n in graph.nodes() {
        if n.op_type() != "Softmax" {
            made.graph_mut().node.push(n.clone());
            continue;
        }
        // The node reads and writes tensors of new names, with a pair between these and the old ones.
        let mut inner = n.clone();
        inner.input[0] = format!("{}_back", n.input[0]);
        inner.output[0] = format!("{}_inner", n.output[0]);
        pair(&mut made, &executor, x, &n.input[0], &n.input[0], &inner.input[0]);
        made.graph_mut().node.push(inner.clone());
        pair(&mut made, &executor, x, &n.output[0], &inner.output[0], &n.output[0]);
    }
    made
}

/// QuantizeLinear and DequantizeLinear between two tensors, with the range that `observed` has in the original.
fn pair(made: &mut Model, executor: &Executor, x: &Tensor, observed: &str, from: &str, to: &str) {
    let value = &executor.run(&[("input", x)], &[observed]).unwrap()[observed];
    let (low, high) = value.as_f32().unwrap().iter().fold((0.0f32, 0.0f32), |(l, h), &v| (l.min(v), h.max(v)));
    let scale = (high - low) / 255.0;
    let name = |what: &str| format!("{observed}_{what}");
    scalar(made, &name("scale"), Data::F32(vec![scale]));
    scalar(made, &name("zero"), Data::U8(vec![(-low / scale).round() as u8]));
    made.graph_mut().node.push(node("QuantizeLinear", &[from, &name("scale"), &name("zero")], &[&name("quantized")]));
    made.graph_mut().node.push(node("DequantizeLinear", &[&name("quantized"), &name("scale"), &name("zero")], &[to]));
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
fn quantization_around_softmax_that_tract_gets_wrong_is_caught() {
    let original = Model::load(model("fashion-vit")).unwrap();
    let pairs = pairs_around_softmax();
    let right = checked(&pairs, &original, Form::Qdq, "rten");
    assert!(right.is_ok(), "{right:?}");
    match checked(&pairs, &original, Form::Qdq, "tract") {
        Err(fault) => assert!(fault.is_wrong(), "{fault}"),
        Ok(right) => panic!("tract runs Q/DQ around Softmax right by now: offer it ({right:?})"),
    }
}

/// rten 0.27 forgets the zero points of weights that it packs beforehand, with more than one row: the form gives them up where it can.
#[test]
fn zero_points_of_weights_that_rten_forgets_are_caught_and_not_written() {
    let original = Model::load(model("fashion-mlp")).unwrap();
    let mut coded = joulefront::compress::quantize_weights(&original, 7).unwrap().0;
    // Every weight of every output is one step lower, and so is its zero point.
    let graph = Graph::new(&coded);
    let weights: Vec<(usize, String, usize)> = graph
        .nodes()
        .iter()
        .enumerate()
        .filter(|(_, n)| n.op_type() == "DequantizeLinear")
        .map(|(at, n)| (at, n.input[0].clone(), graph.constant(&n.input[1]).unwrap().unwrap().len()))
        .collect();
    for (at, name, outputs) in weights {
        let integers = Graph::new(&coded).constant(&name).unwrap().unwrap();
        let Data::I8(levels) = integers.data() else { panic!("{name} is not int8") };
        let lower = Tensor::new(integers.shape().to_vec(), Data::I8(levels.iter().map(|l| l - 30).collect())).unwrap();
        coded.set_constant(&name, &lower).unwrap();
        let zero = Tensor::new(vec![outputs], Data::I8(vec![-30; outputs])).unwrap();
        coded.graph_mut().initializer.push(tensor_to_proto(&format!("{name}_zero"), &zero));
        let node = &mut coded.graph_mut().node[at];
        node.input.truncate(2);
        node.input.push(format!("{name}_zero"));
    }
    let written = lower(&coded, Form::Dynamic, &|_| true).unwrap().model;
    let right = checked(&written, &coded, Form::Dynamic, "rten");
    assert!(right.is_ok(), "{right:?}");
    // What other tools write: the zero points stay.
    let mut kept = written.clone();
    for n in written.graph().node.iter().filter(|n| n.op_type() == "MatMulInteger") {
        let (w, z) = (&n.input[1], &n.input[3]);
        let integers = Graph::new(&kept).constant(w).unwrap().unwrap();
        let Data::I8(levels) = integers.data() else { panic!("{w} is not int8") };
        let lower = Tensor::new(integers.shape().to_vec(), Data::I8(levels.iter().map(|l| l - 30).collect())).unwrap();
        kept.set_constant(w, &lower).unwrap();
        kept.set_constant(z, &Tensor::new(vec![], Data::I8(vec![-30])).unwrap()).unwrap();
    }
    assert!(checked(&kept, &coded, Form::Dynamic, "tract").is_ok());
    let options = LoadOptions { batch: 4, ..LoadOptions::default() };
    match checked_with(&kept, &coded, Form::Dynamic, "rten", &options) {
        Err(fault) => assert!(fault.is_wrong(), "{fault}"),
        Ok(right) => panic!("rten keeps zero points of packed weights by now ({right:?})"),
    }
}

#[test]
fn what_is_refused_or_no_number_is_told_apart_from_what_is_wrong() {
    let original = Model::load(model("fashion-mlp")).unwrap();
    let mut unknown = original.clone();
    unknown.graph_mut().node.iter_mut().find(|n| n.op_type() == "Relu").unwrap().set_op_type("Unheard".into());
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
