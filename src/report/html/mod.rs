//! The report for people: one page that needs no network, no script and no other file.

mod tables;

use super::table::plain;
use super::words::{fixed, fixed_points, scope};
use super::{Report, verdict};
use crate::energy::Kind;
use crate::study::Outcome;
use serde_json::Value;
use std::fmt::{self, Write};

/// Text of a study's author, safe between tags and inside quoted attributes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in plain(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The page, with the plot `svg` in it.
pub fn html(report: &Report, svg: &str) -> String {
    let h = &report.header;
    let title = format!("{} on {}", h.model, h.dataset);
    let failed = report.trials.iter().filter(|t| matches!(t.outcome, Outcome::Failed { .. })).count();
    let facts = format!(
        "{} trials, {failed} of them failed · reference: {}, {} · study of {} · joulefront {}",
        report.trials.len(),
        super::words::name(&h.reference),
        super::words::how(&h.reference),
        h.created,
        h.joulefront_version,
    );
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>joulefront: {title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n\
         <h1>{title}</h1>\n<p class=\"verdict\">{verdict}</p>\n<p class=\"facts\">{facts}</p>\n<figure>\n{svg}</figure>\n",
        title = Escaped(&title),
        style = include_str!("style.css"),
        verdict = Escaped(&verdict(report, super::DEFAULT_TOLERANCE_POINTS)),
        facts = Escaped(&facts),
    );
    front(report, &mut page);
    reading(report, &mut page);
    page.push_str("<h2>All trials</h2>\n");
    tables::trials(report, &mut page);
    environment(report, &mut page);
    page.push_str("</main>\n<footer>The same figures for programs: trials.csv, front.csv, study.json.</footer>\n</body>\n</html>\n");
    page
}

fn front(report: &Report, page: &mut String) {
    let Some(front) = report.front() else { return };
    let (b, s) = (&front.basis, &front.systematic);
    let about = format!(
        "Energy {}, meter {} ({}). Brackets: 95 % intervals. Systematic, beside them: the true energy is {} to {} times the value ({}).",
        b.kind.sentence(),
        b.meter,
        scope(b.scope),
        fixed(s.low, 2),
        fixed(s.high, 2),
        s.source,
    );
    page.push_str(&format!("<h2>The front</h2>\n<p>{}</p>\n", Escaped(&about)));
    tables::front(report, front, page);
    if report.fronts.len() > 1 {
        let others: Vec<String> = report.fronts[1..]
            .iter()
            .map(|f| format!("{} trials {}, meter {} ({})", f.points.len(), f.basis.kind.sentence(), f.basis.meter, scope(f.basis.scope)))
            .collect();
        let note = format!("Not compared with these, because kinds, meters and scopes of energy do not mix: {}.", others.join("; "));
        page.push_str(&format!("<p>{}</p>\n", Escaped(&note)));
    }
}

fn reading(report: &Report, page: &mut String) {
    let pooled = report.front().and_then(|f| f.reference);
    let reference = pooled.map_or_else(String::new, |j| format!(" (here {j})"));
    let kind = report.front().map_or("", |f| about_kind(f.basis.kind));
    page.push_str(&format!(
        "<h2>How to read this</h2>\n<ul>\n\
         <li><b>Energy</b> is the mean per inference, which is what scales to a year. To take out the drift of the machine, each trial runs in \
         blocks interleaved with the reference: its energy is the ratio to the reference of those blocks, times one energy of the reference for \
         the whole study{reference}. The readings themselves are in the table of all trials.</li>\n\
         <li><b>Statistical</b> uncertainty is in the brackets and crosses: would another run on this machine give the same? The intervals \
         are 95 %, over processes and windows.</li>\n\
         <li><b>Systematic</b> uncertainty is stated beside: is the meter itself right? It is common to all trials of one meter, so it \
         mostly cancels in ratios, and does not in joules.</li>\n\
         {kind}\n\
         <li><b>The front</b> holds every trial that no other beats in accuracy, energy and size together. The staircase in the plot is \
         that of accuracy and energy alone.</li>\n\
         <li><b>Not distinguishable</b> means that the intervals of both the accuracy change and the energy ratio overlap.</li>\n\
         <li><b>Accuracy</b> is on the validation split, on which variants are chosen; accuracy on test is filled in once, for the front.</li>\n\
         <li><b>The sentence on top</b> takes the lowest energy on the front among trials whose accuracy drop is shown to stay within {}: \
         the upper end of its interval, not its estimate.</li>\n</ul>\n",
        fixed_points(super::DEFAULT_TOLERANCE_POINTS),
    ));
}

fn about_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Measured => {
            "<li><b>Measured</b> energy comes from a counter of this machine. A counter inside it ranks configurations; \
             it is not the wall’s power, and the gap between them is not constant.</li>"
        }
        Kind::Estimated => {
            "<li><b>Estimated</b> energy comes from CPU time and a range of watts, not from a counter. It ranks \
             configurations by the time they keep the CPU busy; it is no reading of a power meter.</li>"
        }
        Kind::Simulated => {
            "<li><b>Simulated</b> energy comes from a counter that a flag, a test or a mount put there. It tests the harness; \
             it says nothing about this machine.</li>"
        }
        Kind::Apportioned => "<li><b>Apportioned</b> energy is a part of a larger figure, divided up by time.</li>",
    }
}

fn environment(report: &Report, page: &mut String) {
    let h = &report.header;
    let mut facts = vec![
        ("model".to_owned(), format!("{} (SHA-256 {})", h.model, h.model_sha256)),
        ("dataset".to_owned(), format!("{} (digest {})", h.dataset, h.dataset_digest)),
    ];
    flatten("settings", &h.settings, &mut facts);
    page.push_str("<h2>Model, data and settings</h2>\n");
    list(&facts, page);
    for (key, record) in &report.environments {
        let mut facts = Vec::new();
        flatten("", record, &mut facts);
        page.push_str(&format!("<h2>Environment <code>{}</code></h2>\n", Escaped(key)));
        list(&facts, page);
    }
}

fn list(facts: &[(String, String)], page: &mut String) {
    page.push_str("<dl class=\"environment\">\n");
    for (name, value) in facts {
        page.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", Escaped(name), Escaped(value)));
    }
    page.push_str("</dl>\n");
}

/// `{"cpu": {"model": "x"}}` as `cpu model: x`; what is null was not readable.
fn flatten(name: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    let scalar = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| flatten(format!("{name} {}", k.replace('_', " ")).trim(), v, facts)),
        Value::Array(all) if all.iter().all(|v| !v.is_object() && !v.is_array()) => {
            facts.push((name.to_owned(), all.iter().map(scalar).collect::<Vec<_>>().join(" ")));
        }
        Value::Array(all) => all.iter().enumerate().for_each(|(i, v)| flatten(&format!("{name} {i}"), v, facts)),
        Value::Null if name == "settings" => {}
        Value::Null => facts.push((name.to_owned(), "not known".to_owned())),
        v => facts.push((name.to_owned(), scalar(v))),
    }
}

#[cfg(test)]
mod tests;
