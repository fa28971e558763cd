//! One trial as one row: the columns of `trials.csv`, which are also the names in JSON.

use super::Front;
use crate::stats::Interval;
use crate::study::{Outcome, Results, Trial};
use serde::Serialize;

/// The columns in their order, which is a contract. `None` means not measured. Units are in the names; energy and latency
/// are per sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[allow(missing_docs, reason = "each name says what the column is and in which unit")]
pub struct Row {
    pub trial: u64,
    pub status: &'static str,
    pub engine: String,
    pub lowering: String,
    pub threads: usize,
    pub batch: usize,
    pub recipe: String,
    pub pruning_ratio: Option<f64>,
    pub weight_bits: Option<f64>,
    pub params: Option<u64>,
    pub macs: Option<u64>,
    pub model_bytes: Option<u64>,
    pub accuracy: Option<f64>,
    pub accuracy_lo: Option<f64>,
    pub accuracy_hi: Option<f64>,
    pub accuracy_drop_points: Option<f64>,
    pub accuracy_drop_lo: Option<f64>,
    pub accuracy_drop_hi: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub test_accuracy_lo: Option<f64>,
    pub test_accuracy_hi: Option<f64>,
    pub energy_j: Option<f64>,
    pub energy_lo_j: Option<f64>,
    pub energy_hi_j: Option<f64>,
    pub energy_net_j: Option<f64>,
    pub energy_net_lo_j: Option<f64>,
    pub energy_net_hi_j: Option<f64>,
    pub energy_kind: Option<&'static str>,
    pub energy_meter: Option<String>,
    pub energy_scope: Option<&'static str>,
    pub energy_ratio: Option<f64>,
    pub energy_ratio_lo: Option<f64>,
    pub energy_ratio_hi: Option<f64>,
    pub energy_ratio_engine: Option<f64>,
    pub latency_p50_s: Option<f64>,
    pub latency_p90_s: Option<f64>,
    pub latency_p99_s: Option<f64>,
    pub throughput_per_s: Option<f64>,
    pub peak_rss_bytes: Option<u64>,
    pub rss_before_load_bytes: Option<u64>,
    pub make_energy_j: Option<f64>,
    pub windows: Option<u64>,
    pub inferences: Option<u64>,
    pub on_front: Option<bool>,
    pub front_probability: Option<f64>,
    pub model_sha256: Option<String>,
    pub seed: u64,
    pub environment: String,
}

/// A row with the model's name: what stands under `results` in JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelRow {
    /// The model's file as the user named it.
    pub model: String,
    /// The CSV's columns.
    #[serde(flatten)]
    pub row: Row,
}

/// The rows of all trials, in their order. `on_front` is filled for the trials that are on one of the `fronts` or
/// dominated there.
pub fn rows(trials: &[Trial], fronts: &[Front]) -> Vec<Row> {
    let on_front = |t: &Trial| fronts.iter().find_map(|f| f.point(t.id)).map(|p| p.on_front);
    trials.iter().map(|t| Row { on_front: on_front(t), ..row(t) }).collect()
}

fn row(trial: &Trial) -> Row {
    let c = &trial.configuration;
    let mut row = Row {
        trial: trial.id,
        engine: c.engine.clone(),
        lowering: c.lowering.clone(),
        threads: c.threads,
        batch: c.batch,
        recipe: c.recipe.clone(),
        seed: c.seed,
        environment: trial.environment.clone(),
        ..Row::default()
    };
    match &trial.outcome {
        Outcome::Failed { .. } => row.status = "failed",
        Outcome::Done(results) => {
            row.status = "done";
            fill(&mut row, results);
        }
    }
    row
}

fn fill(row: &mut Row, r: &Results) {
    let (v, m) = (&r.variant, &r.measurement);
    row.pruning_ratio = v.pruning_ratio.and_then(finite);
    row.weight_bits = finite(v.weight_bits);
    row.params = Some(v.params);
    row.macs = v.macs;
    row.model_bytes = Some(v.model_bytes.0);
    row.model_sha256 = Some(v.model_sha256.clone());
    [row.accuracy, row.accuracy_lo, row.accuracy_hi] = cells(r.accuracy);
    [row.accuracy_drop_points, row.accuracy_drop_lo, row.accuracy_drop_hi] = cells(r.accuracy_drop_points);
    [row.test_accuracy, row.test_accuracy_lo, row.test_accuracy_hi] = cells(r.test_accuracy);
    if let Some(e) = &m.energy {
        [row.energy_j, row.energy_lo_j, row.energy_hi_j] = cells(Some(e.gross));
        [row.energy_net_j, row.energy_net_lo_j, row.energy_net_hi_j] = cells(e.net);
        [row.energy_ratio, row.energy_ratio_lo, row.energy_ratio_hi] = cells(e.ratio);
        row.energy_kind = Some(e.kind.name());
        row.energy_meter = Some(e.meter.clone());
        row.energy_scope = Some(e.scope.name());
    }
    row.energy_ratio_engine = r.energy_ratio_engine.and_then(|i| finite(i.value));
    row.latency_p50_s = finite(m.latency.p50.0);
    row.latency_p90_s = finite(m.latency.p90.0);
    row.latency_p99_s = finite(m.latency.p99.0);
    row.throughput_per_s = finite(m.throughput_per_s);
    row.peak_rss_bytes = Some(m.peak_rss.0);
    row.rss_before_load_bytes = Some(m.rss_before_load.0);
    row.make_energy_j = r.make_energy.and_then(|j| finite(j.0));
    row.windows = Some(m.windows);
    row.inferences = Some(m.inferences);
}

fn cells(i: Option<Interval>) -> [Option<f64>; 3] {
    i.map_or([None; 3], |i| [finite(i.value), finite(i.lo), finite(i.hi)])
}

/// A number that is not finite was not measured.
fn finite(v: f64) -> Option<f64> {
    v.is_finite().then_some(v)
}
