//! What the integration tests share: files, the judge's answers, synthetic inputs.
#![allow(dead_code, reason = "shared by modules that each use a part")]

use npyz::{Deserialize, NpyFile};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the repository.
pub(crate) fn repository(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A shipped model, by its name without `.onnx`.
pub(crate) fn model(name: &str) -> PathBuf {
    repository("models").join(format!("{name}.onnx"))
}

/// What ONNX Runtime answers with a shipped model: `tests/fixtures/scripts/predictions.py` made it.
pub(crate) struct Judged {
    /// Class of each test image (or of each sample of [`synthetic`] for `cifar-resnet8`).
    pub(crate) predicted: Vec<u32>,
    /// Samples whose two largest logits differ by less than 1e-3, with that difference.
    pub(crate) near: Vec<(usize, f32)>,
    /// Logits of the first 16 samples, row-major [16, 10].
    pub(crate) logits: Vec<f32>,
}

impl Judged {
    /// The stored answers for a model, by its name without `.onnx`.
    pub(crate) fn load(name: &str) -> Self {
        let file = repository("tests/fixtures/predictions").join(format!("{name}.npz"));
        let near = array::<u16>(&file, "near").into_iter().map(usize::from);
        Judged {
            predicted: array::<u8>(&file, "predicted").into_iter().map(u32::from).collect(),
            near: near.zip(array(&file, "near_margin")).collect(),
            logits: array(&file, "logits"),
        }
    }

    /// Fails unless `predicted` (of the first samples, as many as there are) equals the judge's classes wherever the two
    /// largest logits differ by more than `tolerance` ≤ 1e-3; below, rounding may decide.
    #[track_caller]
    pub(crate) fn assert_same_classes(&self, predicted: &[u32], tolerance: f32) {
        assert!(tolerance <= 1e-3 && !predicted.is_empty() && predicted.len() <= self.predicted.len());
        let near = |sample| self.near.iter().any(|&(s, margin)| s == sample && margin <= tolerance);
        let wrong: Vec<_> = (0..predicted.len()).filter(|&i| predicted[i] != self.predicted[i] && !near(i)).collect();
        assert!(wrong.is_empty(), "{} of {} classes differ, at {:?}", wrong.len(), predicted.len(), &wrong[..wrong.len().min(10)]);
    }

    /// Fails unless `logits` of the first samples are within `tolerance` (absolute) of the judge's.
    #[track_caller]
    pub(crate) fn assert_close_logits(&self, logits: &[f32], tolerance: f32) {
        assert!(!logits.is_empty() && logits.len() <= self.logits.len());
        for (i, (got, expect)) in logits.iter().zip(&self.logits).enumerate() {
            assert!((got - expect).abs() <= tolerance, "logit {} of sample {}: {got} instead of {expect}", i % 10, i / 10);
        }
    }
}

/// One array of an `.npz` file, read by npyz and not by the code under test.
pub(crate) fn array<T: Deserialize>(file: &Path, name: &str) -> Vec<T> {
    let mut archive = zip::ZipArchive::new(File::open(file).unwrap()).unwrap();
    NpyFile::new(archive.by_name(&format!("{name}.npy")).unwrap()).unwrap().into_vec().unwrap()
}

/// `count` values in [-1, 1): SplitMix64 from state 42, the upper 24 bits times 2⁻²³ minus 1.
pub(crate) fn uniform(count: usize) -> Vec<f32> {
    let mut state = 42u64;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The inputs [512, 3, 32, 32] that the judge's answers for `cifar-resnet8` belong to: patches of 8×8 equal values, twice
/// [`uniform`].
pub(crate) fn synthetic() -> Vec<f32> {
    let values = uniform(512 * 3 * 4 * 4);
    let plane = |patches: &[f32]| -> Vec<f32> { (0..32 * 32).map(|i| 2.0 * patches[i / 32 / 8 * 4 + i % 32 / 8]).collect() };
    values.chunks_exact(4 * 4).flat_map(plane).collect()
}

/// The first `count` calibration images of the shipped data.
pub(crate) fn calibration(count: usize) -> joulefront::compress::Calibration {
    let split = joulefront::data::Dataset::open(repository("models/fashion-mnist")).unwrap().split("calibration").unwrap();
    joulefront::compress::Calibration::new("input", &split.batch(0..count).unwrap()).unwrap()
}

/// All scores of a model in the order of the samples, row-major.
pub(crate) fn all_scores(
    program: &joulefront::runner::Program,
    what: &joulefront::engine::Predict<'_>,
    inputs: &(dyn Fn(std::ops::Range<usize>) -> joulefront::Result<Vec<joulefront::tensor::Tensor>> + Sync),
) -> joulefront::Result<Vec<f32>> {
    let parts = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let keep = |rows: joulefront::engine::Rows<'_>| {
        parts.lock().unwrap().insert(rows.first, rows.scores.to_vec());
        Ok(())
    };
    joulefront::engine::predict_rows(program, what, inputs, &keep, &|_| ())?;
    Ok(parts.into_inner().unwrap().into_values().flatten().collect())
}

/// Runs a Python program with ONNX and ONNX Runtime, as `JOULEFRONT_JUDGE_PYTHON` names it. `None` where there is none;
/// with `JOULEFRONT_REQUIRE_ALL=1` (continuous integration) that is a failure, so that nothing is skipped unseen.
pub(crate) fn judge_python() -> Option<Command> {
    match std::env::var_os("JOULEFRONT_JUDGE_PYTHON") {
        Some(python) => Some(Command::new(python)),
        None => {
            skipped("JOULEFRONT_JUDGE_PYTHON names no Python with onnx and onnxruntime");
            None
        }
    }
}

/// Says that a test is skipped where the test harness does not swallow it; with `JOULEFRONT_REQUIRE_ALL=1` it fails instead.
#[track_caller]
pub(crate) fn skipped(why: &str) {
    assert!(std::env::var_os("JOULEFRONT_REQUIRE_ALL").is_none_or(|v| v != "1"), "not skipped, as everything is required: {why}");
    // Not through `eprintln!`: the harness shows that only for tests that fail.
    let line = format!("SKIPPED {}: {why}\n", std::thread::current().name().unwrap_or("a test"));
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
}

/// What a run of the binary gave.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary in the repository.
pub(crate) fn joulefront<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_joulefront"));
    ran(command.args(args).current_dir(repository("")).env_remove("JOULEFRONT_SYSFS_ROOT").env("NO_COLOR", "1"))
}

/// Runs a prepared command to its end.
pub(crate) fn ran(command: &mut Command) -> Ran {
    let out = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Ran { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

impl Ran {
    /// The JSON object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).expect("stdout is one JSON object")
    }

    /// Fails unless the exit code is `code`, the message on stderr holds every one of `words`, and nothing panicked.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        assert!(self.stderr.contains("error:"), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in: {}", self.stderr);
        }
    }
}

/// A small dataset: the first `samples` of the shipped splits, with the given lines for `[splits]` if any.
pub(crate) fn small_data(folder: &Path, samples: usize) -> PathBuf {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    for file in ["validation.npz", "calibration.npz", "test.npz"] {
        std::fs::copy(repository("models/fashion-mnist").join(file), data.join(file)).unwrap();
    }
    let toml = std::fs::read_to_string(repository("models/fashion-mnist/dataset.toml")).unwrap();
    let head = toml.split("[splits]").next().unwrap();
    let split = |name: &str| format!("{name} = {{ x = \"{name}.npz#x\", y = \"{name}.npz#y\", range = [0, {samples}] }}\n");
    let splits: String = ["validation", "calibration", "test"].map(split).concat();
    std::fs::write(data.join("dataset.toml"), format!("{head}[splits]\n{splits}")).unwrap();
    data
}

/// Settings of a sweep that takes seconds: four recipes, two short processes each.
pub(crate) const SHORT_SWEEP: &str = "
seed = 3
calibration_samples = 64
[space]
channel_ratios = [0.3, 0.6]
connection_ratios = [0.5]
weight_bits = [8]
pruned_bits = []
engines = ['tract']
quantize = []
pruned_quantize = []
forms = ['float']
threads = [1]
batch = [1]
open_batch = false
[measure]
processes = 2
blocks = 1
window_s = 0.01
";
