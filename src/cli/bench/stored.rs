//! What `bench --out` writes for `gate`: the run with all that decides what it may be compared with.

use super::super::inputs::ModelFile;
use super::super::progress::{Bar, on_ctrl_c};
use super::cases::{Case, split_name};
use super::{Args, Global};
use crate::data::Dataset;
use crate::engine::{self, Predict, predict};
use crate::gate::{self, Accuracy, CaseKey, RUN_SCHEMA_VERSION, Run};
use crate::measure::Environment;
use crate::runner::Program;
use crate::study::Trial;
use crate::{Error, Result};

/// The run of all trials that were measured.
pub(super) fn run(
    args: &Args,
    files: &[ModelFile],
    cases: &[Case],
    trials: &[Trial],
    environment: &Environment,
    began: u64,
    accuracy: &[Option<Accuracy>],
) -> Result<Run> {
    let measured = cases.iter().zip(trials).zip(accuracy).filter_map(|((case, trial), accuracy)| {
        let (file, results) = (&files[case.file], trial.results()?);
        let options = &case.subject.options;
        Some(engine::by_name(&case.subject.engine).map(|engine| gate::Case {
            key: CaseKey {
                model: file.path.display().to_string(),
                engine: case.subject.engine.clone(),
                threads: options.threads,
                batch: options.batch,
            },
            engine_version: environment.engine_version(engine.name()).unwrap_or_default().to_owned(),
            model_sha256: file.sha256.clone(),
            model_bytes: file.size,
            accuracy: accuracy.clone(),
            measurement: results.measurement.clone(),
        }))
    });
    Ok(Run {
        schema_version: RUN_SCHEMA_VERSION,
        taken_unix_s: began,
        environment: environment.clone(),
        window: args.window,
        inputs: inputs(args)?,
        cases: measured.collect::<Result<_>>()?,
    })
}

/// What the models ran on: the time and the energy of many depend on it.
fn inputs(args: &Args) -> Result<String> {
    let shapes: Vec<String> = args.shape.iter().map(|s| format!("{s:?}")).collect();
    let shapes = if shapes.is_empty() { String::new() } else { format!(", {}", shapes.join(", ")) };
    Ok(match &args.data {
        Some(folder) => {
            let data = Dataset::open(folder)?;
            let split = split_name(&data);
            format!("{} `{split}`, sha256 {}{shapes}", data.name(), data.split_digest(split)?)
        }
        None => format!("made up, seed {}{shapes}", args.seed),
    })
}

/// Right answers of each case over the whole split, when they were asked for.
pub(super) fn accuracies(args: &Args, global: &Global, files: &[ModelFile], cases: &[Case]) -> Result<Vec<Option<Accuracy>>> {
    let (true, Some(folder)) = (args.accuracy, &args.data) else { return Ok(vec![None; cases.len()]) };
    let data = Dataset::open(folder)?;
    let name = split_name(&data);
    let split = data.split(name)?;
    let labels = split.labels().ok_or_else(|| {
        Error::bad_input(format!("the split `{name}` has no labels, so there is no accuracy"))
            .hint("add `y` to the split in dataset.toml, or leave `--accuracy` away")
    })?;
    let digest = data.split_digest(name)?;
    let count = |case: &Case| {
        let fit = files[case.file].check_fits(&data)?;
        let what = Predict {
            model: case.subject.model.clone(),
            engine: case.subject.engine.clone(),
            options: case.subject.options.clone(),
            count: split.len(),
            workers: 0,
            timeout: args.timeout.into(),
            cancel: on_ctrl_c()?,
        };
        let bar = Bar::new(global, split.len() as u64, "samples");
        let predicted = predict(&Program::find()?, &what, &|range| split.batches(&fit.inputs, range), &|done| bar.at(done as u64));
        bar.clear();
        let predicted = predicted.map_err(|e| e.context(format!("`{}`", case.subject.label)))?;
        let right = predicted.iter().zip(labels).filter(|(p, l)| p == l).count();
        Ok(Some(Accuracy { right: right as u64, samples: split.len() as u64, split: digest.clone() }))
    };
    // A case that cannot run fails where it is measured.
    cases.iter().map(|case| count(case).or_else(|e: Error| if e.kind() == crate::ErrorKind::Engine { Ok(None) } else { Err(e) })).collect()
}
