//! Figures for programs that keep their own history: github-action-benchmark and Bencher.

use super::super::budget::figure_at_95;
use super::super::metric::Metric;
use super::super::run::Run;
use serde_json::{Map, Value, json};

/// `customSmallerIsBetter` of [github-action-benchmark](https://github.com/benchmark-action/github-action-benchmark): a list of
/// objects with `name`, `unit`, `value`, and `range` and `extra` where there is something to say. Accuracy stands as the share of wrong
/// answers, for which smaller is better.
pub fn benchmark_action(run: &Run) -> Value {
    let mut list = Vec::new();
    for case in &run.cases {
        for metric in Metric::ALL {
            let Some(figure) = figure_at_95(case, metric) else { continue };
            let (name, unit, scale) = match metric {
                Metric::Energy => ("energy", "J", 1.0),
                Metric::Latency => ("latency (mean)", "s", 1.0),
                Metric::P50 => ("latency p50", "s", 1.0),
                Metric::P90 => ("latency p90", "s", 1.0),
                Metric::P99 => ("latency p99", "s", 1.0),
                Metric::Memory => ("peak memory", "bytes", 1.0),
                Metric::Size => ("model size", "bytes", 1.0),
                Metric::Accuracy => ("wrong answers", "percent", 100.0),
            };
            let value = if metric == Metric::Accuracy { 1.0 - figure.value } else { figure.value } * scale;
            let mut entry = json!({ "name": format!("{}: {name}", case.key.short()), "unit": unit, "value": value });
            let half = scale * (figure.hi - figure.lo) / 2.0;
            if half.is_finite() && half > 0.0 {
                entry["range"] = format!("± {half:.3e}").into();
            }
            if let (Metric::Energy, Some(e)) = (metric, &case.measurement.energy) {
                entry["extra"] = format!("{}, meter {}, scope {}", e.kind.sentence(), e.meter, e.scope).into();
            }
            list.push(entry);
        }
    }
    Value::Array(list)
}

/// [Bencher Metric Format](https://bencher.dev/docs/reference/bencher-metric-format/): benchmark → measure → `value` with `lower_value`
/// and `upper_value` (95 %). Measures are slugs with their unit; latency is Bencher's own `latency`, in nanoseconds.
pub fn bencher(run: &Run) -> Value {
    let mut benchmarks = Map::new();
    for case in &run.cases {
        let mut measures = Map::new();
        for metric in Metric::ALL {
            let Some(figure) = figure_at_95(case, metric) else { continue };
            let (slug, scale) = match metric {
                Metric::Energy => ("energy-joules", 1.0),
                Metric::Latency => ("latency", 1e9),
                Metric::P50 => ("latency-p50-ns", 1e9),
                Metric::P90 => ("latency-p90-ns", 1e9),
                Metric::P99 => ("latency-p99-ns", 1e9),
                Metric::Memory => ("peak-memory-bytes", 1.0),
                Metric::Size => ("file-size", 1.0),
                Metric::Accuracy => ("accuracy-percent", 100.0),
            };
            let mut entry = json!({ "value": figure.value * scale });
            if figure.lo.is_finite() && figure.hi.is_finite() && figure.lo < figure.hi {
                entry["lower_value"] = (figure.lo * scale).into();
                entry["upper_value"] = (figure.hi * scale).into();
            }
            measures.insert(slug.to_owned(), entry);
        }
        // How energy came about belongs to the name: estimates and measurements must not share a threshold.
        let kind = case.measurement.energy.as_ref().map_or_else(String::new, |e| format!(" [{} energy]", e.kind));
        benchmarks.insert(format!("{}{kind}", case.key.short()), measures.into());
    }
    benchmarks.into()
}
