//! One row of a profile with every figure under its own name: CSV and JSON.

use super::super::JSON_SCHEMA_VERSION;
use crate::profile::{Profile, Row};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};

/// A row as data. Units are in the names; times and energies are of one run of a batch; what is not known is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[allow(missing_docs, reason = "the names say it, and the profile's own types")]
pub struct LayerRow {
    pub model: String,
    pub engine: String,
    pub threads: usize,
    pub batch: usize,
    pub layer: String,
    pub operators: String,
    /// `layer`, `node`, `engine` (only the engine knows it) or `between`.
    pub sort: &'static str,
    pub time_s: Option<f64>,
    pub time_lo_s: Option<f64>,
    pub time_hi_s: Option<f64>,
    pub share: Option<f64>,
    pub share_lo: Option<f64>,
    pub share_hi: Option<f64>,
    pub macs: Option<u64>,
    pub weight_bytes: Option<u64>,
    pub activation_bytes: Option<u64>,
    pub alive_bytes: Option<u64>,
    pub flops_per_s: Option<f64>,
    pub flops_per_byte: Option<f64>,
    pub bound: Option<&'static str>,
    pub roof_share: Option<f64>,
    pub energy_j: Option<f64>,
    pub energy_lo_j: Option<f64>,
    pub energy_hi_j: Option<f64>,
    pub energy_kind: &'static str,
    /// How the whole's energy, which was divided, came about.
    pub energy_from: &'static str,
    pub energy_meter: String,
    pub alone_j: Option<f64>,
    pub alone_lo_j: Option<f64>,
    pub alone_hi_j: Option<f64>,
    pub apportioned_over_alone: Option<f64>,
    pub engine_nodes: String,
}

impl LayerRow {
    fn new(profile: &Profile, row: &Row) -> Self {
        let last = std::ptr::eq(row, profile.rows.last().unwrap_or(row));
        let from = profile.energy.as_ref().filter(|_| row.energy.is_some());
        LayerRow {
            model: profile.model.clone(),
            engine: profile.engine.clone(),
            threads: profile.threads,
            batch: profile.batch,
            layer: row.name.clone(),
            operators: row.operators.join("+"),
            sort: match (row.is_layer, row.nodes.is_empty()) {
                (true, _) => "layer",
                (false, false) => "node",
                (false, true) if last => "between",
                (false, true) => "engine",
            },
            time_s: row.time.map(|t| t.value),
            time_lo_s: row.time.map(|t| t.lo),
            time_hi_s: row.time.map(|t| t.hi),
            share: row.share.map(|s| s.value),
            share_lo: row.share.map(|s| s.lo),
            share_hi: row.share.map(|s| s.hi),
            macs: row.cost.macs,
            weight_bytes: row.cost.weights.map(|b| b.0),
            activation_bytes: row.cost.activations.map(|b| b.0),
            alive_bytes: row.cost.alive.map(|b| b.0),
            flops_per_s: row.place.map(|p| p.flops),
            flops_per_byte: row.place.map(|p| p.intensity),
            bound: row.place.map(|p| p.bound.name()),
            roof_share: row.place.map(|p| p.share),
            energy_j: row.energy.map(|e| e.value),
            energy_lo_j: row.energy.map(|e| e.lo),
            energy_hi_j: row.energy.map(|e| e.hi),
            energy_kind: if row.energy.is_some() { crate::energy::Kind::Apportioned.name() } else { "" },
            energy_from: from.map_or("", |e| e.kind.name()),
            energy_meter: from.map_or_else(String::new, |e| e.meter.clone()),
            alone_j: row.check.map(|c| c.alone.value),
            alone_lo_j: row.check.map(|c| c.alone.lo),
            alone_hi_j: row.check.map(|c| c.alone.hi),
            apportioned_over_alone: row.check.map(|c| c.ratio),
            engine_nodes: row.engine_nodes.join(" "),
        }
    }
}

/// All rows of all profiles.
pub fn layer_rows(profiles: &[Profile]) -> Vec<LayerRow> {
    profiles.iter().flat_map(|p| p.rows.iter().map(|row| LayerRow::new(p, row))).collect()
}

/// The rows as CSV (RFC 4180) with a header line.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn profile_csv(profiles: &[Profile]) -> Result<String> {
    let failed = |e: String| Error::environment(format!("cannot write CSV: {e}"));
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    layer_rows(profiles).iter().try_for_each(|row| writer.serialize(row)).map_err(|e| failed(e.to_string()))?;
    let bytes = writer.into_inner().map_err(|e| failed(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| failed(e.to_string()))
}

/// One object: `profiles` with the wholes and the roof, `results` with the rows under the CSV's names.
pub fn profile_json(profiles: &[Profile]) -> Value {
    let whole = |p: &Profile| {
        json!({
            "model": p.model,
            "engine": p.engine,
            "engine_version": p.engine_version,
            "threads": p.threads,
            "batch": p.batch,
            "whole": p.whole,
            "accounted_share": p.accounted(),
            "energy": p.energy,
            "peak": p.peak,
            "warnings": p.warnings,
        })
    };
    json!({
        "schema_version": JSON_SCHEMA_VERSION,
        "profiles": profiles.iter().map(whole).collect::<Vec<_>>(),
        "results": layer_rows(profiles),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::super::samples::{original, variant};
    use super::*;

    #[test]
    fn looks_like_this() {
        insta::assert_snapshot!("csv", profile_csv(&[original(), variant()]).unwrap());
        insta::assert_snapshot!("json", format!("{:#}", profile_json(&[original()])));
    }

    #[test]
    fn shares_of_all_rows_make_the_whole() {
        for profile in [original(), variant()] {
            let sum: f64 = layer_rows(std::slice::from_ref(&profile)).iter().filter_map(|r| r.share).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        }
    }
}
