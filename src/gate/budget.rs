//! Budgets: limits that a user's repository states for its models, in `joulefront.toml`.
//!
//! ```toml
//! [budget]
//! "models/fashion-resnet8.onnx" = ["energy <= 2 mJ", "p99 <= 5 ms", "accuracy >= 90 %"]
//! "keyword.onnx" = ["size <= 120 KB"]
//! ```
//!
//! A limit is **kept** when the whole interval of the figure keeps it, **broken** when none of it does, and else **undecided**. The
//! intervals of all limits hold together at 95 %, each on its one side.

use super::metric::{Better, Metric};
use super::noise::one_sided;
use super::run::{Case, CaseKey, Run};
use crate::energy::Kind;
use crate::stats::{Confidence, Interval, cluster_ratio_at, wilson_at};
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A file of limits is small.
const MOST_BYTES: u64 = 1 << 20;

/// So is a limit.
const LONGEST: usize = 200;

/// The limits of a repository, by model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Budgets(Vec<(String, Vec<Limit>)>);

/// One limit: a metric, and the most (accuracy: the least) that it may be, in the metric's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// What is limited.
    pub metric: Metric,
    /// Joules, seconds, bytes, a share.
    pub bound: f64,
    /// As it was written.
    text: String,
}

/// What an interval says of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Shown to be kept.
    Kept,
    /// Shown to be broken.
    Broken,
    /// The limit lies within the interval.
    Undecided,
    /// The run has no figure for it.
    NotMeasured,
}

/// A limit and what the run says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitFinding {
    /// The case; for a model that is not in the run its name alone.
    pub key: CaseKey,
    /// The limit.
    pub limit: Limit,
    /// The figure with the interval that decided.
    pub figure: Option<Interval>,
    /// What it says.
    pub decision: Decision,
    /// How the energy came about.
    pub kind: Option<Kind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    budget: BTreeMap<String, Vec<String>>,
}

impl Budgets {
    /// Reads `joulefront.toml`.
    ///
    /// # Errors
    /// Bad input: the file is absent, no TOML, or holds what is no limit: the message names it.
    pub fn read(path: &Path) -> Result<Budgets> {
        let size = std::fs::metadata(path).map_err(|e| Error::read(path, e))?.len();
        if size > MOST_BYTES {
            return Err(Error::bad_input(format!("`{}` has {size} bytes and is no list of limits", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
        Budgets::from_toml(&text).map_err(|e| e.context(format!("`{}`", path.display())))
    }

    /// The limits in a text of TOML.
    ///
    /// # Errors
    /// As [`Budgets::read`].
    pub fn from_toml(text: &str) -> Result<Budgets> {
        let hint = "write `[budget]` and below it `\"model.onnx\" = [\"energy <= 2 mJ\", \"accuracy >= 0.9\"]`";
        let file: File = toml::from_str(text).map_err(|e| Error::bad_input(e.message().to_owned()).hint(hint))?;
        let limits = |(model, texts): (String, Vec<String>)| {
            let parse = |text: &String| text.parse().map_err(|e: String| Error::bad_input(format!("`{model}`: {e}")).hint(hint));
            texts.iter().map(parse).collect::<Result<Vec<Limit>>>().map(|limits| (model.clone(), limits))
        };
        file.budget.into_iter().map(limits).collect::<Result<_>>().map(Budgets)
    }

    /// What `run` says of all limits. A model is meant by its path or the end of it; the limits hold for each of its configurations.
    pub fn judge(&self, run: &Run) -> Vec<LimitFinding> {
        let mut pairs: Vec<(CaseKey, Option<&Case>, &Limit)> = Vec::new();
        for (model, limits) in &self.0 {
            let cases: Vec<&Case> = run.cases.iter().filter(|c| Path::new(&c.key.model).ends_with(model)).collect();
            for limit in limits {
                pairs.extend(cases.iter().map(|c| (c.key.clone(), Some(*c), limit)));
                if cases.is_empty() {
                    pairs.push((CaseKey { model: model.clone(), engine: "tract".into(), threads: 1, batch: 1 }, None, limit));
                }
            }
        }
        let noisy = pairs.iter().filter(|(_, _, l)| !matches!(l.metric, Metric::Size | Metric::Memory)).count();
        let confidence = one_sided(noisy);
        let finding = |(key, case, limit): (CaseKey, Option<&Case>, &Limit)| {
            let figure = case.and_then(|c| figure(c, limit.metric, confidence));
            let kind = case.and_then(|c| c.measurement.energy.as_ref()).map(|e| e.kind).filter(|_| limit.metric == Metric::Energy);
            LimitFinding { key, figure, decision: figure.map_or(Decision::NotMeasured, |f| limit.decide(f)), limit: limit.clone(), kind }
        };
        pairs.into_iter().map(finding).collect()
    }
}

/// A figure with an interval: over processes where they have one each (else without a scatter that is known), Wilson's for accuracy.
fn figure(case: &Case, metric: Metric, confidence: Confidence) -> Option<Interval> {
    let value = metric.value(case)?;
    match metric {
        Metric::Size | Metric::Memory => Some(Interval { value, lo: value, hi: value }),
        Metric::Accuracy => case.accuracy.as_ref().and_then(|a| wilson_at(confidence, a.right, a.samples)),
        _ => {
            let clusters: Vec<(f64, f64)> = metric.per_process(case).iter().map(|&v| (v, 1.0)).collect();
            let spread = cluster_ratio_at(confidence, &clusters);
            // Around the run's own figure: a quantile over all processes is not the mean of theirs.
            Some(spread.map_or(Interval { value, lo: f64::NEG_INFINITY, hi: f64::INFINITY }, |s| {
                let (down, up) = (s.value - s.lo, s.hi - s.value);
                Interval { value, lo: value - down, hi: value + up }
            }))
        }
    }
}

/// The figure with its 95 % interval, where it has one.
pub(super) fn figure_at_95(case: &Case, metric: Metric) -> Option<Interval> {
    figure(case, metric, Confidence::P95)
}

impl Limit {
    fn decide(&self, figure: Interval) -> Decision {
        let (kept, broken) = match self.metric.better() {
            Better::Lower => (figure.hi <= self.bound, figure.lo > self.bound),
            Better::Higher => (figure.lo >= self.bound, figure.hi < self.bound),
        };
        match (kept, broken) {
            (true, _) => Decision::Kept,
            (_, true) => Decision::Broken,
            _ => Decision::Undecided,
        }
    }
}

/// `energy <= 2 mJ`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = |why: String| format!("`{text}` is no limit: {why}");
        if text.len() > LONGEST {
            return Err(format!("a limit of {} bytes is none", text.len()));
        }
        let Some((at, sign)) = ["<=", ">=", "≤", "≥"].iter().find_map(|sign| Some((text.find(sign)?, *sign))) else {
            return Err(wrong("write `METRIC <= VALUE UNIT`, for accuracy `>=`".into()));
        };
        let metric: Metric = text[..at].trim().parse().map_err(&wrong)?;
        let upper = matches!(sign, "<=" | "≤");
        if upper != (metric.better() == Better::Lower) {
            let (least, right) = if upper { ("more", ">=") } else { ("less", "<=") };
            return Err(wrong(format!("{least} {metric} is better, so it is limited with `{right}`")));
        }
        let bound = quantity(metric, text[at + sign.len()..].trim()).map_err(wrong)?;
        Ok(Limit { metric, bound, text: text.trim().to_owned() })
    }
}

/// A number with a unit of the metric, in the metric's own unit.
fn quantity(metric: Metric, text: &str) -> std::result::Result<f64, String> {
    // The longest beginning that is a number: `1e3 J`, `2 mJ`, `312_030 B`.
    let ends = text.char_indices().map(|(i, _)| i).chain([text.len()]).rev();
    let number = |end: usize| Some((end, text[..end].trim_end().replace('_', "").parse::<f64>().ok()?));
    let (end, value) = ends.into_iter().find_map(number).ok_or_else(|| format!("`{text}` is no number with a unit"))?;
    let unit = text[end..].trim();
    let units: &[(&str, f64)] = match metric {
        Metric::Energy => &[("J", 1.0), ("kJ", 1e3), ("mJ", 1e-3), ("µJ", 1e-6), ("μJ", 1e-6), ("uJ", 1e-6), ("nJ", 1e-9)],
        Metric::Latency | Metric::P50 | Metric::P90 | Metric::P99 => {
            &[("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("μs", 1e-6), ("us", 1e-6), ("ns", 1e-9), ("min", 60.0)]
        }
        Metric::Memory | Metric::Size => &[
            ("B", 1.0),
            ("KB", 1e3),
            ("kB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("KiB", 1024.0),
            ("MiB", 1_048_576.0),
            ("GiB", 1_073_741_824.0),
        ],
        Metric::Accuracy => &[("", 1.0), ("%", 0.01)],
    };
    let Some((_, scale)) = units.iter().find(|(name, _)| *name == unit) else {
        let known: Vec<&str> = units.iter().map(|(name, _)| *name).filter(|n| !n.is_empty()).collect();
        let what = if unit.is_empty() { "a unit is missing".to_owned() } else { format!("`{unit}` is no unit of {metric}") };
        return Err(format!("{what}: use {}", known.join(", ")));
    };
    let bound = value * scale;
    let most = if metric == Metric::Accuracy { 1.0 } else { 1e18 };
    if !(bound > 0.0 && bound <= most) {
        return Err(format!("{value} {unit} is out of range"));
    }
    Ok(bound)
}

impl LimitFinding {
    /// `2.31 mJ (2.25…2.38), broken`.
    pub(super) fn words(&self) -> String {
        let word = match self.decision {
            Decision::Kept => "kept",
            Decision::Broken => "broken",
            Decision::Undecided => "not shown to be kept",
            Decision::NotMeasured => return "not measured".to_owned(),
        };
        let show = |v: f64| self.limit.metric.show(v);
        match self.figure {
            Some(f) if !(f.lo.is_finite() && f.hi.is_finite()) => format!("{} (no interval is known), {word}", show(f.value)),
            Some(f) if f.lo < f.hi => format!("{} ({} … {}), {word}", show(f.value), show(f.lo), show(f.hi)),
            Some(f) => format!("{}, {word}", show(f.value)),
            None => word.to_owned(),
        }
    }

    pub(super) fn to_json(&self, fails: bool) -> Value {
        let end = |v: f64| v.is_finite().then_some(v);
        let decision = match self.decision {
            Decision::Kept => "kept",
            Decision::Broken => "broken",
            Decision::Undecided => "undecided",
            Decision::NotMeasured => "not_measured",
        };
        json!({
            "model": self.key.model, "engine": self.key.engine, "threads": self.key.threads, "batch": self.key.batch,
            "limit": self.limit.text, "metric": self.limit.metric, "unit": self.limit.metric.unit(), "bound": self.limit.bound,
            "kind": self.kind.map(|k| k.name()),
            "now": self.figure.map(|f| f.value), "now_lo": self.figure.and_then(|f| end(f.lo)), "now_hi": self.figure.and_then(|f| end(f.hi)),
            "decision": decision, "fails": fails,
        })
    }
}

#[cfg(test)]
mod tests;
