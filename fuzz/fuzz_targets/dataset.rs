//! The readers of arrays: the first byte says which format the rest is, the second how the manifest describes it.
#![no_main]

use joulefront::data::Dataset;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::OnceLock;

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder").keep())
}

/// File, what `x` and `y` say of it.
const FORMATS: [(&str, &str, Option<&str>); 8] = [
    ("a.npy", "a.npy", None),
    ("a.npz", "a.npz#x", Some("a.npz#y")),
    ("a.npz", "a.npz#x", None),
    ("a.idx", "a.idx", None),
    ("a.gz", "a.gz", None),
    ("a.csv", "a.csv", None),
    ("a.csv", "a.csv", Some("a.csv#label")),
    ("a.npy", "a.npy", Some("a.npy")),
];

fuzz_target!(|bytes: &[u8]| {
    let [format, kind, file @ ..] = bytes else { return };
    let (name, x, y) = FORMATS[usize::from(*format) % FORMATS.len()];
    let shape = ["[2]", "[1, 2, 2]", "[]", "[4]"][usize::from(kind & 3)];
    let dtype = ["float32", "int64", "uint8", "float32"][usize::from(kind >> 2 & 3)];
    let labels = match (y, kind & 16 == 0) {
        (Some("a.csv#label"), _) => ", label = \"label\"".to_owned(),
        (Some(y), true) => format!(", y = \"{y}\""),
        _ => String::new(),
    };
    let range = if kind & 32 == 0 { "" } else { ", range = [0, 2]" };
    let manifest = format!(
        "name = \"f\"\ntask = \"classification\"\n[input]\nname = \"x\"\nshape = {shape}\ndtype = \"{dtype}\"\n[splits]\ntest = {{ x = \"{x}\"{labels}{range} }}\n"
    );
    std::fs::write(folder().join("dataset.toml"), manifest).expect("a file");
    std::fs::write(folder().join(name), file).expect("a file");
    let Ok(data) = Dataset::open(folder()) else { return };
    let Ok(split) = data.split("test") else { return };
    let _ = split.batch(0..split.len().min(8));
    let _ = data.split_digest("test");
});
