//! The parent's side: a child with typed questions, each with a time limit.

use super::death::{Tail, cause};
use super::program::{ARGUMENT, Program};
use super::protocol::{self, MAX_SLOTS, Memory, Reply, Request};
use crate::engine::{Engine, Found, LoadOptions, Profiled, Spec};
use crate::sys::peak::Peak;
use crate::tensor::Tensor;
use crate::units::{Bytes, Seconds};
use crate::{Error, ErrorKind, Result};
use std::io::{self, BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a library may take to be loaded.
const FINDING: Duration = Duration::from_secs(10);
/// How long a child that closed its stdout may take to end.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// A message from the child, or `None` at the end of its output.
type Incoming = io::Result<Option<(Reply, Vec<u8>)>>;

/// What a child is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The model file.
    pub model: PathBuf,
    /// The engine's name.
    pub engine: String,
    /// Batch, threads and dimensions.
    pub options: LoadOptions,
    /// CPUs the process is pinned to; empty for all.
    pub cpus: Vec<usize>,
    /// How long the child may take for any one answer.
    pub timeout: Duration,
    /// Memory for data that the child may have.
    pub memory: MemoryLimit,
}

/// Memory for data (heap and private mappings, not the program and the file that is mapped) that a child may have. An allocation
/// beyond it fails in the child, where otherwise the system would begin to swap or to end processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryLimit {
    /// Nine tenths of the memory that the machine, or the container around this program, has.
    #[default]
    Machine,
    /// So much.
    At(Bytes),
}

impl MemoryLimit {
    /// In bytes; nothing where the machine's memory is not known.
    fn bytes(self) -> Option<u64> {
        match self {
            MemoryLimit::Machine => crate::sys::total_memory().map(|total| total.0 / 10 * 9),
            MemoryLimit::At(limit) => Some(limit.0),
        }
    }
}

/// Whether an engine is there, and which version; a library that is not part of this program is loaded in a child.
///
/// # Errors
/// It is not there or cannot be used; the child cannot be started, crashes or hangs over it.
pub fn find(program: &Program, engine: &dyn Engine) -> Result<Found> {
    if engine.linked() {
        return engine.find();
    }
    let mut runner = Runner::start(program, FINDING)?;
    match runner.ask(&Request::Find { engine: engine.name().to_owned() }, &[]) {
        Ok((Reply::Found { found }, _)) => Ok(found),
        Ok((other, _)) => Err(runner.nonsense(&format!("{other:?}"))),
        // A library that kills its process is no engine, whatever its way of doing so.
        Err(e) if e.kind() == ErrorKind::Engine => {
            Err(Error::environment(format!("{} cannot be used: {e}", engine.name())).hint(e.hint_text().unwrap_or_default()))
        }
        Err(e) => Err(e),
    }
}

/// What `n` inferences took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ran {
    /// From the first start to the last end.
    pub wall: Seconds,
    /// CPU time of all threads of the child in the same span.
    pub cpu: Seconds,
}

/// Runs with a clock at each node.
#[derive(Debug, Clone, PartialEq)]
pub struct Clocked {
    /// How many.
    pub runs: u64,
    /// What they and their nodes took.
    pub profiled: Profiled,
    /// What the child took in all, with what the engine needs to be made ready: whether it had to wait for its core.
    pub took: Ran,
}

/// A child process with a loaded model. Dropping it kills the child.
///
/// It stays in the thread that made it: Linux ends a child together with the *thread* that started it.
pub struct Runner {
    child: Child,
    stdin: ChildStdin,
    replies: Receiver<Incoming>,
    stderr: JoinHandle<()>,
    tail: Arc<Mutex<Tail>>,
    timeout: Duration,
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
    before: Memory,
    load: Seconds,
    stay: PhantomData<*const ()>,
}

impl Runner {
    /// A child that has no model yet.
    fn start(program: &Program, timeout: Duration) -> Result<Runner> {
        let command = || {
            let mut command = Command::new(program.path());
            command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            // What a child last says is quoted: a backtrace would push the message out.
            command.env("RUST_BACKTRACE", "0");
            // Ctrl-C goes to the whole foreground group: a child in a group of its own does not look crashed because the
            // user interrupted. It still dies with its parent.
            #[cfg(unix)]
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command.spawn()
        };
        let cannot = |e: io::Error| Error::environment(format!("`{}` cannot be started to run models in: {e}", program.path().display()));
        let mut child = command().map_err(cannot)?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(Error::environment("the child process has no pipes"));
        };
        let tail = Arc::new(Mutex::new(Tail::default()));
        let keep = Arc::clone(&tail);
        let stderr = std::thread::spawn(move || {
            let lines = BufReader::new(stderr).split(b'\n').map_while(|line| line.ok());
            lines.for_each(|line| lock(&keep).push(&String::from_utf8_lossy(&line)));
        });
        Ok(Runner {
            child,
            stdin,
            replies: listen(stdout),
            stderr,
            tail,
            timeout,
            inputs: Vec::new(),
            outputs: Vec::new(),
            before: Memory::default(),
            load: Seconds(0.0),
            stay: PhantomData,
        })
    }

    /// Starts a child and loads the model in it.
    ///
    /// # Errors
    /// The program cannot be started, or the child refuses the model, crashes or hangs over it.
    pub fn spawn(program: &Program, job: &Job) -> Result<Runner> {
        let mut runner = Runner::start(program, job.timeout)?;
        let LoadOptions { batch, threads, dims, shapes, symbolic } = job.options.clone();
        // The child may have another working folder in mind than we have.
        let model = std::path::absolute(&job.model).map_err(|e| Error::read(&job.model, e))?;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let request = Request::Load {
            model,
            engine: job.engine.clone(),
            threads,
            batch,
            dims,
            shapes,
            symbolic,
            cpus: job.cpus.clone(),
            memory: job.memory.bytes(),
            // All CPUs for as long as an answer may take, and a little for the start: more than that the clock here ends first.
            cpu_s: job.timeout.as_secs_f64() * cpus as f64 + 1.0,
        };
        let loaded = runner.ask(&request, &[]).map_err(|e| match e.kind() {
            ErrorKind::Engine => e.context(format!("`{}`", job.model.display())),
            _ => e,
        })?;
        match loaded {
            (Reply::Loaded { inputs, outputs, before, load_ns }, _) => {
                let (Some(inputs), Some(outputs)) = (protocol::specs(&inputs), protocol::specs(&outputs)) else {
                    return Err(runner.nonsense("an unknown element type, or dimensions that no memory could hold"));
                };
                (runner.inputs, runner.outputs) = (inputs, outputs);
                (runner.before, runner.load) = (before, seconds(load_ns));
                Ok(runner)
            }
            (other, _) => Err(runner.nonsense(&format!("{other:?}"))),
        }
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The model's inputs.
    pub fn inputs(&self) -> &[Spec] {
        &self.inputs
    }

    /// The model's outputs.
    pub fn outputs(&self) -> &[Spec] {
        &self.outputs
    }

    /// Memory before the model was loaded.
    pub fn memory_before_load(&self) -> Memory {
        self.before
    }

    /// Time from the file to a model that is ready to run.
    pub fn load_time(&self) -> Seconds {
        self.load
    }

    /// Gives the inputs to rotate over: at most [`MAX_SLOTS`] sets of one tensor per model input.
    ///
    /// # Errors
    /// Number, types or shapes do not fit the model.
    pub fn prepare(&mut self, slots: &[Vec<Tensor>]) -> Result<()> {
        if slots.is_empty() || slots.len() > MAX_SLOTS {
            return Err(Error::bad_input(format!("a model runs over 1 to {MAX_SLOTS} inputs, it was given {}", slots.len())));
        }
        let mut payload = Vec::new();
        for inputs in slots {
            crate::engine::check_inputs(&self.inputs, inputs)?;
            inputs.iter().for_each(|t| payload.extend(crate::onnx::elements_to_le(t.data())));
        }
        match self.ask(&Request::Prepare, &payload)? {
            (Reply::Prepared { slots: n }, _) if n == slots.len() => Ok(()),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    /// Exactly `n` inferences over the prepared inputs.
    ///
    /// # Errors
    /// The engine fails, or the child crashes or hangs.
    pub fn run(&mut self, n: u64) -> Result<Ran> {
        match self.ask(&Request::Run { n }, &[])? {
            (Reply::Ran { wall_ns, cpu_ns }, _) => Ok(Ran { wall: seconds(wall_ns), cpu: seconds(cpu_ns) }),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    /// Exactly `n` inferences over the prepared inputs, at the arrivals of a Poisson process of `rate` per second that `seed` fixes.
    /// The latencies count from the arrivals.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn serve(&mut self, n: u64, rate: f64, seed: u64) -> Result<Ran> {
        match self.ask(&Request::Serve { n, rate, seed }, &[])? {
            (Reply::Ran { wall_ns, cpu_ns }, _) => Ok(Ran { wall: seconds(wall_ns), cpu: seconds(cpu_ns) }),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    /// Nanoseconds of each inference of the last [`Runner::run`] or [`Runner::serve`].
    ///
    /// # Errors
    /// The child crashes or hangs.
    pub fn latencies(&mut self) -> Result<Vec<u64>> {
        match self.ask(&Request::Latencies, &[])? {
            (Reply::Latencies, bytes) => Ok(bytes.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b)).collect()),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    /// Outputs, as float32, for any number of samples: one tensor per model input with the samples as first dimension. The
    /// child runs them in batches.
    ///
    /// # Errors
    /// Types or shapes do not fit, the outputs have no batch dimension, the engine fails, the child crashes or hangs.
    pub fn infer(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let samples = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(0);
        let specs: Vec<Spec> = self.inputs.iter().map(|s| protocol::with_samples(s, samples)).collect();
        crate::engine::check_inputs(&specs, inputs)?;
        let payload: Vec<u8> = inputs.iter().flat_map(|t| crate::onnx::elements_to_le(t.data())).collect();
        let (reply, bytes) = self.ask(&Request::Infer { samples }, &payload)?;
        match protocol::outputs(&self.outputs, samples, &bytes).filter(|_| reply == Reply::Inferred) {
            Some(outputs) => Ok(outputs),
            None => Err(self.nonsense(&format!("{reply:?} with {} bytes, which are not the outputs for {samples} samples", bytes.len()))),
        }
    }

    /// Memory so far.
    ///
    /// # Errors
    /// The child crashes or hangs.
    pub fn memory(&mut self) -> Result<Memory> {
        match self.ask(&Request::Memory, &[])? {
            (Reply::Memory { memory }, _) => Ok(memory),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    /// Times of the engine's nodes over at least `runs` runs of the prepared inputs, as [`crate::engine::Session::profile`] takes them.
    ///
    /// # Errors
    /// The engine does not tell them or fails, or the child crashes or hangs.
    pub fn profile(&mut self, runs: u64) -> Result<Clocked> {
        let (reply, nodes) = self.ask(&Request::Profile { runs }, &[])?;
        match (reply, serde_json::from_slice(&nodes)) {
            (Reply::Profiled { runs, wall_ns, took_ns, cpu_ns }, Ok(nodes)) if runs > 0 => {
                Ok(Clocked { runs, profiled: Profiled { wall_ns, nodes }, took: Ran { wall: seconds(took_ns), cpu: seconds(cpu_ns) } })
            }
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    /// What `threads` threads of the child reach at best where it is pinned: see [`Peak::measure`].
    ///
    /// # Errors
    /// The child crashes or hangs.
    pub fn peak(&mut self, threads: usize, working_set: Bytes) -> Result<Peak> {
        match self.ask(&Request::Peak { threads, working_set: working_set.0 }, &[])? {
            (Reply::Peak { peak }, _) => Ok(peak),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    /// Sends a request with its payload and waits for the answer.
    fn ask(&mut self, request: &Request, payload: &[u8]) -> Result<(Reply, Vec<u8>)> {
        let began = Instant::now();
        // A write fails when the child has died; then the reply tells how.
        let header = protocol::write_header(&mut self.stdin, request, payload.len());
        let (stdin, replies, child) = (&mut self.stdin, &self.replies, &mut self.child);
        let reply = std::thread::scope(|scope| {
            if header.is_ok() && !payload.is_empty() {
                // A payload fills the pipe: a child that hangs before reading it must not hang us as well.
                scope.spawn(move || stdin.write_all(payload).and_then(|()| stdin.flush()));
            }
            let reply = replies.recv_timeout(self.timeout.saturating_sub(began.elapsed()));
            if reply.is_err() {
                let _ = child.kill();
            }
            reply
        });
        match reply {
            Ok(Ok(Some((Reply::Failed { kind, message, hint }, _)))) => Err(kind.into_error(message, hint)),
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Ok(None)) => Err(self.died("")),
            Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => Err(self.nonsense(&e.to_string())),
            Ok(Err(e)) => Err(self.died(&format!(" in the middle of an answer ({e})"))),
            Err(RecvTimeoutError::Timeout) => {
                let e = Error::engine(format!(
                    "the process that runs the model gave no answer in {}; it was ended",
                    Seconds::from(self.timeout)
                ));
                Err(e.hint("allow more time, or use a smaller batch or model"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.died("")),
        }
    }

    /// The child is gone or closed its stdout: says how it ended and what it last said.
    fn died(&mut self, when: &str) -> Error {
        let patience = Instant::now() + LAST_BREATH;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(5)),
                _ => break None,
            }
        };
        let said = self.last_words();
        let (how, hint) = match status {
            Some(status) => cause(status, &lock(&self.tail)),
            None => ("it closed its output and went on".to_owned(), "the program is not a runner"),
        };
        Error::engine(format!("the process that runs the model failed{when}: {how}{said}")).hint(hint)
    }

    fn nonsense(&mut self, what: &str) -> Error {
        let _ = self.child.kill();
        Error::engine(format!("the process that runs the model answered with something else than was asked: `{what}`{}", self.last_words()))
            .hint("the program must be this version of `joulefront`, and nothing in it may print to stdout")
    }

    /// What the child wrote to stderr; known once it is dead.
    fn last_words(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A grandchild may hold the pipe open: do not wait for its end.
        let patience = Instant::now() + LAST_BREATH;
        while !self.stderr.is_finished() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        lock(&self.tail).quoted()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn seconds(ns: u64) -> Seconds {
    Seconds(ns as f64 * 1e-9)
}

fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads replies in a thread of its own, so that waiting for one can end; the thread ends with the child's stdout.
fn listen(stdout: ChildStdout) -> Receiver<Incoming> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        loop {
            let message = protocol::read_message(&mut stdout);
            let last = !matches!(message, Ok(Some(_)));
            if sender.send(message).is_err() || last {
                return;
            }
        }
    });
    receiver
}
