//! The identity of a trial: everything that changes its result, hashed.

use super::config::{Measuring, SweepConfig};
use super::task::Task;
use crate::energy::{Kind, Scope};
use crate::onnx::sha256_hex;
use serde::Serialize;

/// What all trials of a sweep share.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Context {
    /// Version of this program: the evaluator and the compression code are part of it.
    pub(super) joulefront: &'static str,
    pub(super) model_sha256: String,
    pub(super) calibration: String,
    pub(super) validation: String,
    /// The first engine with its version, and what it runs the reference in.
    pub(super) reference_engine: (String, String),
    /// Machine class: CPU, its features, build flags, kernel.
    pub(super) environment: String,
    pub(super) meter: String,
    pub(super) kind: Kind,
    pub(super) scope: Scope,
    pub(super) measure: Measuring,
    pub(super) calibration_samples: usize,
    pub(super) seed: u64,
}

impl Context {
    /// The key of one task, run by an engine of that version: 64 hexadecimal digits.
    pub(super) fn key(&self, task: &Task, engine_version: &str) -> String {
        // Plain structs of numbers, strings and lists: they always serialise, and always in the same order.
        let json = serde_json::json!({ "context": self, "task": task, "engine_version": engine_version });
        sha256_hex(json.to_string().as_bytes())
    }
}

/// Settings as the study's header keeps them, to resume with.
pub(super) fn settings(config: &SweepConfig) -> serde_json::Value {
    serde_json::to_value(config).unwrap_or(serde_json::Value::Null)
}
