//! What a reader of verdicts should know beside them.

use super::super::conditions::State;
use super::super::metric::Metric;
use super::super::outcome::Outcome;
use super::super::run::Case;
use super::History;
use crate::stats::{Confidence, trend};

/// A change of a state's runs in all, below which a trend is not worth a remark.
const NOTICEABLE: f64 = 0.02;

/// Which times and energies are no evidence, because others used the machine.
pub(super) fn disturbances(outcome: &mut Outcome, runs: &[&Case], history: &History<'_>) {
    let Some(name) = runs.first().map(|c| c.key.short()) else { return };
    let (now, before) = (
        runs.iter().filter(|c| c.measurement.is_disturbed()).count(),
        history.runs.iter().filter(|(_, c)| c.measurement.is_disturbed()).count(),
    );
    if now > 0 {
        let which = if runs.len() == 1 { "it was".to_owned() } else { format!("{now} of {} runs were", runs.len()) };
        outcome.notes.push(format!(
            "{name}: {which} measured while others used the machine: such times and energies are no evidence and not judged; measure again when it is quiet"
        ));
    }
    if before > 0 {
        let all = history.runs.len();
        outcome.notes.push(format!(
            "{name}: {before} of {all} runs of the baseline were disturbed by others: their times and energies are left out"
        ));
    }
}

/// What a reader should know of the history.
pub(super) fn changes(outcome: &mut Outcome, name: String, history: &History<'_>, now: &State, saved: usize) {
    let others = saved - history.runs.len();
    if others > 0 {
        outcome.notes.push(format!("{name}: {others} of {saved} earlier runs may not be compared with it and are left out"));
    }
    if let Some((run, case)) = history.newest().last() {
        let changed = now.changes(&State::of(run, case));
        if !changed.is_empty() {
            outcome.notes.push(format!("{name}: changed since the baseline: {}", changed.join(", ")));
        }
    }
    for metric in [Metric::Energy, Metric::Latency] {
        let values = history.baseline(metric);
        let Some(step) = trend(Confidence::P99, &values) else { continue };
        let change = (1.0 + step).powi(values.len() as i32 - 1) - 1.0;
        if change.abs() > NOTICEABLE {
            let way = if change > 0.0 { "rose" } else { "fell" };
            outcome.notes.push(format!(
                "{name}: {metric} {way} by {:.1} % over the baseline's {} runs though nothing of it changed: the machine did",
                100.0 * change.abs(),
                values.len()
            ));
        }
    }
}
