//! Markdown for pull requests and for GitHub's step summary.

use super::super::outcome::{Outcome, basis, change, limit, word};
use super::escape::cell;

/// A heading, the sentence, tables. The first line is a comment by which a program finds its own earlier comment again.
pub fn markdown(outcome: &Outcome) -> String {
    let mut out = format!("<!-- joulefront gate {} -->\n", outcome.baseline);
    let mark = if outcome.passed() { "passed" } else { "failed" };
    out += &format!("### joulefront gate: {mark}\n\n{}\n", cell(&outcome.sentence()));
    if !outcome.findings.is_empty() {
        out += "\n| model | metric | baseline | now | change | called from | verdict | by |\n|---|---|--:|--:|--:|--:|---|---|\n";
    }
    for f in &outcome.findings {
        let show = |v: Option<f64>| v.map_or_else(String::new, |v| f.metric.show(v));
        let metric = f.kind.map_or_else(|| f.metric.to_string(), |k| format!("{} ({k})", f.metric));
        let verdict = if f.regression() { "**regression**".to_owned() } else { cell(&word(f)) };
        let cells = [f.key.short(), metric, show(f.baseline), show(f.now), change(f), limit(f)].map(|c| cell(&c)).join(" | ");
        out += &format!("| {cells} | {verdict} | {} |\n", cell(&basis(f)));
    }
    if !outcome.limits.is_empty() {
        out += "\n| model | limit | now |\n|---|---|---|\n";
    }
    for l in &outcome.limits {
        let (open, close) = if outcome.fails(l) { ("**", "**") } else { ("", "") };
        let kind = l.kind.map_or_else(String::new, |k| format!(" ({k})"));
        out +=
            &format!("| {} | {} | {open}{}{close}{} |\n", cell(&l.key.short()), cell(&l.limit.to_string()), cell(&l.words()), cell(&kind));
    }
    if !outcome.notes.is_empty() {
        out.push('\n');
        outcome.notes.iter().for_each(|n| out += &format!("- {}\n", cell(n)));
    }
    if !outcome.findings.is_empty() {
        out += "\nBounds hold for all gated metrics together at 95 %; a change is called when it is larger than runs of the same thing differ.\n";
    }
    out
}
