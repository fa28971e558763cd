//! The verdicts: a run against the runs of a baseline that it may be compared with.

mod remarks;

use super::conditions::{Difference, State, differences};
use super::metric::{Better, Metric};
use super::noise::{Noise, one_sided, welch, within};
use super::outcome::Outcome;
use super::run::{Case, CaseKey, Run};
use super::store::Saved;
use crate::energy::Kind;
use crate::stats::{Confidence, Interval, Verdict, wilson_at};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Degrees of freedom from which on the learnt noise is used: five runs of one state, or as many more of several.
pub const ENOUGH_DEGREES: usize = 4;

/// Until then only increases of at least that share are called.
pub const PROVISIONAL: f64 = 0.2;

/// What is called, and what is not worth calling.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Metrics that fail the gate; the others are recorded.
    pub gated: BTreeSet<Metric>,
    /// Smallest increase of a cost that matters, a share.
    pub max_increase: f64,
    /// The same for single metrics.
    pub max_increase_of: BTreeMap<Metric, f64>,
    /// Smallest loss of accuracy that matters, a share of all samples (0.01: one point).
    pub max_accuracy_drop: f64,
    /// A case that may be compared with no run of the baseline begins a history of its own instead of being refused.
    pub begin: bool,
}

impl Default for Rules {
    /// Increases from 2 %, losses of accuracy from one point, of [`Metric::GATED`].
    fn default() -> Self {
        Rules { gated: Metric::GATED.into(), max_increase: 0.02, max_increase_of: BTreeMap::new(), max_accuracy_drop: 0.01, begin: false }
    }
}

impl Rules {
    fn floor(&self, metric: Metric) -> f64 {
        match metric.better() {
            Better::Higher => self.max_accuracy_drop,
            Better::Lower => self.max_increase_of.get(&metric).copied().unwrap_or(self.max_increase),
        }
    }
}

/// What a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "basis", rename_all = "snake_case")]
pub enum Basis {
    /// Nothing to compare with.
    New,
    /// One of the sides has no figure.
    NotMeasured,
    /// Others used the machine while the run was measured, or all runs of the baseline: that is no evidence.
    Disturbed,
    /// Figures without noise.
    Exact,
    /// Counts of right answers.
    Samples,
    /// Too few runs to know the noise: only an increase of [`PROVISIONAL`] is called.
    Provisional {
        /// Runs of the baseline's newest state.
        runs: usize,
        /// Degrees of freedom so far.
        degrees: usize,
    },
    /// The noise is known.
    History {
        /// Runs of the baseline's newest state.
        runs: usize,
        /// Degrees of freedom of the noise.
        degrees: usize,
        /// Its standard deviation, a share.
        noise: f64,
    },
}

/// One metric of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which case.
    pub key: CaseKey,
    /// Which metric.
    pub metric: Metric,
    /// It can fail the gate.
    pub gated: bool,
    /// The baseline's figure.
    pub baseline: Option<f64>,
    /// The run's figure.
    pub now: Option<f64>,
    /// Run over baseline (accuracy: run − baseline), with the bounds that the verdict rests on.
    pub change: Option<Interval>,
    /// The smallest increase (accuracy: loss) that would be called, a share.
    pub limit: Option<f64>,
    /// What the verdict rests on.
    pub basis: Basis,
    /// Worse is a regression.
    pub verdict: Verdict,
    /// How the energy came about.
    pub kind: Option<Kind>,
}

impl Finding {
    /// A gated metric got worse.
    pub fn regression(&self) -> bool {
        self.gated && self.verdict == Verdict::Worse
    }
}

/// The runs of a baseline that a case may be compared with, oldest first.
struct History<'a> {
    runs: Vec<(&'a Run, &'a Case)>,
    /// How many of the last are of the newest state.
    newest: usize,
}

impl<'a> History<'a> {
    /// The comparable runs; or why the newest that has the case is not comparable, nothing if none has it.
    fn of(saved: &'a [Saved], now: &Run, case: &Case) -> std::result::Result<Self, Vec<Difference>> {
        let having: Vec<(&Run, &Case)> = saved.iter().filter_map(|s| Some((&s.run, s.run.case(&case.key)?))).collect();
        let runs: Vec<(&Run, &Case)> = having.iter().copied().filter(|&old| differences(old, (now, case)).is_empty()).collect();
        let Some(&last) = runs.last() else {
            return Err(having.last().map_or_else(Vec::new, |&old| differences(old, (now, case))));
        };
        let state = State::of(last.0, last.1);
        let newest = runs.iter().rev().take_while(|(run, case)| State::of(run, case) == state).count();
        Ok(History { runs, newest })
    }

    fn newest(&self) -> &[(&'a Run, &'a Case)] {
        &self.runs[self.runs.len() - self.newest..]
    }

    /// Figures of the newest state.
    fn baseline(&self, metric: Metric) -> Vec<f64> {
        self.newest().iter().filter_map(|(_, case)| metric.compared(case)).collect()
    }

    /// Learnt from all runs that follow each other in one state.
    fn noise(&self, metric: Metric) -> Option<Noise> {
        let mut groups: Vec<(State, Vec<f64>)> = Vec::new();
        for (run, case) in &self.runs {
            let (state, value) = (State::of(run, case), metric.compared(case));
            match groups.last_mut().filter(|(last, _)| *last == state) {
                Some((_, values)) => values.extend(value),
                None => groups.push((state, value.into_iter().collect())),
            }
        }
        Noise::learn(groups.iter().map(|(_, values)| &values[..]))
    }
}

/// Judges `runs`, one or more sessions of the same things, against the `saved` runs of the baseline `name`.
///
/// # Errors
/// Bad input: the runs are not of the same things, nothing can be compared, or a case may not be compared: the message says in which
/// conditions it differs.
pub fn judge(name: &str, saved: &[Saved], runs: &[Run], rules: &Rules) -> Result<Outcome> {
    let first = runs.first().ok_or_else(|| Error::bad_input("there is no run to judge"))?;
    same_things(first, &runs[1..])?;
    let mut outcome = Outcome::new(name);
    let (mut histories, mut refused) = (Vec::new(), Vec::new());
    for case in &first.cases {
        match History::of(saved, first, case) {
            Ok(history) => histories.push((case, Some(history))),
            Err(why) if why.is_empty() || rules.begin => {
                let what = if saved.is_empty() { "it is the first run" } else { "no earlier run may be compared with it" };
                let why = if why.is_empty() { what.to_owned() } else { format!("it differs from earlier runs in {}", list(&why)) };
                outcome.notes.push(format!("{}: nothing to compare with: {why}", case.key.short()));
                histories.push((case, None));
            }
            Err(why) => refused.push(format!("{}: {}", case.key.short(), list(&why))),
        }
    }
    if !refused.is_empty() {
        return Err(Error::bad_input(format!("this run may not be compared with baseline `{name}`: it differs in {}", refused.join("; ")))
            .hint("measure under the same conditions; or give `--save` to begin a history under these beside the other"));
    }
    let compared = |(case, history): &(&Case, Option<History<'_>>)| {
        let Some(history) = history else { return 0 };
        let counts = |m: &&Metric| **m != Metric::Size && m.compared(case).is_some() && !history.baseline(**m).is_empty();
        rules.gated.iter().filter(counts).count()
    };
    let confidence = one_sided(histories.iter().map(compared).sum());
    for (case, history) in &histories {
        let same: Vec<&Case> = runs.iter().filter_map(|r| r.case(&case.key)).collect();
        for metric in Metric::ALL {
            outcome.findings.extend(finding(&same, history.as_ref(), metric, rules, confidence));
        }
        if let Some(history) = history {
            remarks::disturbances(&mut outcome, &same, history);
            remarks::changes(&mut outcome, case.key.short(), history, &State::of(first, case), saved.len());
        }
    }
    Ok(outcome)
}

/// Refuses sessions that are not of the same things under the same conditions.
fn same_things(first: &Run, others: &[Run]) -> Result<()> {
    for other in others {
        for case in &first.cases {
            let Some(again) = other.case(&case.key) else {
                return Err(Error::bad_input(format!("{} is not in all of the runs given", case.key)));
            };
            let mut why: Vec<String> = differences((first, case), (other, again)).iter().map(|d| d.what.to_owned()).collect();
            why.extend(State::of(other, again).changes(&State::of(first, case)).into_iter().map(str::to_owned));
            if !why.is_empty() {
                return Err(Error::bad_input(format!("the runs given differ in {}: {}", case.key.short(), why.join(", ")))
                    .hint("several runs are taken as repetitions: give runs of the same things on one class of machine"));
            }
        }
    }
    Ok(())
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<_>>().join(", ")
}

/// `None` for a metric that neither side has.
fn finding(cases: &[&Case], history: Option<&History<'_>>, metric: Metric, rules: &Rules, confidence: Confidence) -> Option<Finding> {
    let case = cases.first()?;
    let quiet: Vec<&Case> = cases.iter().copied().filter(|c| metric.compared(c).is_some()).collect();
    let cases = if quiet.is_empty() { cases } else { &quiet[..] };
    let now: Vec<f64> = cases.iter().filter_map(|c| metric.compared(c).or_else(|| metric.value(c))).collect();
    let before = history.map_or_else(Vec::new, |h| h.baseline(metric));
    let mut finding = Finding {
        key: case.key.clone(),
        metric,
        gated: rules.gated.contains(&metric),
        baseline: centre(&before),
        now: centre(&now),
        change: None,
        limit: None,
        basis: match history {
            None => Basis::New,
            Some(_) if quiet.is_empty() && !now.is_empty() => Basis::Disturbed,
            Some(h) if before.is_empty() && h.newest().iter().any(|(_, c)| metric.value(c).is_some()) => Basis::Disturbed,
            Some(_) => Basis::NotMeasured,
        },
        verdict: Verdict::Undecided,
        kind: case.measurement.energy.as_ref().map(|e| e.kind).filter(|_| metric == Metric::Energy),
    };
    if now.is_empty() && before.is_empty() {
        return None;
    }
    let Some(history) = history.filter(|_| !quiet.is_empty() && !before.is_empty()) else { return Some(finding) };
    match metric {
        Metric::Accuracy => accuracy(&mut finding, case, history, rules, confidence),
        Metric::Size => {
            let ratio = finding.now? / finding.baseline?;
            (finding.basis, finding.limit) = (Basis::Exact, Some(rules.floor(metric)));
            set(&mut finding, Interval { value: ratio, lo: ratio, hi: ratio }, rules);
        }
        _ => cost(&mut finding, cases, history, (&now, &before), rules, confidence),
    }
    Some(finding)
}

fn centre(values: &[f64]) -> Option<f64> {
    super::noise::median_log(values).map(f64::exp)
}

/// A cost that scatters.
fn cost(f: &mut Finding, cases: &[&Case], history: &History<'_>, (now, before): (&[f64], &[f64]), rules: &Rules, confidence: Confidence) {
    let floor = rules.floor(f.metric);
    let noise = history.noise(f.metric);
    let runs = before.len();
    match noise.filter(|n| n.degrees >= ENOUGH_DEGREES) {
        Some(noise) => {
            let noise = noise.at_least(own(f.metric, cases, history));
            f.basis = Basis::History { runs, degrees: noise.degrees, noise: noise.sd };
            f.limit = Some(floor.max(noise.allowance(confidence, now.len(), runs).exp_m1()));
            if let Some(ratio) = noise.ratio(confidence, now, before) {
                set(f, ratio, rules);
            }
        }
        None => {
            f.basis = Basis::Provisional { runs, degrees: noise.map_or(0, |n| n.degrees) };
            let limit = floor.max(PROVISIONAL);
            f.limit = Some(limit);
            let of = |cases: &mut dyn Iterator<Item = &Case>| cases.flat_map(|c| f.metric.per_process(c)).collect::<Vec<_>>();
            let shown = welch(confidence, &of(&mut cases.iter().copied()), &of(&mut history.newest().iter().map(|(_, c)| *c)));
            if let (Some(now), Some(before)) = (f.now, f.baseline) {
                let worse = now / before - 1.0 >= limit && shown.is_none_or(|i| i.lo > 1.0);
                f.verdict = if worse { Verdict::Worse } else { Verdict::Undecided };
                f.change = Some(Interval { value: now / before, lo: f64::NEG_INFINITY, hi: f64::INFINITY });
            }
        }
    }
}

/// The noise that runs have from their own processes, where these are fewer than in the baseline, whose noise is then too small for
/// them; else 0, for it is part of what was learnt.
fn own(metric: Metric, cases: &[&Case], history: &History<'_>) -> f64 {
    let fewest = cases.iter().map(|c| c.measurement.processes).min();
    if fewest >= history.newest().iter().map(|(_, c)| c.measurement.processes).min() {
        return 0.0;
    }
    (cases.iter().map(|c| within(&metric.per_process(c))).sum::<f64>() / cases.len() as f64).sqrt()
}

/// The verdict on a cost from a ratio whose ends hold with those of all others.
fn set(f: &mut Finding, ratio: Interval, rules: &Rules) {
    let floor = 1.0 + rules.floor(f.metric);
    f.change = Some(ratio);
    f.verdict = if ratio.lo > 1.0 && ratio.value >= floor {
        Verdict::Worse
    } else if ratio.hi < 1.0 && ratio.value <= 1.0 / floor {
        Verdict::Better
    } else if ratio.hi < floor {
        Verdict::Same
    } else {
        Verdict::Undecided
    };
}

/// Right answers of this run against those of the baseline's last one. Both counted the same samples, but not who was right where:
/// the difference is taken as between independent samples (Newcombe, *Statistics in Medicine* 17 (1998) 873–890, method 10), which is
/// wider than a paired interval.
fn accuracy(f: &mut Finding, case: &Case, history: &History<'_>, rules: &Rules, confidence: Confidence) {
    let last = history.newest().iter().rev().find_map(|(_, c)| c.accuracy.as_ref());
    let (Some(now), Some(before)) = (case.accuracy.as_ref(), last) else { return };
    let (Some(a), Some(b)) = (wilson_at(confidence, now.right, now.samples), wilson_at(confidence, before.right, before.samples)) else {
        return;
    };
    let value = a.value - b.value;
    let lo = value - (a.value - a.lo).hypot(b.hi - b.value);
    let hi = value + (a.hi - a.value).hypot(b.value - b.lo);
    let floor = rules.floor(f.metric);
    (f.basis, f.baseline, f.now) = (Basis::Samples, Some(b.value), Some(a.value));
    (f.change, f.limit) = (Some(Interval { value, lo, hi }), Some(floor.max(value - lo)));
    let same_model = history.newest().last().is_some_and(|(_, c)| c.model_sha256 == case.model_sha256);
    f.verdict = match () {
        () if hi < 0.0 && value <= -floor => Verdict::Worse,
        () if lo > 0.0 && value >= floor => Verdict::Better,
        // The same bytes with the same answers: nothing is uncertain about that.
        () if lo > -floor || (same_model && value == 0.0) => Verdict::Same,
        () => Verdict::Undecided,
    };
}

#[cfg(test)]
mod tests;
