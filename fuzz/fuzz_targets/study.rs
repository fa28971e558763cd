//! What a study's database holds: a header and trials as JSON, one a line; the report is made of them.
#![no_main]

use joulefront::report::{Report, csv, html, json, rows, svg, table};
use joulefront::study::{StudyHeader, Trial};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let Some(Ok(header)) = lines.next().map(serde_json::from_str::<StudyHeader>) else { return };
    let trials: Vec<Trial> = lines.filter_map(|line| serde_json::from_str(line).ok()).take(20).collect();
    let report = Report::new(header, Default::default(), trials);
    let rows = rows(&report.trials, &report.fronts);
    let _ = (csv(&rows), json(&report), table(&report), report.verdict());
    if let Ok(svg) = svg(&report) {
        html(&report, &svg);
    }
    if let Some(front) = report.front() {
        front.points.iter().for_each(|p| drop(report.command(p)));
    }
});
