//! The outcome of a gate: findings, limits, remarks, and the sentence.

use super::budget::{Decision, LimitFinding};
use super::judge::{Basis, ENOUGH_DEGREES, Finding, PROVISIONAL};
use super::metric::{Better, Metric};
use crate::report::words::{fixed, signed};
use crate::stats::{Interval, Verdict};
use serde_json::{Value, json};

/// Everything that a gate found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// The baseline's name; empty when there was none.
    pub baseline: String,
    /// By case and metric.
    pub findings: Vec<Finding>,
    /// By limit.
    pub limits: Vec<LimitFinding>,
    /// A limit that is neither shown to be kept nor shown to be broken fails the gate.
    pub undecided_fails: bool,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl Outcome {
    pub(super) fn new(baseline: &str) -> Self {
        Outcome { baseline: baseline.to_owned(), ..Outcome::default() }
    }

    /// Of budgets alone.
    pub fn without_baseline() -> Self {
        Outcome::default()
    }

    /// Gated metrics that got worse.
    pub fn regressions(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| f.regression())
    }

    /// Limits that fail the gate.
    pub fn broken(&self) -> impl Iterator<Item = &LimitFinding> {
        self.limits.iter().filter(|l| self.fails(l))
    }

    /// Whether a limit fails the gate.
    pub fn fails(&self, limit: &LimitFinding) -> bool {
        match limit.decision {
            Decision::Broken => true,
            Decision::Undecided | Decision::NotMeasured => self.undecided_fails,
            Decision::Kept => false,
        }
    }

    /// Nothing failed.
    pub fn passed(&self) -> bool {
        self.regressions().next().is_none() && self.broken().next().is_none()
    }

    /// One sentence for people.
    pub fn sentence(&self) -> String {
        let worse: Vec<String> = self.regressions().map(|f| format!("{} {} {}", f.key.short(), f.metric, change(f))).collect();
        let broken: Vec<String> = self.broken().map(|l| format!("{} {}: {}", l.key.short(), l.limit, l.words())).collect();
        let parts: Vec<String> = [("Regression", worse), ("Budget", broken)]
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(what, list)| format!("{what}: {}", list.join("; ")))
            .collect();
        if !parts.is_empty() {
            return parts.join(". ") + ".";
        }
        let gated = self.findings.iter().filter(|f| f.gated);
        let count = |of: fn(&Finding) -> bool| gated.clone().filter(|f| of(f)).count();
        let (all, new) = (count(|f| f.basis != Basis::New), count(|f| f.basis == Basis::New));
        let (same, better) = (count(|f| f.verdict == Verdict::Same), count(|f| f.verdict == Verdict::Better));
        let mut words = Vec::new();
        if all > 0 {
            let disturbed = count(|f| f.basis == Basis::Disturbed);
            let open = all - same - better - disturbed;
            let against = format!("No regression in {all} gated metrics against `{}`", self.baseline);
            let not_judged = if disturbed > 0 { format!(", {disturbed} not judged, for others used the machine") } else { String::new() };
            words.push(format!("{against}: {better} better, {same} shown to be the same, {open} without a call{not_judged}"));
        } else if new > 0 {
            words.push(format!("Nothing to compare with in `{}` yet", self.baseline));
        }
        if !self.limits.is_empty() {
            let kept = self.limits.iter().filter(|l| l.decision == Decision::Kept).count();
            words.push(format!("{kept} of {} limits are shown to be kept", self.limits.len()));
        }
        words.join("; ") + "."
    }

    /// The findings as cells for people: model, metric, baseline, now, change, from where on it is called, verdict, what that rests on.
    pub fn table(&self) -> Vec<Vec<String>> {
        let row = |f: &Finding| {
            let show = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| f.metric.show(v));
            vec![f.key.short(), f.metric.to_string(), show(f.baseline), show(f.now), change(f), limit(f), word(f), basis(f)]
        };
        self.findings.iter().map(row).collect()
    }

    /// The limits as cells: model, limit, what the run says.
    pub fn limits_table(&self) -> Vec<Vec<String>> {
        let kind = |l: &LimitFinding| l.kind.map_or_else(String::new, |k| format!(" ({})", k.sentence()));
        self.limits.iter().map(|l| vec![l.key.short(), l.limit.to_string(), l.words() + &kind(l)]).collect()
    }

    /// For `--json`.
    pub fn to_json(&self) -> Value {
        let finding = |f: &Finding| {
            let basis = serde_json::to_value(f.basis).unwrap_or_default();
            let bound = |v: f64| v.is_finite().then_some(v);
            json!({
                "model": f.key.model, "engine": f.key.engine, "threads": f.key.threads, "batch": f.key.batch,
                "metric": f.metric, "unit": f.metric.unit(), "gated": f.gated, "kind": f.kind.map(|k| k.name()),
                "baseline": f.baseline, "now": f.now,
                "change_is": if f.metric.better() == Better::Higher { "difference" } else { "ratio" },
                "change": f.change.map(|c| c.value), "change_lo": f.change.and_then(|c| bound(c.lo)), "change_hi": f.change.and_then(|c| bound(c.hi)),
                "called_from": f.limit, "verdict": f.verdict.name(), "regression": f.regression(),
                "basis": basis["basis"], "baseline_runs": basis["runs"], "degrees_of_freedom": basis["degrees"], "noise": basis["noise"],
            })
        };
        json!({
            "verdict": self.sentence(),
            "passed": self.passed(),
            "baseline": Some(&self.baseline).filter(|b| !b.is_empty()),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "limits": self.limits.iter().map(|l| l.to_json(self.fails(l))).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// The change of a metric: `+6.3 % (+3.1…+9.5)`, accuracy in points.
pub(super) fn change(f: &Finding) -> String {
    let Some(c) = f.change else { return String::new() };
    let (percent, unit): (fn(f64) -> f64, _) = match f.metric.better() {
        Better::Higher => (|d| 100.0 * d, "pt"),
        Better::Lower => (|r| 100.0 * (r - 1.0), "%"),
    };
    let Interval { value, lo, hi } = c;
    let [value, lo_text, hi_text] = [value, lo, hi].map(|v| signed(percent(v), 1));
    if f.metric == Metric::Size || !(lo.is_finite() && hi.is_finite()) {
        return format!("{value} {unit}");
    }
    format!("{value} {unit} ({lo_text}…{hi_text})")
}

/// From which change on it would be called: `+4.1 %`.
pub(super) fn limit(f: &Finding) -> String {
    match (f.limit, f.metric.better()) {
        (Some(l), Better::Lower) => format!("{} %", signed(100.0 * l, 1)),
        (Some(l), Better::Higher) => format!("−{} pt", fixed(100.0 * l, 1)),
        (None, _) => String::new(),
    }
}

/// What the verdict rests on, in words.
pub(super) fn basis(f: &Finding) -> String {
    match f.basis {
        Basis::New => "new".to_owned(),
        Basis::NotMeasured => "not measured".to_owned(),
        Basis::Disturbed => "disturbed: measure again".to_owned(),
        Basis::Exact => "exact".to_owned(),
        Basis::Samples => "counts".to_owned(),
        Basis::Provisional { runs, degrees } => {
            let needed = ENOUGH_DEGREES.saturating_sub(degrees);
            format!("{runs} run{}; only +{:.0} % is called for {needed} more", if runs == 1 { "" } else { "s" }, 100.0 * PROVISIONAL)
        }
        Basis::History { runs, noise, .. } => {
            format!("{runs} run{}, noise {} %", if runs == 1 { "" } else { "s" }, fixed(100.0 * noise, 2))
        }
    }
}

/// The word in tables: that of the verdict, or that it was only recorded.
pub(super) fn word(f: &Finding) -> String {
    match (f.basis, f.regression()) {
        (Basis::New | Basis::NotMeasured | Basis::Disturbed, _) => "–".to_owned(),
        (_, true) => "REGRESSION".to_owned(),
        (_, false) => f.verdict.to_string() + if f.gated { "" } else { " (recorded)" },
    }
}
