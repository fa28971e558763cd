//! `joulefront gate`: a run of `bench` against earlier ones, and against stated limits.

use super::{Global, print, print_json, say, text, values};
use crate::gate::{Budgets, Metric, Outcome, Rules, Run, Saved, Store, export, history_plot, judge};
use crate::{Error, ErrorKind, Result, atomic};
use std::path::{Path, PathBuf};

/// Regressions against a baseline, and budgets: exit code 1 when something got worse or a limit is not kept.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `bench --out` wrote: the folder or its results.json; several are taken as repetitions of one run
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The baseline's name: `main`, `v1.2`
    #[arg(long, value_name = "NAME", required_unless_present = "budget")]
    baseline: Option<String>,
    /// Append the runs to the baseline, unless they got worse
    #[arg(long, requires = "baseline")]
    save: bool,
    /// Append them though they got worse: that is what later runs are compared with
    #[arg(long, requires = "save")]
    accept: bool,
    /// The folder with the baselines
    #[arg(long, default_value = ".joulefront", value_name = "DIR")]
    store: PathBuf,
    /// Metrics that can fail the gate; the others are recorded [default: energy,latency,memory,size,accuracy]
    #[arg(long, value_name = "METRIC,…", value_delimiter = ',')]
    metrics: Vec<Metric>,
    /// Smaller increases are no regressions; `energy=5%` for one metric; may be repeated
    #[arg(long, default_value = "2%", value_name = "[METRIC=]SHARE", value_parser = increase)]
    max_increase: Vec<(Option<Metric>, f64)>,
    /// Smaller losses of accuracy are no regressions
    #[arg(long, default_value = "1pt", value_name = "POINTS", value_parser = values::points)]
    max_accuracy_drop: f64,
    /// Also hold the runs to the limits in this file
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "joulefront.toml")]
    budget: Option<PathBuf>,
    /// What a limit does that is neither shown to be kept nor shown to be broken
    #[arg(long, value_enum, default_value_t = Undecided::Fail, value_name = "WHAT")]
    undecided: Undecided,
    /// Write JUnit XML here
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write Markdown for a pull request here
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Annotations for GitHub Actions on stdout (with --json: on stderr), and Markdown into its step summary
    #[arg(long)]
    github: bool,
    /// Write the figures for github-action-benchmark here (`customSmallerIsBetter`)
    #[arg(long, value_name = "FILE")]
    benchmark_action: Option<PathBuf>,
    /// Write the figures in Bencher Metric Format here
    #[arg(long, value_name = "FILE")]
    bmf: Option<PathBuf>,
    /// Draw the history of each metric into this folder
    #[arg(long, value_name = "DIR", requires = "baseline")]
    history: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Undecided {
    /// It fails the gate: a limit that matters is to be shown
    Fail,
    /// It passes, with a remark
    Pass,
}

/// `5%`, `energy=5%`.
fn increase(text: &str) -> Result<(Option<Metric>, f64), String> {
    match text.split_once('=') {
        None => Ok((None, values::share(text)?)),
        Some((metric, share)) => match metric.parse()? {
            Metric::Accuracy => Err("a loss of accuracy is limited with `--max-accuracy-drop`".to_owned()),
            metric => Ok((Some(metric), values::share(share)?)),
        },
    }
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let runs = args.runs.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>>>()?;
    let budgets = args.budget.as_deref().map(Budgets::read).transpose()?;
    let store = Store::at(&args.store);
    let saved = args.baseline.as_deref().map_or_else(|| Ok(Vec::new()), |name| store.load(name))?;
    let mut outcome = match &args.baseline {
        Some(name) => {
            if saved.is_empty() && !args.save {
                let place = args.store.display();
                return Err(
                    Error::bad_input(format!("there is no baseline `{name}` in `{place}`")).hint("`--save` begins it with this run")
                );
            }
            judge(name, &saved, &runs, &rules(args))?
        }
        None => Outcome::without_baseline(),
    };
    if let Some(budgets) = budgets {
        // Several sessions: the limits hold for each of them.
        outcome.limits = runs.iter().flat_map(|run| budgets.judge(run)).collect();
        outcome.undecided_fails = args.undecided == Undecided::Fail;
    }
    if let (true, Some(name)) = (args.save, &args.baseline) {
        save(args, &store, name, &runs, &mut outcome)?;
    }
    write(args, &outcome, &runs, &saved)?;
    if global.json {
        print_json(outcome.to_json())?;
    } else {
        print(&as_text(&outcome))?;
    }
    if args.github {
        let annotations = export::annotations(&outcome);
        if global.json { say(annotations.trim_end()) } else { print(&annotations)? }
    }
    if outcome.passed() { Ok(()) } else { Err(failed(args, &outcome)) }
}

fn rules(args: &Args) -> Rules {
    let usual = Rules::default();
    let floors = args.max_increase.iter();
    Rules {
        gated: if args.metrics.is_empty() { usual.gated } else { args.metrics.iter().copied().collect() },
        max_increase: floors.clone().filter(|(m, _)| m.is_none()).map(|(_, share)| *share).next_back().unwrap_or(usual.max_increase),
        max_increase_of: floors.filter_map(|(m, share)| Some(((*m)?, *share))).collect(),
        max_accuracy_drop: args.max_accuracy_drop,
        begin: args.save,
    }
}

/// A baseline is what was accepted: runs that got worse are kept out of it unless that is said.
fn save(args: &Args, store: &Store, name: &str, runs: &[Run], outcome: &mut Outcome) -> Result<()> {
    if outcome.regressions().next().is_some() && !args.accept {
        outcome.notes.push("not saved, for it got worse; `--save --accept` makes it what later runs are compared with".to_owned());
        return Ok(());
    }
    for run in runs {
        let path = store.save(name, run)?;
        outcome.notes.push(format!("saved as {}", path.display()));
    }
    Ok(())
}

fn failed(args: &Args, outcome: &Outcome) -> Error {
    let (worse, broken) = (outcome.regressions().count(), outcome.broken().count());
    let mut what = Vec::new();
    if worse > 0 {
        let gated = outcome.findings.iter().filter(|f| f.gated).count();
        what.push(format!("{worse} of {gated} gated metrics got worse than baseline `{}`", args.baseline.as_deref().unwrap_or_default()));
    }
    if broken > 0 {
        what.push(format!("{broken} of {} limits are not shown to be kept", outcome.limits.len()));
    }
    Error::new(ErrorKind::CheckFailed, what.join(", and "))
}

/// The files that were asked for.
fn write(args: &Args, outcome: &Outcome, runs: &[Run], saved: &[Saved]) -> Result<()> {
    let file = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        Some(path) => atomic::write(path, text().as_bytes()),
        None => Ok(()),
    };
    file(&args.junit, &|| export::junit(outcome))?;
    file(&args.markdown, &|| export::markdown(outcome))?;
    if let Some(run) = runs.last() {
        file(&args.benchmark_action, &|| format!("{:#}\n", export::benchmark_action(run)))?;
        file(&args.bmf, &|| format!("{:#}\n", export::bencher(run)))?;
        if let Some(folder) = &args.history {
            histories(folder, outcome, saved, run)?;
        }
    }
    match std::env::var_os("GITHUB_STEP_SUMMARY").filter(|_| args.github) {
        Some(path) => append(Path::new(&path), &export::markdown(outcome)),
        None => Ok(()),
    }
}

/// The step summary is one file for all programs of a step.
fn append(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut f| f.write_all(text.as_bytes())).map_err(|e| Error::write(path, e))
}

/// `a.onnx-energy.svg`; models of one name get a number.
fn histories(folder: &Path, outcome: &Outcome, saved: &[Saved], run: &Run) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
    let mut names: Vec<String> = Vec::new();
    for finding in &outcome.findings {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' };
        let base: String = format!("{}-{}", finding.key.short(), finding.metric).chars().map(plain).collect();
        let twins = names.iter().filter(|n| **n == base).count();
        let number = if twins == 0 { String::new() } else { format!("-{}", twins + 1) };
        atomic::write(&folder.join(format!("{base}{number}.svg")), history_plot(finding, saved, run)?.as_bytes())?;
        names.push(base);
    }
    Ok(())
}

fn as_text(outcome: &Outcome) -> String {
    let mut out = outcome.sentence() + "\n";
    let rows = outcome.table();
    if !rows.is_empty() {
        out += &format!("\n{}", text::table(&["model", "metric", "baseline", "now", "change", "called from", "verdict", "by"], &rows));
        out += "bounds hold for all gated metrics together at 95 %\n";
    }
    if let Some(kind) = outcome.findings.iter().find_map(|f| f.kind) {
        out += &format!("energy {}\n", kind.sentence());
    }
    let limits = outcome.limits_table();
    if !limits.is_empty() {
        out += &format!("\n{}", text::table(&["model", "limit", "now"], &limits));
    }
    outcome.notes.iter().for_each(|n| out += &format!("note: {n}\n"));
    out
}
