//! What energy under criterion costs: `cargo bench --bench criterion_overhead`.
//!
//! Time of a run inside the windows that [`Energy::sample`] makes, from the first run to the end of the window with its reading of the
//! meter, against a bare loop over the same runs, side by side in random order, on the smallest shipped model. Once with the best
//! meter of this machine and once with a counter in files, which takes longest to read.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use joulefront::criterion::{Energy, OnnxFile};
use joulefront::energy::simulate::Ticker;
use joulefront::energy::{Sources, open};
use joulefront::stats::log_ratio;
use joulefront::units::{Seconds, Watts};
use joulefront::{Error, Result};
use rand::{RngExt, SeedableRng};
use std::path::Path;
use std::time::Instant;

/// Windows of each.
const PAIRS: usize = 60;

fn main() -> Result<()> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-mlp.onnx");
    let mut file = OnnxFile::open(model)?;
    compare(&Energy::try_new()?.disturbance(1.0), &mut file)?;
    let ticking = Ticker::default().start(|t| Watts(50.0) * Seconds::from(t))?;
    let sources = Sources { sysfs_root: Some(ticking.root().to_owned()), ..Sources::default() };
    compare(&Energy::on(open(&sources, &["powercap".to_owned()], false)?).disturbance(1.0), &mut file)
}

fn compare(energy: &Energy, file: &mut OnnxFile) -> Result<()> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let iterations = iterations(energy, file)?;
    let (mut ratios, mut total) = (Vec::new(), [0.0; 2]);
    for _ in 0..PAIRS {
        let mut pair = [0.0; 2];
        let first: bool = rng.random();
        for ours in [first, !first] {
            pair[usize::from(ours)] = if ours { window(energy, file, iterations)? } else { bare(file, iterations)? };
        }
        ratios.push(pair[1] / pair[0]);
        (0..2).for_each(|i| total[i] += pair[i] / PAIRS as f64);
    }
    println!(
        "meter {}: bare loop {:.3} µs, in windows {:.3} µs per run of fashion-mlp",
        energy.info().name,
        1e6 * total[0],
        1e6 * total[1]
    );
    let ratio = log_ratio(&ratios).ok_or_else(|| Error::engine("too few windows"))?;
    println!("windows / bare = {:.4} (95 %: {:.4}…{:.4}, {PAIRS} pairs of windows)", ratio.value, ratio.lo, ratio.hi);
    Ok(())
}

/// As many as fill a window, so that both loops are equally long.
fn iterations(energy: &Energy, file: &mut OnnxFile) -> Result<u64> {
    let each = bare(file, 2_000)?;
    Ok((1.05 * energy.window().as_secs_f64() / each) as u64)
}

/// Seconds of a run in a bare loop.
fn bare(file: &mut OnnxFile, iterations: u64) -> Result<f64> {
    let begin = Instant::now();
    for _ in 0..iterations {
        file.run()?;
    }
    Ok(begin.elapsed().as_secs_f64() / iterations as f64)
}

/// Seconds of a run in one window of criterion's measurement.
fn window(energy: &Energy, file: &mut OnnxFile, iterations: u64) -> Result<f64> {
    let (mut begin, mut runs, mut outcome) = (None, 0u64, Ok(()));
    let sample = energy.sample(iterations, || {
        begin.get_or_insert_with(Instant::now);
        runs += 1;
        if let Err(e) = file.run() {
            outcome = Err(e);
        }
    });
    let elapsed = begin.map_or(0.0, |b: Instant| b.elapsed().as_secs_f64());
    outcome?;
    sample.nanojoules()?;
    Ok(elapsed / runs as f64)
}
