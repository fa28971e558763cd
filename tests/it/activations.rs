//! Quantized activations: where pairs stand, what they stand for, and what ONNX Runtime makes of them.

use crate::pruning::{distance, run};
use crate::support::{calibration, judge_python, model, repository};
use crate::zoo::{self, At, Build};
use joulefront::compress::{Action, Activations, Calibration, Note, Quantization, quantize};
use joulefront::data::Dataset;
use joulefront::model::Graph;
use joulefront::onnx::{Model, pb};
use joulefront::recipe::{ActivationRange, WeightGranularity};
use joulefront::stats::top_classes;
use joulefront::tensor::{Data, Tensor};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

const FASHION: [&str; 5] = ["fashion-resnet8", "fashion-resnet8-bn", "fashion-dscnn", "fashion-mlp", "fashion-vit"];

fn quantized(model: &Model, granularity: WeightGranularity, range: ActivationRange, samples: &Calibration) -> (Model, Vec<Note>) {
    let how = Quantization { weight_bits: 8, granularity, activations: Some(Activations { range, samples }), fit: None };
    let (variant, notes) = quantize(model, &how).unwrap();
    // What is written must be readable.
    (Model::from_bytes(&variant.to_bytes().unwrap(), "the variant").unwrap(), notes)
}

fn samples(shape: &[usize]) -> Calibration {
    Calibration::new("x", &zoo::inputs(64, shape)).unwrap()
}

/// A small model with everything to 8 bits.
fn small(model: &Model, shape: &[usize]) -> (Model, Vec<Note>) {
    quantized(model, WeightGranularity::Channel, ActivationRange::MinMax, &samples(shape))
}

fn count(model: &Model, op: &str) -> usize {
    model.graph().node.iter().filter(|n| n.op_type() == op).count()
}

/// The node that makes what `reader` reads at `input`.
fn before<'m>(graph: &Graph<'m>, reader: &pb::NodeProto, input: usize) -> &'m pb::NodeProto {
    graph.node(graph.producer(&reader.input[input]).unwrap())
}

/// The names of scale and zero point with which an integer comes to `reader`.
fn code_before(graph: &Graph<'_>, reader: &pb::NodeProto, input: usize) -> Vec<String> {
    let pair = before(graph, reader, input);
    assert_eq!(pair.op_type(), "DequantizeLinear", "before {}", reader.name());
    pair.input[1..].to_vec()
}

fn only<'m>(graph: &Graph<'m>, op: &str) -> &'m pb::NodeProto {
    let found: Vec<_> = graph.nodes().iter().filter(|n| n.op_type() == op).collect();
    assert_eq!(found.len(), 1, "{op}");
    found[0]
}

#[test]
fn additions_and_pooling_between_layers_compute_on_integers() {
    let animal = zoo::all().into_iter().find(|a| a.name == "residual").unwrap();
    let (variant, notes) = small(&animal.model, &animal.sample);
    let graph = Graph::new(&variant);
    assert_eq!(count(&variant, "Relu"), 0);
    assert!(notes.last().unwrap().detail.contains("3 of Relu and Clip"), "{notes:?}");
    for node in graph.nodes().iter().filter(|n| matches!(n.op_type(), "Conv" | "Add" | "GlobalAveragePool")) {
        let inputs = if node.op_type() == "GlobalAveragePool" { 1 } else { 2 };
        (0..inputs).for_each(|i| drop(code_before(&graph, node, i)));
        assert!(graph.consumers(&node.output[0]).iter().all(|u| graph.node(u.node).op_type() == "QuantizeLinear"), "{}", node.name());
    }
    // Flatten moves values only; the result of the model is a float.
    let (flatten, gemm) = (only(&graph, "Flatten"), only(&graph, "Gemm"));
    assert_eq!(code_before(&graph, flatten, 0), code_before(&graph, gemm, 0));
    assert!(graph.is_output(&gemm.output[0]));
}

#[test]
fn concat_and_max_pooling_share_a_code_where_no_end_cuts_values_off() {
    let concat = |second_relu: bool| {
        let mut b = Build::new(13, &[3, 8, 8]);
        let (left, right) = (b.conv("x", 3, 8, 1), b.conv("x", 3, 8, 1));
        let left = b.relu(&left);
        let right = if second_relu { b.relu(&right) } else { right };
        let y = b.node("Concat", &[&left, &right], &[("axis", At::I(1))]);
        let y = b.node("MaxPool", &[&y], &[("kernel_shape", At::Is(&[2, 2])), ("strides", At::Is(&[2, 2]))]);
        let y = b.conv(&y, 16, 8, 1);
        b.head(&y, 8)
    };
    for alike in [true, false] {
        let (variant, _) = small(&concat(alike), &[3, 8, 8]);
        let graph = Graph::new(&variant);
        let (concat, pool) = (only(&graph, "Concat"), only(&graph, "MaxPool"));
        let (left, right) = (code_before(&graph, concat, 0), code_before(&graph, concat, 1));
        assert_eq!(left == right, alike);
        let after = graph.node(graph.consumers(&pool.output[0])[0].node);
        assert_eq!(after.op_type(), "QuantizeLinear");
        assert_eq!(code_before(&graph, pool, 0), after.input[1..]);
        assert_eq!(code_before(&graph, pool, 0) == left, alike);
        assert_eq!(count(&variant, "Relu"), 0);
    }
}

#[test]
fn a_clip_goes_when_no_integer_stands_for_more() {
    let clipped = |low: f32, high: f32| {
        let mut b = Build::new(13, &[3, 8, 8]);
        let (low, high) = (b.scalar(low), b.scalar(high));
        let y = b.conv("x", 3, 8, 1);
        let y = b.node("Clip", &[&y, &low, &high], &[]);
        let y = b.pointwise(&y, 8, 8);
        b.head(&y, 8)
    };
    let x = zoo::inputs(8, &[3, 8, 8]);
    for (low, high) in [(0.0, 6.0), (0.0, 0.3), (-0.3, 0.4), (-1.0, 0.0)] {
        let original = clipped(low, high);
        let (variant, _) = small(&original, &[3, 8, 8]);
        assert_eq!(count(&variant, "Clip"), 0);
        let graph = Graph::new(&variant);
        let pointwise = graph.nodes().iter().filter(|n| n.op_type() == "Conv").nth(1).unwrap();
        let code = code_before(&graph, pointwise, 0);
        let scale = graph.constant(&code[0]).unwrap().unwrap().as_f32().unwrap()[0];
        let Data::U8(zero) = graph.constant(&code[1]).unwrap().unwrap().into_data() else { panic!() };
        let (least, most) = (-f64::from(scale) * f64::from(zero[0]), f64::from(scale) * f64::from(255 - zero[0]));
        assert!(least >= f64::from(low) && most <= f64::from(high), "{least} {most} for {low} {high}");
        let far = distance(&run(&original, &x), &run(&variant, &x));
        assert!(far < 0.02, "{low} {high}: {far}");
    }
    // 0 is no value of this one: nothing saturates to 0.5.
    assert_eq!(count(&small(&clipped(0.5, 6.0), &[3, 8, 8]).0, "Clip"), 1);
}

#[test]
fn what_others_read_too_is_read_as_integers_or_left_alone() {
    // A convolution that a float operator reads gives integers to it too; an input of the model stays what it is.
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 3, 1);
    let y = b.relu(&y);
    let gate = b.node("Sigmoid", &[&y], &[]);
    let z = b.conv(&y, 3, 3, 1);
    let z = b.node("Mul", &[&z, &gate], &[]);
    let z = b.node("Add", &[&z, "x"], &[]);
    let model = b.head(&z, 3);
    let (variant, _) = small(&model, &[3, 8, 8]);
    let graph = Graph::new(&variant);
    assert_eq!(before(&graph, only(&graph, "Sigmoid"), 0).op_type(), "DequantizeLinear");
    assert_eq!(before(&graph, only(&graph, "Mul"), 1).op_type(), "Sigmoid");
    let add = only(&graph, "Add");
    assert_eq!((before(&graph, add, 0).op_type(), add.input[1].as_str()), ("Mul", "x"));
    assert_eq!(before(&graph, only(&graph, "GlobalAveragePool"), 0).op_type(), "Add");
    assert_eq!(count(&variant, "Relu"), 0);
}

#[test]
fn layers_that_stay_float_say_why() {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 8, 1);
    let y = b.conv(&y, 8, 4, 1);
    let (_, notes) = small(&b.finish(&y, &[4, 8, 8]), &[3, 8, 8]);
    assert!(notes[0].detail.ends_with("; input to 8 bits, bias to 32 bits"), "{notes:?}");
    assert!(notes[1].detail.contains("input stays float: the layer's result is the model's"), "{notes:?}");

    let mut b = Build::new(13, &[16]);
    let (w, c) = (b.weight(&[16, 8]), b.weight(&[8]));
    let y = b.node("Gemm", &["x", &w, &c], &[("alpha", At::F(0.5))]);
    let y = b.gemm(&y, 8, 4, true);
    let (_, notes) = small(&b.finish(&y, &[4]), &[16]);
    assert!(notes[0].detail.contains("input stays float: the product is scaled"), "{notes:?}");

    let vit = Model::load(model("fashion-vit")).unwrap();
    let (variant, notes) = quantized(&vit, WeightGranularity::Channel, ActivationRange::MinMax, &calibration(32));
    assert_eq!(notes.iter().filter(|n| n.action == Action::Skipped && n.detail.contains("multiplies two activations")).count(), 6);
    let graph = Graph::new(&variant);
    for node in graph.nodes().iter().filter(|n| matches!(n.op_type(), "Softmax" | "Mul" | "ReduceMean" | "Erf" | "Sqrt")) {
        for input in node.input.iter().filter_map(|i| graph.producer(i)) {
            assert_ne!(graph.node(input).op_type(), "DequantizeLinear", "before {}", node.name());
        }
        assert!(node.output.iter().all(|o| graph.consumers(o).iter().all(|u| {
            let reader = graph.node(u.node);
            // The last Mul of a Gelu is what the next layer reads.
            reader.op_type() != "QuantizeLinear" || node.op_type() == "Mul" || node.op_type() == "ReduceMean"
        })));
    }
}

#[test]
fn a_channel_without_weights_keeps_its_bias() {
    let mut b = Build::new(13, &[16]);
    let w: Vec<f32> = (0..16 * 4).map(|i| if i / 16 == 1 { 0.0 } else { (i % 7) as f32 / 7.0 - 0.4 }).collect();
    let w = b.constant(&Tensor::f32([4, 16], w).unwrap());
    let c = b.constant(&Tensor::f32([4], vec![0.3, 0.777_77, -0.2, 0.1]).unwrap());
    let y = b.node("Gemm", &["x", &w, &c], &[("transB", At::I(1))]);
    let (variant, _) = small(&b.finish(&y, &[4]), &[16]);
    let given = run(&variant, &zoo::inputs(1, &[16]));
    assert!((given[1] - 0.777_77).abs() < 1e-6, "{given:?}");
}

#[test]
fn blocks_run_along_the_inputs_and_convolutions_fall_back_to_channels() {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 4, 1);
    let y = b.node("Flatten", &[&y], &[]);
    let y = b.gemm(&y, 256, 40, true);
    // 40 = 32 + 8: the last block is shorter.
    let y = b.matmul(&y, 40, 4);
    let original = b.finish(&y, &[4]);
    let how = |granularity| Quantization { weight_bits: 4, granularity, activations: None, fit: None };
    let (variant, notes) = quantize(&original, &how(WeightGranularity::Block32)).unwrap();
    assert_eq!(variant.opset(), 21);
    assert!(notes.iter().any(|n| n.detail.contains("per channel (blocks are for Gemm and MatMul)")), "{notes:?}");
    let graph = Graph::new(&variant);
    let shapes: Vec<Vec<usize>> =
        graph.nodes().iter().filter(|n| n.op_type() == "DequantizeLinear").map(|n| graph.constant_shape(&n.input[1]).unwrap()).collect();
    assert_eq!(shapes, [vec![4], vec![40, 8], vec![2, 4]]);
    let x = zoo::inputs(8, &[3, 8, 8]);
    let far = |granularity| distance(&run(&original, &x), &run(&quantize(&original, &how(granularity)).unwrap().0, &x));
    let (blocks, channel, tensor) = (far(WeightGranularity::Block32), far(WeightGranularity::Channel), far(WeightGranularity::Tensor));
    assert!(blocks < channel && blocks < tensor, "{blocks} {channel} {tensor}");
}

#[test]
fn useless_samples_are_refused() {
    let mlp = Model::load(model("fashion-mlp")).unwrap();
    let refused = |values: Vec<f32>, why: &str| {
        let samples = Calibration::new("input", &Tensor::f32([values.len() / 784, 1, 28, 28], values).unwrap()).unwrap();
        let activations = Some(Activations { range: ActivationRange::Mse, samples: &samples });
        let how = Quantization { weight_bits: 8, granularity: WeightGranularity::Channel, activations, fit: None };
        let e = quantize(&mlp, &how).map(drop).unwrap_err().to_string();
        assert!(e.contains(why), "{e}");
    };
    refused(vec![0.5; 8 * 784], "8 samples are too few");
    refused(vec![0.5; 32 * 784], "all values of the calibration samples are the same");
    let mut values: Vec<f32> = (0..32 * 784).map(|i| (i % 256) as f32).collect();
    values[5000] = f32::NAN;
    refused(values.clone(), "a value that is NaN");
    // Finite, but the sums of the first layer are not.
    values[784 * 3..784 * 4].fill(f32::MAX);
    values[5000] = 0.0;
    refused(values, "on the calibration samples: a value is");
}

#[test]
fn the_same_bytes_come_out_on_any_number_of_cores_and_in_any_order_of_samples() {
    let original = Model::load(model("fashion-resnet8")).unwrap();
    let split = Dataset::open(repository("models/fashion-mnist")).unwrap().split("calibration").unwrap();
    let images = split.batch(0..200).unwrap();
    let backwards: Vec<f32> = images.as_f32().unwrap().chunks_exact(784).rev().flatten().copied().collect();
    let backwards = Calibration::new("input", &Tensor::f32(images.shape(), backwards).unwrap()).unwrap();
    let forwards = Calibration::new("input", &images).unwrap();
    let bytes =
        |samples: &Calibration| quantized(&original, WeightGranularity::Channel, ActivationRange::Mse, samples).0.to_bytes().unwrap();
    let free = bytes(&forwards);
    assert!(free == bytes(&backwards), "another order of samples made other bytes");
    let pinned = std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            let cpus = joulefront::sys::allowed_cpus().unwrap();
            joulefront::sys::pin_current_thread(&cpus[..1]).unwrap();
            bytes(&forwards)
        });
        one.join().unwrap()
    });
    assert!(free == pinned, "one core made other bytes");
}

/// What `judge_fusion.py` says of one file.
#[derive(Deserialize)]
struct Fused {
    outputs: Vec<f32>,
    operators: BTreeMap<String, usize>,
}

impl Fused {
    fn count(&self, op: &str) -> usize {
        self.operators.get(op).copied().unwrap_or(0)
    }
}

fn write(folder: &Path, name: &str, model: &Model, x: &Tensor) {
    model.save(folder.join(format!("{name}.onnx"))).unwrap();
    let bytes: Vec<u8> = x.as_f32().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.join(format!("{name}.f32")), bytes).unwrap();
    let shape: Vec<String> = x.shape()[1..].iter().map(usize::to_string).collect();
    std::fs::write(folder.join(format!("{name}.shape")), shape.join(",")).unwrap();
}

fn judge(folder: &Path) -> Option<BTreeMap<String, Fused>> {
    let mut python = judge_python()?;
    let output = python.arg(repository("tests/fixtures/scripts/judge_fusion.py")).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn onnx_runtime_fuses_every_layer_and_predicts_what_the_reference_does() {
    let folder = tempfile::tempdir().unwrap();
    let x = Dataset::open(repository("models/fashion-mnist")).unwrap().split("test").unwrap().batch(0..1000).unwrap();
    let samples = calibration(128);
    let mut classes = BTreeMap::new();
    for name in FASHION {
        let original = Model::load(model(name)).unwrap();
        let (variant, _) = quantized(&original, WeightGranularity::Channel, ActivationRange::Mse, &samples);
        classes.insert(name, top_classes(&run(&variant, &x), 10).unwrap());
        write(folder.path(), name, &variant, &x);
    }
    let Some(verdict) = judge(folder.path()) else { return };
    for (name, predicted) in &classes {
        let given = top_classes(&verdict[*name].outputs, 10).unwrap();
        let same = given.iter().zip(predicted).filter(|(a, b)| a == b).count();
        assert!(same >= 997, "{name}: ONNX Runtime and the reference execution agree on {same} of 1000");
        for op in ["Conv", "Gemm", "Clip", "Relu"] {
            assert_eq!(verdict[*name].count(op), 0, "{name}: {op} in {:?}", verdict[*name].operators);
        }
    }
    let kernels =
        |name: &str| ["QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm", "QuantizeLinear"].map(|op| verdict[name].count(op));
    assert_eq!(kernels("fashion-resnet8"), [9, 3, 1, 1, 1]);
    assert_eq!(kernels("fashion-resnet8-bn"), [9, 3, 1, 1, 1]);
    assert_eq!(kernels("fashion-dscnn"), [11, 0, 1, 1, 1]);
    assert_eq!(kernels("fashion-mlp"), [0, 0, 0, 3, 1]);
    // Every product with weights; one quantization for each of its inputs.
    assert_eq!(kernels("fashion-vit"), [1, 0, 0, 13, 14]);
}

#[test]
fn the_zoo_is_the_same_to_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = BTreeMap::new();
    for animal in zoo::all() {
        for granularity in [WeightGranularity::Channel, WeightGranularity::Tensor, WeightGranularity::Block32] {
            let (variant, _) = quantized(&animal.model, granularity, ActivationRange::MinMax, &samples(&animal.sample));
            let x = zoo::inputs(8, &animal.sample);
            let (float, given) = (run(&animal.model, &x), run(&variant, &x));
            assert!(distance(&float, &given) < 0.1, "{}, {granularity:?}: {}", animal.name, distance(&float, &given));
            let name = format!("{} {granularity:?}", animal.name);
            write(folder.path(), &name, &variant, &x);
            expected.insert(name, given);
        }
    }
    let Some(verdict) = judge(folder.path()) else { return };
    for (name, given) in &expected {
        // A value half-way between two integers may go either way.
        let far = distance(given, &verdict[name].outputs);
        assert!(far < 0.02, "{name}: {far}");
    }
}
