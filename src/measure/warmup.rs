//! Warm-up: a process runs until its latency is steady.

use super::executor::Process;
use crate::Result;
use crate::units::Seconds;
use std::collections::VecDeque;

/// Length of a chunk.
const CHUNK: Seconds = Seconds(0.01);
/// Chunks whose medians must agree.
const AGREE: usize = 5;
/// How far apart they may be, relative to the smallest.
const TOLERANCE: f64 = 0.03;
/// Running time before which nothing is called steady: page faults, frequency and caches need that long.
const LEAST: Seconds = Seconds(0.1);
/// Running time after which a process counts as never steady.
const MOST: Seconds = Seconds(2.0);

/// How a process is after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Warmed {
    /// Median time of one run of a batch, in the last chunk.
    pub(super) per_run: Seconds,
    /// The last chunks agreed.
    pub(super) steady: bool,
}

impl Warmed {
    /// Runs that take about `span`; at least one.
    pub(crate) fn runs(&self, span: Seconds) -> u64 {
        (span / self.per_run).ceil().clamp(1.0, 1e9) as u64
    }
}

/// Runs `process` in chunks of about 10 ms until the medians of the last five chunks agree within 3 %, for 0.1 to 2 s of
/// running time. (A single slow run beyond that still counts as a chunk.)
pub(crate) fn warm_up(process: &mut dyn Process) -> Result<Warmed> {
    let first = process.run(1)?;
    let mut spent = first.wall;
    let mut warmed = Warmed { per_run: positive(first.wall), steady: false };
    let mut medians = VecDeque::with_capacity(AGREE);
    while spent < MOST {
        spent += process.run(warmed.runs(CHUNK))?.wall;
        warmed.per_run = positive(median(process.latencies()?));
        if medians.len() == AGREE {
            medians.pop_front();
        }
        medians.push_back(warmed.per_run.0);
        let (low, high) = medians.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &m| (low.min(m), high.max(m)));
        if spent >= LEAST && medians.len() == AGREE && high <= low * (1.0 + TOLERANCE) {
            warmed.steady = true;
            break;
        }
    }
    Ok(warmed)
}

/// No clock tells zero apart from its own step.
fn positive(t: Seconds) -> Seconds {
    Seconds(t.0.max(1e-9))
}

fn median(mut ns: Vec<u64>) -> Seconds {
    let middle = ns.len() / 2;
    if ns.is_empty() {
        return Seconds(0.0);
    }
    Seconds(*ns.select_nth_unstable(middle).1 as f64 * 1e-9)
}
