//! What is measured and how long.

use super::load::Load;
use crate::engine::LoadOptions;
use crate::engine::runner::MemoryLimit;
use crate::tensor::Tensor;
use crate::units::Seconds;
use crate::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One configuration to be measured.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What it is called in progress and messages.
    pub label: String,
    /// The model file.
    pub model: PathBuf,
    /// Engine name.
    pub engine: String,
    /// Threads, batch, dimensions.
    pub options: LoadOptions,
    /// Samples to run over: one tensor per model input, samples first.
    pub samples: Arc<Vec<Tensor>>,
}

/// How it is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Fresh processes per subject, at least 2; the pilot, but then at least 8, when a precision is asked for.
    pub processes: usize,
    /// Windows per process; an even number lets linear drift cancel.
    pub blocks: usize,
    /// Length of a window. It becomes longer, up to [`longest_window`](Plan::longest_window), where the meter needs it: 200
    /// updates of its counter keep the edges below 1 % (notes at [`crate::energy`]).
    pub window: Seconds,
    /// The longest window that a slow meter may ask for.
    pub longest_window: Seconds,
    /// Half-width of the 95 % interval of energy per inference, relative, that every subject is to reach (0.01: ±1 %).
    ///
    /// After [`processes`](Plan::processes) rounds, or 8 if that is more, their scatter fixes once how many rounds there will be (Stein's two-stage
    /// procedure), and the interval keeps the pilot's scatter and degrees of freedom.
    pub precision: Option<f64>,
    /// How inferences follow each other.
    pub load: Load,
    /// No round is begun that would probably end later than this. Two rounds are always run.
    pub max_time: Option<Seconds>,
    /// Seed of the order of windows.
    pub seed: u64,
    /// How long a process may take for any one answer.
    pub timeout: Duration,
    /// Memory for data that each process may have.
    pub memory: MemoryLimit,
    /// Share of CPU time that other processes or the hypervisor may take before a window is invalid; from 1 on every window counts.
    pub disturbance: f64,
    /// A ratio to the reference between 1/(1 + margin) and 1 + margin is no difference worth speaking of: see [`crate::stats::compare`].
    pub margin: f64,
    /// Subjects that are compared with yet another one beside the reference, each as its own place and the other's: the ratios of
    /// their common rounds are in [`Measurement::beside`](super::Measurement::beside). At most one for each subject.
    pub pairs: Vec<(usize, usize)>,
    /// How often an invalid window is measured again.
    pub retries: usize,
    /// Set by others to stop.
    pub cancel: Arc<AtomicBool>,
}

impl Default for Plan {
    /// Five processes of four windows of 0.5 s.
    fn default() -> Self {
        Plan {
            processes: 5,
            blocks: 4,
            window: Seconds(0.5),
            longest_window: Seconds(10.0),
            precision: None,
            load: Load::default(),
            max_time: None,
            seed: 0,
            timeout: Duration::from_secs(120),
            memory: MemoryLimit::default(),
            disturbance: 0.05,
            margin: 0.01,
            pairs: Vec::new(),
            retries: 3,
            cancel: Arc::new(AtomicBool::new(false)),
        }
    }
}

impl Plan {
    /// Refuses numbers that give no result.
    pub(super) fn check(&self, subjects: usize) -> Result<()> {
        let positive = |t: Seconds| t.0 > 0.0 && t.0.is_finite();
        if self.processes < 2 || self.blocks < 1 {
            return Err(Error::bad_input(format!(
                "{} processes of {} windows give no interval: at least 2 processes of 1 window are needed",
                self.processes, self.blocks
            )));
        }
        if !positive(self.window) || !positive(self.longest_window) {
            return Err(Error::bad_input("the length of a window must be more than 0 s"));
        }
        if !(self.margin > 0.0 && self.margin < 1.0) {
            return Err(Error::bad_input(format!("a margin of {} is not between 0 and 1", self.margin)));
        }
        if let Some((subject, other)) = self.pairs.iter().find(|&&(a, b)| a == b || a.max(b) >= subjects) {
            return Err(Error::bad_input(format!("subject {subject} of {subjects} cannot be compared with subject {other}")));
        }
        if let Load::Open { rate } = self.load
            && !(rate > 0.0 && rate <= 1e6)
        {
            return Err(Error::bad_input(format!("a rate of {rate} requests per second is not between 0 and 1,000,000")));
        }
        match self.precision {
            Some(p) if !(p > 0.0 && p < 1.0) => Err(Error::bad_input(format!("a precision of {p} is not between 0 and 1"))),
            _ => Ok(()),
        }
    }

    /// An error once somebody asked to stop.
    pub(super) fn go_on(&self) -> Result<()> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(Error::new(crate::ErrorKind::Interrupted, "interrupted while measuring")),
            false => Ok(()),
        }
    }
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A process is loaded and warmed up.
    WarmUp,
    /// A window is measured.
    Window,
    /// The idle machine is measured.
    Idle,
}

/// Told before each step.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress<'a> {
    /// What is going on.
    pub phase: Phase,
    /// The subject's label; empty for the idle machine.
    pub subject: &'a str,
    /// Windows measured so far.
    pub done: u64,
    /// Windows that there will be, as far as is known now.
    pub total: u64,
    /// Time since the beginning.
    pub elapsed: Seconds,
}
