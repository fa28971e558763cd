//! The trace event format (Google, *Trace Event Format*, 2016), which Perfetto and `chrome://tracing` read.

use crate::Result;
use crate::profile::Profile;
use serde_json::{Value, json};

/// One run of each profile as complete events (`ph` X, `ts` and `dur` in microseconds), a process of its own for each. The order is
/// that of the rows: engines with several threads do not run it.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn chrome_trace(profiles: &[Profile]) -> Result<String> {
    let mut events: Vec<Value> = Vec::new();
    for (number, profile) in profiles.iter().enumerate() {
        let pid = number + 1;
        let what = format!("{} ({}, batch {})", profile.model, profile.engine, profile.batch);
        events.push(json!({"name": "process_name", "ph": "M", "pid": pid, "tid": 1, "args": {"name": what}}));
        let mut at = 0.0;
        for row in &profile.rows {
            let Some(time) = row.time.map(|t| t.value * 1e6).filter(|&us| us > 0.0) else { continue };
            let args = json!({
                "operators": row.operators.join("+"),
                "share": row.share.map(|s| s.value),
                "macs": row.cost.macs,
                "bytes_moved": row.cost.moved(),
                "energy_j": row.energy.map(|e| e.value),
                "energy_kind": row.energy.map(|_| "apportioned"),
            });
            let category = if row.is_layer { "layer" } else { "other" };
            events.push(json!({"name": row.name, "cat": category, "ph": "X", "ts": at, "dur": time, "pid": pid, "tid": 1, "args": args}));
            at += time;
        }
    }
    let document = json!({"traceEvents": events, "displayTimeUnit": "ns"});
    Ok(format!("{document:#}\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::super::samples::{original, variant};
    use super::*;

    #[test]
    fn events_follow_each_other_without_overlap() {
        let trace: Value = serde_json::from_str(&chrome_trace(&[original(), variant()]).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let of = |pid: u64| events.iter().filter(move |e| e["pid"] == pid && e["ph"] == "X");
        for pid in [1, 2] {
            let mut end = 0.0;
            for e in of(pid) {
                let (ts, dur) = (e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap());
                assert!((ts - end).abs() < 1e-9 && dur > 0.0, "{e}");
                end = ts + dur;
            }
        }
        assert_eq!(of(1).next().unwrap()["dur"], 600.0);
        assert_eq!(events.iter().filter(|e| e["ph"] == "M").count(), 2);
    }

    #[test]
    fn looks_like_this() {
        insta::assert_snapshot!(chrome_trace(&[original()]).unwrap());
    }
}
