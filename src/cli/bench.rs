//! `joulefront bench`: several files side by side, the first being the reference.

mod cases;
mod screen;
mod stored;

use self::cases::{Case, cases, engines};
use super::inputs::ModelFile;
use super::meters::{MeterOptions, described, remark};
use super::progress::{Bar, on_ctrl_c};
use super::{Global, as_json, engine_versions, print, say, text, values};
use crate::data::Dataset;
use crate::gate::{self, Accuracy};
use crate::lower::Form;
use crate::measure::{Environment, Load, Measurement, Plan, Subject, measure};
use crate::model::Given;
use crate::report::{ModelRow, csv, rows, side_by_side};
use crate::runner::{MemoryLimit, Program};
use crate::stats::{Interval, wilson};
use crate::study::{Configuration, Outcome, Results, Trial, VariantFacts};
use crate::units::{Bytes, Seconds, si};
use crate::{Error, ErrorKind, Result, atomic};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Latency, memory and energy per inference.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Models; the first is the reference
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// A dataset whose samples are run (`validation`, else `test`); without one, seeded random numbers are (integers: 0 and 1)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Engines, the first with the first model being the reference [default: all that are here and load the models]
    #[arg(long, value_name = "E", value_delimiter = ',')]
    engine: Vec<String>,
    /// Engine threads [default: 1; of a screening also as many as there are cores]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Vec<u32>,
    /// Samples per run [default: 1; of a screening 1 and 8]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Vec<u32>,
    /// A number for an open dimension (`seq=128`), or an input's shape (`input=1x3x224x224`); may be repeated
    #[arg(long, value_name = "NAME=NUMBERS")]
    shape: Vec<Given>,
    /// Requests arrive at random at this mean rate (`50/s`), whatever the machine does, instead of back to back; each is one batch
    #[arg(long, value_name = "RATE", value_parser = values::rate, conflicts_with = "cold")]
    rate: Option<f64>,
    /// Each inference in a fresh process: start, load, first answer
    #[arg(long)]
    cold: bool,
    /// Half-width of the energy interval to reach, by more processes
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    precision: Option<f64>,
    /// The whole run takes no longer than this
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    max_time: Option<Seconds>,
    /// Energies and times that differ by less are called the same, where that is shown
    #[arg(long, default_value = "1%", value_name = "SHARE", value_parser = values::share)]
    margin: f64,
    /// Fresh processes per model
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1000))]
    processes: u32,
    /// Length of a window
    #[arg(long, default_value = "200ms", value_name = "TIME", value_parser = values::seconds)]
    window: Seconds,
    /// Share of CPU time that others may take before a window does not count; 100% counts every window
    #[arg(long, default_value = "5%", value_name = "SHARE", value_parser = values::share)]
    disturbance: f64,
    /// Seed of the order of windows and of made-up samples
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// A process that answers later than this is given up
    #[arg(long, default_value = "120s", value_name = "TIME", value_parser = values::seconds)]
    timeout: Seconds,
    /// A process that asks for more memory for its data (heap, stacks) is given up [default: nine tenths of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_memory: Option<Bytes>,
    #[command(flatten)]
    meter: MeterOptions,
    /// Also the share of right answers, over the whole split that samples are taken from
    #[arg(long, requires = "data")]
    accuracy: bool,
    /// Also write results.csv and results.json here, for `gate` too
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Which engines, forms, threads and batches pay for one model here: the whole in each, then layer by layer
    #[arg(long, conflicts_with_all = ["rate", "cold", "precision", "accuracy", "out"])]
    screen: bool,
    /// Forms to screen on every engine [default: those that each is offered]
    #[arg(long, value_name = "FORM", value_delimiter = ',', requires = "screen")]
    form: Vec<Form>,
    /// How the tables of a screening look
    #[arg(long, value_enum, default_value_t, value_name = "LOOK", requires = "screen")]
    format: screen::Format,
}

impl Args {
    fn threads(&self) -> Vec<usize> {
        if self.threads.is_empty() { vec![1] } else { self.threads.iter().map(|&n| n as usize).collect() }
    }

    fn batches(&self) -> Vec<usize> {
        if self.batch.is_empty() { vec![1] } else { self.batch.iter().map(|&n| n as usize).collect() }
    }

    fn memory(&self) -> MemoryLimit {
        self.max_memory.map_or(MemoryLimit::Machine, MemoryLimit::At)
    }
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    if args.screen {
        return screen::run(args, global);
    }
    let cancel = on_ctrl_c()?;
    let files = args.models.iter().map(|p| ModelFile::open(p)).collect::<Result<Vec<_>>>()?;
    let here = engine_versions()?;
    let data = args.data.as_ref().map(Dataset::open).transpose()?;
    let engines = engines(args, global, &files, data.as_ref(), &here)?;
    let cases = cases(args, &files, &engines, data.as_ref())?;
    let mut meter = args.meter.open(global)?;
    let environment = Environment::collect(here);
    let began = gate::unix_now();
    let plan = Plan {
        processes: args.processes as usize,
        window: args.window,
        precision: args.precision,
        max_time: args.max_time,
        seed: args.seed,
        timeout: args.timeout.into(),
        memory: args.memory(),
        disturbance: args.disturbance,
        margin: args.margin,
        load: match args.rate {
            Some(rate) => Load::Open { rate },
            None if args.cold => Load::Cold,
            None => Load::BackToBack,
        },
        cancel: Arc::clone(cancel),
        ..Plan::default()
    };
    if !global.quiet {
        environment.warnings().iter().for_each(|w| say(&format!("warning: {}; {}", w.cause(), w.remedy())));
    }
    let accuracy = stored::accuracies(args, global, &files, &cases)?;
    let subjects: Vec<Subject> = cases.iter().map(|c| c.subject.clone()).collect();
    let bar = Bar::new(global, 0, "windows");
    let measured = measure(&Program::find()?, &subjects, meter.as_mut(), &plan, &mut |p| {
        bar.set_length(p.total);
        bar.at(p.done);
        bar.message(p.subject.to_owned());
    });
    bar.clear();
    remark(meter.as_ref(), global);
    let measured = measured.map_err(|e| e.context(format!("`{}`", cases[0].subject.label)))?;
    let key = environment.key();
    // A missing library is no fault of a model.
    let missing = measured.iter().find_map(|m| m.as_ref().err().filter(|e| e.kind() == ErrorKind::Environment));
    let missing = missing.map(|e| (e.to_string(), e.hint_text().unwrap_or_default().to_owned()));
    let measured = cases.iter().zip(measured).zip(&accuracy).enumerate();
    let trials: Vec<Trial> = measured.map(|(i, ((c, m), a))| trial(i, args, &files[c.file], c, m, (a.as_ref(), &key))).collect();
    let table = rows(&trials, &[]);
    let results: Vec<ModelRow> =
        cases.iter().zip(&table).map(|(c, row)| ModelRow { model: files[c.file].path.display().to_string(), row: row.clone() }).collect();
    let document = json!({
        "verdict": side_by_side(&trials),
        "environment": environment,
        "meter": described(meter.as_ref()),
        "results": results,
    });
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
        atomic::write(&folder.join("results.csv"), &csv(&table)?)?;
        let mut stored = document.clone();
        stored["run"] = json!(stored::run(args, &files, &cases, &trials, &environment, began, &accuracy)?);
        atomic::write(&folder.join("results.json"), as_json(stored).as_bytes())?;
    }
    if global.json {
        print(&as_json(document))?;
    } else {
        print(&as_text(&trials))?;
    }
    match (trials.iter().filter(|t| t.results().is_none()).count(), missing) {
        (0, _) => Ok(()),
        (n, None) => Err(Error::engine(format!("{n} of {} configurations could not be measured", trials.len()))),
        (n, Some((why, hint))) => {
            Err(Error::environment(format!("{n} of {} configurations could not be measured: {why}", trials.len())).hint(hint))
        }
    }
}

/// A configuration with its figures, in the form that reports print.
fn trial(
    id: usize,
    args: &Args,
    file: &ModelFile,
    case: &Case,
    measured: Result<Measurement>,
    (accuracy, environment): (Option<&Accuracy>, &str),
) -> Trial {
    let options = &case.subject.options;
    let outcome = measured.and_then(|measurement| {
        let totals = file.totals(options)?;
        let variant = VariantFacts {
            params: totals.params,
            macs: totals.macs.exact(),
            model_bytes: file.size,
            model_sha256: file.sha256.clone(),
            pruning_ratio: None,
            weight_bits: totals.weight_bits,
        };
        Ok(Outcome::Done(Box::new(Results {
            variant,
            accuracy: accuracy.and_then(|a| wilson(a.right, a.samples)),
            accuracy_drop_points: None,
            test_accuracy: None,
            measurement,
            energy_ratio_engine: None,
            make_energy: None,
        })))
    });
    Trial {
        id: id as u64,
        configuration: Configuration {
            recipe: case.subject.label.clone(),
            reproduce: String::new(),
            engine: case.subject.engine.clone(),
            lowering: String::new(),
            threads: options.threads,
            batch: options.batch,
            seed: args.seed,
        },
        outcome: outcome.unwrap_or_else(|e| Outcome::Failed { reason: e.to_string() }),
        environment: environment.to_owned(),
    }
}

fn as_text(trials: &[Trial]) -> String {
    let mut out = side_by_side(trials) + "\n\n";
    let ratio = |i: Interval| format!("{:.3} ({:.3}…{:.3})", i.value, i.lo, i.hi);
    let half = |i: Interval| format!("{} ±{:.1} %", si(i.value, "J"), 50.0 * (i.hi - i.lo) / i.value);
    let cells = |t: &Trial| {
        let name = t.configuration.recipe.clone();
        let Some(m) = t.results().map(|r| &r.measurement) else { return vec![name, "failed".into()] };
        vec![
            name,
            m.energy.as_ref().map_or_else(String::new, |e| half(e.gross)),
            m.energy.as_ref().and_then(|e| e.ratio).map_or_else(String::new, ratio),
            m.energy.as_ref().and_then(|e| e.verdict).map_or_else(String::new, |v| v.to_string()),
            si(m.latency.p50.0, "s"),
            si(m.latency.p90.0, "s"),
            si(m.latency.p99.0, "s"),
            format!("{:.0}/s", m.throughput_per_s),
            m.peak_rss.to_string(),
            m.windows.to_string(),
        ]
    };
    let lines: Vec<Vec<String>> = trials.iter().map(cells).collect();
    out += &text::table(
        &["model", "energy/inference", "ratio", "energy is", "p50", "p90", "p99", "throughput", "peak memory", "windows"],
        &lines,
    );
    if let Some(e) = trials.iter().find_map(|t| t.results()?.measurement.energy.as_ref()) {
        let s = &e.systematic;
        out += &format!(
            "\nenergy {}, meter {}, scope {}; 95 % intervals over fresh processes; systematic: {:.2}–{:.2} × the value ({})\n",
            e.kind.sentence(),
            e.meter,
            e.scope,
            s.low,
            s.high,
            s.source
        );
    }
    if let Some(m) = trials.iter().find_map(|t| t.results()).map(|r| &r.measurement) {
        out += match m.load {
            Load::BackToBack => "",
            Load::Open { .. } => {
                "requests arrive at random; latency counts from the arrival, and energy between them is theirs too where the meter sees it\n"
            }
            Load::Cold => {
                "each inference is the first of its process: latency is from its start to the answer, with the file in the page cache\n"
            }
        };
    }
    for (t, cold) in trials.iter().filter_map(|t| Some((t, t.results()?.measurement.cold?))) {
        out += &format!("{}: load {}, first inference {} (medians)\n", t.configuration.recipe, si(cold.load.0, "s"), si(cold.first.0, "s"));
    }
    for (t, a) in trials.iter().filter_map(|t| Some((t, t.results()?.accuracy?))) {
        out += &format!("{}: accuracy {:.2} % ({:.2}…{:.2})\n", t.configuration.recipe, 100.0 * a.value, 100.0 * a.lo, 100.0 * a.hi);
    }
    for t in trials {
        match (&t.outcome, t.results()) {
            (Outcome::Failed { reason }, _) => out += &format!("{}: failed: {reason}\n", t.configuration.recipe),
            (_, Some(r)) => r.measurement.warnings.iter().for_each(|w| out += &format!("warning: {}: {w}\n", t.configuration.recipe)),
            _ => {}
        }
    }
    out
}
