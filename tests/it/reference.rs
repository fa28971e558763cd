//! The reference execution gives what ONNX Runtime gives, on every model of the zoo.

use crate::support::{judge_python, repository};
use crate::zoo::{Creature, creatures};
use joulefront::exec::Executor;
use joulefront::onnx::{Model, sha256_hex, tensor_to_proto};
use joulefront::tensor::{Data, Tensor};
use protobuf::Message;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The judge's stored words: `tests/fixtures/scripts/zoo.py` made them.
const STORED: &str = "tests/fixtures/zoo/judged.json";

/// The creature that `onnx.checker` cannot judge: its shape inference takes a sparse initializer for a scalar.
const UNCHECKED: &str = "sparse weights";

fn stored() -> Value {
    serde_json::from_str(&std::fs::read_to_string(repository(STORED)).unwrap()).unwrap()
}

/// Writes the zoo as [`write_models`] does.
pub(crate) fn write_zoo(folder: &Path) {
    write_models(folder, &creatures());
}

/// Writes models as the ONNX backend tests are laid out: NAME/model.onnx and NAME/test_data_set_0/input_I.pb.
pub(crate) fn write_models(folder: &Path, models: &[Creature]) {
    for creature in models {
        let data = folder.join(creature.name).join("test_data_set_0");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(folder.join(creature.name).join("model.onnx"), &creature.bytes).unwrap();
        for (i, (name, value)) in creature.inputs.iter().enumerate() {
            std::fs::write(data.join(format!("input_{i}.pb")), tensor_to_proto(name, value).write_to_bytes().unwrap()).unwrap();
        }
    }
}

/// What is stored is what the judge says now. With `JOULEFRONT_UPDATE_FIXTURES=1` it is stored anew.
#[test]
fn the_judge_accepts_the_zoo() {
    let Some(python) = judge_python() else { return };
    let folder = tempfile::tempdir().unwrap();
    write_zoo(folder.path());
    let out = judged(python, folder.path());
    if std::env::var_os("JOULEFRONT_UPDATE_FIXTURES").is_some() {
        std::fs::write(repository(STORED), &out).unwrap();
    }
    let fresh: Value = serde_json::from_slice(&out).unwrap();
    let rejected: BTreeMap<&str, &Value> =
        objects(&fresh["models"]).map(|(name, v)| (name, &v["checker"])).filter(|(name, v)| *v != "ok" && *name != UNCHECKED).collect();
    assert!(rejected.is_empty(), "{rejected:#?}");
    assert_eq!(
        fresh,
        stored(),
        "the zoo or its judge has changed: run this test with JOULEFRONT_UPDATE_FIXTURES=1 and look at the difference"
    );
}

/// What the judge (`tests/fixtures/scripts/zoo.py`) says of the models in `folder`.
pub(crate) fn judged(mut python: Command, folder: &Path) -> Vec<u8> {
    let out = tempfile::NamedTempFile::new().unwrap();
    let ran = python.arg(repository("tests/fixtures/scripts/zoo.py")).args([folder, out.path()]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    std::fs::read(out.path()).unwrap()
}

fn objects(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v))
}

/// Why `got` is not what the judge gave: floats to 1e-4 of max(1, |value|), integers of eight bits to one step (sums that lie
/// between two are rounded either way), all else exactly.
pub(crate) fn difference(got: &Tensor, expect: &Value) -> Option<String> {
    let shape: Vec<usize> = serde_json::from_value(expect["shape"].clone()).unwrap();
    if (got.dtype().name(), got.shape()) != (expect["dtype"].as_str().unwrap(), &shape) {
        return Some(format!("{} {:?} instead of {} {shape:?}", got.dtype().name(), got.shape(), expect["dtype"]));
    }
    let (got, relative, absolute) = match got.data() {
        Data::F32(v) => (v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), 1e-4, 1e-4),
        Data::U8(v) => (v.iter().map(|&v| f64::from(v)).collect(), 0.0, 1.0),
        Data::I8(v) => (v.iter().map(|&v| f64::from(v)).collect(), 0.0, 1.0),
        Data::I64(v) => (v.iter().map(|&v| v as f64).collect(), 0.0, 0.0),
        Data::Bool(v) => (v.iter().map(|&v| f64::from(v)).collect(), 0.0, 0.0),
        other => return Some(format!("outputs like {other:?} are not compared")),
    };
    let expect = expect["values"].as_array().unwrap().iter().map(|v| v.as_f64().or(v.as_bool().map(f64::from)).unwrap());
    let allowed = |b: f64| f64::max(absolute, relative * b.abs());
    // Infinities are none of the zoo's answers: a difference that is no number is one.
    let far: Vec<String> = got
        .iter()
        .zip(expect)
        .filter(|(a, b)| (*a - b).is_nan() || (*a - b).abs() > allowed(*b))
        .map(|(a, b)| format!("{a} instead of {b}"))
        .collect();
    (!far.is_empty()).then(|| format!("{} of {} differ: {}", far.len(), got.len(), far[..far.len().min(3)].join(", ")))
}

/// What the reference execution gives for all outputs.
pub(crate) fn execute(creature: &Creature) -> joulefront::Result<Vec<(String, Tensor)>> {
    let model = Model::from_bytes(&creature.bytes, creature.name)?;
    let outputs: Vec<String> = model.graph().output.iter().map(|o| o.name().to_owned()).collect();
    let inputs: Vec<(&str, &Tensor)> = creature.inputs.iter().map(|(name, t)| (name.as_str(), t)).collect();
    let wanted: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut made = Executor::new(&model)?.run(&inputs, &wanted)?;
    Ok(outputs.into_iter().map(|name| (name.clone(), made.remove(&name).unwrap())).collect())
}

#[test]
fn the_reference_execution_equals_onnx_runtime_on_the_zoo() {
    let (stored, mut faults) = (stored(), Vec::new());
    assert_eq!(objects(&stored["models"]).count(), creatures().len());
    for creature in creatures() {
        let judged = &stored["models"][creature.name];
        assert_eq!(judged["sha256"], sha256_hex(&creature.bytes), "{}: its fixture is of another model", creature.name);
        match execute(&creature) {
            Err(e) => faults.push(format!("{}: {e}", creature.name)),
            Ok(outputs) => {
                let differences = outputs.iter().filter_map(|(name, t)| Some((name, difference(t, &judged["outputs"][name])?)));
                faults.extend(differences.map(|(name, why)| format!("{}, output `{name}`: {why}", creature.name)));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
