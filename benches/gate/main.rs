//! How often the gate alarms where nothing changed, and how often it finds what did, on a simulated machine with noise from run to run,
//! from process to process and from window to window: `cargo bench --bench gate`. `-- --real N` does the first on this machine, with N
//! short runs of a shipped model. docs/GATE.md has the tables; tests/it/gate.rs holds the figures to what is promised.
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod real;
mod sessions;

use joulefront::stats::wilson;
use joulefront::{Error, Result};
use sessions::{Change, LONGER, Setting, USUAL, alarms};

/// Gates for each row.
const RUNS: u64 = 1000;

const SETTINGS: [(&str, Setting); 6] = [
    ("3 runs of 5 processes", Setting { history: 3, ..USUAL }),
    ("5 runs of 5 processes", Setting { history: 5, ..USUAL }),
    ("10 runs of 5 processes", Setting { floor: 0.0, ..USUAL }),
    ("10 runs of 5 processes", USUAL),
    ("20 runs of 5 processes", Setting { history: 20, ..USUAL }),
    ("20 runs of 20 processes, 4 runs are judged", LONGER),
];

const CHANGES: [(&str, Change); 7] = [
    ("nothing", (1.0, 1.0)),
    ("energy +2 %", (1.02, 1.0)),
    ("+5 %", (1.05, 1.0)),
    ("+10 %", (1.1, 1.0)),
    ("latency +2 %", (1.0, 1.02)),
    ("+5 %", (1.0, 1.05)),
    ("+10 %", (1.0, 1.1)),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--real", n] => real::alarms(n.parse().map_err(|_| Error::bad_input(format!("`{n}` is not a number of runs")))?),
        [] => simulated(),
        _ => Err(Error::bad_input("the only option is `--real N`")),
    }
}

fn simulated() -> Result<()> {
    let names: Vec<&str> = CHANGES.iter().map(|(name, _)| *name).collect();
    println!("| baseline and run | {} |\n|---|{}", names.join(" | "), "--:|".repeat(names.len()));
    let changes: Vec<Change> = CHANGES.iter().map(|(_, change)| *change).collect();
    for (name, setting) in SETTINGS {
        let counts = alarms(&setting, RUNS, &changes)?;
        let cells: Vec<String> = counts.iter().map(|&n| format!("{:.1} %", 100.0 * n as f64 / RUNS as f64)).collect();
        let bound = wilson(counts[0], RUNS).ok_or_else(|| Error::engine("no runs"))?;
        println!("| {name}, floor {:.0} % | {} |", 100.0 * setting.floor, cells.join(" | "));
        println!("<!-- nothing: 95 % bounds {:.1} … {:.1} % -->", 100.0 * bound.lo, 100.0 * bound.hi);
    }
    Ok(())
}
