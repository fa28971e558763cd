//! From windows to figures.

use super::clusters::{Cluster, Count, Quantity, Ratios, clusters, pairs, ratios, reading_error};
use super::cold::Start;
use super::figures::{Beside, Cold, Compared, Energy, Latency, Measurement, ProcessLatency};
use super::load::Load;
use super::plan::Plan;
use super::protocol::{Round, Track};
use super::warnings::Warning;
use super::windows::{Window, too_few};
use crate::energy::{MeterInfo, Scope};
use crate::stats::{Confidence, Interval, Verdict, cluster_ratio, compare_read, log_ratio, outliers, quantile, trend};
use crate::units::Seconds;
use crate::{Error, Result};

/// What all subjects of a run share.
pub(super) struct Run<'a> {
    pub(super) info: &'a MeterInfo,
    pub(super) plan: &'a Plan,
    /// Updates of the meter's counter in a window.
    pub(super) updates: Option<f64>,
    /// Processes that were planned.
    pub(super) planned: usize,
    /// Comparisons with the reference and within pairs: their verdicts hold together.
    pub(super) comparisons: usize,
}

impl Run<'_> {
    /// What `ratios` show.
    fn verdict(&self, ratios: &Ratios) -> Option<Verdict> {
        compare_read(&ratios.rounds, ratios.error, self.plan.margin, self.comparisons).map(|c| c.verdict)
    }
}

/// How sure a diagnosis is, lest one in twenty sound runs be called ill.
const DIAGNOSTIC: Confidence = Confidence::P99;

/// Changes of energy below that share are not worth a warning.
const NOTICEABLE: f64 = 0.02;

/// Windows that many times the usual scatter away from their process's median are outliers.
const FAR: f64 = 8.0;

/// The ratio of a subject to itself.
const ONE: Interval = Interval { value: 1.0, lo: 1.0, hi: 1.0 };

/// Figures of one subject; `reference` is `None` for the reference itself, `beside` is the other one of its pair.
pub(super) fn summarise(
    run: &Run<'_>,
    track: &Track,
    reference: Option<&Track>,
    beside: Option<&Track>,
    batch: usize,
) -> Result<Measurement> {
    let mut warnings = Vec::new();
    // Latency of windows whose energy is unknown still counts; disturbed windows only where there are no others.
    let choices: [&Count; 3] = [&|w| w.invalid().is_none(), &|w| w.disturbance.is_none(), &|_| true];
    let Some((choice, count)) = choices.iter().enumerate().find(|(_, count)| clusters(track, *count, Quantity::Latency).len() >= 2) else {
        return Err(Error::engine("fewer than two processes of it could be measured"));
    };
    let broken = || Error::engine("its latencies are no numbers that make a mean");
    let mean = cluster_ratio(&pairs(&clusters(track, count, Quantity::Latency))).ok_or_else(broken)?;
    let compared = reference.map(|reference| ratios(track, reference, count, Quantity::Latency));
    let ratio = compared.as_ref().map_or(Some(ONE), interval);
    let verdict = compared.as_ref().and_then(|ratios| run.verdict(ratios));
    let counted: Vec<&Window> = track.rounds.iter().flat_map(|r| &r.windows).filter(|w| count(w)).collect();
    let [p50, p90, p99] = quantiles(&counted, batch).ok_or_else(broken)?;
    let inferences: u64 = counted.iter().map(|w| w.inferences).sum();
    let wall: Seconds = counted.iter().map(|w| w.wall).sum();
    let energy = energy(run, track, reference, &mut warnings);
    if choice == 2 {
        warnings.push(Warning::DisturbedLatency);
    }
    general_warnings(run, track, &counted, &mut warnings);
    let beside = beside.map(|other| Beside {
        energy: choose_windows(run, track, Some(other)).and_then(|(_, valid, _)| shown(run, &ratios(track, other, valid, Quantity::Gross))),
        latency: shown(run, &ratios(track, other, count, Quantity::Latency)),
    });
    Ok(Measurement {
        energy,
        latency: Latency { mean, p50, p90, p99, ratio, verdict },
        latency_per_process: track.rounds.iter().filter_map(|round| process_latency(round, count, batch)).collect(),
        beside,
        load: run.plan.load,
        cold: cold(&counted),
        throughput_per_s: inferences as f64 / wall.0,
        peak_rss: track.peak.peak,
        rss_before_load: track.before,
        processes: track.rounds.len() as u64,
        windows: counted.len() as u64,
        disturbed_windows: counted.iter().filter(|w| w.disturbance.is_some() || w.remark.is_some()).count() as u64,
        invalid_windows: track.invalid.iter().map(|(reason, n)| (reason.clone(), *n)).collect(),
        inferences,
        warnings: warnings.iter().map(Warning::to_string).collect(),
    })
}

fn energy(run: &Run<'_>, track: &Track, reference: Option<&Track>, warnings: &mut Vec<Warning>) -> Option<Energy> {
    let reason = || track.invalid.iter().max_by_key(|(_, n)| **n).map(|(reason, _)| reason.clone());
    let Some((mut gross, valid, disturbed)) = choose_windows(run, track, reference) else {
        let reason = reason().unwrap_or_else(|| "fewer than two processes have valid windows".to_owned());
        warnings.push(Warning::NoEnergy { reason });
        return None;
    };
    if disturbed {
        let reason = reason().unwrap_or_else(|| "the reference was disturbed".to_owned());
        warnings.push(Warning::DisturbedEnergy { reason });
    }
    if let (Some(asked), Some(pilot)) = (run.plan.precision, &track.pilot) {
        let counted = clusters(track, valid, Quantity::Gross);
        gross = pilot.interval(gross.value, counted.len()).widened(Confidence::P95.z() * reading_error(&counted));
        let reached = (gross.hi - gross.lo) / 2.0 / gross.value.abs();
        // The pilot's mean, by which the number was computed, differs a little from the final one.
        if reached > asked * 1.05 {
            warnings.push(Warning::Imprecise { asked, reached });
        }
    }
    let net = run.info.attributes_idle.then(|| mean(track, valid, Quantity::Net)).flatten();
    match net {
        None if run.info.attributes_idle => warnings.push(Warning::NoIdle),
        Some(net) if net.contains(0.0) => warnings.push(Warning::LikeIdle),
        _ => {}
    }
    if let Some(updates) = too_few(run.updates) {
        warnings.push(Warning::ShortWindows { meter: run.info.name.clone(), updates });
    }
    let compared = reference.map(|reference| ratios(track, reference, valid, Quantity::Gross));
    let per_process: Vec<f64> = pairs(&clusters(track, valid, Quantity::Gross)).iter().map(|(e, n)| e / n).collect();
    diagnose(track, valid, &per_process, warnings);
    Some(Energy {
        kind: run.info.kind,
        meter: run.info.name.clone(),
        scope: run.info.scope,
        gross,
        net,
        ratio: compared.as_ref().map_or(Some(ONE), interval),
        verdict: compared.as_ref().and_then(|ratios| run.verdict(ratios)),
        per_process,
        systematic: run.info.systematic.clone(),
    })
}

/// A quantity for one inference, with its interval.
fn mean(track: &Track, count: &Count, quantity: Quantity) -> Option<Interval> {
    let clusters = clusters(track, count, quantity);
    Some(cluster_ratio(&pairs(&clusters))?.widened(Confidence::P95.z() * reading_error(&clusters)))
}

/// The same with what it shows.
fn shown(run: &Run<'_>, ratios: &Ratios) -> Option<Compared> {
    Some(Compared { ratio: interval(ratios)?, verdict: run.verdict(ratios)? })
}

/// The mean of `ratios`, with its interval.
fn interval(ratios: &Ratios) -> Option<Interval> {
    Some(log_ratio(&ratios.rounds)?.widened_log(Confidence::P95.z() * ratios.error))
}

/// Which windows make the energy, the energy of these, and whether disturbed ones are among them.
///
/// A meter that sees the machine sees what others burn: only valid windows count. One that follows the process's own CPU
/// time is hardly wrong about a process that had to wait, so on a machine that is never quiet a figure with a warning is
/// better than none, as with latency.
fn choose_windows(run: &Run<'_>, track: &Track, reference: Option<&Track>) -> Option<(Interval, &'static Count, bool)> {
    let valid: &'static Count = &|w| w.invalid().is_none();
    let read: &'static Count = &|w| w.energy.is_ok();
    let of = |count: &'static Count, disturbed| Some((mean(track, count, Quantity::Gross)?, count, disturbed));
    let compares = |count: &'static Count| reference.is_none_or(|r| interval(&ratios(track, r, count, Quantity::Gross)).is_some());
    let strict = of(valid, false);
    match run.info.scope {
        Scope::ProcessShare if strict.is_none() || !compares(valid) => of(read, true),
        _ => strict,
    }
}

/// Warns of energies that rise or fall from process to process, and of windows far from the others of their process.
fn diagnose(track: &Track, count: &'static Count, per_process: &[f64], warnings: &mut Vec<Warning>) {
    if let Some(step) = trend(DIAGNOSTIC, per_process) {
        let change = (1.0 + step).powi(per_process.len() as i32 - 1) - 1.0;
        if change.abs() > NOTICEABLE {
            warnings.push(Warning::Drift { change });
        }
    }
    let windows = |round: &Round| -> Vec<f64> {
        round.windows.iter().filter(|w| count(w)).filter_map(|w| Some(w.energy.as_ref().ok()?.energy.0 / w.inferences as f64)).collect()
    };
    let groups: Vec<Vec<f64>> = track.rounds.iter().map(windows).collect();
    let far = outliers(groups.iter().map(Vec::as_slice), FAR, NOTICEABLE);
    if far > 0 {
        warnings.push(Warning::Outliers { windows: far, of: groups.iter().map(Vec::len).sum() });
    }
}

fn general_warnings(run: &Run<'_>, track: &Track, counted: &[&Window], warnings: &mut Vec<Warning>) {
    let processes = track.rounds.len();
    if track.unsteady > 0 {
        warnings.push(Warning::Unsteady { processes: track.unsteady, of: processes });
    }
    if let (Load::Open { rate }, true) = (run.plan.load, track.overloaded) {
        warnings.push(Warning::Overloaded { rate });
    }
    if processes < run.planned {
        warnings.push(Warning::TimeOver { processes, planned: run.planned });
    }
    let shared = counted.iter().filter(|w| w.remark.is_some()).count();
    // A single one is a passing cron job.
    if shared * 10 > counted.len() {
        warnings.push(Warning::Shared { windows: shared, of: counted.len() });
    }
    let all = processes * run.plan.blocks;
    if let (true, Some((reason, _))) = (counted.len() < all, track.invalid.iter().max_by_key(|(_, n)| **n)) {
        warnings.push(Warning::InvalidWindows { kept: counted.len(), of: all, reason: reason.clone() });
    }
}

/// The parts of the cold starts in `windows`, if there are any.
fn cold(windows: &[&Window]) -> Option<Cold> {
    let median = |part: fn(&Start) -> u64| {
        let mut all: Vec<f64> = windows.iter().flat_map(|w| &w.starts).map(|s| part(s) as f64 * 1e-9).collect();
        all.sort_unstable_by(f64::total_cmp);
        quantile(&all, 0.5).map(Seconds)
    };
    Some(Cold { load: median(|s| s.load)?, first: median(|s| s.first)? })
}

/// Latency of one process, over its windows that count.
fn process_latency(round: &Round, count: &Count, batch: usize) -> Option<ProcessLatency> {
    let mean = Seconds(Cluster::of(round, count, Quantity::Latency)?.each());
    let windows: Vec<&Window> = round.windows.iter().filter(|w| count(w)).collect();
    let [p50, p90, p99] = quantiles(&windows, batch)?;
    Some(ProcessLatency { mean, p50, p90, p99 })
}

/// Median, 90th and 99th percentile of the latency of single runs, per sample.
fn quantiles(windows: &[&Window], batch: usize) -> Option<[Seconds; 3]> {
    let mut all: Vec<f64> = windows.iter().flat_map(|w| &w.latencies).map(|&ns| ns as f64).collect();
    all.sort_unstable_by(f64::total_cmp);
    let at = |p| quantile(&all, p).map(|ns| Seconds(ns * 1e-9 / batch as f64));
    Some([at(0.5)?, at(0.9)?, at(0.99)?])
}
