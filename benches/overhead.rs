//! What the harness itself costs: `cargo bench --bench overhead`.
//!
//! A bare loop over tract against the runner's own loop with its clock reading per inference, on the smallest shipped model,
//! where the harness's share is largest. Both run in fresh processes of this program on one core, side by side in random
//! order with the same inputs. The interval is over pairs of processes: memory layout is luck that lasts as long as a process.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use joulefront::engine::LoadOptions;
use joulefront::runner::{Job, MemoryLimit, Program, Runner};
use joulefront::stats::log_ratio;
use joulefront::sys::allowed_cpus;
use joulefront::tensor::Tensor;
use joulefront::{Error, Result};
use rand::{RngExt, SeedableRng};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tract_onnx::prelude::{DatumExt, Framework, InferenceModelExt, IntoRunnable, TValue, TractResult, tvec};

/// Pairs of processes.
const PAIRS: usize = 20;
/// Runs of each in a pair.
const ROUNDS: usize = 60;
/// Inferences per run.
const INFERENCES: u64 = 1_000;
/// Inputs that are rotated over.
const SLOTS: usize = 16;

fn main() -> Result<()> {
    joulefront::runner::init();
    if std::env::args().nth(1).as_deref() == Some("bare") {
        return bare().map_err(|e| Error::engine(e.to_string()));
    }
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let cpus = allowed_cpus()?.last().copied().into_iter().collect();
    let job = Job {
        model: model(),
        engine: "tract".into(),
        options: LoadOptions::default(),
        cpus,
        timeout: Duration::from_secs(60),
        memory: MemoryLimit::default(),
    };
    let slots: Vec<_> = (0..SLOTS).map(|i| Ok(vec![Tensor::f32([1, 1, 28, 28], image(i))?])).collect::<Result<_>>()?;
    let mut ratios = Vec::new();
    let (mut all_ours, mut all_bare) = (0.0, 0.0);
    for _ in 0..PAIRS {
        let mut runner = Runner::spawn(&Program::find()?, &job)?;
        runner.prepare(&slots)?;
        let mut bare = Bare::spawn(&job.cpus).map_err(|e| Error::environment(e.to_string()))?;
        let mut run = |ours: bool| match ours {
            true => runner.run(INFERENCES).map(|ran| ran.wall.0),
            false => bare.run(INFERENCES).map_err(|e| Error::environment(e.to_string())),
        };
        for ours in [true, false].repeat(10) {
            run(ours)?;
        }
        let (mut ours, mut bare) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            let first: bool = rng.random();
            for who in [first, !first] {
                *(if who { &mut ours } else { &mut bare }) += run(who)?;
            }
        }
        ratios.push(ours / bare);
        all_ours += ours;
        all_bare += bare;
    }
    let each = 1e6 / (PAIRS * ROUNDS) as f64 / INFERENCES as f64;
    println!("bare loop {:.2} µs, runner {:.2} µs per inference of fashion-mlp", all_bare * each, all_ours * each);
    match log_ratio(&ratios) {
        Some(r) => println!("runner / bare = {:.4} (95 %: {:.4}…{:.4}, {PAIRS} pairs of processes)", r.value, r.lo, r.hi),
        None => println!("too few pairs of processes"),
    }
    Ok(())
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-mlp.onnx")
}

fn image(i: usize) -> Vec<f32> {
    (0..28 * 28).map(|p| ((p * 7 + i * 13) % 255) as f32 / 255.0).collect()
}

/// The child that a hurried user would write: load, fix the batch, optimise, loop.
fn bare() -> TractResult<()> {
    let mut model = tract_onnx::onnx().model_for_path(model())?;
    model.set_input_fact(0, f32::fact([1, 1, 28, 28]).into())?;
    let mut state = model.into_optimized()?.into_runnable()?.spawn()?;
    let inputs: Vec<TValue> = (0..SLOTS)
        .map(|i| tract_onnx::prelude::Tensor::from_shape(&[1, 1, 28, 28], &image(i)).map(TValue::from))
        .collect::<TractResult<_>>()?;
    for line in std::io::stdin().lock().lines() {
        let n: usize = line?.trim().parse()?;
        let start = Instant::now();
        for i in 0..n {
            black_box(state.run(tvec!(inputs[i % SLOTS].clone()))?);
        }
        println!("{}", start.elapsed().as_nanos());
    }
    Ok(())
}

struct Bare {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Bare {
    fn spawn(cpus: &[usize]) -> std::io::Result<Bare> {
        let mut child = Command::new(std::env::current_exe()?).arg("bare").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?);
        #[cfg(target_os = "linux")]
        if let (Some(&cpu), Some(pid)) = (cpus.first(), rustix::process::Pid::from_raw(child.id() as i32)) {
            let mut set = rustix::thread::CpuSet::new();
            set.set(cpu);
            rustix::thread::sched_setaffinity(Some(pid), &set)?;
        }
        Ok(Bare { child, answers })
    }

    /// Seconds for `n` inferences.
    fn run(&mut self, n: u64) -> std::io::Result<f64> {
        if let Some(stdin) = &mut self.child.stdin {
            writeln!(stdin, "{n}")?;
        }
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim().parse::<f64>().map(|ns| ns * 1e-9).map_err(std::io::Error::other)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
