//! What the protocol needs of the world, so that it also runs on a virtual clock with a simulated counter.

use crate::Result;
use crate::engine::runner::{Memory, Ran};
use crate::units::Seconds;

/// The machine on which subjects are run.
pub trait Executor {
    /// Starts a subject in a fresh process with its inputs prepared.
    ///
    /// # Errors
    /// The model is refused, or the process crashes or hangs.
    fn start(&mut self, subject: usize) -> Result<Box<dyn Process>>;

    /// Starts a subject for a single inference.
    ///
    /// # Errors
    /// As [`Executor::start`].
    fn start_cold(&mut self, subject: usize) -> Result<Box<dyn Process>> {
        self.start(subject)
    }

    /// Lets the machine be idle for that long.
    fn idle(&mut self, span: Seconds);

    /// Time since some fixed moment.
    fn now(&self) -> Seconds;

    /// Begins to watch what others do.
    fn watch(&mut self);

    /// What disturbed the machine since [`Executor::watch`], when it took more than the share `limit`; `own_cpu` is the CPU
    /// time that the subject itself used.
    fn disturbance(&mut self, own_cpu: Seconds, limit: f64) -> Option<String>;
}

/// A subject in its process.
pub trait Process {
    /// The process id, for meters that look at one process.
    fn pid(&self) -> u32;

    /// Exactly `n` inferences (runs of one batch).
    ///
    /// # Errors
    /// The engine fails, or the process crashes or hangs.
    fn run(&mut self, n: u64) -> Result<Ran>;

    /// Exactly `n` inferences that arrive at random, `rate` per second on average, by a schedule that `seed` fixes. Their latencies
    /// count from the arrival.
    ///
    /// # Errors
    /// As [`Process::run`].
    fn serve(&mut self, n: u64, rate: f64, seed: u64) -> Result<Ran>;

    /// Time from the file to a model that was ready to run.
    fn load_time(&self) -> Seconds;

    /// Nanoseconds of each inference of the last run.
    ///
    /// # Errors
    /// The process crashes or hangs.
    fn latencies(&mut self) -> Result<Vec<u64>>;

    /// Memory so far.
    ///
    /// # Errors
    /// The process crashes or hangs.
    fn memory(&mut self) -> Result<Memory>;

    /// Memory before the model was loaded.
    fn memory_before_load(&self) -> Memory;
}
