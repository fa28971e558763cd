//! What the harness itself costs: `cargo bench --bench overhead`.
//!
//! For each engine that is here: a bare loop over the engine's own interface against the runner's own loop with its clock reading
//! per inference, on the smallest shipped model, where the harness's share is largest. Both run in fresh processes of this program
//! on one core, side by side in random order, on the same inputs and the same bytes (the shipped file with its batch fixed, so that
//! every bare loop has what the engine's session here makes of the file). The interval is over pairs of processes: memory layout is
//! luck that lasts as long as a process.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use joulefront::engine::{Engine, Found, LoadOptions, all};
use joulefront::runner::{Job, MemoryLimit, Program, Runner, find};
use joulefront::stats::{Interval, log_ratio};
use joulefront::sys::{allowed_cpus, pin_current_thread};
use joulefront::tensor::Tensor;
use joulefront::{Error, Result, onnx};
use rand::{RngExt, SeedableRng};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Pairs of processes.
const PAIRS: usize = 15;
/// Runs of each in a pair.
const ROUNDS: usize = 40;
/// Length of a run, in seconds; the number of inferences comes from it.
const RUN: f64 = 0.015;
/// Inputs that are rotated over.
const SLOTS: usize = 16;

/// A bare loop's failure, whatever library it comes from.
type Failure = Box<dyn std::error::Error>;

fn main() -> Result<()> {
    joulefront::runner::init();
    let args: Vec<String> = std::env::args().collect();
    if let [_, bare, engine, cpu, file] = args.as_slice()
        && bare == "bare"
    {
        // Before a library starts threads, which inherit it.
        cpu.parse().map_or(Ok(()), |cpu| pin_current_thread(&[cpu]))?;
        return serve(engine, Path::new(file)).map_err(|e| Error::engine(e.to_string()));
    }
    let folder = tempfile::tempdir().map_err(|e| Error::environment(e.to_string()))?;
    let file = folder.path().join("fixed.onnx");
    fixed(&file)?;
    let program = Program::find()?;
    for engine in all() {
        match find(&program, *engine) {
            Err(why) => println!("{}: not measured: {why}", engine.name()),
            Ok(found) => {
                let (bare, ours, ratio) = compare(&program, *engine, &found, &file)?;
                let each = |seconds: f64| 1e6 * seconds;
                println!(
                    "{} {}: bare loop {:.2} µs, runner {:.2} µs; runner / bare = {:.4} (95 %: {:.4}…{:.4}, {PAIRS} pairs of processes)",
                    engine.name(),
                    found.version,
                    each(bare),
                    each(ours),
                    ratio.value,
                    ratio.lo,
                    ratio.hi
                );
            }
        }
    }
    Ok(())
}

/// Seconds per inference of the bare loop and of the runner, and the ratio of the two.
fn compare(program: &Program, engine: &dyn Engine, found: &Found, file: &Path) -> Result<(f64, f64, Interval)> {
    let failed = |e: std::io::Error| Error::environment(format!("the bare loop of {}: {e}", engine.name()));
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let cpus: Vec<usize> = allowed_cpus()?.last().copied().into_iter().collect();
    let job = Job {
        model: file.to_owned(),
        engine: engine.name().to_owned(),
        options: LoadOptions::default(),
        cpus: cpus.clone(),
        timeout: Duration::from_secs(60),
        memory: MemoryLimit::default(),
    };
    let slots: Vec<_> = (0..SLOTS).map(|i| Ok(vec![Tensor::f32([1, 1, 28, 28], image(i))?])).collect::<Result<_>>()?;
    let mut ratios = Vec::new();
    let (mut all_ours, mut all_bare) = (0.0, 0.0);
    for _ in 0..PAIRS {
        let mut runner = Runner::spawn(program, &job)?;
        runner.prepare(&slots)?;
        let mut bare = Bare::spawn(engine.name(), found, file, &cpus).map_err(failed)?;
        // Long enough for the caches and the clock of the CPU.
        runner.run(1000)?;
        let n = (RUN / bare.run(1000).map_err(failed)? * 1000.0).ceil().max(1.0) as u64;
        let mut run = |ours: bool| match ours {
            true => runner.run(n).map(|ran| ran.wall.0),
            false => bare.run(n).map_err(failed),
        };
        for ours in [true, false].repeat(5) {
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
        all_ours += ours / (ROUNDS as f64 * n as f64);
        all_bare += bare / (ROUNDS as f64 * n as f64);
    }
    let ratio = log_ratio(&ratios).ok_or_else(|| Error::environment("too few pairs of processes"))?;
    Ok((all_bare / PAIRS as f64, all_ours / PAIRS as f64, ratio))
}

/// The shipped model with a batch of 1 written into it.
fn fixed(file: &Path) -> Result<()> {
    let mut model = onnx::Model::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-mlp.onnx"))?;
    let graph = model.graph_mut();
    graph.value_info.clear();
    for tensor in graph.input.iter_mut().chain(&mut graph.output) {
        let dims = &mut tensor.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default().dim;
        dims.iter_mut().take(1).for_each(|dim| dim.set_dim_value(1));
    }
    model.save(file)
}

fn image(i: usize) -> Vec<f32> {
    (0..28 * 28).map(|p| ((p * 7 + i * 13) % 255) as f32 / 255.0).collect()
}

/// The child that a hurried user would write.
fn serve(engine: &str, file: &Path) -> std::result::Result<(), Failure> {
    match engine {
        "tract" => tract(file),
        "rten" => rten(file),
        "ort" => ort(file),
        other => Err(format!("there is no bare loop over {other}").into()),
    }
}

fn tract(file: &Path) -> std::result::Result<(), Failure> {
    use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, TValue, Tensor, TractResult, tvec};
    let mut state = tract_onnx::onnx().model_for_path(file)?.into_optimized()?.into_runnable()?.spawn()?;
    let tensor = |i| Tensor::from_shape(&[1, 1, 28, 28], &image(i)).map(TValue::from);
    let inputs: Vec<TValue> = (0..SLOTS).map(tensor).collect::<TractResult<_>>()?;
    answer(|n| {
        for i in 0..n {
            black_box(state.run(tvec!(inputs[i % SLOTS].clone()))?);
        }
        Ok(())
    })
}

fn rten(file: &Path) -> std::result::Result<(), Failure> {
    use rten::{ModelOptions, RunOptions, ThreadPool, ValueView};
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(file)?;
    let options = RunOptions::default().with_thread_pool(Some(ThreadPool::with_num_threads(1).into()));
    let images: Vec<Vec<f32>> = (0..SLOTS).map(image).collect();
    answer(|n| {
        for i in 0..n {
            let view = ValueView::from_shape([1, 1, 28, 28], &images[i % SLOTS])?;
            black_box(model.run_one(view.into(), Some(options.clone()))?);
        }
        Ok(())
    })
}

fn ort(file: &Path) -> std::result::Result<(), Failure> {
    use ort::{inputs, session::Session, value::TensorRef};
    let environment = ort::init().with_telemetry(false).build()?;
    let mut session = Session::builder(&environment)?.with_intra_threads(1)?.commit_from_file(file)?;
    let images: Vec<Vec<f32>> = (0..SLOTS).map(image).collect();
    answer(|n| {
        for i in 0..n {
            black_box(session.run(inputs![TensorRef::from_array_view(([1usize, 1, 28, 28], &images[i % SLOTS][..]))?])?);
        }
        Ok(())
    })
}

/// Reads numbers of inferences, runs them, and says how many nanoseconds they took.
fn answer(mut run: impl FnMut(usize) -> std::result::Result<(), Failure>) -> std::result::Result<(), Failure> {
    for line in std::io::stdin().lock().lines() {
        let n: usize = line?.trim().parse()?;
        let start = Instant::now();
        run(n)?;
        println!("{}", start.elapsed().as_nanos());
    }
    Ok(())
}

struct Bare {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Bare {
    fn spawn(engine: &str, found: &Found, file: &Path, cpus: &[usize]) -> std::io::Result<Bare> {
        let mut command = Command::new(std::env::current_exe()?);
        let cpu = cpus.first().map_or_else(String::new, usize::to_string);
        command.args(["bare", engine, &cpu]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(library) = &found.library {
            command.env("ORT_DYLIB_PATH", library);
        }
        let mut child = command.spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?);
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
