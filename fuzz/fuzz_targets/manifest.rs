//! `dataset.toml`: whatever it says, it is refused or its splits are read or refused.
#![no_main]

use joulefront::data::Dataset;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A folder with one array in it: [3, 2] bytes.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder").keep();
        std::fs::write(folder.join("a.idx"), b"\0\0\x08\x02\0\0\0\x03\0\0\0\x02abcdef").expect("a file");
        std::fs::write(folder.join("a.csv"), "p,q,label\n1,2,0\n3,4,1\n").expect("a file");
        folder
    })
}

fuzz_target!(|text: &str| {
    std::fs::write(folder().join("dataset.toml"), text).expect("a file");
    let Ok(data) = Dataset::open(folder()) else { return };
    let names: Vec<String> = data.splits().map(str::to_owned).collect();
    for name in names {
        if let Ok(split) = data.split(&name) {
            let _ = split.batch(0..split.len().min(4));
        }
    }
});
