//! The store under what happens to programs: kills, full disks, clocks that step, several at once.

use super::{Place, files};
use crate::support::{joulefront, ran};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

impl Place {
    fn history(&self) -> PathBuf {
        self.path("store/main")
    }

    /// The runs of the baseline; other files are what a killed write left.
    fn saved(&self) -> Vec<String> {
        files(&self.history()).into_iter().filter(|name| name.ends_with(".json")).collect()
    }

    fn begin(&self, runs: u64) {
        for seed in 0..runs {
            assert_eq!(self.gate(&[&self.made("r.json", seed, 1.0), "--baseline", "main", "--save"]).code, Some(0));
        }
    }

    fn saving(&self, run: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_joulefront"));
        command.args(["gate", "--store", self.path("store").to_str().unwrap(), run, "--baseline", "main", "--save"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

#[test]
fn a_killed_gate_saves_a_whole_run_or_none() {
    let place = Place::new();
    place.begin(1);
    let run = place.made("now.json", 50, 1.0);
    let mut before = place.saved();
    for i in 0..40u64 {
        let mut child = place.saving(&place.made("killed.json", 100 + i, 1.0));
        std::thread::sleep(Duration::from_micros(500 * i));
        // It may be done already.
        let _ = child.kill();
        child.wait().unwrap();
        let now = place.saved();
        assert!(now.len() <= before.len() + 1 && before.iter().all(|name| now.contains(name)), "{before:?} {now:?}");
        assert_eq!(place.gate(&[&run, "--baseline", "main"]).code, Some(0), "every file is a whole run");
        before = now;
    }
}

#[test]
fn several_that_save_at_once_all_save() {
    let place = Place::new();
    place.begin(1);
    let children: Vec<Child> = (0..8).map(|i| place.saving(&place.made(&format!("{i}.json"), 10 + i, 1.0))).collect();
    children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    assert_eq!(place.saved().len(), 9);
    assert_eq!(place.gate(&[&place.made("now.json", 50, 1.0), "--baseline", "main"]).code, Some(0));
}

/// A limit on the size of files stands for a disk that is full in the middle of a write.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_history_as_it_was() {
    let place = Place::new();
    place.begin(2);
    let before = files(&place.history());
    let run = place.made("now.json", 50, 1.0);
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "trap '' XFSZ; ulimit -f 1; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_joulefront"),
        "gate",
        &run,
        "--baseline",
        "main",
    ]);
    shell.args(["--save", "--store", place.path("store").to_str().unwrap()]);
    ran(&mut shell).refused(3, &["cannot write", "000003-"]);
    assert_eq!(files(&place.history()), before);
    assert_eq!(place.gate(&[&run, "--baseline", "main", "--save"]).code, Some(0));
}

#[test]
fn clocks_that_step_change_nothing() {
    let place = Place::new();
    let findings = |clock: &dyn Fn(u64) -> u64, store: &str| {
        let store = place.path(store);
        let with =
            |args: &[&str]| joulefront(&[&["gate", "--json", "--baseline", "main", "--store", store.to_str().unwrap()][..], args].concat());
        for seed in 0..7 {
            let run = place.made("r.json", seed, 1.0);
            let mut value: Value = serde_json::from_slice(&std::fs::read(&run).unwrap()).unwrap();
            value["run"]["taken_unix_s"] = json!(clock(seed));
            std::fs::write(&run, value.to_string()).unwrap();
            with(&[&run, "--save"]).json();
        }
        with(&[&place.made("now.json", 9, 1.01)]).json()["findings"].clone()
    };
    let steady = findings(&|i| 1_760_000_000 + i, "steady");
    assert_eq!(steady.as_array().unwrap().len(), 7);
    assert_eq!(findings(&|i| [9, 0, 4_000_000_000, 7, 7, 1, 0][i as usize], "stepping"), steady);
}

#[test]
fn an_interrupted_bench_leaves_no_run() {
    let place = Place::new();
    let out = place.path("interrupted");
    let mut command = Command::new(env!("CARGO_BIN_EXE_joulefront"));
    command.args([
        "bench",
        "--engine",
        "tract",
        "models/fashion-mlp.onnx",
        "--processes",
        "500",
        "--quiet",
        "--meter",
        "estimate",
        "--out",
        out.to_str().unwrap(),
    ]);
    let mut child = command.current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    child.kill().unwrap();
    child.wait().unwrap();
    place.gate(&[out.to_str().unwrap(), "--baseline", "main", "--save"]).refused(2, &["cannot read", "bench MODEL --out DIR"]);
    assert!(!place.history().exists());
}
