//! The real executor: runners pinned to the same cores, the parent on another one.

use super::cpu_times::{CpuTimes, contamination};
use super::executor::{Executor, Process};
use super::plan::{Plan, Subject};
use super::samples::rotation;
use crate::Result;
use crate::engine::runner::{Job, Memory, MemoryLimit, Program, Ran, Runner};
use crate::sys::{Host, allowed_cpus, pin_current_thread};
use crate::units::Seconds;
use std::time::{Duration, Instant};

/// This machine.
pub(crate) struct Machine<'a> {
    program: &'a Program,
    subjects: &'a [Subject],
    timeout: Duration,
    memory: MemoryLimit,
    cpus: Vec<usize>,
    host: Host,
    began: Instant,
    watched: Option<(CpuTimes, Instant)>,
}

impl<'a> Machine<'a> {
    /// Moves the calling thread off the cores on which subjects will run, for as long as this lives.
    pub(crate) fn new(program: &'a Program, subjects: &'a [Subject], plan: &Plan) -> Self {
        let cpus = allowed_cpus().unwrap_or_default();
        let machine = Machine {
            program,
            subjects,
            timeout: plan.timeout,
            memory: plan.memory,
            cpus,
            host: Host::default(),
            began: Instant::now(),
            watched: None,
        };
        let threads = subjects.iter().map(|s| s.options.threads).max().unwrap_or(1);
        let rest = machine.cpus.len().saturating_sub(threads).max(1);
        if machine.cpus.len() > 1 {
            let _ = pin_current_thread(&machine.cpus[..rest]);
        }
        machine
    }

    /// Time since this was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn spawn(&self, subject: usize, slots: usize) -> Result<Box<dyn Process>> {
        Ok(Box::new(self.runner(subject, slots)?))
    }

    /// A process of `subject` that rotates over at most `slots` inputs.
    pub(crate) fn runner(&self, subject: usize, slots: usize) -> Result<Runner> {
        let subject = &self.subjects[subject];
        let job = Job {
            model: subject.model.clone(),
            engine: subject.engine.clone(),
            options: subject.options.clone(),
            cpus: self.cores(subject.options.threads),
            timeout: self.timeout,
            memory: self.memory,
        };
        let mut runner = Runner::spawn(self.program, &job)?;
        let rotation = rotation(&subject.samples, runner.inputs())?;
        runner.prepare(&rotation[..rotation.len().min(slots)])?;
        Ok(runner)
    }

    /// The last cores: interrupts and system services prefer the first.
    fn cores(&self, threads: usize) -> Vec<usize> {
        self.cpus[self.cpus.len().saturating_sub(threads)..].to_vec()
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if self.cpus.len() > 1 {
            let _ = pin_current_thread(&self.cpus);
        }
    }
}

impl Executor for Machine<'_> {
    fn start(&mut self, subject: usize) -> Result<Box<dyn Process>> {
        self.spawn(subject, usize::MAX)
    }

    fn start_cold(&mut self, subject: usize) -> Result<Box<dyn Process>> {
        self.spawn(subject, 1)
    }

    fn idle(&mut self, span: Seconds) {
        std::thread::sleep(Duration::try_from_secs_f64(span.0).unwrap_or_default());
    }

    fn now(&self) -> Seconds {
        self.began.elapsed().into()
    }

    fn watch(&mut self) {
        self.watched = CpuTimes::read(&self.host).ok().map(|times| (times, Instant::now()));
    }

    fn disturbance(&mut self, own_cpu: Seconds, limit: f64) -> Option<String> {
        let (start, at) = self.watched.take()?;
        let end = CpuTimes::read(&self.host).ok()?;
        let others = contamination(&start, &end, own_cpu, at.elapsed().into());
        others.exceeds(limit).then(|| others.sentence())
    }
}

impl Process for Runner {
    fn pid(&self) -> u32 {
        self.pid()
    }

    fn run(&mut self, n: u64) -> Result<Ran> {
        self.run(n)
    }

    fn serve(&mut self, n: u64, rate: f64, seed: u64) -> Result<Ran> {
        self.serve(n, rate, seed)
    }

    fn load_time(&self) -> Seconds {
        self.load_time()
    }

    fn latencies(&mut self) -> Result<Vec<u64>> {
        self.latencies()
    }

    fn memory(&mut self) -> Result<Memory> {
        self.memory()
    }

    fn memory_before_load(&self) -> Memory {
        self.memory_before_load()
    }
}
