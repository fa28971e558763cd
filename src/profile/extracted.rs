//! Layers as models of their own, with the inputs that they get within the whole.

use super::account::{CHECKED_FROM, Row};
use super::run::Target;
use crate::engine::LoadOptions;
use crate::exec::Executor;
use crate::measure::Subject;
use crate::model::eval::join;
use crate::model::{Facts, extract};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// A layer to be measured alone.
pub(super) struct Extracted {
    /// Index of its row.
    pub(super) row: usize,
    pub(super) subject: Subject,
}

/// The rows that take enough of the whole to be checked, as subjects whose files lie in `folder`; and why others are not checked.
/// `runs` are sets of inputs of the whole.
pub(super) fn extracted(
    target: &Target<'_>,
    facts: &Facts,
    rows: &[Row],
    runs: &[Vec<Tensor>],
    folder: &Path,
) -> Result<(Vec<Extracted>, Vec<String>)> {
    let executor = Executor::new(target.model)?;
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let large = |row: &&(usize, &Row)| row.1.share.is_some_and(|s| s.value > CHECKED_FROM) && !row.1.nodes.is_empty();
    for (index, row) in rows.iter().enumerate().collect::<Vec<_>>().iter().filter(large) {
        let path = folder.join(format!("{index}.onnx"));
        match one(target, facts, row, runs, &executor, &path) {
            Ok(subject) => found.push(Extracted { row: *index, subject }),
            Err(e) => refused.push(format!("`{}` is not checked: {e}", row.name)),
        }
    }
    Ok((found, refused))
}

fn one(target: &Target<'_>, facts: &Facts, row: &Row, runs: &[Vec<Tensor>], executor: &Executor, path: &Path) -> Result<Subject> {
    let whole = target.subject;
    let part = extract(target.model, facts, row.nodes.iter().copied())?;
    part.save(path)?;
    let fed: Vec<&str> = target.inputs();
    let names: Vec<&str> = part.graph().input.iter().map(|i| i.name()).collect();
    let inner: Vec<&str> = names.iter().copied().filter(|n| !fed.contains(n)).collect();
    let mut columns: Vec<Vec<Tensor>> = vec![Vec::new(); names.len()];
    for run in runs {
        let given: Vec<(&str, &Tensor)> = fed.iter().copied().zip(run).collect();
        let mut made = executor.run(&given, &inner)?;
        for (column, name) in columns.iter_mut().zip(&names) {
            let tensor = made.remove(*name).or_else(|| given.iter().find(|(n, _)| n == name).map(|(_, t)| (*t).clone()));
            column.push(tensor.ok_or_else(|| Error::bad_input(format!("`{name}` was not worked out")))?);
        }
    }
    let samples = columns.iter().map(|column| join(&column.iter().collect::<Vec<_>>(), 0)).collect::<Result<Vec<_>>>()?;
    let options = LoadOptions { batch: whole.options.batch, threads: whole.options.threads, ..LoadOptions::default() };
    Ok(Subject {
        label: format!("{}: {}", whole.label, row.name),
        model: path.to_owned(),
        engine: whole.engine.clone(),
        options,
        samples: Arc::new(samples),
    })
}
