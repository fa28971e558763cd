//! `joulefront bench --screen`: which engines, forms, threads and batches pay for one model on this machine.

use super::super::inputs::ModelFile;
use super::super::meters::{described, remark};
use super::super::progress::{Bar, on_ctrl_c};
use super::super::{Global, found_engines, print, print_json, say, text};
use super::Args;
use super::cases::{samples, shaped, split_name};
use crate::compress::Calibration;
use crate::data::Dataset;
use crate::engine::LoadOptions;
use crate::measure::{EngineVersion, Environment, Plan};
use crate::model::Graph;
use crate::onnx::pb;
use crate::recipe::{Recipe, Step, WeightGranularity};
use crate::report::screening_table;
use crate::runner::Program;
use crate::screen::{Event, Probe, Target, findings, screen};
use crate::sys::allowed_cpus;
use crate::units::Seconds;
use crate::{Error, Result};
use serde_json::json;
use std::sync::Arc;

/// Samples that forms are checked on, and calibration samples.
const PROBE: usize = 1000;
const CALIBRATION: usize = 256;

/// Longest window; a screening is about large differences.
const WINDOW: Seconds = Seconds(0.03);

/// How long a screening may take unless it is said.
const MAX_TIME: Seconds = Seconds(300.0);

/// How the tables look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For a terminal
    #[default]
    Table,
    /// For documents
    Markdown,
}

/// Runs it.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let cancel = on_ctrl_c()?;
    let [path] = &args.models[..] else {
        return Err(Error::bad_input("one model is screened at a time").hint("leave the other models away"));
    };
    let file = ModelFile::open(path)?;
    let engines = engines(args)?;
    let names: Vec<String> = engines.iter().map(|e| e.name.clone()).collect();
    let (threads, batches) = (threads(args), batches(args, &file));
    let data = args.data.as_ref().map(Dataset::open).transpose()?;
    let fit = data.as_ref().map(|data| file.check_fits(data)).transpose()?;
    let mut options = LoadOptions { threads: threads[0], batch: batches[0], ..shaped(args, &file)? };
    options.dims.extend(fit.iter().flat_map(|f| f.dims.clone()));
    let largest = LoadOptions { batch: batches.iter().copied().max().unwrap_or(1), ..options.clone() };
    let inputs = data.as_ref().zip(fit.as_ref().map(|f| &f.inputs[..]));
    let measured = samples(args, &file, inputs, &names[0], &largest)?;
    if measured.is_empty() {
        return Err(Error::bad_input(format!("{} does not load the model, and there are no samples of its inputs", names[0]))
            .hint("give a dataset with `--data`, or another engine first"));
    }
    let names_of_inputs: Vec<String> = Graph::new(&file.model).inputs().map(|i| i.name().to_owned()).collect();
    let probe = match inputs {
        Some((data, inputs)) => {
            let split = data.split(split_name(data))?;
            let count = split.len().min(PROBE);
            let labels = split.labels().map(|l| l[..count].to_vec());
            Probe { names: inputs.to_vec(), inputs: split.batches(inputs, 0..count)?, labels }
        }
        None => Probe { names: names_of_inputs.clone(), inputs: measured.clone(), labels: None },
    };
    // Ranges of activations do not change what integers cost: without a dataset any samples do.
    let calibration = match (&data, &names_of_inputs[..]) {
        (Some(data), [input]) if data.splits().any(|s| s == "calibration") => {
            let split = data.split("calibration")?;
            Some(Calibration::new(input, &split.batch(0..split.len().min(CALIBRATION))?)?)
        }
        (_, [input]) => Calibration::new(input, &measured[0]).ok(),
        _ => None,
    };
    let mut meter = args.meter.open(global)?;
    let environment = Environment::collect(engines);
    if !global.quiet {
        environment.warnings().iter().for_each(|w| say(&format!("warning: {}; {}", w.cause(), w.remedy())));
    }
    let program = Program::find()?;
    let target = Target {
        program: &program,
        model: &file.model,
        bytes: &file.bytes()?,
        recipes: quantizations(),
        calibration: calibration.as_ref(),
        engines: names,
        forms: args.form.clone(),
        threads,
        batches,
        options,
        samples: Arc::new(measured),
        probe,
        most_layers: usize::MAX,
        plan: Plan {
            processes: args.processes as usize,
            blocks: 2,
            window: Seconds(args.window.0.min(WINDOW.0)),
            seed: args.seed,
            timeout: args.timeout.into(),
            memory: args.memory(),
            disturbance: args.disturbance,
            margin: args.margin,
            cancel: Arc::clone(cancel),
            ..Plan::default()
        },
        max_time: args.max_time.unwrap_or(MAX_TIME),
    };
    let bar = Bar::new(global, 0, "windows");
    let mut stage = String::new();
    let screening = screen(&target, meter.as_mut(), &mut |event| match event {
        Event::Stage(what) => {
            stage = what.to_owned();
            bar.message(stage.clone());
        }
        Event::Measuring(p) => {
            bar.set_length(p.total);
            bar.at(p.done);
            bar.message(format!("{stage}: {}", p.subject));
        }
    });
    bar.clear();
    remark(meter.as_ref(), global);
    let screening = screening.map_err(|e| e.context(format!("`{}`", file.name())))?;
    let found = findings(&screening);
    if global.json {
        return print_json(json!({
            "model": path.display().to_string(),
            "findings": found,
            "environment": environment,
            "meter": described(meter.as_ref()),
            "screening": screening,
        }));
    }
    let table = screening_table(&screening, args.format == Format::Markdown);
    let kind = meter.info().kind.sentence();
    print(&format!(
        "{}\n{table}\nenergy {kind}; 95 % intervals that hold together within a stage; {:.0} s\n",
        text::list(&found),
        screening.took.0
    ))
}

/// The engines that are asked for, or all that are here.
fn engines(args: &Args) -> Result<Vec<EngineVersion>> {
    let found = found_engines()?;
    if args.engine.is_empty() {
        return Ok(found.into_iter().filter_map(|(_, found)| found.ok()).collect());
    }
    let mut found: Vec<_> = found.into_iter().map(|(name, found)| (name, Some(found))).collect();
    let one = |asked: &String| {
        crate::engine::by_name(asked)?;
        let place = found.iter_mut().find(|(name, _)| name == asked).and_then(|(_, found)| found.take());
        place.unwrap_or_else(|| Err(Error::bad_input(format!("the engine `{asked}` is named twice"))))
    };
    args.engine.iter().map(one).collect()
}

fn threads(args: &Args) -> Vec<usize> {
    let cores = allowed_cpus().map_or(1, |c| c.len());
    match args.threads.is_empty() {
        true if cores > 1 => vec![1, cores],
        _ => args.threads(),
    }
}

/// Batches of 1 and 8, or the one that the file fixes.
fn batches(args: &Args, file: &ModelFile) -> Vec<usize> {
    let first = |i: &pb::ValueInfoProto| {
        let dim = i.type_.tensor_type.shape.dim.first().map_or(0, |d| d.dim_value());
        usize::try_from(dim).ok().filter(|&n| n > 0)
    };
    let fixed: Option<Vec<usize>> = Graph::new(&file.model).inputs().map(first).collect();
    match (args.batch.is_empty(), fixed.as_deref()) {
        (true, Some([n, ..])) => vec![*n],
        (true, _) => vec![1, 8],
        _ => args.batches(),
    }
}

/// What forms are made from: 8-bit weights alone and with activations, 4-bit weights in blocks.
fn quantizations() -> Vec<Recipe> {
    let blocks = match Step::quantize_weights(4) {
        Step::Quantize { weight_bits, activation_bits, range, method, .. } => {
            Step::Quantize { weight_bits, activation_bits, range, granularity: WeightGranularity::Block32, method }
        }
        other => other,
    };
    [Step::quantize_weights(8), Step::quantize_all(), blocks].map(|step| Recipe { steps: vec![step] }).to_vec()
}
