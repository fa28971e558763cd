//! What `bench` runs: files × engines × threads × batch, each with its samples.

use super::super::inputs::ModelFile;
use super::super::{Global, say};
use super::Args;
use crate::data::Dataset;
use crate::engine::{self, LoadOptions};
use crate::measure::{EngineVersion, Subject, made_up};
use crate::model::{Dims, Graph};
use crate::runner::{Job, Program, Runner};
use crate::tensor::Tensor;
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Samples that the measured processes rotate over.
const ROTATION: usize = 16;

/// One configuration with its file.
pub(super) struct Case {
    pub(super) file: usize,
    pub(super) subject: Subject,
}

/// The engines that are asked for, or all of those `here` that load every model; what another refuses is said.
pub(super) fn engines(
    args: &Args,
    global: &Global,
    files: &[ModelFile],
    data: Option<&Dataset>,
    here: &[EngineVersion],
) -> Result<Vec<String>> {
    if !args.engine.is_empty() {
        return Ok(args.engine.clone());
    }
    let options =
        |file: &ModelFile| Ok(LoadOptions { batch: args.batches()[0], threads: args.threads()[0], ..fitted(args, file, data)?.0 });
    let (mut kept, mut refusals) = (Vec::new(), Vec::new());
    for EngineVersion { name, .. } in here {
        let loads = || files.iter().try_for_each(|file| load(args, file, name, &options(file)?).map(drop));
        match loads() {
            Ok(()) => kept.push(name.clone()),
            Err(e) if e.kind() == ErrorKind::Engine => refusals.push((name, e)),
            Err(e) => return Err(e),
        }
    }
    match refusals.first() {
        Some(_) if kept.is_empty() => Err(refusals.swap_remove(0).1),
        _ => {
            if !global.quiet {
                refusals.iter().for_each(|(name, e)| say(&format!("left away: {name}: {e}")));
            }
            Ok(kept)
        }
    }
}

/// A process that has loaded the model.
fn load(args: &Args, file: &ModelFile, engine: &str, options: &LoadOptions) -> Result<Runner> {
    let job = Job {
        model: file.path.clone(),
        engine: engine.to_owned(),
        options: options.clone(),
        cpus: Vec::new(),
        timeout: args.timeout.into(),
        memory: args.memory(),
    };
    Runner::spawn(&Program::find()?, &job).map_err(|e| e.context(format!("`{}`", file.path.display())))
}

/// How the model is loaded but for threads and batch, and the model's inputs as the dataset names them.
fn fitted(args: &Args, file: &ModelFile, data: Option<&Dataset>) -> Result<(LoadOptions, Vec<String>)> {
    let fit = data.map(|data| file.check_fits(data)).transpose()?.unwrap_or_default();
    let mut options = shaped(args, file)?;
    options.dims.extend(fit.dims);
    Ok((options, fit.inputs))
}

/// Files × engines × threads × batch, file by file.
pub(super) fn cases(args: &Args, files: &[ModelFile], engines: &[String], data: Option<&Dataset>) -> Result<Vec<Case>> {
    let (threads, batches) = (args.threads(), args.batches());
    let several = engines.len() * threads.len() * batches.len() > 1;
    let mut out = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let (fitted, inputs) = fitted(args, file, data)?;
        for engine in engines {
            for &threads in &threads {
                for &batch in &batches {
                    let options = LoadOptions { batch, threads, ..fitted.clone() };
                    let samples = samples(args, file, data.map(|data| (data, &inputs[..])), engine, &options)?;
                    let conditions = if several { format!(" ({engine}, {threads} threads, batch {batch})") } else { String::new() };
                    let subject = Subject {
                        label: file.name() + &conditions,
                        model: file.path.clone(),
                        engine: engine.clone(),
                        options,
                        samples: Arc::new(samples),
                    };
                    out.push(Case { file: number, subject });
                }
            }
        }
    }
    Ok(out)
}

/// How the model is loaded but for threads and batch: what `--shape` says of its symbols and of whole inputs.
pub(super) fn shaped(args: &Args, file: &ModelFile) -> Result<LoadOptions> {
    let graph = Graph::new(&file.model);
    let inputs: Vec<_> = graph.inputs().collect();
    let dims = args.shape.iter().cloned().fold(Dims::batch(1), Dims::with);
    let named = |e: Error| e.context(format!("`{}`", file.name()));
    Ok(LoadOptions { dims: dims.resolve(&inputs).map_err(named)?, shapes: dims.shapes(&inputs).map_err(named)?, ..LoadOptions::default() })
}

/// The split that samples are taken from.
pub(super) fn split_name(data: &Dataset) -> &'static str {
    ["validation", "test"].into_iter().find(|n| data.splits().any(|s| s == *n)).unwrap_or("validation")
}

/// Real samples where there is a dataset, else seeded random numbers of the model's shapes.
pub(super) fn samples(
    args: &Args,
    file: &ModelFile,
    data: Option<(&Dataset, &[String])>,
    engine: &str,
    options: &LoadOptions,
) -> Result<Vec<Tensor>> {
    match data {
        Some((data, inputs)) => {
            let split = data.split(split_name(data))?;
            split.batches(inputs, 0..split.len().min(ROTATION * options.batch))
        }
        None => {
            engine::by_name(engine)?;
            match load(args, file, engine, options) {
                Ok(runner) => made_up(runner.inputs(), ROTATION, args.seed),
                // It will fail again where it is measured, and then ends only itself.
                Err(e) if e.kind() == ErrorKind::Engine => Ok(Vec::new()),
                Err(e) => Err(e),
            }
        }
    }
}
