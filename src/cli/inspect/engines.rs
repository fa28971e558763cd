//! Which engines load a model, and which operators they refuse.

use super::one_line;
use crate::Result;
use crate::cli::inputs::ModelFile;
use crate::engine::{self, Engine, LoadOptions};
use crate::model::{Dims, Graph};
use crate::runner::{Job, MemoryLimit, Program, Runner, find};
use serde_json::{Value, json};
use std::time::Duration;

/// How long an engine may take to load a model.
const LOADING: Duration = Duration::from_secs(120);

/// An engine's answer.
pub(super) struct Answer {
    engine: String,
    /// Why it refuses the model.
    why: Option<String>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        json!({"engine": self.engine, "loads": self.why.is_none(), "why": self.why})
    }

    pub(super) fn text(&self) -> String {
        match &self.why {
            None => format!("  {}: loads\n", self.engine),
            Some(why) => format!("  {}: {why}\n", self.engine),
        }
    }
}

/// Every engine's answer. Each loads the model in a process of its own: a damaged model may crash an engine, and that is an
/// answer too.
pub(super) fn ask(file: &ModelFile, dims: &Dims) -> Result<Vec<Answer>> {
    let program = Program::find()?;
    let inputs: Vec<_> = Graph::new(&file.model).inputs().collect();
    let options = LoadOptions { dims: dims.resolve(&inputs)?, shapes: dims.shapes(&inputs)?, ..LoadOptions::default() };
    let ask = |e: &&'static dyn Engine| {
        let job = Job {
            model: file.path.clone(),
            engine: e.name().to_owned(),
            options: options.clone(),
            cpus: Vec::new(),
            timeout: LOADING,
            memory: MemoryLimit::default(),
        };
        match find(&program, *e) {
            Ok(found) => {
                let why = Runner::spawn(&program, &job).err().map(|e| one_line(&e));
                Answer { engine: format!("{} {}", e.name(), found.version), why }
            }
            Err(why) => Answer { engine: e.name().to_owned(), why: Some(one_line(&why)) },
        }
    };
    Ok(engine::all().iter().map(ask).collect())
}
