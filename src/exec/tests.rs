#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::onnx::{Attributes, Model, tensor_from_proto};
use crate::tensor::Data;
use proptest::prelude::*;
use protobuf::Message;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path("tests/fixtures").join(name)).unwrap()).unwrap()
}

fn message<M: Message>(hex: &serde_json::Value) -> M {
    let hex = hex.as_str().unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    M::parse_from_bytes(&bytes).unwrap()
}

fn tensors(list: &serde_json::Value) -> Vec<Option<Tensor>> {
    let list = list.as_array().unwrap();
    list.iter().map(|t| (!t.is_null()).then(|| tensor_from_proto(&message::<pb::TensorProto>(t)).unwrap())).collect()
}

/// Why `found` is not `expected`, if it is not: type, shape, integers exactly, floats to rounding.
fn difference(found: &Tensor, expected: &Tensor, tolerance: f32) -> Option<String> {
    if (found.shape(), found.dtype()) != (expected.shape(), expected.dtype()) {
        return Some(format!("{:?} {:?} instead of {:?} {:?}", found.dtype(), found.shape(), expected.dtype(), expected.shape()));
    }
    match (found.data(), expected.data()) {
        (Data::F32(a), Data::F32(b)) => a.iter().zip(b).enumerate().find_map(|(i, (&a, &b))| {
            let near = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * (b.abs() + 0.1);
            (!near).then(|| format!("element {i} is {a} instead of {b}"))
        }),
        (a, b) => (a != b).then(|| format!("{a:?} instead of {b:?}")),
    }
}

#[test]
fn every_operator_agrees_with_onnx_runtime() {
    let cases = json("ops.json");
    let mut seen = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for case in cases.as_array().unwrap() {
        let node: pb::NodeProto = message(&case["node"]);
        let (inputs, expected) = (tensors(&case["inputs"]), tensors(&case["outputs"]));
        seen.insert(node.op_type().to_owned());
        let inputs: Vec<_> = inputs.iter().map(Option::as_ref).collect();
        let problem = match eval_node(&node, case["opset"].as_i64().unwrap(), &inputs) {
            Err(e) => Some(e.to_string()),
            Ok(found) if found.len() != expected.len() => Some(format!("{} outputs", found.len())),
            Ok(found) => found.iter().zip(expected.iter().flatten()).find_map(|(f, e)| difference(f, e, 1e-5)),
        };
        wrong.extend(problem.map(|p| format!("{}: {p}", case["name"])));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The other operators have ONNX's own cases: tests/it/nodes.rs.
    let known: std::collections::BTreeSet<String> = OPERATORS.iter().chain(eval::OPERATORS).map(|&o| o.to_owned()).collect();
    assert!(seen.len() > 75 && seen.is_subset(&known), "{:?} have cases and are not supported", seen.difference(&known));
}

/// The sixteen test images, as the shipped models take them.
fn images() -> Tensor {
    let pixels = std::fs::read(path("tests/fixtures/fashion16.u8")).unwrap();
    Tensor::f32([16, 1, 28, 28], pixels.iter().map(|&p| (f32::from(p) / 255.0 - 0.2860) / 0.3530).collect()).unwrap()
}

fn executor(model: &str) -> Executor {
    Executor::new(&Model::load(path(&format!("models/fashion-{model}.onnx"))).unwrap()).unwrap()
}

#[test]
fn shipped_models_agree_with_onnx_runtime() {
    let logits = json("fashion16.json");
    for (name, rows) in logits.as_object().unwrap() {
        let expected: Vec<f32> =
            rows.as_array().unwrap().iter().flat_map(|r| r.as_array().unwrap()).map(|v| v.as_f64().unwrap() as f32).collect();
        let found = executor(name).run(&[("input", &images())], &["logits"]).unwrap().remove("logits").unwrap();
        let expected = Tensor::f32([16, 10], expected).unwrap();
        assert_eq!(difference(&found, &expected, 1e-4), None, "{name}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let x = eval::join(&[&images(); 5], 0).unwrap();
    let run = |threads| {
        let executor = executor("resnet8").with_threads(NonZeroUsize::new(threads).unwrap());
        executor.run_batched(&[("input", &x)], &["logits"]).unwrap()
    };
    let one = run(1);
    assert_eq!(one["logits"].shape(), [80, 10]);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}

#[test]
fn a_fixed_batch_is_kept() {
    let x = images();
    let mut model = Model::load(path("models/fashion-vit.onnx")).unwrap();
    let free = Executor::new(&model).unwrap().run_batched(&[("input", &x)], &["logits"]).unwrap();
    let mut with_batch = |n| {
        model.graph_mut().input[0].type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default().dim[0]
            .set_dim_value(n);
        Executor::new(&model).unwrap().run_batched(&[("input", &x)], &["logits"])
    };
    assert_eq!(difference(&with_batch(4).unwrap()["logits"], &free["logits"], 1e-5), None);
    assert_eq!(with_batch(3).unwrap_err().to_string(), "the model takes exactly 3 samples at a time, which 16 is no multiple of");
}

#[test]
fn any_tensor_can_be_fed_and_observed() {
    let executor = executor("resnet8");
    let model = Model::load(path("models/fashion-resnet8.onnx")).unwrap();
    let middle = model.graph().node.iter().filter(|n| n.op_type() == "Add").nth(1).unwrap().output[0].clone();
    let x = images();
    let both = executor.run(&[("input", &x)], &[&middle, "logits"]).unwrap();
    let rest = executor.run(&[(&middle, &both[&middle])], &["logits"]).unwrap();
    assert_eq!(rest["logits"], both["logits"]);
    let weight = model.graph().node[0].input[1].clone();
    let zeros =
        executor.run(&[], &[&weight]).unwrap().remove(&weight).map(|w| Tensor::f32(w.shape(), vec![0.0; w.len()]).unwrap()).unwrap();
    let blind = executor.run(&[("input", &x), (&weight, &zeros)], &["logits"]).unwrap();
    let v = blind["logits"].as_f32().unwrap();
    assert!((10..v.len()).all(|i| v[i] == v[i % 10]), "without the stem all images look alike");
    assert_ne!(blind["logits"], both["logits"]);
}

#[test]
fn mistakes_are_named() {
    let mut node = pb::NodeProto::new();
    node.set_op_type("Conv".into());
    node.set_name("c1".into());
    let t = |shape: &[usize]| Tensor::f32(shape, vec![0.0; shape.iter().product()]).unwrap();
    let (x, w, bad) = (t(&[1, 2, 4, 4]), t(&[3, 2, 3, 3]), t(&[3, 1, 3, 3]));
    let error = |node: &pb::NodeProto, inputs: &[&Tensor]| {
        eval_node(node, 13, &inputs.iter().map(|&t| Some(t)).collect::<Vec<_>>()).unwrap_err().to_string()
    };
    assert!(
        error(&node, &[&x, &bad]).starts_with("node `c1` (Conv): weights of shape [3, 1, 3, 3] do not fit an input of shape [1, 2, 4, 4]")
    );
    assert_eq!(error(&node, &[&x]), "node `c1` (Conv): input 1 is missing");
    for (name, values) in [
        ("strides", vec![0, 1]),
        ("pads", vec![-1; 4]),
        ("dilations", vec![i64::MAX; 2]),
        ("pads", vec![1 << 29; 4]),
        ("dilations", vec![9, 9]),
    ] {
        let mut node = node.clone();
        node.set_ints(name, values.clone());
        assert!(error(&node, &[&x, &w]).starts_with("node `c1` (Conv): "), "{name} {values:?}");
    }
    node.set_op_type("Loop".into());
    let e = eval_node(&node, 13, &[]).unwrap_err();
    assert_eq!(e.to_string(), "node `c1` (Loop): the reference execution does not support this operator");
    assert!(e.hint_text().unwrap().contains("Softmax"));
    let e = executor("mlp").run(&[], &["logits"]).unwrap_err();
    assert_eq!(e.to_string(), "the input `input` is missing");
    let e = executor("mlp").run_batched(&[("input", &images())], &[&model_weight()]).unwrap_err();
    assert!(e.to_string().contains("is not the batch"), "{e}");
    let e = executor("mlp").run(&[], &["nothing"]).unwrap_err();
    assert_eq!(e.to_string(), "the graph has no tensor `nothing`");
}

/// A name of a tensor without a batch axis.
fn model_weight() -> String {
    Model::load(path("models/fashion-mlp.onnx")).unwrap().graph().initializer[0].name().to_owned()
}

/// Any operator on any small inputs gives a result or an error, never a panic.
fn any_tensor() -> impl Strategy<Value = Tensor> {
    (prop::collection::vec(0usize..4, 0..5), any::<bool>(), any::<u8>()).prop_map(|(shape, integers, seed)| {
        let n = shape.iter().product::<usize>();
        let value = |i: usize| ((i * 31 + usize::from(seed)) % 9) as i64 - 3;
        let data = if integers { Data::I64((0..n).map(value).collect()) } else { Data::F32((0..n).map(|i| value(i) as f32).collect()) };
        Tensor::new(shape, data).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn nothing_panics(
        op in prop::sample::select([OPERATORS, eval::OPERATORS].concat()),
        inputs in prop::collection::vec(prop::option::weighted(0.9, any_tensor()), 0..5),
        lists in prop::collection::vec((prop::sample::select(vec!["axes", "pads", "strides", "dilations", "kernel_shape", "perm", "split", "starts", "ends"]), prop::collection::vec(-2i64..4, 0..5)), 0..4),
        numbers in prop::collection::vec((prop::sample::select(vec!["axis", "group", "keepdims", "ceil_mode", "to", "transA", "num_outputs", "start", "end"]), -2i64..8), 0..3),
        opset in 7i64..22,
    ) {
        let mut node = pb::NodeProto::new();
        node.set_op_type(op.into());
        node.output = vec!["a".into()];
        lists.into_iter().for_each(|(name, v)| node.set_ints(name, v));
        numbers.into_iter().for_each(|(name, v)| node.set_int(name, v));
        let inputs: Vec<_> = inputs.iter().map(Option::as_ref).collect();
        let _ = eval_node(&node, opset, &inputs);
    }

    #[test]
    fn convolution_equals_the_definition(
        (h, w, kh, kw) in (1usize..7, 1usize..7, 1usize..4, 1usize..4),
        strides in prop::collection::vec(1i64..4, 2),
        dilations in prop::collection::vec(1i64..3, 2),
        pads in prop::collection::vec(0i64..3, 4),
        (groups, per_in, per_out) in (1usize..4, 1usize..3, 1usize..3),
    ) {
        let (c, o) = (groups * per_in, groups * per_out);
        let fill = |n: usize| (0..n).map(|i| ((i * 37 + 11) % 17) as f32 - 8.0).collect::<Vec<_>>();
        let x = Tensor::f32([2, c, h, w], fill(2 * c * h * w)).unwrap();
        let k = Tensor::f32([o, per_in, kh, kw], fill(o * per_in * kh * kw)).unwrap();
        let mut node = pb::NodeProto::new();
        node.set_op_type("Conv".into());
        node.set_int("group", groups as i64);
        node.set_ints("strides", strides.clone());
        node.set_ints("dilations", dilations.clone());
        node.set_ints("pads", pads.clone());
        let Ok(spec) = ConvSpec::new(&node, x.shape(), k.shape()) else { return Ok(()) };
        let y = conv(&x, &k, None, &spec).unwrap();
        let (xs, ks, ys) = (x.as_f32().unwrap(), k.as_f32().unwrap(), y.as_f32().unwrap());
        let [oh, ow] = spec.window.output;
        let pixel = |n: usize, c: usize, i: i64, j: i64| match (usize::try_from(i), usize::try_from(j)) {
            (Ok(i), Ok(j)) if i < h && j < w => xs[((n * spec.channels + c) * h + i) * w + j],
            _ => 0.0,
        };
        let columns: Vec<Tensor> = (0..groups).map(|g| im2col(&x, &spec, 0..2, g * per_in..(g + 1) * per_in).unwrap()).collect();
        for n in 0..2 {
            for f in 0..o {
                for (i, j) in (0..oh).flat_map(|i| (0..ow).map(move |j| (i, j))) {
                    let mut sum = 0.0;
                    for (r, &weight) in ks[f * per_in * kh * kw..][..per_in * kh * kw].iter().enumerate() {
                        let (c, a, b) = (f / per_out * per_in + r / (kh * kw), r / kw % kh, r % kw);
                        let at = |out: usize, axis: usize, k: usize| out as i64 * strides[axis] - pads[axis] + k as i64 * dilations[axis];
                        let v = pixel(n, c, at(i, 0, a), at(j, 1, b));
                        let column = columns[f / per_out].as_f32().unwrap()[(n * spec.column_rows() + r) * oh * ow + i * ow + j];
                        prop_assert_eq!(column, v);
                        sum += weight * v;
                    }
                    prop_assert_eq!(ys[((n * o + f) * oh + i) * ow + j], sum);
                }
            }
        }
    }
}
