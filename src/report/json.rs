//! `study.json`: the whole study for programs.

use super::{ModelRow, Report, rows};
use crate::study::{Outcome, StudyHeader};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Version of the JSON that commands and reports write.
pub const JSON_SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    verdict: &'a str,
    study: &'a StudyHeader,
    environments: &'a BTreeMap<String, Value>,
    results: Vec<ModelRow>,
    failures: Vec<Failure<'a>>,
    commands: Vec<Command>,
}

#[derive(Serialize)]
struct Failure<'a> {
    trial: u64,
    reason: &'a str,
}

#[derive(Serialize)]
struct Command {
    trial: u64,
    command: String,
}

/// The rows under the CSV's names plus `model`: what stands under `results`.
pub fn results(report: &Report) -> Vec<ModelRow> {
    let model = &report.header.model;
    rows(&report.trials, &report.fronts).into_iter().map(|row| ModelRow { model: model.clone(), row }).collect()
}

/// The header, the environments, all rows, why trials failed, and the commands that reproduce the front.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn json(report: &Report) -> Result<Vec<u8>> {
    let failures = report.trials.iter().filter_map(|t| match &t.outcome {
        Outcome::Failed { reason } => Some(Failure { trial: t.id, reason }),
        Outcome::Done(_) => None,
    });
    let commands = report.front().map(|f| f.members().map(|p| Command { trial: p.id, command: report.command(p) }).collect());
    let document = Document {
        schema_version: JSON_SCHEMA_VERSION,
        verdict: &report.verdict(),
        study: &report.header,
        environments: &report.environments,
        results: results(report),
        failures: failures.collect(),
        commands: commands.unwrap_or_default(),
    };
    let mut bytes = serde_json::to_vec_pretty(&document).map_err(|e| Error::environment("cannot write JSON").with_source(e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use crate::report::samples::report;
    use serde_json::Value;

    #[test]
    fn has_the_contract_names_and_null_for_not_measured() {
        let v: Value = serde_json::from_slice(&super::json(&report()).unwrap()).unwrap();
        assert_eq!(v["schema_version"], 1);
        assert_eq!(v["results"].as_array().unwrap().len(), 26);
        assert_eq!(v["results"][0]["model"], "fashion-resnet8.onnx");
        assert_eq!(v["results"][5]["on_front"], true);
        assert_eq!(v["results"][5]["energy_kind"], "estimated");
        assert_eq!(v["results"][24]["energy_j"], Value::Null);
        assert_eq!(v["failures"][0]["trial"], 24);
        assert_eq!(v["study"]["reference"]["engine"], "tract");
        assert_eq!(v["environments"]["host"]["cpu"]["model"], "AMD EPYC 9R14");
    }
}
