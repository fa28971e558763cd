//! What compression without training keeps of the shipped models' accuracy, beside what is asked of it.
//!
//! ```text
//! cargo bench --bench compression -- [--quick] [--samples N] [--engine E] [--cifar DIR] [WORD…]
//! ```
//! Each variant is made with five draws of calibration images (2,000 of `calibration` and `train`, without labels) and judged on all
//! test images by ONNX Runtime where its library is found, else by tract. `WORD…` picks the rows that contain all of them;
//! `--quick`, to tune by: one draw of 512 images (`--samples N`: of so many), judged on the validation images. `--cifar`: a dataset folder with CIFAR-10, which is not shipped.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use joulefront::compress::Calibration;
use joulefront::data::Dataset;
use joulefront::engine::{self, LoadOptions, Predict, predict};
use joulefront::make::make;
use joulefront::onnx::Model;
use joulefront::recipe::{DEFAULT_ROUND_TO, Distribution, FactorForm, Pattern, PruneMethod, Recipe, Step, WeightMethod};
use joulefront::runner::{Program, find};
use joulefront::{Error, Result, atomic};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Models with their float accuracy in per cent, and for each recipe the least accuracy that is asked for: that many per cent,
/// or for CIFAR that many points from the original.
const ASKED: [(&str, &[(&str, f64)]); 5] = [
    (
        "fashion-resnet8",
        &[
            ("w8a8", 91.9),
            ("w4", 91.8),
            ("w3", 91.6),
            ("w2", 91.0),
            ("50%", 91.8),
            ("80%", 91.0),
            ("90%", 89.0),
            ("2:4", 91.4),
            ("macs-30%", 91.2),
            ("macs-50%", 90.3),
            ("macs-75%", 86.0),
            ("macs-50% w8a8", 90.0),
        ],
    ),
    (
        "fashion-dscnn",
        &[("w8a8", 91.2), ("w4", 91.0), ("w3", 90.6), ("w2", 89.0), ("50%", 90.7), ("80%", 87.3), ("macs-30%", 90.7), ("macs-50%", 89.4)],
    ),
    (
        "fashion-mlp",
        &[("w8a8", 90.1), ("w4", 90.0), ("w3", 89.8), ("w2", 89.5), ("50%", 89.9), ("80%", 89.6), ("macs-30%", 89.9), ("macs-50%", 89.8)],
    ),
    (
        "fashion-vit",
        &[("w8a8", 87.8), ("w4", 87.8), ("w3", 87.7), ("w2", 87.2), ("50%", 87.6), ("80%", 86.5), ("macs-30%", 87.0), ("macs-50%", 85.0)],
    ),
    (
        "cifar-resnet8",
        &[("w8a8", -0.3), ("w4", -0.5), ("w3", -0.8), ("w2", -2.6), ("50%", -0.5), ("80%", -3.5), ("macs-30%", -2.6), ("macs-50%", -5.0)],
    ),
];

/// Cheap choices, and lower ranks, that are shown beside with nothing asked of them.
const BESIDE: [&str; 10] = [
    "macs-30% by-4",
    "w4 rtn",
    "w3 rtn",
    "50% magnitude",
    "50% wanda",
    "80% magnitude",
    "80% wanda",
    "factors-30% low-rank",
    "factors-30% separable",
    "factors-30%",
];

/// What the command line says.
struct Options {
    quick: bool,
    samples: usize,
    engine: String,
    cifar: Option<PathBuf>,
    words: Vec<String>,
}

fn main() -> Result<()> {
    joulefront::runner::init();
    let options = options();
    println!("| model | variant | accuracy, % | least and most | asked | s |\n|---|---|---|---|---|---|");
    for (name, asked) in ASKED {
        let data = match (name.starts_with("cifar"), &options.cifar) {
            (false, _) => Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-mnist"),
            (true, Some(dir)) => dir.clone(),
            (true, None) => continue,
        };
        let beside = BESIDE.iter().map(|&what| (what, None));
        let rows = [("original", None)].into_iter().chain(asked.iter().map(|&(what, least)| (what, Some(least)))).chain(beside);
        let bench = Bench::open(name, &data, &options)?;
        for (what, least) in rows {
            let line = format!("{name} {what}");
            if what == "original" || options.words.iter().all(|w| line.contains(w.as_str())) {
                bench.row(what, least)?;
            }
        }
    }
    Ok(())
}

fn options() -> Options {
    let has_runtime = Program::find().is_ok_and(|p| engine::by_name("ort").and_then(|ort| find(&p, ort)).is_ok());
    let engine = if has_runtime { "ort" } else { "tract" };
    let mut options = Options { quick: false, samples: 0, engine: engine.into(), cifar: None, words: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--samples" => options.samples = args.next().and_then(|n| n.parse().ok()).unwrap_or(0),
            "--engine" => options.engine = args.next().unwrap_or(options.engine),
            "--cifar" => options.cifar = args.next().map(PathBuf::from),
            // What `cargo bench` adds.
            "--bench" => {}
            _ => options.words.push(arg),
        }
    }
    options
}

/// One model with its data.
struct Bench<'o> {
    name: &'static str,
    options: &'o Options,
    bytes: Vec<u8>,
    model: Model,
    data: Dataset,
    /// Of the original, in per cent.
    accuracy: f64,
}

impl<'o> Bench<'o> {
    fn open(name: &'static str, data: &Path, options: &'o Options) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{name}.onnx"));
        let bytes = std::fs::read(&path).map_err(|e| Error::read(&path, e))?;
        let model = Model::from_bytes(&bytes, name)?;
        let mut bench = Bench { name, options, model, data: Dataset::open(data)?, accuracy: 0.0, bytes };
        bench.accuracy = bench.judge(&bench.bytes)?;
        Ok(bench)
    }

    /// Makes the variant with each draw, and prints what came of it.
    fn row(&self, what: &str, least: Option<f64>) -> Result<()> {
        let (seeds, samples) = if self.options.quick { (1, 512) } else { (5, 2000) };
        let samples = if self.options.samples > 0 { self.options.samples } else { samples };
        let recipe = recipe(what)?;
        let (mut found, mut seconds) = (Vec::new(), 0.0);
        for seed in 0..if recipe.is_original() { 1 } else { seeds } {
            let images = self.data.calibration(samples, Some(seed))?;
            let calibration = Calibration::new(self.data.input()?.name(), &images)?;
            let begin = Instant::now();
            let variant = make(&self.model, &self.bytes, &recipe, Some(&calibration))?;
            seconds += begin.elapsed().as_secs_f64();
            found.push(self.judge(&variant.bytes)?);
        }
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        let (low, high) = found.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        let asked = least.map(|v| if v < 0.0 { self.accuracy + v } else { v });
        let verdict = asked.map_or(String::new(), |a| format!("{a:.2} {}", if mean >= a { "✓" } else { "✗" }));
        println!("| {} | {what} | {mean:.2} | {low:.2} … {high:.2} | {verdict} | {:.1} |", self.name, seconds / found.len() as f64);
        Ok(())
    }

    /// Accuracy on the test images, in per cent.
    fn judge(&self, bytes: &[u8]) -> Result<f64> {
        let folder = tempfile::tempdir().map_err(|e| Error::write(std::env::temp_dir(), e))?;
        let file = folder.path().join("variant.onnx");
        atomic::write(&file, bytes)?;
        let split = self.data.split(if self.options.quick { "validation" } else { "test" })?;
        let labels = split.labels().ok_or_else(|| Error::bad_input("the images have no labels"))?;
        let count = split.len();
        let what = Predict {
            model: file,
            engine: self.options.engine.clone(),
            options: LoadOptions { batch: 32, ..LoadOptions::default() },
            count,
            workers: 0,
            timeout: Duration::from_secs(120),
            cancel: &AtomicBool::new(false),
        };
        let predicted = predict(&Program::find()?, &what, &|range| Ok(vec![split.batch(range)?]), &|_| {})?;
        Ok(100.0 * predicted.iter().zip(labels).filter(|(a, b)| a == b).count() as f64 / count as f64)
    }
}

/// `w4` and `w8a8`, `50%` and `2:4`, with a method behind; `macs-50%`, also with `w8a8` or `by-4` (steps of 4 channels) behind; `factors-30%`; `original`.
fn recipe(what: &str) -> Result<Recipe> {
    let (amount, method) = what.split_once(' ').unwrap_or((what, ""));
    let unknown = || Error::bad_input(format!("`{what}` is no variant"));
    let share = |text: &str| text.strip_suffix('%').and_then(|s| s.parse::<f64>().ok()).map(|s| s / 100.0).ok_or_else(unknown);
    let prune_method = match method {
        "magnitude" => PruneMethod::Magnitude,
        "wanda" => PruneMethod::Wanda,
        _ => PruneMethod::LeastSquares,
    };
    let prune = |share, pattern| Step::PruneConnections { share, pattern, distribution: Distribution::Global, method: prune_method };
    let step = if amount == "original" {
        return Ok(Recipe::default());
    } else if amount == "w8a8" {
        Step::quantize_all()
    } else if let Some(gone) = amount.strip_prefix("macs-") {
        let round_to = if method == "by-4" { 4 } else { DEFAULT_ROUND_TO };
        Step::PruneChannels { macs: Some(share(gone)?), channels: None, round_to }
    } else if let Some(gone) = amount.strip_prefix("factors-") {
        let form = match method {
            "low-rank" => FactorForm::LowRank,
            "separable" => FactorForm::Separable,
            _ => FactorForm::Best,
        };
        Step::Factorize { macs: share(gone)?, form, round_to: DEFAULT_ROUND_TO }
    } else if let Some(bits) = amount.strip_prefix('w') {
        let step = Step::quantize_weights(bits.parse().map_err(|_| unknown())?);
        match step {
            Step::Quantize { weight_bits, activation_bits, granularity, range, .. } if method == "rtn" => {
                Step::Quantize { weight_bits, activation_bits, granularity, range, method: WeightMethod::Rtn }
            }
            step => step,
        }
    } else if amount.ends_with('%') {
        prune(Some(share(amount)?), None)
    } else {
        prune(None, Some(amount.parse::<Pattern>().map_err(|_| unknown())?))
    };
    let then = (method == "w8a8").then(Step::quantize_all);
    Ok(Recipe { steps: [step].into_iter().chain(then).collect() })
}
