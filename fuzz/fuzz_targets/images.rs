//! Images: the first byte says how the manifest describes them, the rest is the file. What format it has its first bytes say.
#![no_main]

use joulefront::data::Dataset;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Shapes and ways to resize, each in a folder of its own with a class folder in it.
const WAYS: [(&str, &str); 6] = [
    ("[1, 4, 4]", "resize = \"stretch\"\n"),
    ("[3, 4, 4]", "resize = \"cover\"\norientation = \"exif\"\n"),
    ("[4, 4, 3]", "layout = \"HWC\"\nresize = 5\n"),
    ("[3, 8, 6]", ""),
    ("[1, 8, 6]", "orientation = \"exif\"\n"),
    ("[6, 8, 1]", "layout = \"HWC\"\norientation = \"exif\"\n"),
];

fn folders() -> &'static Vec<PathBuf> {
    static FOLDERS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FOLDERS.get_or_init(|| {
        let made = WAYS.map(|(shape, more)| {
            let folder = tempfile::tempdir().expect("a temporary folder").keep();
            std::fs::create_dir_all(folder.join("i/class")).expect("a folder");
            let input = format!("[input]\nname = \"x\"\nshape = {shape}\ndtype = \"uint8\"\n{more}");
            let manifest = format!("name = \"f\"\n{input}[splits]\ntest = {{ x = \"i/\" }}\n");
            std::fs::write(folder.join("dataset.toml"), manifest).expect("a file");
            folder
        });
        made.into()
    })
}

fuzz_target!(|bytes: &[u8]| {
    let [way, file @ ..] = bytes else { return };
    let folder = &folders()[usize::from(*way) % WAYS.len()];
    std::fs::write(folder.join("i/class/a.png"), file).expect("a file");
    let split = Dataset::open(folder).and_then(|d| d.split("test")).expect("a folder with one image");
    let _ = split.batch(0..1);
});
