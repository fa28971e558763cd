//! Load and save lose nothing: the `onnx` package compares what went in with what came out, field by field.

use crate::reference::write_zoo;
use crate::support::{judge_python, repository};
use joulefront::onnx::{Model, sha256_hex};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const SHIPPED: [&str; 6] = ["fashion-resnet8", "fashion-resnet8-bn", "fashion-dscnn", "fashion-mlp", "fashion-vit", "cifar-resnet8"];

fn judge<T: serde::de::DeserializeOwned>(mut python: Command, what: &str, path: &Path) -> T {
    let output = python.arg(repository("tests/fixtures/scripts/roundtrip.py")).arg(what).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the judge finds lost between each file and what became of it.
pub(crate) fn differences(python: Command, pairs: &[(&Path, &Path)]) -> BTreeMap<PathBuf, String> {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&list, serde_json::to_vec(pairs).unwrap()).unwrap();
    judge(python, "compare", list.path())
}

/// All files below `folder` with their digests.
fn files(folder: &Path, out: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.insert(path.clone(), sha256_hex(&std::fs::read(path).unwrap()));
        }
    }
}

/// Shipped models, the zoo, all models inside the `onnx` package, and files with everything that the format has: each type,
/// metadata at every level, training graphs, fields of the future, data in other files.
#[test]
fn nothing_is_lost_between_load_and_save() {
    let (Some(python), Some(again)) = (judge_python(), judge_python()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (made, zoo, out) = (folder.path().join("made"), folder.path().join("zoo"), folder.path().join("out"));
    let mut paths: Vec<PathBuf> = judge(python, "make", &made);
    assert!(paths.len() >= 100, "the judge's package holds {} models", paths.len());
    write_zoo(&zoo);
    let ours = SHIPPED.map(|name| repository("models").join(format!("{name}.onnx")));
    let animals = crate::zoo::creatures().into_iter().map(|c| zoo.join(c.name).join("model.onnx"));
    paths.extend(ours.into_iter().chain(animals));
    let mut before = BTreeMap::new();
    files(&made, &mut before);
    let mut faults = Vec::new();
    let mut pairs = Vec::new();
    for (i, path) in paths.iter().enumerate() {
        // A folder each: data in other files lies beside the model.
        let to = out.join(i.to_string());
        std::fs::create_dir_all(&to).unwrap();
        let to = to.join("model.onnx");
        match Model::load(path).and_then(|m| m.save(&to)) {
            Ok(()) => pairs.push((path, to)),
            Err(e) => faults.push(format!("{}: {e}", path.display())),
        }
    }
    // The judge sees a difference where there is one.
    let (everything, future) = (made.join("everything.onnx"), made.join("future.onnx"));
    pairs.push((&everything, future));
    let pairs: Vec<(&Path, &Path)> = pairs.iter().map(|(a, b)| (a.as_path(), b.as_path())).collect();
    let mut lost = differences(again, &pairs);
    assert!(lost.remove(&everything).is_some());
    faults.extend(lost.into_iter().map(|(path, why)| format!("{}: {why}", path.display())));
    assert!(faults.is_empty(), "{} of {} models:\n{}", faults.len(), paths.len(), faults.join("\n"));
    let mut after = BTreeMap::new();
    files(&made, &mut after);
    assert_eq!(before, after, "saving elsewhere changed the originals");
}
