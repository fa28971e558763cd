//! The identity of a trial: everything that changes its result, hashed.

use super::config::{Measuring, SweepConfig};
use crate::energy::{Kind, Scope};
use crate::onnx::sha256_hex;
use crate::recipe::Recipe;
use serde::Serialize;

/// What all trials of a sweep share.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Context {
    /// Version of this program: the evaluator and the compression code are part of it.
    pub(super) joulefront: &'static str,
    pub(super) model_sha256: String,
    pub(super) calibration: String,
    pub(super) validation: String,
    pub(super) engine: String,
    pub(super) engine_version: String,
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
    /// The key of one recipe under these conditions: 64 hexadecimal digits.
    pub(super) fn key(&self, recipe: &Recipe) -> String {
        // Plain structs of numbers, strings and lists: they always serialise, and always in the same order.
        let json = serde_json::json!({ "context": self, "recipe": recipe });
        sha256_hex(json.to_string().as_bytes())
    }
}

/// Settings as the study's header keeps them, to resume with.
pub(super) fn settings(config: &SweepConfig) -> serde_json::Value {
    serde_json::to_value(config).unwrap_or(serde_json::Value::Null)
}
