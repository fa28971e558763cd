//! How often the gate alarms where nothing changed, and how often it finds what did, on a simulated machine with noise from run to run,
//! from process to process and from window to window: `cargo bench --bench gate`. `-- --real N` does the first on this machine: N
//! short runs of a shipped model are judged. docs/GATE.md has the tables; tests/it/gate.rs holds the figures to what is promised.
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod real;
mod sessions;

use joulefront::stats::wilson;
use joulefront::{Error, Result};
use sessions::{Change, LONGER, Setting, USUAL, alarms};

/// Gates for each row.
const RUNS: u64 = 1000;

/// How long the baseline has to be.
const LENGTHS: [(&str, Setting); 8] = [
    ("3 runs of 5 processes", Setting { history: 3, processes: 5, ..USUAL }),
    ("5 runs of 5 processes", Setting { history: 5, processes: 5, ..USUAL }),
    ("10 runs of 5 processes", Setting { history: 10, processes: 5, ..USUAL }),
    ("20 runs of 5 processes", Setting { processes: 5, ..USUAL }),
    ("10 runs of 10 processes", Setting { history: 10, ..USUAL }),
    ("20 runs of 10 processes", USUAL),
    ("20 runs of 10 processes", Setting { floor: 0.0, ..USUAL }),
    ("20 runs of 20 processes, 4 runs are judged", LONGER),
];

/// Other machines: sessions differ by more or less. And other seeds.
const NOISES: [(&str, Setting); 8] = [
    ("0.25 %, 1 run is judged", Setting { between: 0.0025, ..USUAL }),
    ("0.5 %, 1 run, another seed", Setting { seed: 1, ..USUAL }),
    ("0.5 %, 1 run, a third seed", Setting { seed: 2, ..USUAL }),
    ("1 %, 1 run", Setting { between: 0.01, ..USUAL }),
    ("1 %, 3 runs", Setting { between: 0.01, sessions: 3, ..USUAL }),
    ("2 %, 1 run", Setting { between: 0.02, ..USUAL }),
    ("2 %, 3 runs", Setting { between: 0.02, sessions: 3, ..USUAL }),
    ("2 %, 1 run, no floor", Setting { between: 0.02, floor: 0.0, ..USUAL }),
];

const CHANGES: [(&str, Change); 5] =
    [("nothing", (1.0, 1.0)), ("energy +2 %", (1.02, 1.0)), ("+5 %", (1.05, 1.0)), ("latency +2 %", (1.0, 1.02)), ("+5 %", (1.0, 1.05))];

fn main() -> Result<()> {
    // `--real` runs models in children of this program.
    joulefront::runner::init();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--real", n] => real::alarms(n.parse().map_err(|_| Error::bad_input(format!("`{n}` is not a number of runs")))?),
        [] => simulated(),
        _ => Err(Error::bad_input("the only option is `--real N`")),
    }
}

fn simulated() -> Result<()> {
    table("baseline and run", &LENGTHS)?;
    println!();
    table("from session to session", &NOISES)
}

fn table(title: &str, settings: &[(&str, Setting)]) -> Result<()> {
    let names: Vec<&str> = CHANGES.iter().map(|(name, _)| *name).collect();
    println!("| {title} | floor | {} |\n|---|--:|{}", names.join(" | "), "--:|".repeat(names.len()));
    let changes: Vec<Change> = CHANGES.iter().map(|(_, change)| *change).collect();
    for (name, setting) in settings {
        let counts = alarms(setting, RUNS, &changes)?;
        let cells: Vec<String> = counts.iter().map(|&n| format!("{:.1} %", 100.0 * n as f64 / RUNS as f64)).collect();
        let bound = wilson(counts[0], RUNS).ok_or_else(|| Error::engine("no runs"))?;
        let nothing = format!("{} ({:.1}–{:.1})", cells[0], 100.0 * bound.lo, 100.0 * bound.hi);
        println!("| {name} | {:.0} % | {nothing} | {} |", 100.0 * setting.floor, cells[1..].join(" | "));
    }
    Ok(())
}
