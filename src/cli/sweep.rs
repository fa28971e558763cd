//! `joulefront sweep`: the main job.

use super::inputs::{ModelFile, SHIPPED_DATA, SHIPPED_MODEL, report_folder, shipped};
use super::meters::{MeterOptions, remark};
use super::progress::{Bar, on_ctrl_c};
use super::{Global, engine_versions, print, print_json, say, values};
use crate::data::Dataset;
use crate::engine::{self, Engine};
use crate::measure::Environment;
use crate::report::{Report, results, table, write_all};
use crate::runner::{Program, find};
use crate::search::{Budget, Event, Stop, Strategy, Summary, Sweep, SweepConfig};
use crate::study::{Configuration, Study, Trial};
use crate::units::si;
use crate::{Error, ErrorKind, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a study lies when none is named.
const DEFAULT_STUDY: &str = "joulefront-study";

/// Make compressed variants, measure each, and report accuracy against joules.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model [default: the shipped models/fashion-resnet8.onnx]
    model: Option<PathBuf>,
    /// The dataset's folder [default: the shipped Fashion-MNIST]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Settings (TOML): space, measuring, seed
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The study's file [default: joulefront-study.sqlite, or the next free number]
    #[arg(long, value_name = "PATH")]
    study: Option<PathBuf>,
    /// How the space is walked [default: grid, or the settings' own]
    #[arg(long, value_enum)]
    strategy: Option<Strategy>,
    /// Stop after a time (5m), a number of trials (200trials) or an energy (2kJ)
    #[arg(long, value_name = "BUDGET", value_parser = values::budget)]
    budget: Option<Budget>,
    /// Go on with an existing study; nothing in it is measured again
    #[arg(long)]
    resume: bool,
    /// Engines, the first of which runs the reference [default: the settings' own, or all that are here]
    #[arg(long, value_name = "E", value_delimiter = ',')]
    engine: Vec<String>,
    #[command(flatten)]
    meter: MeterOptions,
    /// Where the report is written [default: STUDY-report]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let cancel = on_ctrl_c()?;
    let model_path = args.model.clone().map_or_else(|| shipped(SHIPPED_MODEL), Ok)?;
    let file = ModelFile::open(&model_path)?;
    let data_path = args.data.clone().map_or_else(|| shipped(SHIPPED_DATA), Ok)?;
    let data = Dataset::open(&data_path)?;
    file.check_fits(&data)?;
    let study_path = study_path(args)?;
    let existing = args.resume.then(|| Study::open(&study_path)).transpose()?;
    let config = config(args, existing.as_ref())?;
    let mut meter = args.meter.open(global)?;
    let environment = Environment::collect(engine_versions()?);
    let program = Program::find()?;
    let engines = engines(&config.space.engines, &program, &environment)?;
    let sweep = Sweep {
        program: &program,
        path: &model_path,
        model: &file.model,
        bytes: &file.bytes()?,
        data: &data,
        engines: &engines,
        config: &config,
        budget: args.budget,
        environment: &environment,
        cancel: Arc::clone(cancel),
    };
    let created = existing.is_none();
    let mut study = match existing {
        Some(study) => study,
        None => Study::create(&study_path, &sweep.header()?)?,
    };
    if !global.quiet {
        let info = meter.info();
        say(&format!("energy {} (meter {}, {}); study {}", info.kind.sentence(), info.name, info.scope, study_path.display()));
        environment.warnings().iter().for_each(|w| say(&format!("warning: {}; {}", w.cause(), w.remedy())));
    }
    let mut view = View::new(global);
    let outcome = sweep.run(&mut study, meter.as_mut(), &mut |event| view.show(&event));
    view.bar.clear();
    remark(meter.as_ref(), global);
    let resume = resume_line(args, global, &study_path);
    let summary = match outcome {
        Ok(summary) => summary,
        Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e.hint(format!("what is finished is kept; to go on: {resume}"))),
        Err(e) if created && study.trials().is_ok_and(|t| t.is_empty()) => {
            // Nothing is in it: the next try need not be told to resume.
            study.discard();
            return Err(e);
        }
        Err(e) => return Err(e.hint(format!("what is finished is kept in `{}`; to go on: {resume}", study_path.display()))),
    };
    let report = Report::read(&study)?;
    let folder = args.output.clone().unwrap_or_else(|| report_folder(&study_path));
    let files = write_all(&report, &folder)?;
    if global.json {
        return print_json(json!({
            "verdict": report.verdict(),
            "study": study_path.display().to_string(),
            "files": files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>(),
            "trials_run": summary.stored,
            "trials_found": summary.found,
            "recipes_left": summary.left,
            "findings": summary.findings,
            "results": results(&report),
        }));
    }
    print(&format!("{}\n\n{}\n{}", report.verdict(), table(&report), closing(&summary, &folder, &resume)))
}

/// The named study, or the first free default name.
fn study_path(args: &Args) -> Result<PathBuf> {
    match &args.study {
        Some(path) if args.resume || !path.exists() => Ok(path.clone()),
        Some(path) => Err(Error::bad_input(format!("the study `{}` exists already", path.display()))
            .hint("add `--resume` to go on with it, or name another")),
        None if args.resume => Ok(PathBuf::from(format!("{DEFAULT_STUDY}.sqlite"))),
        None => {
            let numbered = (2..).map(|n| format!("{DEFAULT_STUDY}-{n}.sqlite"));
            let names = std::iter::once(format!("{DEFAULT_STUDY}.sqlite")).chain(numbered);
            names.map(PathBuf::from).find(|p| !p.exists()).ok_or_else(|| Error::environment("no free name for a study"))
        }
    }
}

/// The settings: those of the study that is resumed, else the file's, else the defaults.
fn config(args: &Args, existing: Option<&Study>) -> Result<SweepConfig> {
    let given = args.config.as_deref().map(SweepConfig::load).transpose()?;
    let mut config = match (existing, given) {
        (Some(study), given) => {
            let settings = study.header().settings.clone();
            let stored: SweepConfig = serde_json::from_value(settings)
                .map_err(|e| Error::bad_input(format!("the study's settings cannot be read: {e}")).hint("start a new study"))?;
            if given.is_some_and(|g| g != stored) {
                return Err(Error::bad_input("`--config` differs from the settings this study was started with")
                    .hint("leave `--config` away to resume, or start a new study"));
            }
            stored
        }
        (None, Some(given)) => given,
        (None, None) => SweepConfig::default(),
    };
    if let Some(strategy) = args.strategy {
        config.strategy = strategy;
    }
    if !args.engine.is_empty() {
        config.space.engines.clone_from(&args.engine);
    }
    config.check()?;
    Ok(config)
}

/// The engines of those names, or all that are here.
fn engines(names: &[String], program: &Program, environment: &Environment) -> Result<Vec<&'static dyn Engine>> {
    if names.is_empty() {
        return Ok(engine::all().iter().copied().filter(|e| environment.engine_version(e.name()).is_some()).collect());
    }
    let mut engines: Vec<&'static dyn Engine> = Vec::new();
    for name in names {
        let engine = engine::by_name(name)?;
        if environment.engine_version(name).is_none() {
            find(program, engine)?;
        }
        if engines.iter().all(|e| e.name() != name) {
            engines.push(engine);
        }
    }
    Ok(engines)
}

/// The command that goes on where this one stopped.
fn resume_line(args: &Args, global: &Global, study: &Path) -> String {
    let mut line = "joulefront sweep".to_owned();
    let mut add = |option: &str, value: &Path| {
        let value = crate::report::quote(&value.display().to_string());
        line += &if option.is_empty() { format!(" {value}") } else { format!(" {option} {value}") };
    };
    args.model.iter().for_each(|m| add("", m));
    args.data.iter().for_each(|d| add("--data", d));
    add("--study", study);
    args.output.iter().for_each(|o| add("--output", o));
    global.sysfs_root.iter().for_each(|r| add("--sysfs-root", r));
    if !args.engine.is_empty() {
        line += &format!(" --engine {}", args.engine.join(","));
    }
    line + &args.meter.options() + " --resume"
}

fn closing(summary: &Summary, folder: &Path, resume: &str) -> String {
    let mut out: String = summary.findings.iter().map(|f| format!("{f}\n")).collect();
    out += &format!("report: {}\n", folder.join("index.html").display());
    match summary.stop {
        Stop::Budget(budget) => {
            out += &format!("the budget of {budget} is spent; {} configurations are left; to go on: {resume}\n", summary.left)
        }
        Stop::Finished if summary.left > 0 => {
            out += &format!("{} configurations could not be measured on the busy machine; to try them again: {resume}\n", summary.left);
        }
        Stop::Finished => {}
    }
    out
}

/// Progress of a sweep.
struct View {
    bar: Bar,
    recipe: String,
}

impl View {
    fn new(global: &Global) -> Self {
        View { bar: Bar::new(global, 0, "trials"), recipe: String::new() }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Begin(number, total, configuration) => {
                self.bar.set_length(*total as u64);
                self.bar.at(*number as u64);
                self.recipe = label(configuration);
                self.bar.message(self.recipe.clone());
            }
            Event::Step(step) => self.bar.message(format!("{}: {step}", self.recipe)),
            Event::Measuring(p) => self.bar.message(format!("{}: window {} of {}", self.recipe, p.done, p.total)),
            Event::Stored(trial) => self.bar.line(&line(trial)),
            Event::Found(_) | Event::Dropped => {}
            Event::Finding(words) => self.bar.line(&format!("     {words}")),
            Event::Disturbed(why) => self.bar.line(&format!("  –  {}: not measured: {why}", self.recipe)),
            Event::SameFile(id) => self.bar.line(&format!("  –  {}: the very file of trial {id}", self.recipe)),
        }
    }
}

/// What is tried, in a line: the recipe and how it is run.
fn label(c: &Configuration) -> String {
    let threads = if c.threads == 1 { String::new() } else { format!(", {} threads", c.threads) };
    let batch = if c.batch == 1 { String::new() } else { format!(", batch {}", c.batch) };
    let form = if c.lowering == "float" { String::new() } else { format!(", {}", c.lowering) };
    format!("{} ({}{form}{threads}{batch})", c.recipe, c.engine)
}

/// A finished trial in one line.
fn line(trial: &Trial) -> String {
    let name = label(&trial.configuration);
    match (&trial.outcome, trial.results()) {
        (crate::study::Outcome::Failed { reason }, _) => format!("{:>3}  {name}: failed: {reason}", trial.id),
        (_, Some(r)) => {
            let accuracy = r.accuracy.map_or_else(String::new, |a| format!("{:.2} %, ", 100.0 * a.value));
            let energy = r.measurement.energy.as_ref().map_or_else(
                || "no energy".to_owned(),
                |e| match e.ratio.filter(|_| trial.id != 0) {
                    Some(ratio) => format!("{} × {:.3} ({:.3}…{:.3})", e.kind, ratio.value, ratio.lo, ratio.hi),
                    None => format!("{} {}", si(e.gross.value, "J"), e.kind.sentence()),
                },
            );
            format!("{:>3}  {name}: {accuracy}{energy}", trial.id)
        }
        _ => String::new(),
    }
}
