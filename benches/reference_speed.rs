//! How fast the reference execution is beside an engine: `cargo bench --bench reference_speed [-- MODEL…]`.
//!
//! Each shipped model over 2,000 made-up samples, on all cores: the reference execution in its chunks, and tract with one
//! session per core, batch 1, its inputs prepared beforehand. Fresh processes of this program run both in turns, in random
//! order; the interval is over processes, because memory layout is luck that lasts as long as a process.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use joulefront::engine::{LoadOptions, Session, Source, by_name};
use joulefront::exec::Executor;
use joulefront::measure::made_up;
use joulefront::onnx::Model;
use joulefront::stats::log_ratio;
use joulefront::sys::{allowed_cpus, pin_current_thread};
use joulefront::tensor::Tensor;
use joulefront::{Error, Result};
use rand::{RngExt, SeedableRng};
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Barrier;
use std::time::Instant;

/// Samples of one run.
const SAMPLES: usize = 2_000;
/// Fresh processes for each model.
const PROCESSES: u64 = 8;
/// Turns of each side in a process, after one to warm up.
const TURNS: usize = 4;
/// The models, and how many times as slow as the engine the reference may be, where that is required.
const MODELS: [(&str, Option<f64>); 5] =
    [("fashion-resnet8", Some(2.0)), ("fashion-dscnn", None), ("cifar-resnet8", None), ("fashion-vit", None), ("fashion-mlp", None)];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [child, model, seed] = arguments.as_slice()
        && child == "__process"
    {
        let (ours, tract) = process(model, seed.parse().unwrap_or_default())?;
        println!("{ours} {tract}");
        return Ok(());
    }
    println!("reference execution / tract, {SAMPLES} samples on {} cores", allowed_cpus()?.len());
    for (model, most) in MODELS.iter().filter(|(m, _)| arguments.is_empty() || arguments.iter().any(|a| a == m)) {
        let times = (0..PROCESSES).map(|seed| fresh(model, seed)).collect::<Result<Vec<_>>>()?;
        let ratios: Vec<f64> = times.iter().map(|(ours, tract)| ours / tract).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| 1e6 * times.iter().map(of).sum::<f64>() / (times.len() * SAMPLES * TURNS) as f64;
        let ratio = log_ratio(&ratios).ok_or_else(|| Error::engine("too few processes"))?;
        let verdict = match most {
            Some(most) if ratio.hi <= *most => format!("; at most {most} required: reached"),
            Some(most) => format!("; at most {most} required: not shown"),
            None => String::new(),
        };
        println!(
            "{model:16} {:.3} (95 %: {:.3}…{:.3}, {} processes), {:.1} and {:.1} µs a sample{verdict}",
            ratio.value,
            ratio.lo,
            ratio.hi,
            times.len(),
            mean(|t| t.0),
            mean(|t| t.1)
        );
    }
    Ok(())
}

/// Runs [`process`] in a fresh process.
fn fresh(model: &str, seed: u64) -> Result<(f64, f64)> {
    let this = std::env::current_exe().map_err(|e| Error::environment(e.to_string()))?;
    let output =
        Command::new(this).args(["__process", model, &seed.to_string()]).output().map_err(|e| Error::environment(e.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut times = text.split_whitespace().map(str::parse);
    match (times.next(), times.next()) {
        (Some(Ok(ours)), Some(Ok(tract))) => Ok((ours, tract)),
        _ => Err(Error::engine(format!("a process failed: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Seconds of our turns and of tract's, summed.
fn process(model: &str, seed: u64) -> Result<(f64, f64)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("models/{model}.onnx"));
    let executor = Executor::new(&Model::load(&path)?)?;
    let load = || by_name("tract")?.load(Source::Path(&path), &LoadOptions::default());
    let session = load()?;
    let (input, output) = (session.inputs()[0].clone(), session.outputs()[0].name.clone());
    let x = made_up(std::slice::from_ref(&input), SAMPLES, seed)?.swap_remove(0);
    let each = x.len() / SAMPLES;
    let slots =
        x.as_f32()?.chunks_exact(each).map(|s| Ok(vec![Tensor::f32(input.shape.clone(), s.to_vec())?])).collect::<Result<Vec<_>>>()?;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let (mut ours, mut engine) = (0.0, 0.0);
    for turn in 0..=TURNS {
        let first: bool = rng.random();
        for who in [first, !first] {
            let seconds = if who {
                let start = Instant::now();
                black_box(executor.run_batched(&[(&input.name, &x)], &[&output])?);
                start.elapsed().as_secs_f64()
            } else {
                sessions(&load, &slots)?
            };
            if turn > 0 {
                *(if who { &mut ours } else { &mut engine }) += seconds;
            }
        }
    }
    Ok((ours, engine))
}

/// Seconds that one pinned session per core takes for its share of the samples; loading and preparing are not counted.
fn sessions(load: &(dyn Fn() -> Result<Box<dyn Session>> + Sync), slots: &[Vec<Tensor>]) -> Result<f64> {
    let cpus = allowed_cpus()?;
    let (ready, done) = (Barrier::new(cpus.len() + 1), Barrier::new(cpus.len() + 1));
    std::thread::scope(|scope| {
        let workers: Vec<_> = cpus
            .iter()
            .zip(slots.chunks(slots.len().div_ceil(cpus.len())))
            .map(|(&cpu, share)| {
                let (ready, done) = (&ready, &done);
                scope.spawn(move || {
                    let prepared = pin_current_thread(&[cpu]).and_then(|()| {
                        let mut session = load()?;
                        session.prepare(share)?;
                        session.run_slot(0)?;
                        Ok(session)
                    });
                    ready.wait();
                    let ran = prepared.and_then(|mut session| (0..share.len()).try_for_each(|slot| session.run_slot(slot)));
                    done.wait();
                    ran
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        done.wait();
        let seconds = start.elapsed().as_secs_f64();
        workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| Err(Error::engine("a worker ended early"))))?;
        Ok(seconds)
    })
}
