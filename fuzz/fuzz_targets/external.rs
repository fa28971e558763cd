//! A model whose tensors lie in other files: whatever it names, nothing outside its own folder is read.
#![no_main]

use bytes::Bytes;
use joulefront::onnx::Model;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::OnceLock;

/// What lies beside the model's folder, and must not come into the model.
const SECRET: [u8; 64] = [0xC5; 64];

/// A folder `model` with data in it, a link that leads out of it, and a secret beside it.
fn model_path() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let root = tempfile::tempdir().expect("a temporary folder").keep();
        let folder = root.join("model");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(root.join("secret"), SECRET).expect("a file");
        std::fs::write(folder.join("d"), [7; 4096]).expect("a file");
        #[cfg(unix)]
        std::os::unix::fs::symlink("../secret", folder.join("l")).expect("a link");
        folder.join("m.onnx")
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::parse(&Bytes::copy_from_slice(bytes), "fuzz", Some(model_path())) else { return };
    for data in model.external_data() {
        assert!(
            !data.windows(SECRET.len()).any(|w| w == SECRET) || bytes.windows(SECRET.len()).any(|w| w == SECRET),
            "the secret was read"
        );
    }
    let _ = model.to_bytes();
    // What is saved elsewhere stands by itself.
    let copy = model_path().with_file_name("copy.onnx");
    if model.save(&copy).is_ok() {
        Model::load(&copy).expect("what was saved can be read");
    }
});
