//! Operator sets upwards, on the models inside the `onnx` package: the answers stay ONNX's own, ONNX Runtime's and the checker's.

use crate::support::judge_python;
use joulefront::exec::Executor;
use joulefront::model::upgrade;
use joulefront::onnx::{Model, pb, tensor_from_proto};
use joulefront::tensor::{Data, Tensor};
use protobuf::Message;
use std::path::{Path, PathBuf};

/// Checks every converted model and runs it on the inputs stored with the original.
const JUDGE: &str = r#"
import sys, pathlib, numpy as np, onnx, onnxruntime as ort
from onnx import numpy_helper
ort.set_default_logger_severity(4)
checked, ran, wrong = 0, 0, []
for line in open(sys.argv[1]):
    path, data = line.rstrip("\n").split("\t")
    try:
        onnx.checker.check_model(path, full_check=True)
        checked += 1
    except Exception as e:
        wrong.append(f"{path}: {e}")
        continue
    read = lambda kind: [numpy_helper.to_array(onnx.TensorProto.FromString(p.read_bytes())) for p in sorted(pathlib.Path(data).glob(kind + "_*.pb"))]
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, dict(zip([i.name for i in session.get_inputs()], read("input"))))
    for a, b in zip(found, read("output")):
        if not np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True):
            wrong.append(f"{path}: {np.abs(a - b).max()}")
    ran += 1
print(checked, ran)
for w in wrong: print(w)
"#;

/// The test models inside the `onnx` package, of these groups.
pub(crate) fn backend_cases(groups: &[&str]) -> Option<Vec<PathBuf>> {
    let place = judge_python()?
        .args(["-c", "import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), 'backend', 'test', 'data'))"])
        .output()
        .unwrap();
    let root = PathBuf::from(String::from_utf8(place.stdout).unwrap().trim());
    let mut cases = Vec::new();
    for group in groups {
        cases.extend(std::fs::read_dir(root.join(group)).unwrap().map(|e| e.unwrap().path()).filter(|p| p.join("model.onnx").exists()));
    }
    cases.sort();
    Some(cases)
}

/// Fails unless the checker accepts every model and ONNX Runtime gives the outputs that are stored in the folder beside it.
#[track_caller]
pub(crate) fn assert_judged(list: &[(PathBuf, PathBuf)]) {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = list.iter().map(|(model, data)| format!("{}\t{}\n", model.display(), data.display())).collect();
    std::fs::write(folder.path().join("list"), lines).unwrap();
    let judged = judge_python().unwrap().args(["-c", JUDGE]).arg(folder.path().join("list")).output().unwrap();
    let said = String::from_utf8(judged.stdout).unwrap();
    assert_eq!(said.trim(), format!("{0} {0}", list.len()), "{}", String::from_utf8_lossy(&judged.stderr));
}

#[test]
fn converted_models_answer_as_before() {
    let Some(cases) = backend_cases(&["pytorch-converted", "pytorch-operator"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut list = Vec::new();
    for case in cases {
        let original = Model::load(case.join("model.onnx")).unwrap();
        for to in [13, 21].into_iter().filter(|&to| to > original.opset()) {
            let mut model = original.clone();
            upgrade(&mut model, to).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
            assert_eq!(model.opset(), to);
            assert_outputs(&model, &case.join("test_data_set_0"));
            let path = folder.path().join(format!("{}-{to}.onnx", case.file_name().unwrap().to_string_lossy()));
            model.save(&path).unwrap();
            list.push((path, case.join("test_data_set_0")));
        }
    }
    assert!(list.len() > 200, "{}", list.len());
    assert_judged(&list);
}

/// Runs the reference execution on the stored inputs.
#[track_caller]
fn assert_outputs(model: &Model, data: &Path) {
    let read = |kind: &str| -> Vec<Tensor> {
        (0..)
            .map_while(|i| std::fs::read(data.join(format!("{kind}_{i}.pb"))).ok())
            .map(|b| tensor_from_proto(&pb::TensorProto::parse_from_bytes(&b).unwrap()).unwrap())
            .collect()
    };
    let (inputs, outputs) = (read("input"), read("output"));
    let graph = joulefront::model::Graph::new(model);
    let fed: Vec<_> = graph.inputs().map(|i| i.name()).zip(&inputs).collect();
    let wanted: Vec<_> = model.graph().output.iter().map(|o| o.name()).collect();
    let found = Executor::new(model).and_then(|e| e.run(&fed, &wanted)).unwrap_or_else(|e| panic!("{}: {e}", data.display()));
    for (name, expected) in wanted.iter().zip(&outputs) {
        match (found[*name].data(), expected.data()) {
            (Data::F32(a), Data::F32(b)) => {
                let far = a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
                assert!(a.len() == b.len() && far < 1e-3, "{}: {far}", data.display());
            }
            (a, b) => assert_eq!(a, b, "{}", data.display()),
        }
    }
}

#[test]
fn only_upwards_and_only_what_is_known() {
    let mut model = Model::load(crate::support::model("fashion-mlp")).unwrap();
    let before = model.clone();
    assert!(upgrade(&mut model, 9).unwrap().is_empty());
    assert_eq!(model, before, "never down");
    assert!(upgrade(&mut model, 99).unwrap_err().to_string().contains("only 6 to 21"));
    // Found by mutation: a node with more outputs than its operator lost one that the graph gives out.
    let (mut model, graph) = (before, pb::NodeProto::new());
    let mut softmax = pb::NodeProto { output: vec!["one".into(), "two".into()], input: vec!["input".into()], ..graph };
    softmax.set_op_type("Softmax".into());
    model.graph_mut().node.push(softmax);
    model.graph_mut().output[0].set_name("two".into());
    model.proto_mut().opset_import[0].set_version(12);
    let before = model.clone();
    assert!(upgrade(&mut model, 13).unwrap_err().to_string().contains("nothing produces the graph output `two`"));
    assert_eq!(model, before, "what cannot be converted stays as it was");
}
