//! Cold starts: fresh processes up to their first answer.

use super::executor::Executor;
use super::plan::Plan;
use super::windows::{Read, Window, disturbance};
use crate::Result;
use crate::energy::{Meter, Target, read_after_tick};
use crate::units::{Joules, Seconds};

/// The parts of one cold start, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// From the file to a model that can run.
    pub(super) load: u64,
    /// The first inference.
    pub(super) first: u64,
}

/// A window of `starts` cold starts of `subject`, one after the other.
pub(super) fn window(
    executor: &mut dyn Executor,
    subject: usize,
    meter: &mut dyn Meter,
    plan: &Plan,
    (starts, batch): (u64, usize),
) -> Result<Window> {
    executor.watch();
    let before = read_after_tick(meter, Target::this_process());
    let began = executor.now();
    let mut window = Window { inferences: starts * batch as u64, ..Window::empty() };
    // Energy, and the variance of what its readings leave open.
    let mut own = Some((Joules(0.0), 0.0));
    let mut cpu = Seconds(0.0);
    for _ in 0..starts {
        plan.go_on()?;
        let start = executor.now();
        let mut process = executor.start_cold(subject)?;
        let ran = process.run(1)?;
        window.latencies.push(nanoseconds(executor.now() - start));
        window.starts.push(Start { load: nanoseconds(process.load_time()), first: nanoseconds(ran.wall) });
        cpu += ran.cpu;
        let target = Target { pid: process.pid() };
        own = meter.at_birth(target).zip(own).and_then(|(birth, sum)| {
            let end = meter.read(target);
            let read = Read::between(meter, &birth, &end, Seconds::from(end.since(&birth))).ok()?;
            Some((sum.0 + read.energy, sum.1 + read.error.0 * read.error.0))
        });
    }
    let after = meter.read(Target::this_process());
    window.span = executor.now() - began;
    window.wall = window.span;
    // A meter that follows processes adds them up; one of the machine has seen them all.
    window.energy = match own {
        Some((energy, variance)) => Ok(Read { energy, error: Joules(variance.sqrt()) }),
        None => Read::between(meter, &before, &after, window.span),
    };
    // What starting and loading cost in CPU time is not all in the runs: others are judged leniently.
    window.disturbance = disturbance(executor, plan, if own.is_some() { window.span } else { Seconds(cpu.0.max(window.span.0)) });
    Ok(window)
}

fn nanoseconds(t: Seconds) -> u64 {
    (t.0.max(0.0) * 1e9) as u64
}
