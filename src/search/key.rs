//! The identity of a trial: everything that changes its result, hashed.

use super::config::SweepConfig;
use crate::energy::MeterInfo;
use crate::onnx::sha256_hex;
use crate::recipe::Recipe;
use serde::Serialize;

/// What all trials of a sweep share.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Context<'a> {
    /// Version of this program: the evaluator and the compression code are part of it.
    pub(super) joulefront: &'static str,
    pub(super) model_sha256: &'a str,
    pub(super) calibration: &'a str,
    pub(super) validation: &'a str,
    pub(super) engine: &'a str,
    pub(super) engine_version: &'a str,
    /// Machine class: CPU, its features, build flags, kernel.
    pub(super) environment: &'a str,
    pub(super) meter: &'a str,
    pub(super) kind: &'a str,
    pub(super) scope: &'a str,
    pub(super) measure: &'a super::config::Measuring,
    pub(super) calibration_samples: usize,
    pub(super) seed: u64,
}

impl<'a> Context<'a> {
    pub(super) fn meter(info: &'a MeterInfo) -> (&'a str, &'a str, &'a str) {
        (&info.name, info.kind.name(), info.scope.name())
    }

    /// The key of one recipe under these conditions: 64 hexadecimal digits.
    pub(super) fn key(&self, recipe: &Recipe) -> String {
        // Both serialise without fail: plain structs of numbers, strings and lists.
        let json = serde_json::json!({ "context": self, "recipe": recipe });
        sha256_hex(json.to_string().as_bytes())
    }
}

/// Settings as the study's header keeps them, to resume with.
pub(super) fn settings(config: &SweepConfig) -> serde_json::Value {
    serde_json::to_value(config).unwrap_or(serde_json::Value::Null)
}
