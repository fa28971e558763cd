//! Damaged and malicious files: every stage answers with a model or an error, never with a panic or gigabytes.

use crate::budget::peak;
use crate::support::model;
use crate::zoo::{self, At, Build};
use joulefront::compress::{Activations, Calibration, ChannelShare, Groups, Quantization, Sparsity};
use joulefront::compress::{cut_channels, prepare, prune_connections, quantize, quantize_weights};
use joulefront::model::clean::fold_batch_norms;
use joulefront::model::{Facts, Graph, layers, totals};
use joulefront::onnx::{Attributes, Model, pb, tensor_to_proto};
use joulefront::recipe::{ActivationRange, WeightGranularity};
use joulefront::tensor::Tensor;
use proptest::prelude::*;
use std::sync::OnceLock;

/// Everything that is done with a file before an engine sees it. Results do not matter here, coming back does.
fn survive(bytes: &[u8]) -> joulefront::Result<()> {
    let model = Model::from_bytes(bytes, "hostile")?;
    let analysed = |model: &Model| {
        let facts = Facts::infer(model, 1)?;
        let graph = Graph::new(model);
        let list = layers(&graph, &facts)?;
        totals(&graph, &list)?;
        Groups::find(&graph, &facts, &list).map(|_| ())
    };
    let first = analysed(&model);
    if let Ok((mut prepared, _)) = prepare(&model) {
        let _ = analysed(&prepared);
        let _ = fold_batch_norms(&mut prepared).and_then(|_| prepared.to_bytes());
    }
    let made = [
        cut_channels(&model, ChannelShare::OfMacs(0.3), 4, None).map(|p| p.embedded().map(|_| p.model)).and_then(|m| m),
        cut_channels(&model, ChannelShare::OfChannels(0.5), 1, None).map(|p| p.model),
        prune_connections(&model, &Sparsity::share(0.5), None).map(|p| p.0),
        quantize_weights(&model, 4).map(|q| q.0),
    ];
    for variant in made.into_iter().flatten() {
        // What could be made must be a file that loads again.
        Model::from_bytes(&variant.to_bytes()?, "variant").unwrap();
    }
    first
}

fn files() -> &'static Vec<Vec<u8>> {
    static FILES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let shipped = ["fashion-mlp", "fashion-vit"].map(|n| std::fs::read(model(n)).unwrap());
        shipped.into_iter().chain(zoo::all().into_iter().map(|a| a.model.to_bytes().unwrap())).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = survive(&bytes);
    }

    #[test]
    fn truncations(file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let file = &files()[file.index(files().len())];
        let _ = survive(&file[..at.index(file.len())]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The zoo's weights are small, so that most flips hit structure.
    #[test]
    fn flipped_bits(file in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4)) {
        let mut file = files()[2 + file.index(files().len() - 2)].clone();
        for (at, bit) in flips {
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
        }
        let _ = survive(&file);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Structure is changed where it hurts, and the file stays readable protobuf.
    #[test]
    fn changed_numbers(animal in any::<prop::sample::Index>(), node in any::<prop::sample::Index>(), what in 0..6, value in prop::sample::select(vec![0, 1, -1, 2, 3, 7, 64, 1 << 31, i64::MAX, i64::MIN])) {
        let animal = animal.index(zoo_models().len());
        let mut model = zoo_models()[animal].clone();
        let graph = model.graph_mut();
        let at = node.index(graph.node.len());
        let weight = node.index(graph.initializer.len().max(1));
        let n = &mut graph.node[at];
        match what {
            0 => n.attribute.iter_mut().for_each(|a| { if a.ints.is_empty() { a.set_i(value) } else { a.ints[0] = value } }),
            1 => { n.input.pop(); }
            2 => n.input.iter_mut().for_each(String::clear),
            3 => n.set_int("group", value),
            4 => if let Some(t) = graph.initializer.get_mut(weight) { t.dims.push(value) },
            _ => if let Some(t) = graph.initializer.get_mut(weight) {
                // Honest bytes under other dimensions.
                let elements = t.dims.iter().product::<i64>();
                t.dims = if value == 0 { vec![1, elements] } else if value == 1 { vec![elements] } else { vec![elements, 1, 1, 1] };
            },
        }
        let bytes = model.to_bytes().unwrap();
        let _ = survive(&bytes);
        if let Ok(model) = Model::from_bytes(&bytes, "changed") {
            let _ = cut_channels(&model, ChannelShare::OfMacs(0.3), 4, Some(&samples()[animal]));
            let _ = prune_connections(&model, &Sparsity::share(0.5), Some(&samples()[animal]));
            let activations = Some(Activations { range: ActivationRange::Mse, samples: &samples()[animal] });
            let how = Quantization { weight_bits: 8, granularity: WeightGranularity::Channel, activations, fit: Some(&samples()[animal]) };
            if let Ok((variant, _)) = quantize(&model, &how) {
                Model::from_bytes(&variant.to_bytes().unwrap(), "variant").unwrap();
            }
        }
    }
}

/// As many calibration samples as activations need, for each model of the zoo.
fn samples() -> &'static Vec<Calibration> {
    static SAMPLES: OnceLock<Vec<Calibration>> = OnceLock::new();
    SAMPLES.get_or_init(|| zoo::all().into_iter().map(|a| Calibration::new("x", &zoo::inputs(16, &a.sample)).unwrap()).collect())
}

fn zoo_models() -> &'static Vec<Model> {
    static MODELS: OnceLock<Vec<Model>> = OnceLock::new();
    MODELS.get_or_init(|| zoo::all().into_iter().map(|a| a.model).collect())
}

/// Refused with this in the message.
#[track_caller]
fn refused(model: &Model, expect: &str) {
    let e = survive(&model.to_bytes().unwrap()).unwrap_err().to_string();
    assert!(e.contains(expect), "{e}");
}

/// `x` [N, 3, 8, 8] through one operator with the given attributes and weights of a shape.
fn one(op: &str, weights: &[usize], attributes: &[(&str, At)]) -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let w = b.weight(weights);
    let y = b.node(op, &["x", &w], attributes);
    b.finish(&y, &[4])
}

#[test]
fn contradictions_are_named() {
    refused(&one("Conv", &[4, 3, 3, 3], &[("group", At::I(0))]), "`group` must be positive");
    refused(&one("Conv", &[4, 3, 3, 3], &[("group", At::I(i64::MIN))]), "`group` must be positive");
    refused(&one("Conv", &[4, 3, 3, 3], &[("strides", At::Is(&[-1, 1]))]), "`strides` must be");
    refused(&one("Conv", &[4, 3, 3, 3], &[("strides", At::Is(&[0, 1]))]), "`strides` must be");
    refused(&one("Conv", &[4, 3, 3, 3], &[("pads", At::Is(&[i64::MAX; 4]))]), "`pads` must be");
    refused(&one("Conv", &[4, 3, 3, 3], &[("pads", At::Is(&[1 << 30; 4]))]), "too large");
    refused(&one("Conv", &[4, 3, 9, 9], &[]), "does not fit");
    refused(&one("Conv", &[0, 3, 3, 3], &[]), "do not fit");
    refused(&one("Conv", &[4], &[]), "do not fit");
    refused(&one("Gemm", &[3, 3], &[]), "Gemm needs matrices");
    refused(&one("MatMul", &[9, 3], &[]), "cannot be multiplied");
    refused(&one("Add", &[5], &[]), "broadcast");
}

#[test]
fn dimensions_that_lie_are_refused_at_once() {
    let mut model = one("Conv", &[4, 3, 3, 3], &[]);
    model.graph_mut().initializer[0].dims = vec![1 << 40, 3, 3, 3];
    refused(&model, "do not fit the data it holds");
    model.graph_mut().initializer[0].dims = vec![i64::MAX, i64::MAX];
    refused(&model, "do not fit the data it holds");
    let mut b = Build::new(13, &[1 << 40, 8, 8]);
    let y = b.relu("x");
    refused(&b.finish(&y, &[4]), "too large");
}

/// 40 bytes that stand for gigabytes.
#[test]
fn values_that_would_be_huge_are_not_worked_out() {
    for op in ["ConstantOfShape", "Expand"] {
        let mut b = Build::new(13, &[3, 8, 8]);
        let shape = b.constant(&Tensor::i64s(vec![1 << 14, 1 << 15]));
        let one = b.constant(&Tensor::f32([1], vec![1.0]).unwrap());
        let large = if op == "Expand" { b.node(op, &[&one, &shape], &[]) } else { b.node(op, &[&shape], &[]) };
        let model = b.finish(&large, &[4]);
        let facts = Facts::infer(&model, 1).unwrap();
        assert_eq!(facts.shape(&large), Some(&[1 << 14, 1 << 15][..]));
        assert!(facts.value(&large).is_none());
    }
    // The same as sparse storage: one value at one place.
    let (mut sparse, mut b) = (pb::SparseTensorProto::new(), Build::new(18, &[3, 8, 8]));
    sparse.values = Some(tensor_to_proto("s", &Tensor::f32([1], vec![1.0]).unwrap())).into();
    sparse.indices = Some(tensor_to_proto("", &Tensor::i64s(vec![5]))).into();
    sparse.dims = vec![1 << 14, 1 << 14];
    let mut attribute = pb::AttributeProto::new();
    attribute.set_name("sparse_value".into());
    attribute.sparse_tensor = Some(sparse).into();
    let large = b.node("Constant", &[], &[]);
    let mut model = b.finish(&large, &[4]);
    model.graph_mut().node[0].attribute.push(attribute);
    let (facts, taken) = peak(|| Facts::infer(&model, 1).unwrap());
    assert!(facts.shape(&large) == Some(&[1 << 14, 1 << 14]) && taken < 1 << 20, "{taken} bytes");
    // Found by mutation: one axis of 84 million elements, the other of none.
    for mode in ["nearest", "linear"] {
        let mut b = Build::new(19, &[3, 8, 8]);
        let x = b.constant(&Tensor::f32([2, 2], vec![1.0; 4]).unwrap());
        let sizes = b.constant(&Tensor::i64s(vec![83_886_087, 0]));
        let empty = b.node("Resize", &[&x, "", "", &sizes], &[("mode", At::S(mode))]);
        let model = b.finish(&empty, &[4]);
        let (facts, taken) = peak(|| Facts::infer(&model, 1).unwrap());
        assert!(facts.shape(&empty) == Some(&[83_886_087, 0]) && taken < 1 << 20, "{mode}: {taken} bytes");
    }
    // Found by mutation: operators that had no shape rule were worked out whatever their size.
    for op in ["BlackmanWindow", "HannWindow", "MelWeightMatrix", "CenterCropPad"] {
        let mut b = Build::new(18, &[3, 8, 8]);
        let number = |v: i64| Tensor::new(vec![], joulefront::tensor::Data::I64(vec![v])).unwrap();
        let [size, many] = [1 << 26, 1 << 10].map(|v| b.constant(&number(v)));
        let rate = b.constant(&Tensor::f32([], vec![8000.0]).unwrap());
        let large = match op {
            "MelWeightMatrix" => b.node(op, &[&many, &many, &many, &rate, &rate], &[]),
            "CenterCropPad" => {
                let wanted = b.constant(&Tensor::i64s(vec![1 << 13, 1 << 13]));
                let x = b.constant(&Tensor::f32([1, 1], vec![1.0]).unwrap());
                b.node(op, &[&x, &wanted], &[])
            }
            _ => b.node(op, &[&size], &[]),
        };
        let model = b.finish(&large, &[4]);
        let (facts, taken) = peak(|| Facts::infer(&model, 1).unwrap());
        assert!(facts.shape(&large).is_some_and(|s| s.iter().product::<usize>() > 1 << 18) && taken < 1 << 20, "{op}: {taken} bytes");
    }
    let mut b = Build::new(13, &[3, 8, 8]);
    let [start, limit, step] = [0, i64::MAX, 1].map(|v| b.constant(&Tensor::new(vec![], joulefront::tensor::Data::I64(vec![v])).unwrap()));
    let y = b.node("Range", &[&start, &limit, &step], &[]);
    refused(&b.finish(&y, &[4]), "too large");
}

#[test]
fn graphs_out_of_order_are_refused() {
    let mut model = zoo_models()[0].clone();
    model.graph_mut().node.reverse();
    refused(&model, "which nothing before it produces");
    // A cycle: the first layer reads the last tensor.
    let mut model = zoo_models()[0].clone();
    let last = model.graph().output[0].name().to_owned();
    model.graph_mut().node[0].input[0] = last;
    refused(&model, "which nothing before it produces");
    let mut model = zoo_models()[0].clone();
    let first = model.graph().node[0].output[0].clone();
    model.graph_mut().node[1].output[0] = first;
    refused(&model, "exists already");
    let mut model = zoo_models()[0].clone();
    model.graph_mut().output.clear();
    refused(&model, "no outputs");
}

#[test]
fn inputs_without_dimensions_or_type_pass_without_a_panic() {
    for strip in [0, 1, 2] {
        let mut model = zoo_models()[0].clone();
        let input = &mut model.graph_mut().input[0];
        match strip {
            0 => input.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default().dim.clear(),
            1 => input.type_.mut_or_insert_default().tensor_type.clear(),
            _ => input.type_.clear(),
        }
        let bytes = model.to_bytes().unwrap();
        let _ = survive(&bytes);
        if strip > 0 {
            // Layers are listed without their multiply–adds, and the reason stands where the number would.
            let model = Model::from_bytes(&bytes, "stripped").unwrap();
            let list = layers(&Graph::new(&model), &Facts::infer(&model, 1).unwrap()).unwrap();
            assert!(list.iter().any(|l| l.macs.as_ref().is_err_and(|why| why.contains("is no tensor"))), "{list:?}");
        }
    }
}

/// A node in a node in a node: protobuf's own limit ends it.
#[test]
fn deep_nesting_is_refused() {
    let mut bytes = Vec::new();
    for depth in 0..2000 {
        // GraphProto.node (1) > NodeProto.attribute (5) > AttributeProto.g (6), from the inside out.
        let tag = [0x32, 0x2a, 0x0a][depth % 3];
        let mut outer = vec![tag];
        let mut length = bytes.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(&bytes);
        bytes = outer;
    }
    assert!(survive(&bytes).is_err());
}

#[test]
fn control_flow_and_other_domains_are_left_alone_with_a_reason() {
    let mut model = zoo_models()[0].clone();
    let mut attribute = pb::AttributeProto::new();
    attribute.set_name("then_branch".into());
    attribute.set_type(5);
    attribute.g = Some(pb::GraphProto::new()).into();
    model.graph_mut().node[1].attribute.push(attribute);
    let e = quantize_weights(&model, 8).unwrap_err().to_string();
    assert!(e.contains("holds a graph of its own"), "{e}");

    let mut model = zoo_models()[0].clone();
    let conv = model.graph().node.iter().rposition(|n| n.op_type() == "Conv").unwrap();
    model.graph_mut().node[conv].set_domain("com.example".into());
    survive(&model.to_bytes().unwrap()).unwrap();
    let (graph, facts) = (Graph::new(&model), Facts::infer(&model, 1).unwrap());
    assert!(layers(&graph, &facts).unwrap().iter().all(|l| l.node != Some(conv)), "an operator of another domain is no Conv");
}

/// IR version 3 lists initializers as inputs too; what is removed must not stay behind as an input that nobody feeds.
#[test]
fn initializers_that_are_inputs_too_become_constants() {
    let mut model = zoo_models()[0].clone();
    let names: Vec<String> = model.graph().initializer.iter().map(|t| t.name().to_owned()).collect();
    for name in names {
        let mut info = model.graph().input[0].clone();
        info.set_name(name);
        model.graph_mut().input.push(info);
    }
    model.proto_mut().set_ir_version(3);
    let (variant, notes) = quantize_weights(&model, 8).unwrap();
    assert_eq!((variant.graph().input.len(), variant.proto().ir_version()), (1, 4));
    assert!(notes[0].detail.contains("no longer listed"));
}

/// Names that the program would like to give are taken already.
#[test]
fn taken_names_are_avoided() {
    let mut model = zoo_models()[0].clone();
    let weights: Vec<String> = model.graph().initializer.iter().map(|t| t.name().to_owned()).collect();
    let one = Tensor::f32([1], vec![1.0]).unwrap();
    for name in weights {
        for end in ["q", "scale", "zero", "dequantized", "bias"] {
            model.graph_mut().initializer.push(tensor_to_proto(&format!("{name}__{end}"), &one));
        }
    }
    let (variant, _) = quantize_weights(&model, 8).unwrap();
    Model::from_bytes(&variant.to_bytes().unwrap(), "variant").unwrap();
}
