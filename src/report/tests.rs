#![allow(clippy::unwrap_used, reason = "tests")]

use super::samples::report;
use super::*;

#[test]
fn all_files_are_written_and_name_the_same_trials() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let files = write_all(&report(), &out).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["front.csv", "index.html", "pareto.png", "pareto.svg", "study.json", "trials.csv"]);
    assert_eq!(files.len(), names.len());
    let lines = |name: &str| std::fs::read_to_string(out.join(name)).unwrap().lines().count();
    assert_eq!(lines("trials.csv"), 1 + 26);
    assert_eq!(lines("front.csv"), 1 + 9);
    // A report is a pure function of its study: the same bytes again.
    let before = std::fs::read(out.join("index.html")).unwrap();
    write_all(&report(), &out).unwrap();
    assert_eq!(std::fs::read(out.join("index.html")).unwrap(), before);
}

#[test]
fn a_folder_that_cannot_be_made_is_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let e = write_all(&report(), &file.path().join("x")).unwrap_err();
    assert!(e.to_string().starts_with("cannot write"), "{e}");
}
