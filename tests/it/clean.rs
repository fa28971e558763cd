//! Cleaning changes no answer: judged by our own execution, by ONNX Runtime and by `onnx.checker`.

use crate::reference::execute;
use crate::support::judge_python;
use crate::upgrade::{assert_judged, backend_cases};
use crate::zoo::{At, Build, Creature, creatures};
use joulefront::model::clean::{clean, fold_batch_norms};
use joulefront::model::upgrade;
use joulefront::onnx::{Model, pb, tensor_to_proto};
use joulefront::tensor::DType::{Bool, F32};
use joulefront::tensor::{Data, Tensor};
use protobuf::Message;
use std::path::Path;

fn truth(value: bool) -> Tensor {
    Tensor::new(vec![], Data::Bool(vec![value])).unwrap()
}

/// Both branches and the main graph use the same names; a branch hands on a constant, a name from outside and one result twice.
fn branches_with_names_in_common() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let yes = b.constant(&truth(true));
    let mut branch = |op: &str, scale: f32| {
        let mut graph = b.subgraph(&[], |b| {
            let s = b.scalar(scale);
            let y = b.node("Mul", &[&x, &s], &[]);
            let z = b.node(op, &[&y], &[]);
            vec![(z.clone(), F32, "N,4"), (z, F32, "N,4"), (x.clone(), F32, "N,4"), (s, F32, "")]
        });
        // The same names in both.
        let renamed = |name: &str| if name == x { name.to_owned() } else { format!("same{}", &name[..1]) };
        graph.node.iter_mut().for_each(|n| n.input.iter_mut().chain(&mut n.output).for_each(|name| *name = renamed(name)));
        graph.node[1].output[0] = "result".into();
        graph.initializer.iter_mut().for_each(|t| t.set_name("samew".into()));
        let outputs = ["result", "result", &x, "samew"];
        graph.output.iter_mut().zip(outputs).for_each(|(o, name)| o.set_name(name.to_owned()));
        graph
    };
    let (then, other) = (branch("Relu", 2.0), branch("Tanh", 3.0));
    let out = b.nodes("If", &[&yes], 4, &[("then_branch", At::G(then)), ("else_branch", At::G(other))]);
    // A later node has a name that the branch has too.
    let mut sum = b.node("Sum", &[&out[0], &out[1], &out[2], &out[3]], &[]);
    let graph = b.proto().graph.mut_or_insert_default();
    graph.node.last_mut().unwrap().output[0] = "result".into();
    sum.clone_from(&"result".to_owned());
    b.creature("names in common", &[(&sum, F32, "N,4"), (&out[0], F32, "N,4")])
}

/// Copies of inputs, constants and results, some of them outputs; Dropout with and without a mask that is read.
fn copies() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let same = b.node("Identity", &[&x], &[]);
    let again = b.node("Identity", &[&same], &[]);
    let y = b.matmul(&again, 4, 4);
    let y = b.node("Dropout", &[&y], &[]);
    let masked = b.nodes("Dropout", &[&y], 2, &[]);
    let w = b.weight(&[4]);
    let w2 = b.node("Identity", &[&w], &[]);
    let z = b.node("Add", &[&masked[0], &w2], &[]);
    let end = b.node("Identity", &[&z], &[]);
    let twin = b.node("Identity", &[&z], &[]);
    let unused = b.node("Relu", &[&z], &[]);
    b.node("Exp", &[&unused], &[]);
    let echo = b.node("Identity", &[&x], &[]);
    // A Loop reads the copy from outside.
    let yes = b.constant(&truth(true));
    let trips = b.constant(&Tensor::new(vec![], Data::I64(vec![2])).unwrap());
    let body = b.subgraph(&[("i", joulefront::tensor::DType::I64, ""), ("go", Bool, ""), ("state", F32, "N,4")], |b| {
        let next = b.node("Add", &["state", &again], &[]);
        vec![(b.node("Identity", &["go"], &[]), Bool, ""), (next, F32, "N,4")]
    });
    let looped = b.node("Loop", &[&trips, &yes, &end], &[("body", At::G(body))]);
    let outputs = [(end, F32, "N,4"), (twin, F32, "N,4"), (echo, F32, "N,4"), (masked[1].clone(), Bool, "N,4"), (looped, F32, "N,4")];
    b.creature("copies", &outputs.each_ref().map(|(name, dtype, dims)| (name.as_str(), *dtype, *dims)))
}

/// Layers whose weights come through Constant, Cast, Transpose, Reshape, Concat and Split.
fn weights_behind_chains() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4,6,6");
    let half = Tensor::new(vec![6, 4], Data::F16((0..24).map(|i| 0x3000 + 37 * i).collect())).unwrap();
    let w = b.constant(&half);
    let w = b.node("Cast", &[&w], &[("to", At::I(1))]);
    let shape = b.list(&[6, 4, 1, 1]);
    let w = b.node("Reshape", &[&w, &shape], &[]);
    let bias = b.constant_node(&Tensor::f32([6], vec![0.25, -0.5, 1.0, 0.0, 2.0, -1.0]).unwrap());
    let y = b.node("Conv", &[&x, &w, &bias], &[]);
    let pooled = b.node("GlobalAveragePool", &[&y], &[]);
    let flat = b.node("Flatten", &[&pooled], &[]);
    let (a, c) = (b.weight(&[5, 3]), b.weight(&[5, 3]));
    let w = b.node("Concat", &[&a, &c], &[("axis", At::I(1))]);
    let w = b.node("Transpose", &[&w], &[("perm", At::Is(&[1, 0]))]);
    let y = b.node("MatMul", &[&flat, &w], &[]);
    let both = b.weight(&[10, 2]);
    let parts = b.nodes("Split", &[&both], 2, &[("axis", At::I(0))]);
    let p = b.node("MatMul", &[&y, &parts[0]], &[]);
    let q = b.node("MatMul", &[&y, &parts[1]], &[]);
    let z = b.node("Sub", &[&p, &q], &[]);
    b.creature("chains", &[(&z, F32, "N,2")])
}

/// Normalisation after transposed, grouped and depthwise convolutions and after a Gemm that scales its bias; and after weights that
/// two layers share.
fn norms() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4,5,5");
    let w = b.weight(&[4, 3, 2, 2]);
    let y = b.node("ConvTranspose", &[&x, &w], &[("group", At::I(2)), ("strides", At::Is(&[2, 2]))]);
    let y = b.batch_norm(&y, 6);
    let y = b.conv(&y, 1, 6, 6);
    let y = b.batch_norm(&y, 6);
    let y = b.conv(&y, 3, 4, 2);
    let y = b.batch_norm(&y, 4);
    let shared = b.weight(&[4, 4, 1, 1]);
    let y = b.node("Conv", &[&y, &shared], &[]);
    let y = b.batch_norm(&y, 4);
    let y = b.node("Conv", &[&y, &shared], &[]);
    let y = b.relu(&y);
    let y = b.node("GlobalAveragePool", &[&y], &[]);
    let y = b.node("Flatten", &[&y], &[]);
    let (w, bias) = (b.weight(&[4, 3]), b.weight(&[1]));
    let y = b.node("Gemm", &[&y, &w, &bias], &[("alpha", At::F(0.5)), ("beta", At::F(-2.0))]);
    let y = b.batch_norm(&y, 3);
    b.creature("norms", &[(&y, F32, "N,3")])
}

/// Stated shapes that were true before somebody cut the model.
fn stale() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let y = b.gemm(&x, 4, 3, true);
    let z = b.relu(&y);
    let mut wrong = pb::ValueInfoProto::new();
    wrong.set_name(y);
    let shape = wrong.type_.mut_or_insert_default().tensor_type.mut_or_insert_default();
    shape.set_elem_type(1);
    for d in [2, 7] {
        let mut dim = pb::tensor_shape_proto::Dimension::new();
        dim.set_dim_value(d);
        shape.shape.mut_or_insert_default().dim.push(dim);
    }
    let mut gone = wrong.clone();
    gone.set_name("gone".into());
    b.proto().graph.mut_or_insert_default().value_info = vec![wrong, gone];
    b.creature("stale", &[(&z, F32, "N,3")])
}

fn own() -> Vec<Creature> {
    vec![branches_with_names_in_common(), copies(), weights_behind_chains(), norms(), stale()]
}

fn cleaned(bytes: &[u8]) -> (Model, Vec<String>) {
    let mut model = Model::from_bytes(bytes, "original").unwrap();
    let lines = clean(&mut model).unwrap();
    (model, lines)
}

fn operators(model: &Model) -> Vec<&str> {
    model.graph().node.iter().map(|n| n.op_type()).collect()
}

#[test]
fn every_step_says_what_it_did() {
    let find = |name: &str| creatures().into_iter().chain(own()).find(|c| c.name == name).unwrap();
    let check = |name: &str, says: &[&str], gone: &[&str]| {
        let (model, lines) = cleaned(&find(name).bytes);
        for line in says {
            assert!(lines.iter().any(|l| l.contains(line)), "{name}: `{line}` is not in {lines:?}");
        }
        for op in gone {
            assert!(!operators(&model).contains(op), "{name}: {op} is still there: {:?}", operators(&model));
        }
    };
    check("If with a constant", &["always takes its else branch"], &["If"]);
    check("If by the shape", &["always takes its then branch"], &["If"]);
    check("names in common", &["always takes its then branch"], &["If"]);
    check("chains", &["stood behind", "Concat", "Cast"], &["Cast", "Transpose", "Reshape", "Concat", "Constant", "Split"]);
    check("sparse weights", &["1 sparse constant became dense"], &[]);
    check("sparse Constant", &["1 constant that stood behind Constant became plain"], &["Constant"]);
    check("weights worked out", &["stood behind Concat, Slice"], &["Concat", "Slice"]);
    check("stale", &["2 stated shapes dropped"], &[]);
    check("operator set 7", &["no longer listed as inputs"], &[]);
    check("copies", &["4 Identity nodes removed", "1 Dropout node removed", "2 nodes removed"], &["Exp"]);
    let (worked_out, lines) = cleaned(&find("If that is worked out").bytes);
    assert!(operators(&worked_out).contains(&"If") && lines.is_empty(), "{lines:?}");
}

/// Runs files in pairs on the same inputs, and checks the second ones.
const JUDGE: &str = r#"
import sys, pathlib, numpy as np, onnx, onnxruntime as ort
ort.set_default_logger_severity(4)
folder, ran = pathlib.Path(sys.argv[1]), 0
def run(path, values):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], values)))
for case in sorted(folder.iterdir()):
    def ok(path):
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except Exception as e:
            return str(e)
    before = ok(case / "original.onnx")
    values = [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(p.read_bytes())) for p in sorted(case.glob("input_*.pb"))]
    try:
        wanted = run(case / "original.onnx", values)
    except Exception as e:
        wanted = None
    for path in ["cleaned.onnx", "folded.onnx"]:
        if before is None and (why := ok(case / path)):
            print(f"{case.name}/{path}: {why}")
        if wanted is None:
            continue
        try:
            found = run(case / path, values)
        except Exception as e:
            print(f"{case.name}/{path}: {e}")
            continue
        close = 0 if path == "cleaned.onnx" else 1e-4
        for a, b in zip(found, wanted):
            a, b = np.asarray(a), np.asarray(b)
            same = np.allclose(a, b, rtol=close, atol=close, equal_nan=True) if a.dtype.kind == "f" else np.array_equal(a, b)
            if a.shape != b.shape or not same:
                print(f"{case.name}/{path}: outputs differ")
        ran += 1
print(ran)
"#;

#[test]
fn cleaned_models_answer_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut folds = 0;
    for creature in creatures().into_iter().chain(own()) {
        let original = Model::from_bytes(&creature.bytes, creature.name).unwrap();
        let (model, _) = cleaned(&creature.bytes);
        let mut again = model.clone();
        assert_eq!((clean(&mut again).unwrap(), &again), (vec![], &model), "{}: what is clean stays as it is", creature.name);
        let mut folded = model.clone();
        folds += usize::from(!fold_batch_norms(&mut folded).unwrap().is_empty());
        let names = |m: &Model| (m.graph().output.iter().map(|o| o.name().to_owned()).collect::<Vec<_>>(), m.graph().input.len());
        assert_eq!(names(&model).0, names(&original).0, "{}", creature.name);
        let of = |model: &Model| execute(&Creature { bytes: model.to_bytes().unwrap(), ..creature.clone() });
        if let Ok(wanted) = of(&original) {
            assert_eq!(of(&model).unwrap(), wanted, "{}", creature.name);
            assert_close(&of(&folded).unwrap(), &wanted, creature.name);
        }
        write(&folder.path().join(creature.name), &[("original", &original), ("cleaned", &model), ("folded", &folded)], &creature.inputs);
    }
    assert!(folds >= 6, "{folds}");
    let Some(mut python) = judge_python() else { return };
    let judged = python.args(["-c", JUDGE]).arg(folder.path()).output().unwrap();
    let said = String::from_utf8(judged.stdout).unwrap();
    let ran: usize = said.trim().parse().unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&judged.stderr)));
    assert!(ran >= 2 * 80, "{ran}");
}

fn write(folder: &Path, models: &[(&str, &Model)], inputs: &[(String, Tensor)]) {
    std::fs::create_dir_all(folder).unwrap();
    models.iter().for_each(|(name, model)| model.save(folder.join(format!("{name}.onnx"))).unwrap());
    for (i, (name, value)) in inputs.iter().enumerate() {
        std::fs::write(folder.join(format!("input_{i}.pb")), tensor_to_proto(name, value).write_to_bytes().unwrap()).unwrap();
    }
}

#[track_caller]
fn assert_close(found: &[(String, Tensor)], wanted: &[(String, Tensor)], name: &str) {
    for ((_, a), (_, b)) in found.iter().zip(wanted) {
        match (a.data(), b.data()) {
            (Data::F32(a), Data::F32(b)) => {
                let far = a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
                assert!(far <= 1e-4, "{name}: {far}");
            }
            (a, b) => assert_eq!(a, b, "{name}"),
        }
    }
}

/// The models inside the `onnx` package still give the outputs that are stored with them.
#[test]
fn cleaned_models_of_the_onnx_package_give_what_is_stored() {
    let Some(cases) = backend_cases(&["pytorch-converted", "pytorch-operator"]) else { return };
    let (mut list, mut changed) = (Vec::new(), 0);
    let folder = tempfile::tempdir().unwrap();
    for case in cases {
        let original = Model::load(case.join("model.onnx")).unwrap();
        let mut model = original.clone();
        let mut lines = clean(&mut model).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
        lines.extend(fold_batch_norms(&mut model).unwrap());
        changed += usize::from(!lines.is_empty());
        let path = folder.path().join(format!("{}.onnx", case.file_name().unwrap().to_string_lossy()));
        if model != original {
            // The judge has no kernels for operator sets as old as these.
            upgrade(&mut model, 13).unwrap();
            model.save(&path).unwrap();
            list.push((path, case.join("test_data_set_0")));
        }
    }
    assert!(changed > 100, "{changed}");
    assert_judged(&list);
}

/// Normalisation goes from every kind of layer, and from shared weights without changing the other reader.
#[test]
fn normalisation_folds_into_every_kind_of_layer() {
    let (mut model, _) = cleaned(&norms().bytes);
    assert_eq!(fold_batch_norms(&mut model).unwrap(), ["5 BatchNormalizations folded into the layers before"]);
    assert!(!operators(&model).contains(&"BatchNormalization"));
    // In training a node normalises with what it sees.
    let mut training = Model::from_bytes(&norms().bytes, "training").unwrap();
    for node in training.graph_mut().node.iter_mut().filter(|n| n.op_type() == "BatchNormalization") {
        joulefront::onnx::Attributes::set_int(node, "training_mode", 1);
    }
    assert!(fold_batch_norms(&mut training).unwrap().is_empty());
}
