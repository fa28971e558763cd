//! What removing channels is worth: `cargo bench --bench variant_speed`.
//!
//! fashion-resnet8 and its variant with every prune group halved (about a quarter of the multiply–adds), side by side in one
//! run: fresh processes in pairs, windows interleaved in random order. The interval is over the processes.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use joulefront::energy::Estimator;
use joulefront::engine::{LoadOptions, Spec};
use joulefront::make::make;
use joulefront::measure::{Plan, Subject, made_up, measure};
use joulefront::onnx::Model;
use joulefront::recipe::{DEFAULT_ROUND_TO, Recipe, Step};
use joulefront::runner::Program;
use joulefront::stats::Interval;
use joulefront::tensor::DType;
use joulefront::units::Seconds;
use joulefront::{Error, Result, atomic};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Inputs that are rotated over.
const ROTATION: usize = 16;
/// How much faster the variant must be at the least.
const TARGET: f64 = 1.8;

fn main() -> Result<()> {
    joulefront::runner::init();
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-resnet8.onnx");
    let bytes = std::fs::read(&original).map_err(|e| Error::read(&original, e))?;
    let half = Step::PruneChannels { macs: None, channels: Some(0.5), round_to: DEFAULT_ROUND_TO };
    // Calibration changes the weights, not the speed.
    let variant = make(&Model::from_bytes(&bytes, "the original")?, &bytes, &Recipe { steps: vec![half] }, None)?;
    let folder = tempfile::tempdir().map_err(|e| Error::write(std::env::temp_dir(), e))?;
    let file = folder.path().join("half.onnx");
    atomic::write(&file, &variant.bytes)?;

    let input = Spec { name: "input".into(), dtype: DType::F32, shape: vec![1, 1, 28, 28] };
    let samples = Arc::new(made_up(&[input], ROTATION, 0)?);
    let subject = |label: &str, model: PathBuf| Subject {
        label: label.into(),
        model,
        engine: "tract".into(),
        options: LoadOptions::default(),
        samples: Arc::clone(&samples),
    };
    let subjects = [subject("original", original), subject("half", file)];
    let plan = Plan { processes: 10, blocks: 4, window: Seconds(0.1), ..Plan::default() };
    let mut meter = Estimator::open()?;
    let mut measured = measure(&Program::find()?, &subjects, &mut meter, &plan, &mut |_| {})?.into_iter();
    let (Some(original), Some(half)) = (measured.next(), measured.next()) else {
        return Err(Error::engine("nothing was measured"));
    };
    let (original, half) = (original?, half?);
    let removed = variant.pruning_ratio.unwrap_or(0.0);
    println!(
        "fashion-resnet8 {}, half the channels ({:.0} % of the multiply–adds) {}",
        original.latency.p50,
        100.0 * (1.0 - removed),
        half.latency.p50
    );
    match half.latency.ratio {
        Some(ratio) => report(ratio, half.processes),
        None => println!("too few pairs of processes"),
    }
    half.warnings.iter().for_each(|w| println!("warning: {w}"));
    Ok(())
}

/// The ratio of times, turned round.
fn report(ratio: Interval, processes: u64) {
    let (value, lo, hi) = (1.0 / ratio.value, 1.0 / ratio.hi, 1.0 / ratio.lo);
    let verdict = if lo >= TARGET { "reached" } else { "not shown" };
    println!("{value:.3} × as fast (95 %: {lo:.3}…{hi:.3}, {processes} pairs of processes); target {TARGET} ×: {verdict}");
}
