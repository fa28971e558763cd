//! A run: what `bench` measured in one session, with all that decides what it may be compared with.

use crate::measure::{Environment, Measurement};
use crate::units::{Bytes, Seconds};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// Version of the run's JSON that this program writes, and the highest it reads.
pub const RUN_SCHEMA_VERSION: u32 = 1;

/// Files larger than this are no runs.
const MOST_BYTES: u64 = 256 << 20;

/// One session of `bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`RUN_SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// When it began, seconds since 1970. For people only: the order of runs is the order in which they were saved.
    pub taken_unix_s: u64,
    /// Machine, system, build.
    pub environment: Environment,
    /// Length of a window that was asked for.
    pub window: Seconds,
    /// What the models were run on.
    pub inputs: String,
    /// What was measured.
    pub cases: Vec<Case>,
}

/// One model in one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What it is, from run to run.
    #[serde(flatten)]
    pub key: CaseKey,
    /// Version of the engine.
    pub engine_version: String,
    /// Of the model's bytes.
    pub model_sha256: String,
    /// Size of the model.
    pub model_bytes: Bytes,
    /// Share of right answers, where it was counted.
    #[serde(default)]
    pub accuracy: Option<Accuracy>,
    /// Latency, memory, energy.
    pub measurement: Measurement,
}

/// By what a case is found again in another run. The bytes of the model may differ: whether that made it worse is the question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CaseKey {
    /// The model's file as it was named.
    pub model: String,
    /// Engine.
    pub engine: String,
    /// Threads of the engine.
    pub threads: usize,
    /// Samples per run.
    pub batch: usize,
}

/// Right answers on a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Samples answered rightly.
    pub right: u64,
    /// All samples.
    pub samples: u64,
    /// SHA-256 of the split.
    pub split: String,
}

impl CaseKey {
    /// The file's name, and the configuration where it is not one thread of tract with single samples.
    pub fn short(&self) -> String {
        let name = Path::new(&self.model).file_name().map_or_else(|| self.model.clone(), |n| n.to_string_lossy().into_owned());
        let mut how = Vec::new();
        if self.engine != "tract" {
            how.push(self.engine.clone());
        }
        if self.threads != 1 {
            how.push(format!("{} threads", self.threads));
        }
        if self.batch != 1 {
            how.push(format!("batch {}", self.batch));
        }
        if how.is_empty() { name } else { format!("{name} ({})", how.join(", ")) }
    }
}

impl fmt::Display for CaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {} threads, batch {})", self.model, self.engine, self.threads, self.batch)
    }
}

impl Run {
    /// Reads a run from `results.json`, from the folder that holds one (`bench --out DIR`), or from a file of a store.
    ///
    /// # Errors
    /// Bad input: the file is absent, no run, damaged, or of a newer schema.
    pub fn read(path: &Path) -> Result<Run> {
        let path = if path.is_dir() { path.join("results.json") } else { path.to_owned() };
        Run::read_file(&path).map_err(|e| e.hint("give what `joulefront bench MODEL --out DIR` wrote"))
    }

    /// The same without a hint of what else to give.
    pub(super) fn read_file(path: &Path) -> Result<Run> {
        let named = |e: Error| e.context(format!("`{}`", path.display()));
        let size = std::fs::metadata(path).map_err(|e| Error::read(path, e))?.len();
        if size > MOST_BYTES {
            return Err(Error::bad_input(format!("`{}` has {size} bytes and is no run", path.display())));
        }
        let text = std::fs::read(path).map_err(|e| Error::read(path, e))?;
        Run::parse(&text).map_err(named)
    }

    /// Reads a run, or the one in the `run` of what `bench` wrote.
    ///
    /// # Errors
    /// Bad input: not JSON, no run, damaged, or of a newer schema.
    pub fn parse(text: &[u8]) -> Result<Run> {
        let mut value: Value = serde_json::from_slice(text).map_err(|e| Error::bad_input(format!("it is not JSON: {e}")))?;
        if let Some(run) = value.get_mut("run") {
            value = run.take();
        }
        let version = value.get("schema_version").and_then(Value::as_u64);
        if value.get("cases").is_none() || version.is_none() {
            return Err(Error::bad_input("it holds no run"));
        }
        if let Some(newer) = version.filter(|v| *v > u64::from(RUN_SCHEMA_VERSION)) {
            return Err(Error::bad_input(format!(
                "it was written by a newer joulefront (schema {newer}; this program knows up to {RUN_SCHEMA_VERSION})"
            ))
            .hint("install that version; nothing was changed"));
        }
        let run: Run = serde_json::from_value(value).map_err(|e| Error::bad_input(format!("its run is damaged: {e}")))?;
        run.check()?;
        Ok(run)
    }

    /// What parsing cannot see.
    fn check(&self) -> Result<()> {
        if self.cases.is_empty() {
            return Err(Error::bad_input("nothing was measured in this run"));
        }
        let mut keys: Vec<&CaseKey> = self.cases.iter().map(|c| &c.key).collect();
        keys.sort();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::bad_input(format!("{} is in the run twice, so it is not known which is meant", pair[0]))
                .hint("name each model once in `bench`")),
            None => Ok(()),
        }
    }

    /// The case of that key.
    pub fn case(&self, key: &CaseKey) -> Option<&Case> {
        self.cases.iter().find(|c| c.key == *key)
    }

    /// As JSON.
    ///
    /// # Errors
    /// Never in practice: it is written to memory.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| Error::environment("cannot write JSON").with_source(e))?;
        text.push(b'\n');
        Ok(text)
    }
}

/// Seconds since 1970 by the machine's clock; 0 before.
pub(crate) fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::samples::run;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_is_read_back_alone_and_inside_results() {
        let run = run(0, 1.0);
        assert_eq!(Run::parse(&run.to_json().unwrap()).unwrap(), run);
        let results = json!({ "schema_version": 1, "results": [], "run": run });
        assert_eq!(Run::parse(results.to_string().as_bytes()).unwrap(), run);
    }

    #[test]
    fn what_is_no_run_is_refused_with_the_reason() {
        let good = serde_json::to_value(run(0, 1.0)).unwrap();
        let with = |change: &dyn Fn(&mut Value)| {
            let mut value = good.clone();
            change(&mut value);
            Run::parse(value.to_string().as_bytes()).unwrap_err().to_string()
        };
        assert!(with(&|v| v["schema_version"] = json!(2)).contains("newer joulefront (schema 2"));
        assert!(with(&|v| drop(v.as_object_mut().unwrap().remove("schema_version"))).contains("no run"));
        assert!(with(&|v| v["cases"] = json!([])).contains("nothing was measured"));
        assert!(with(&|v| v["cases"][0]["measurement"] = json!(7)).contains("damaged"));
        assert!(with(&|v| v["cases"][1] = v["cases"][0].clone()).contains("twice"));
        assert!(Run::parse(b"{\"run\": 3}").unwrap_err().to_string().contains("no run"));
        assert!(Run::parse(b"").unwrap_err().to_string().contains("not JSON"));
        assert!(Run::parse(b"[1]").unwrap_err().to_string().contains("no run"));
    }

    #[test]
    fn names_for_tables() {
        let key = CaseKey { model: "a/b/m.onnx".into(), engine: "tract".into(), threads: 1, batch: 1 };
        assert_eq!(key.short(), "m.onnx");
        assert_eq!(CaseKey { threads: 2, batch: 8, engine: "rten".into(), ..key }.short(), "m.onnx (rten, 2 threads, batch 8)");
    }
}
