//! The command line: one file for each subcommand; the only place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the only place that prints")]

mod bench;
mod calibrate;
mod compress;
mod doctor;
mod eval;
mod gate;
mod inputs;
mod inspect;
mod meters;
mod profile;
mod progress;
mod report;
mod sweep;
mod text;
mod values;

use crate::engine::{self, Engine};
use crate::measure::EngineVersion;
use crate::runner::{Program, find};
use crate::{Error, ErrorKind, Result};
use clap::{Parser, Subcommand, ValueEnum};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of all subcommands.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Global {
    /// Print the result as one JSON object on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress and no remarks on stderr
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// A folder that stands for /sys: its energy counters are reported as simulated
    #[arg(long, global = true, env = "JOULEFRONT_SYSFS_ROOT", value_name = "DIR")]
    pub sysfs_root: Option<PathBuf>,
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Global {
    /// True when stderr may be coloured.
    fn colours(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

/// Which version of your ONNX model should you ship, and how many joules does each inference cost?
#[derive(Debug, Parser)]
#[command(name = "joulefront", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The main job: make compressed variants, measure each, draw accuracy against joules
    Sweep(sweep::Args),
    /// Latency, memory and energy per inference of models, interleaved; the first is the reference
    Bench(bench::Args),
    /// Where the joules go: time and apportioned energy layer by layer, of one model or of two side by side
    Profile(profile::Args),
    /// Make one compressed variant and print what was done to each layer
    Compress(compress::Args),
    /// Accuracy with its interval, per class
    Eval(eval::Args),
    /// Layers, parameters, multiply–adds, sizes, prune groups, and which engines load it
    Inspect(inspect::Args),
    /// Write a study's report: page, plots, tables
    Report(report::Args),
    /// Regressions against a baseline of earlier runs, and budgets; formats for continuous integration
    Gate(gate::Args),
    /// Meters, permissions, engines, build flags, and what disturbs measurements here, each with its fix
    Doctor(doctor::Args),
    /// Fit what this CPU draws by the number of busy cores, for estimates where there is no counter
    Calibrate(calibrate::Args),
}

/// Parses the arguments, runs, prints the error with its hint, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Sweep(args) => sweep::run(args, &cli.global),
        Command::Bench(args) => bench::run(args, &cli.global),
        Command::Profile(args) => profile::run(args, &cli.global),
        Command::Compress(args) => compress::run(args, &cli.global),
        Command::Eval(args) => eval::run(args, &cli.global),
        Command::Inspect(args) => inspect::run(args, &cli.global),
        Command::Report(args) => report::run(args, &cli.global),
        Command::Gate(args) => gate::run(args, &cli.global),
        Command::Calibrate(args) => calibrate::run(args, &cli.global),
        Command::Doctor(args) => found_engines().and_then(|engines| doctor::run(args, &cli.global, &engines)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            complain(&e, cli.global.colours());
            ExitCode::from(exit_code(e.kind()))
        }
    }
}

/// The contract of DESIGN: 1 a check failed, 2 bad input, 3 the environment cannot do it, 130 interrupted.
fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::CheckFailed => 1,
        ErrorKind::BadInput | ErrorKind::Engine => 2,
        ErrorKind::Environment => 3,
        ErrorKind::Interrupted => 130,
    }
}

/// The engines that are there, for the environment record.
fn engine_versions() -> Result<Vec<EngineVersion>> {
    Ok(found_engines()?.into_iter().filter_map(|(_, found)| found.ok()).collect())
}

/// An engine's name, and its version or the reason why it is not there.
type FoundEngine = (&'static str, Result<EngineVersion>);

/// Every engine that this program knows.
fn found_engines() -> Result<Vec<FoundEngine>> {
    let program = Program::find()?;
    let find = |e: &&'static dyn Engine| {
        let found = find(&program, *e);
        (e.name(), found.map(|f| EngineVersion { name: e.name().into(), version: f.version, library: f.library }))
    };
    Ok(engine::all().iter().map(find).collect())
}

fn complain(e: &Error, colours: bool) {
    let paint = |code: &str, text: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    say(&format!("{} {e}", paint("1;31", "error:")));
    if let Some(hint) = e.hint_text() {
        say(&format!("{} {hint}", paint("1;36", "hint:")));
    }
}

/// A line on stderr. A reader that went away (`2>&1 | head`) is no reason to stop working.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes to stdout. A reader that went away (`| head`) ends the program quietly, as other tools do.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|e| Error::write("stdout", e)),
    }
}

/// One JSON object with `schema_version`, as text.
fn as_json(mut value: serde_json::Value) -> String {
    if let Some(object) = value.as_object_mut() {
        object.shift_insert(0, "schema_version".into(), crate::report::JSON_SCHEMA_VERSION.into());
    }
    format!("{value:#}\n")
}

/// The same on stdout.
fn print_json(value: serde_json::Value) -> Result<()> {
    print(&as_json(value))
}
