//! `joulefront profile`: time and apportioned energy layer by layer, of one model or of two side by side.

use super::inputs::ModelFile;
use super::meters::{MeterOptions, remark};
use super::progress::{Bar, on_ctrl_c};
use super::{Global, print, say, values};
use crate::data::Dataset;
use crate::engine::LoadOptions;
use crate::measure::{self, Environment, Subject, made_up};
use crate::model::{self, Dims, Facts, Given, Graph, layers_with_sources};
use crate::profile::{Plan, Profile, Target, profile};
use crate::report::{Beside, beside, chrome_trace, folded_stacks, profile_csv, profile_json, profile_svg, profile_table};
use crate::runner::{Job, MemoryLimit, Program, Runner};
use crate::tensor::Tensor;
use crate::units::Seconds;
use crate::{Error, Result, atomic};
use clap::ValueEnum;
use std::path::PathBuf;
use std::sync::Arc;

/// Samples that the processes rotate over.
const ROTATION: usize = 16;

/// Time and apportioned energy layer by layer.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model
    model: PathBuf,
    /// A variant of it, to be shown beside it with ratios
    other: Option<PathBuf>,
    /// A dataset whose samples are run (`validation`, else `test`); without one, seeded random numbers are (integers: 0 and 1)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Engine
    #[arg(long, default_value = "tract", value_name = "E")]
    engine: String,
    /// Engine threads
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Samples per run
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// A number for an open dimension (`seq=128`), or an input's shape (`input=1x3x224x224`); may be repeated
    #[arg(long, value_name = "NAME=NUMBERS")]
    shape: Vec<Given>,
    /// Also measure, each alone, the layers that take more than 5 % of the whole, and exit with 1 when what was apportioned to one is
    /// off by more than 20 %
    #[arg(long)]
    verify_layers: bool,
    /// What is printed: a table; json, csv; folded stacks for flame graphs; a chrome trace for Perfetto; svg bars
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    format: Format,
    /// Write it here instead
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Fresh processes
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1000))]
    processes: u32,
    /// Length of a window
    #[arg(long, default_value = "200ms", value_name = "TIME", value_parser = values::seconds)]
    window: Seconds,
    /// Share of CPU time that others may take before a window of energy does not count; 100% counts every window
    #[arg(long, default_value = "5%", value_name = "SHARE", value_parser = values::share)]
    disturbance: f64,
    /// Seed of the order of windows and of made-up samples
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// A process that answers later than this is given up
    #[arg(long, default_value = "120s", value_name = "TIME", value_parser = values::seconds)]
    timeout: Seconds,
    #[command(flatten)]
    meter: MeterOptions,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One object with `schema_version`
    Json,
    /// One row for each layer
    Csv,
    /// `model;block;layer count` lines, nanoseconds of a run
    Folded,
    /// Trace events
    Chrome,
    /// Bars
    Svg,
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let cancel = on_ctrl_c()?;
    let files = std::iter::once(&args.model).chain(&args.other).map(|p| ModelFile::open(p)).collect::<Result<Vec<_>>>()?;
    let dims = args.shape.iter().cloned().fold(Dims::batch(args.batch as usize), Dims::with);
    let subjects = files.iter().map(|file| subject(args, file, &dims)).collect::<Result<Vec<_>>>()?;
    let mut meter = args.meter.open(global)?;
    if !global.quiet {
        let environment = Environment::collect(super::engine_versions()?);
        environment.warnings().iter().for_each(|w| say(&format!("warning: {}; {}", w.cause(), w.remedy())));
    }
    let plan = Plan {
        measure: measure::Plan {
            processes: args.processes as usize,
            window: args.window,
            seed: args.seed,
            timeout: args.timeout.into(),
            disturbance: args.disturbance,
            cancel: Arc::clone(cancel),
            ..measure::Plan::default()
        },
        verify: args.verify_layers,
    };
    let targets: Vec<Target<'_>> =
        files.iter().zip(&subjects).map(|(file, subject)| Target { subject, model: &file.model, dims: &dims }).collect();
    let bar = Bar::new(global, 0, "steps");
    let profiles = profile(&Program::find()?, &targets, meter.as_mut(), &plan, &mut |p| {
        bar.set_length(p.total);
        bar.at(p.done);
        bar.message(p.subject.to_owned());
    });
    bar.clear();
    remark(meter.as_ref(), global);
    let profiles = profiles?;
    let pairs = match (&profiles[..], &files[..]) {
        ([a, b], [original, variant]) => beside(a, b, &matched(original, variant, &dims)?),
        _ => Vec::new(),
    };
    let text = formatted(if global.json { Format::Json } else { args.format }, &profiles, &pairs)?;
    match &args.out {
        Some(path) => atomic::write(path, text.as_bytes())?,
        None => print(&text)?,
    }
    let refuted: Vec<String> = profiles.iter().flat_map(Profile::refuted).map(|r| format!("`{}`", r.name)).collect();
    match refuted.is_empty() {
        true => Ok(()),
        false => Err(Error::new(
            crate::ErrorKind::CheckFailed,
            format!("apportioned energy is off by more than 20 % from that of the layer alone: {}", refuted.join(", ")),
        )
        .hint("a layer alone finds its inputs in nearer caches than within the model, or has less work than a run costs by itself")),
    }
}

fn formatted(format: Format, profiles: &[Profile], pairs: &[Beside<'_>]) -> Result<String> {
    Ok(match format {
        Format::Table => profile_table(profiles, pairs),
        Format::Json => format!("{:#}\n", profile_json(profiles)),
        Format::Csv => profile_csv(profiles)?,
        Format::Folded => folded_stacks(profiles),
        Format::Chrome => chrome_trace(profiles)?,
        Format::Svg => profile_svg(profiles, pairs)?,
    })
}

/// Nodes of layers that belong together, as `inspect --diff` finds them.
fn matched(original: &ModelFile, variant: &ModelFile, dims: &Dims) -> Result<Vec<(usize, usize)>> {
    let facts = |file: &ModelFile| Facts::infer_with(&file.model, dims);
    let (a, b) = (facts(original)?, facts(variant)?);
    let (a, b) = (layers_with_sources(&Graph::new(&original.model), &a)?, layers_with_sources(&Graph::new(&variant.model), &b)?);
    let pairs = model::diff(&a, &b)?.pairs;
    Ok(pairs.iter().filter_map(|p| Some((a[p.a].0.node?, b[p.b].0.node?))).collect())
}

/// How a file is run: its open dimensions, and real samples where there is a dataset, else seeded random numbers.
fn subject(args: &Args, file: &ModelFile, dims: &Dims) -> Result<Subject> {
    let named = |e: Error| e.context(format!("`{}`", file.name()));
    let graph = Graph::new(&file.model);
    let inputs: Vec<_> = graph.inputs().collect();
    let data = args.data.as_ref().map(Dataset::open).transpose()?;
    let fit = data.as_ref().map(|data| file.check_fits(data)).transpose()?.unwrap_or_default();
    let mut options = LoadOptions {
        batch: args.batch as usize,
        threads: args.threads as usize,
        dims: dims.resolve(&inputs).map_err(named)?,
        shapes: dims.shapes(&inputs).map_err(named)?,
        ..LoadOptions::default()
    };
    options.dims.extend(fit.dims);
    let samples: Vec<Tensor> = match &data {
        Some(data) => {
            let name = ["validation", "test"].into_iter().find(|n| data.splits().any(|s| s == *n)).unwrap_or("validation");
            let split = data.split(name)?;
            split.batches(&fit.inputs, 0..split.len().min(ROTATION * options.batch))?
        }
        None => {
            let job = Job {
                model: file.path.clone(),
                engine: args.engine.clone(),
                options: options.clone(),
                cpus: Vec::new(),
                timeout: args.timeout.into(),
                memory: MemoryLimit::default(),
            };
            made_up(Runner::spawn(&Program::find()?, &job)?.inputs(), ROTATION, args.seed)?
        }
    };
    Ok(Subject { label: file.name(), model: file.path.clone(), engine: args.engine.clone(), options, samples: Arc::new(samples) })
}
