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
    // The node tests of ONNX have cases of all operators (tests/it/nodes.rs); these here add ONNX Runtime's answers.
    assert!(seen.iter().all(|op| knows(op)), "{seen:?}");
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
        inputs in prop::collection::vec(prop::option::weighted(0.9, any_tensor()), 0..7),
        lists in prop::collection::vec((prop::sample::select(vec!["axes", "pads", "strides", "dilations", "kernel_shape", "perm", "split", "starts", "ends", "output_padding", "output_shape"]), prop::collection::vec(-2i64..4, 0..5)), 0..4),
        numbers in prop::collection::vec((prop::sample::select(vec!["axis", "group", "keepdims", "ceil_mode", "to", "transA", "num_outputs", "start", "end", "p", "size", "num_groups", "hidden_size", "num_heads", "q_num_heads", "kv_num_heads", "K", "N"]), -2i64..8), 0..3),
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
        rank in 1usize..4,
        spatial in prop::collection::vec(1usize..7, 3),
        kernel in prop::collection::vec(1usize..4, 3),
        strides in prop::collection::vec(1i64..4, 3),
        dilations in prop::collection::vec(1i64..3, 3),
        pads in prop::collection::vec(0i64..3, 6),
        (groups, per_in, per_out) in (1usize..4, 1usize..3, 1usize..11),
    ) {
        let (c, o) = (groups * per_in, groups * per_out);
        let fill = |n: usize| (0..n).map(|i| ((i * 37 + 11) % 17) as f32 - 8.0).collect::<Vec<_>>();
        let tensor = |shape: Vec<usize>| Tensor::f32(shape.clone(), fill(shape.iter().product())).unwrap();
        let x = tensor([&[2, c], &spatial[..rank]].concat());
        let k = tensor([&[o, per_in], &kernel[..rank]].concat());
        let b = tensor(vec![o]);
        let mut node = pb::NodeProto::new();
        node.set_op_type("Conv".into());
        node.set_int("group", groups as i64);
        node.set_ints("strides", strides[..rank].to_vec());
        node.set_ints("dilations", dilations[..rank].to_vec());
        node.set_ints("pads", pads[..2 * rank].to_vec());
        let Ok(spec) = ConvSpec::new(&node, x.shape(), k.shape()) else { return Ok(()) };
        let y = conv(&x, &k, Some(&b), &spec).unwrap();
        let (ks, ys, bs) = (k.as_f32().unwrap(), y.as_f32().unwrap(), b.as_f32().unwrap());
        let columns: Vec<Tensor> = (0..groups).map(|g| im2col(&x, &spec, 0..2, g * per_in..(g + 1) * per_in).unwrap()).collect();
        let places = spec.window.output_len();
        for (n, f, p) in (0..2).flat_map(|n| (0..o).flat_map(move |f| (0..places).map(move |p| (n, f, p)))) {
            let at = spec.window.output_place(p);
            let mut sum = bs[f];
            for c in 0..per_in {
                for (t, tap) in spec.window.taps().enumerate() {
                    let w = &spec.window;
                    let inside = (0..3).try_fold(0, |flat, a| {
                        let i = (at[a] * w.stride[a] + tap[a] * w.dilation[a]).checked_sub(w.pad_begin[a]).filter(|&i| i < w.input[a])?;
                        Some(flat * w.input[a] + i)
                    });
                    let plane = (n * spec.channels + f / per_out * per_in + c) * w.input_len();
                    let value = inside.map_or(0.0, |i| x.as_f32().unwrap()[plane + i]);
                    let row = c * w.kernel_len() + t;
                    prop_assert_eq!(columns[f / per_out].as_f32().unwrap()[(n * spec.column_rows() + row) * places + p], value);
                    sum += ks[f * spec.column_rows() + row] * value;
                }
            }
            prop_assert_eq!(ys[(n * o + f) * places + p], sum);
        }
    }

    /// ⟨fill(x), y⟩ = ⟨x, add(y)⟩: the two are adjoint.
    #[test]
    fn columns_and_their_sums_are_adjoint(
        spatial in prop::collection::vec(1usize..6, 3),
        kernel in prop::collection::vec(1usize..4, 3),
        strides in prop::collection::vec(1i64..4, 3),
        dilations in prop::collection::vec(1i64..3, 3),
        pads in prop::collection::vec(0i64..3, 6),
    ) {
        let mut node = pb::NodeProto::new();
        node.set_ints("strides", strides);
        node.set_ints("dilations", dilations);
        node.set_ints("pads", pads);
        let Ok(window) = Window::new(&Args::new(&node, 13, &[]), &spatial, &kernel) else { return Ok(()) };
        let fill = |n: usize, seed: usize| (0..n).map(|i| ((i * 29 + seed) % 13) as f32 - 6.0).collect::<Vec<_>>();
        let x = fill(2 * window.input_len(), 3);
        let y = fill(2 * window.kernel_len() * window.output_len(), 5);
        let (mut columns, mut sums) = (vec![f32::NAN; y.len()], vec![0.0; x.len()]);
        columns::fill(&x, &window, &mut columns, 0.0);
        columns::add(&y, &window, &mut sums);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        prop_assert_eq!(dot(&columns, &y), dot(&x, &sums));
    }
}

/// A graph in which `nodes` make `outputs` of `inputs`.
fn graph(inputs: &[&str], nodes: Vec<pb::NodeProto>, outputs: &[&str]) -> pb::GraphProto {
    let info = |name: &&str| {
        let mut info = pb::ValueInfoProto::new();
        info.set_name((*name).to_owned());
        info
    };
    let mut graph = pb::GraphProto::new();
    graph.input = inputs.iter().map(info).collect();
    graph.output = outputs.iter().map(info).collect();
    graph.node = nodes;
    graph
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> pb::NodeProto {
    let mut node = pb::NodeProto::new();
    node.set_op_type(op.into());
    node.input = inputs.iter().map(|&i| i.into()).collect();
    node.output = outputs.iter().map(|&o| o.into()).collect();
    node
}

fn model(graph: pb::GraphProto) -> Model {
    let mut model = Model::load(path("models/fashion-mlp.onnx")).unwrap();
    *model.graph_mut() = graph;
    model
}

fn with_body(mut node: pb::NodeProto, name: &str, body: pb::GraphProto) -> pb::NodeProto {
    let mut attribute = pb::AttributeProto::new();
    attribute.set_name(name.into());
    attribute.g = Some(body).into();
    node.attribute.push(attribute);
    node
}

/// x ← x + y in every round, with y from the graph around the loop and a slice out each time.
fn adding_loop(inputs: &[&str]) -> Executor {
    let body = graph(&["i", "going", "x"], vec![node("Add", &["x", "y"], &["sum"])], &["going", "sum", "sum"]);
    let outer = with_body(node("Loop", inputs, &["last", "all"]), "body", body);
    Executor::new(&model(graph(&["n", "start", "y"], vec![outer], &["last", "all"]))).unwrap()
}

#[test]
fn loops_see_the_graph_around_them() {
    let f = |v: f32| Tensor::f32([1], vec![v]).unwrap();
    let n = Tensor::i64s(vec![3]);
    let found = adding_loop(&["n", "", "start"]).run(&[("n", &n), ("start", &f(1.0)), ("y", &f(2.0))], &["last", "all"]).unwrap();
    assert_eq!(found["last"], f(7.0));
    assert_eq!(found["all"], Tensor::f32([3, 1], vec![3.0, 5.0, 7.0]).unwrap());
}

#[test]
fn loops_without_end_are_stopped() {
    let f = |v: f32| Tensor::f32([1], vec![v]).unwrap();
    let body = graph(&["i", "going", "x"], vec![], &["going", "x"]);
    let endless = with_body(node("Loop", &["", "", "x"], &["y"]), "body", body);
    let executor = Executor::new(&model(graph(&["x"], vec![endless], &["y"]))).unwrap();
    let e = executor.run(&[("x", &f(1.0))], &["y"]).unwrap_err();
    assert!(e.to_string().contains("was stopped after 4000000"), "{e}");
    // Slices that pile up end earlier, by their size.
    let big = Tensor::f32([1 << 20], vec![0.0; 1 << 20]).unwrap();
    let e = adding_loop(&["", "", "start"]).run(&[("start", &big), ("y", &f(1.0))], &["all"]).unwrap_err();
    assert!(e.to_string().contains("too large"), "{e}");
}

#[test]
fn functions_that_call_themselves_are_refused() {
    let mut recursive = pb::FunctionProto::new();
    recursive.set_name("F".into());
    recursive.set_domain("own".into());
    (recursive.input, recursive.output) = (vec!["a".into()], vec!["b".into()]);
    let mut call = node("F", &["a"], &["b"]);
    call.set_domain("own".into());
    recursive.node = vec![call.clone()];
    let mut model = model(graph(&["a"], vec![call], &["b"]));
    model.proto_mut().functions = vec![recursive.clone()];
    assert!(Executor::new(&model).unwrap_err().to_string().contains("nested more than 32 deep"));
    // Twenty functions, each calling the next twice, stand for a million nodes.
    let level = |i: usize| {
        let mut f = recursive.clone();
        f.set_name(format!("F{i}"));
        f.node = ["a", "c"]
            .iter()
            .zip(["c", "b"])
            .map(|(from, to)| {
                let mut call = node(&format!("F{}", i + 1), &[from], &[to]);
                call.set_domain("own".into());
                call
            })
            .collect();
        f
    };
    model.proto_mut().functions = (0..20).map(level).collect();
    model.graph_mut().node[0].set_op_type("F0".into());
    assert!(Executor::new(&model).unwrap_err().to_string().contains("stand for more than"), "bounded");
}

#[test]
fn tensors_are_observed_in_order_on_any_number_of_threads() {
    let x = eval::join(&[&images(); 25], 0).unwrap();
    let model = Model::load(path("models/fashion-resnet8.onnx")).unwrap();
    let names: Vec<&str> = model.graph().node.iter().map(|n| n.output[0].as_str()).collect();
    let run = |threads| {
        let executor = executor("resnet8").with_threads(NonZeroUsize::new(threads).unwrap());
        let sums = executor.observe(
            &[("input", &x)],
            &names,
            || vec![(0usize, 0.0f64); names.len()],
            |sums, i, t| {
                sums[i].0 += t.shape()[0];
                sums[i].1 += eval::sum(t.as_f32()?);
                Ok(())
            },
        );
        sums.unwrap()
    };
    let one = run(1);
    assert_eq!(one.len(), PARTS);
    assert!((0..names.len()).all(|i| one.iter().map(|part| part[i].0).sum::<usize>() == 400), "every tensor of every sample once");
    assert_eq!(one, run(3));
}
