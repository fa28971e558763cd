//! A screening as tables: what was tried, and what it takes.

use super::table::plain;
use super::words::fixed;
use crate::measure::Compared;
use crate::screen::{Figures, Outcome, Screening, Way};
use crate::stats::Interval;
use crate::units::si;

/// Headings of whole models, then of layers.
const WAYS: [&str; 10] =
    ["engine", "form", "threads", "batch", "energy/inference", "to reference", "p50", "energy to float", "time to float", "it"];
const LAYERS: [&str; 7] = ["layer", "share of work", "engine", "form", "energy to float", "time to float", "it"];

/// Whole models and layers as text tables; with `markdown` as tables that documents take. Ends with a line feed.
pub fn screening_table(s: &Screening, markdown: bool) -> String {
    let layout = if markdown { as_markdown } else { as_text };
    let mut out = layout(&WAYS.map(str::to_owned), &way_rows(s));
    let layers = layer_rows(s);
    if !layers.is_empty() {
        out.push('\n');
        out.push_str(&layout(&LAYERS.map(str::to_owned), &layers));
    }
    out
}

/// The cells of whole models.
fn way_rows(s: &Screening) -> Vec<Vec<String>> {
    let row = |w: &Way| {
        let batch = if w.symbolic { format!("{}, left open", w.batch) } else { w.batch.to_string() };
        let figures = w.figures();
        let energy = figures.and_then(|f| f.energy_j).map_or_else(String::new, |e| si(e.value, "J"));
        let p50 = figures.map_or_else(String::new, |f| si(f.latency_p50.0, "s"));
        let to_reference = figures.and_then(|f| f.energy_ratio.or(f.latency_ratio)).map_or_else(String::new, ratio);
        let [own_energy, own_time, verdict] = own(&w.outcome);
        let form = if w.recipe == "original" { w.form.to_string() } else { format!("{} of {}", w.form, w.recipe) };
        let engine = plain(&w.engine);
        vec![engine, plain(&form), w.threads.to_string(), batch, energy, to_reference, p50, own_energy, own_time, verdict]
    };
    s.ways.iter().map(row).collect()
}

/// The cells of layers.
fn layer_rows(s: &Screening) -> Vec<Vec<String>> {
    let row = |l: &crate::screen::LayerWay| {
        let times = if l.layers.len() > 1 { format!(" ({} times)", l.layers.len()) } else { String::new() };
        let share = l.macs_share.map_or_else(String::new, |s| format!("{} %", fixed(100.0 * s, 1)));
        let [energy, time, verdict] = own(&l.outcome);
        vec![plain(&(l.shape.clone() + &times)), share, plain(&l.engine), l.form.to_string(), energy, time, verdict]
    };
    s.layers.iter().map(row).collect()
}

/// Energy and time against the float form, and what that shows.
fn own(outcome: &Outcome) -> [String; 3] {
    let compared = |c: Option<Compared>| c.map_or_else(String::new, |c| ratio(c.ratio));
    match outcome {
        Outcome::Measured(f @ Figures { own: Some(own), .. }) => {
            [compared(own.energy), compared(own.latency), f.pays().map_or_else(String::new, |p| p.to_string())]
        }
        Outcome::Measured(_) => Default::default(),
        Outcome::Refused { reason } => [String::new(), String::new(), plain(&format!("does not run: {}", short(reason)))],
        Outcome::Wrong { reason } => [String::new(), String::new(), plain(&format!("is wrong: {}", short(reason)))],
    }
}

/// `0.64 (0.62…0.66)`.
fn ratio(r: Interval) -> String {
    format!("{} ({}…{})", fixed(r.value, 2), fixed(r.lo, 2), fixed(r.hi, 2))
}

/// The first line, up to 80 characters.
fn short(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    if line.chars().count() <= 80 { line.to_owned() } else { line.chars().take(79).chain(['…']).collect() }
}

fn as_text(headings: &[String], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(headings).chain(rows.iter().map(Vec::as_slice));
    let widths: Vec<usize> = (0..headings.len()).map(|k| all().map(|r| r[k].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    all().map(line).collect()
}

fn as_markdown(headings: &[String], rows: &[Vec<String>]) -> String {
    let line = |row: &[String]| format!("| {} |\n", row.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "));
    let rule = format!("|{}\n", "---|".repeat(headings.len()));
    line(headings) + &rule + &rows.iter().map(|r| line(r)).collect::<String>()
}
