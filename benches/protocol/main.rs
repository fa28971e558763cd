//! How true the protocol's intervals are and how soon it finds a difference, on a simulated machine with a ticking counter,
//! correlated noise and drift, beside methods that do worse: `cargo bench --bench protocol [-- PICTURE.svg]`.
//!
//! All time is virtual. `docs/protocol.svg` is its picture; tests/it/protocol.rs holds the figures to what is promised.
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod methods;

use joulefront::measure::Plan;
use joulefront::measure::simulation::{Machine, simulate};
use joulefront::stats::{Interval, wilson};
use joulefront::units::Seconds;
use joulefront::{Error, Result};
use methods::{bootstrap, energy, machine, one_after_the_other, plan, protocol, rounds, until_found};
use plotters::prelude::*;

/// Runs for each row of the tables.
const RUNS: u64 = 1000;
/// Runs for each point of the curves.
const POINT: u64 = 400;
/// Processes of the points.
const PROCESSES: [usize; 7] = [3, 5, 8, 12, 16, 24, 32];
/// True differences of the curves.
const DIFFERENCES: [f64; 4] = [0.01, 0.02, 0.03, 0.05];

/// A method and how often it calls a difference where there is none.
type Calls = (&'static str, Vec<(f64, f64)>);

/// A true difference, and how often it is found by seconds of measuring.
type Curve = (f64, Vec<(f64, f64)>);

fn main() -> Result<()> {
    let picture = std::env::args().skip(1).find(|a| a != "--bench");
    println!("1 ms ticks of 61 µJ, noise 2 % (AR(1), ρ = 0.6), 1 % between processes, drift 0.02 %/s; {RUNS} runs a row\n");
    intervals()?;
    let weak = false_alarms()?;
    let curves = power()?;
    match picture {
        Some(path) => draw(&path, &curves, &weak),
        None => Ok(()),
    }
}

/// Bias, coverage and width of energy and ratio, without and with the stopping rule.
fn intervals() -> Result<()> {
    println!("{:<34} {:>8} {:>22} {:>10} {:>11}", "intervals", "bias", "coverage (95 %)", "processes", "half-width");
    for (name, precision) in [("5 processes", None), ("stopping rule, ±1 % asked for", Some(0.01)), ("stopping rule, ±0.5 %", Some(0.005))]
    {
        let mut sums = [[0.0; 3]; 2];
        let mut processes = 0;
        for seed in 0..RUNS {
            let outcome = simulate(&machine(seed, 0.1), &Plan { precision, ..plan(seed, 5) })?;
            let e = energy(&outcome).ok_or_else(|| Error::engine("no energy"))?;
            let truth = outcome.truth[1].0;
            processes += outcome.results[1].as_ref().map_or(0, |m| m.processes);
            let ratio = e.ratio.ok_or_else(|| Error::engine("no ratio"))?;
            for (sum, (i, truth)) in sums.iter_mut().zip([(e.gross, truth), (ratio, truth / outcome.truth[0].0)]) {
                let Interval { value, lo, hi } = i;
                *sum = [sum[0] + value / truth - 1.0, sum[1] + f64::from(u8::from(i.contains(truth))), sum[2] + (hi - lo) / 2.0 / truth];
            }
        }
        for (what, [bias, holds, half]) in ["energy", "ratio"].iter().zip(sums) {
            let n = RUNS as f64;
            let covered = wilson(holds as u64, RUNS).ok_or_else(|| Error::engine("no runs"))?;
            println!(
                "{:<34} {:>6.3} % {:>8.1} % ({:.1}…{:.1}) {:>10.1} {:>9.2} %",
                format!("{name}, {what}"),
                100.0 * bias / n,
                100.0 * covered.value,
                100.0 * covered.lo,
                100.0 * covered.hi,
                processes as f64 / n,
                100.0 * half / n
            );
        }
    }
    Ok(())
}

/// How often each method calls a difference in A/A runs, by processes.
fn false_alarms() -> Result<Vec<Calls>> {
    let mut all: Vec<Calls> = ["this protocol", "percentile bootstrap", "stop when something is found", "one after the other, 0.1 %/s"]
        .map(|n| (n, Vec::new()))
        .into();
    println!("\n{:<34} {}", "A/A: a difference is called", PROCESSES.map(|p| format!("{p:>6} pr.")).join(" "));
    for processes in PROCESSES {
        let mut calls = [0u64; 4];
        let mut took = Seconds(0.0);
        let missed = |i: Option<Interval>| u64::from(i.is_some_and(|i| !i.contains(1.0)));
        for seed in 0..RUNS {
            let machine = machine(seed, 0.0);
            let (_, called, t) = protocol(&machine, &plan(seed, processes))?;
            took = Seconds(took.0 + t.0 / RUNS as f64);
            let rounds = rounds(&machine, &plan(seed, processes))?;
            let warming = Machine { drift: 1e-3, ..machine };
            calls[0] += u64::from(called);
            calls[1] += missed(bootstrap(&rounds, seed));
            calls[2] += missed(until_found(&rounds));
            calls[3] += missed(one_after_the_other(&warming, &plan(seed, processes))?);
        }
        for ((_, points), calls) in all.iter_mut().zip(calls) {
            points.push((took.0, calls as f64 / RUNS as f64));
        }
    }
    for (name, points) in &all {
        println!("{name:<34} {}", points.iter().map(|(_, share)| format!("{:>7.1} %", 100.0 * share)).collect::<Vec<_>>().join(" "));
    }
    Ok(all)
}

/// For each true difference, how often it is found, by measuring time.
fn power() -> Result<Vec<Curve>> {
    println!("\n{:<34} {}", format!("a true difference is found ({POINT} runs)"), PROCESSES.map(|p| format!("{p:>6} pr.")).join(" "));
    let mut curves = Vec::new();
    for difference in DIFFERENCES {
        let mut points = Vec::new();
        for processes in PROCESSES {
            let (mut found, mut took) = (0, 0.0);
            for seed in 0..POINT {
                let (ratio, called, t) = protocol(&machine(seed, difference), &plan(seed, processes))?;
                found += u64::from(called && ratio.value < 1.0);
                took += t.0 / POINT as f64;
            }
            points.push((took, found as f64 / POINT as f64));
        }
        let line = |of: fn(&(f64, f64)) -> String| points.iter().map(of).collect::<Vec<_>>().join(" ");
        println!("{:<34} {}", format!("{:.0} %", 100.0 * difference), line(|p| format!("{:>7.1} %", 100.0 * p.1)));
        if difference == DIFFERENCES[3] {
            println!("{:<34} {}", "seconds of measuring", line(|p| format!("{:>9.0}", p.0)));
        }
        curves.push((difference, points));
    }
    Ok(curves)
}

const WIDTH: i32 = 900;
const HEIGHT: i32 = 560;
const LEFT: i32 = 70;
const RIGHT: i32 = 640;
const TOP: i32 = 60;
const BOTTOM: i32 = 490;
/// Seconds at the left and right end, on a logarithmic scale.
const SPAN: (f64, f64) = (5.0, 180.0);

fn place((seconds, share): (f64, f64)) -> (i32, i32) {
    let x = (seconds / SPAN.0).ln() / (SPAN.1 / SPAN.0).ln();
    (LEFT + (x * f64::from(RIGHT - LEFT)) as i32, BOTTOM - (share * f64::from(BOTTOM - TOP)) as i32)
}

fn draw(path: &str, curves: &[Curve], weak: &[Calls]) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::environment(format!("cannot draw `{path}`: {e}"));
    let root = SVGBackend::new(path, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let ink = RGBColor(0x22, 0x22, 0x22);
    let grid = RGBColor(0xE4, 0xE4, 0xE4);
    let palette = [RGBColor(0x56, 0xB4, 0xE9), RGBColor(0, 0x9E, 0x73), RGBColor(0, 0x72, 0xB2), RGBColor(0xCC, 0x79, 0xA7)];
    let alarm = [ink, RGBColor(0xE6, 0x9F, 0), RGBColor(0xD5, 0x5E, 0), RGBColor(0x99, 0x33, 0x33)];
    let text = |words: &str, at: (i32, i32), size: i32, colour: RGBColor| {
        root.draw(&Text::new(words.to_owned(), at, ("sans-serif", size).into_font().color(&colour))).map_err(|e| failed(&e))
    };
    let line = |points: Vec<(i32, i32)>, style: ShapeStyle| root.draw(&PathElement::new(points, style)).map_err(|e| failed(&e));
    text("How often a difference is called, by measuring time (simulated)", (LEFT, 16), 19, ink)?;
    for share in [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0] {
        let (_, y) = place((SPAN.0, share));
        line(vec![(LEFT, y), (RIGHT, y)], grid.stroke_width(1))?;
        text(&format!("{:>3.0} %", 100.0 * share), (22, y - 7), 14, ink)?;
    }
    for seconds in [5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 180.0] {
        let (x, _) = place((seconds, 0.0));
        line(vec![(x, TOP), (x, BOTTOM)], grid.stroke_width(1))?;
        text(&format!("{seconds:.0} s"), (x - 12, BOTTOM + 10), 14, ink)?;
    }
    text("time to measure two models in turns (virtual)", (LEFT + 150, BOTTOM + 36), 14, ink)?;
    let mut key = TOP;
    text("true difference, this protocol", (RIGHT + 24, key), 14, ink)?;
    for ((difference, points), colour) in curves.iter().zip(palette) {
        key += 24;
        line(points.iter().map(|&p| place(p)).collect(), colour.stroke_width(3))?;
        line(vec![(RIGHT + 24, key + 8), (RIGHT + 54, key + 8)], colour.stroke_width(3))?;
        text(&format!("{:.0} %", 100.0 * difference), (RIGHT + 62, key), 14, ink)?;
    }
    key += 44;
    text("no difference: each call is wrong", (RIGHT + 24, key), 14, ink)?;
    for ((name, points), colour) in weak.iter().zip(alarm) {
        key += 24;
        let places: Vec<(i32, i32)> = points.iter().map(|&p| place(p)).collect();
        for p in &places {
            root.draw(&Circle::new(*p, 4, colour.filled())).map_err(|e| failed(&e))?;
        }
        line(places, colour.stroke_width(1))?;
        root.draw(&Circle::new((RIGHT + 39, key + 8), 4, colour.filled())).map_err(|e| failed(&e))?;
        text(name, (RIGHT + 62, key), 14, ink)?;
    }
    root.present().map_err(|e| failed(&e))
}
