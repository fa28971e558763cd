//! `joulefront report STUDY [-o DIR]`

use super::{Global, print, print_json};
use crate::Result;
use crate::report::{Report, results, table, write_all};
use crate::study::Study;
use std::path::PathBuf;

/// Write a study's report: index.html, pareto.svg, pareto.png, trials.csv, front.csv, study.json
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The study's file
    study: PathBuf,
    /// The folder to write to [default: STUDY-report]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Reads the study, writes the files and prints the verdict and the front.
///
/// # Errors
/// The study cannot be read, or the folder cannot be written to.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let report = Report::read(&Study::open_read_only(&args.study)?)?;
    let folder = args.output.clone().unwrap_or_else(|| super::inputs::report_folder(&args.study));
    let files = write_all(&report, &folder)?;
    if global.json {
        let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        print_json(serde_json::json!({
            "verdict": report.verdict(),
            "files": files,
            "results": results(&report),
        }))
    } else {
        let page = folder.join("index.html");
        print(&format!("{}\n\n{}\nreport: {}\n", report.verdict(), table(&report), page.display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::study::samples::{header, trials};

    #[test]
    fn writes_beside_the_study_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let study = Study::create(&path, &header()).unwrap();
        study.insert_environment("host", &serde_json::json!({})).unwrap();
        for t in trials() {
            let _ = study.insert(&t, &t.id.to_string()).unwrap();
        }
        // The sweep may still be running.
        run(&Args { study: path.clone(), output: None }, &Global { json: true, quiet: true, ..Global::default() }).unwrap();
        assert!(folder.path().join("s-report/index.html").exists());
        let other = folder.path().join("other");
        run(&Args { study: path, output: Some(other.clone()) }, &Global::default()).unwrap();
        assert!(other.join("pareto.png").exists());
    }
}
