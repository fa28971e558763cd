//! The tables of the page.

use super::super::verdict::shipped;
use super::super::words::{accuracy, accuracy_change, energy_change, how, name, ratio, with_interval};
use super::super::{Front, Report};
use super::Escaped;
use crate::report::DEFAULT_TOLERANCE_POINTS;
use crate::stats::Interval;
use crate::study::{Outcome, Results, Trial};
use crate::units::{Bytes, si};

/// The front by rising energy, each row with its command.
pub(super) fn front(report: &Report, front: &Front, page: &mut String) {
    let best = shipped(report, DEFAULT_TOLERANCE_POINTS).map(|p| p.id);
    page.push_str(&head(&[
        ("trial", true),
        ("configuration", false),
        ("energy per inference", true),
        ("ratio to reference", true),
        ("accuracy", true),
        ("test accuracy", true),
        ("latency p50", true),
        ("peak memory", true),
        ("size", true),
        ("not distinguishable from", false),
    ]));
    for p in front.members() {
        let t = report.trial(p);
        let Some(r) = t.results() else { continue };
        let twins: Vec<String> = front.not_distinguishable_from(p).map(|o| o.id.to_string()).collect();
        let class = if best == Some(p.id) { "has-command best" } else { "has-command" };
        let cells = [
            number(&p.id.to_string(), ""),
            configuration(t),
            number(&with_interval(p.energy, "J"), ""),
            p.ratio.map_or_else(empty, |q| number(&ratio(q), &energy_change(q))),
            number(&accuracy(p.accuracy), &p.drop_points.map(accuracy_change).unwrap_or_default()),
            r.test_accuracy.map_or_else(empty, |a| number(&accuracy(a), "")),
            number(&r.measurement.latency.p50.to_string(), &format!("p99 {}", r.measurement.latency.p99)),
            number(&r.measurement.peak_rss.to_string(), ""),
            number(&Bytes(p.model_bytes).to_string(), ""),
            format!("<td>{}</td>", Escaped(&twins.join(", "))),
        ];
        page.push_str(&format!("<tr class=\"{class}\">{}</tr>\n", cells.concat()));
        page.push_str(&format!(
            "<tr class=\"command\"><td></td><td colspan=\"9\"><details><summary>reproduce</summary><code>{}</code></details></td></tr>\n",
            Escaped(&report.command(p))
        ));
    }
    page.push_str("</tbody></table></div>\n");
}

/// All trials, failed ones with their reasons.
pub(super) fn trials(report: &Report, page: &mut String) {
    page.push_str(&head(&[
        ("trial", true),
        ("status", false),
        ("configuration", false),
        ("energy per inference, as read", true),
        ("kind, meter, scope", false),
        ("ratio to reference", true),
        ("to original, same engine", true),
        ("accuracy", true),
        ("latency p50", true),
        ("throughput", true),
        ("size", true),
        ("windows", true),
    ]));
    for t in &report.trials {
        page.push_str(&format!("<tr id=\"trial-{0}\">{1}", t.id, number(&t.id.to_string(), "")));
        match &t.outcome {
            Outcome::Failed { reason } => page.push_str(&format!(
                "<td class=\"failed\">failed</td>{}<td class=\"failed\" colspan=\"9\">{}</td>",
                configuration(t),
                Escaped(reason)
            )),
            Outcome::Done(r) => page.push_str(&format!("<td>{}</td>{}{}", standing(report, t.id), configuration(t), results(r))),
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn results(r: &Results) -> String {
    let m = &r.measurement;
    let ratio_cell = |i: Option<Interval>| i.map_or_else(empty, |q| number(&ratio(q), ""));
    let energy = m.energy.as_ref().map_or_else(
        || empty().repeat(2),
        |e| {
            let net = e.net.map_or_else(String::new, |n| format!("net {}", with_interval(n, "J")));
            let kind = format!("{}, {}, {}", e.kind.name(), e.meter, e.scope.name().replace('_', " "));
            format!("{}<td><small>{}</small></td>", number(&with_interval(e.gross, "J"), &net), Escaped(&kind))
        },
    );
    let invalid: u64 = m.invalid_windows.iter().map(|(_, n)| n).sum();
    let reasons: Vec<String> = m.invalid_windows.iter().map(|(why, n)| format!("{n} × {why}")).collect();
    let mut windows = format!("<td class=\"n\">{}<small>{} processes</small>", m.windows, m.processes);
    let remarks: Vec<&str> = reasons.iter().chain(&m.warnings).map(String::as_str).collect();
    if !remarks.is_empty() {
        let summary = if invalid > 0 { format!("{invalid} not valid") } else { "remarks".to_owned() };
        windows.push_str(&format!("<details><summary>{summary}</summary><small>{}</small></details>", Escaped(&remarks.join("; "))));
    }
    windows.push_str("</td>");
    [
        energy,
        ratio_cell(m.energy.as_ref().and_then(|e| e.ratio)),
        ratio_cell(r.energy_ratio_engine),
        r.accuracy.map_or_else(empty, |a| number(&accuracy(a), &r.accuracy_drop_points.map(accuracy_change).unwrap_or_default())),
        number(&m.latency.p50.to_string(), &format!("p99 {}", m.latency.p99)),
        number(&si(m.throughput_per_s, "/s"), ""),
        number(&r.variant.model_bytes.to_string(), ""),
        windows,
    ]
    .concat()
}

fn standing(report: &Report, id: u64) -> &'static str {
    match report.fronts.iter().find_map(|f| f.point(id)) {
        Some(p) if p.on_staircase => "<b>staircase</b>",
        Some(p) if p.on_front => "<b>front</b>",
        Some(_) => "dominated",
        None => "not compared",
    }
}

fn configuration(t: &Trial) -> String {
    let c = &t.configuration;
    let mut below = how(c);
    if c.lowering != "float" {
        below.push_str(&format!(", {}", c.lowering));
    }
    format!("<td class=\"recipe\">{}<small>{}</small></td>", Escaped(name(c)), Escaped(&below))
}

/// A table's start with its headings; `true` for numbers.
fn head(headings: &[(&str, bool)]) -> String {
    let cell = |(text, right): &(&str, bool)| format!("<th scope=\"col\"{}>{text}</th>", if *right { " class=\"n\"" } else { "" });
    let cells: String = headings.iter().map(cell).collect();
    format!("<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>{cells}</tr></thead><tbody>\n")
}

/// A number with something smaller below it.
fn number(text: &str, below: &str) -> String {
    let (value, brackets) = text.split_once(" (").map_or((text, String::new()), |(v, b)| (v, format!("<small>({}</small>", Escaped(b))));
    let below = if below.is_empty() { String::new() } else { format!("<small>{}</small>", Escaped(below)) };
    format!("<td class=\"n\">{}{brackets}{below}</td>", Escaped(value))
}

fn empty() -> String {
    "<td></td>".to_owned()
}
