//! The gate: from the command line, and its error rates on a simulated machine (`cargo bench --bench gate` prints more).

mod store;

use crate::sessions::{LONGER, Setting, USUAL, alarms};
use crate::support::{Ran, joulefront};
use serde_json::{Value, json};
use statrs::distribution::{Binomial, DiscreteCDF};
use std::path::{Path, PathBuf};

/// Whether `hits` of `runs` are so few that it would happen in one of a thousand sound tests, were each to happen with probability `p`.
fn too_few(hits: u64, runs: u64, p: f64) -> bool {
    Binomial::new(p, runs).unwrap().cdf(hits) < 0.001
}

/// Without a floor, so that the noise alone decides: over eight gated metrics together at most one run in twenty alarms.
#[test]
fn what_did_not_change_seldom_alarms() {
    const RUNS: u64 = 1000;
    let counts = alarms(&Setting { floor: 0.0, ..USUAL }, RUNS, &[(1.0, 1.0)]).unwrap();
    assert!(!too_few(RUNS - counts[0], RUNS, 0.95), "{} of {RUNS} alarm", counts[0]);
    assert!(counts[0] > 0, "a test that never alarms is not sharp");
}

#[test]
fn five_percent_are_found() {
    const RUNS: u64 = 400;
    for found in alarms(&USUAL, RUNS, &[(1.05, 1.0), (1.0, 1.05)]).unwrap() {
        assert!(!too_few(found, RUNS, 0.95), "{found} of {RUNS} find 5 %");
    }
}

#[test]
fn longer_runs_find_two_percent() {
    const RUNS: u64 = 200;
    let counts = alarms(&LONGER, RUNS, &[(1.0, 1.0), (1.02, 1.0), (1.0, 1.02)]).unwrap();
    assert!(!too_few(RUNS - counts[0], RUNS, 0.95), "{} of {RUNS} alarm where nothing changed", counts[0]);
    for found in &counts[1..] {
        assert!(!too_few(*found, RUNS, 0.95), "{found} of {RUNS} find 2 %");
    }
}

/// A folder with a run of a real `bench` in it, and copies of that run with other figures.
struct Place {
    folder: tempfile::TempDir,
    run: Value,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("bench");
        let fixed = [
            "bench",
            "--engine",
            "tract",
            "models/fashion-mlp.onnx",
            "--processes",
            "2",
            "--window",
            "10ms",
            "--disturbance",
            "100%",
            "--quiet",
            "--meter",
            "estimate",
            "--out",
        ];
        let ran = joulefront(&[&fixed[..], &[out.to_str().unwrap()]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let run = serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
        Place { folder, run }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run whose energy and time are `factor` times fixed figures, with a little noise.
    fn made(&self, name: &str, seed: u64, factor: f64) -> String {
        let mut made = self.run.clone();
        let luck = factor * (1.0 + 0.001 * ((seed * 7919 % 13) as f64 - 6.0));
        let case = &mut made["run"]["cases"][0];
        let measurement = &mut case["measurement"];
        let interval = |v: f64| json!({ "value": v * luck, "lo": 0.99 * v * luck, "hi": 1.01 * v * luck });
        measurement["energy"]["gross"] = interval(1e-3);
        measurement["energy"]["per_process"] = json!([0.995e-3 * luck, 1.005e-3 * luck]);
        measurement["latency"]["mean"] = interval(2e-3);
        for (name, v) in [("p50", 1.9e-3), ("p90", 2.2e-3), ("p99", 2.5e-3)] {
            measurement["latency"][name] = json!(v * luck);
        }
        measurement["latency_per_process"] = json!([]);
        measurement["peak_rss"] = json!(18_500_000);
        case["model_bytes"] = json!(407_000);
        made["run"]["taken_unix_s"] = json!(1_760_000_000 + seed);
        let path = self.path(name);
        std::fs::write(&path, made.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn gate(&self, args: &[&str]) -> Ran {
        let store = self.path("store");
        joulefront(&[&["gate", "--store", store.to_str().unwrap()][..], args].concat())
    }

    /// Output without what differs from place to place.
    fn shown(&self, ran: &Ran) -> String {
        let text = format!("exit code: {:?}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
        let digest = |word: &str| match word.rsplit_once('-') {
            Some((start, end)) if end.len() == 21 && end.ends_with(".json") => format!("{start}-DIGEST.json"),
            _ => word.to_owned(),
        };
        let lines = text.replace(self.folder.path().to_str().unwrap(), "FOLDER");
        lines.lines().map(|line| line.split(' ').map(digest).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_baseline_grows_and_a_regression_fails() {
    let place = Place::new();
    place.gate(&[&place.made("first.json", 0, 1.0), "--baseline", "main"]).refused(2, &["no baseline `main`", "--save"]);
    let first = place.gate(&[&place.made("first.json", 0, 1.0), "--baseline", "main", "--save"]);
    insta::assert_snapshot!("gate_first", place.shown(&first));
    for seed in 1..6 {
        let name = format!("{seed}.json");
        assert_eq!(place.gate(&[&place.made(&name, seed, 1.0), "--baseline", "main", "--save"]).code, Some(0));
    }
    let same = place.gate(&[&place.made("same.json", 7, 1.0), "--baseline", "main"]);
    insta::assert_snapshot!("gate_same", place.shown(&same));
    let worse = place.made("worse.json", 8, 1.06);
    let ran = place.gate(&[&worse, "--baseline", "main", "--save"]);
    insta::assert_snapshot!("gate_worse", place.shown(&ran));
    assert_eq!(files(&place.path("store/main")).len(), 6, "what got worse is not saved");
    // A floor that allows it, and metrics that are only recorded.
    assert_eq!(place.gate(&[&worse, "--baseline", "main", "--max-increase", "10%"]).code, Some(0));
    assert_eq!(place.gate(&[&worse, "--baseline", "main", "--metrics", "size,memory"]).code, Some(0));
    let json: Value = serde_json::from_str(&place.gate(&[&worse, "--baseline", "main", "--json"]).stdout).unwrap();
    assert_eq!((&json["schema_version"], &json["passed"], &json["baseline"]), (&json!(1), &json!(false), &json!("main")));
    let energy = json["findings"].as_array().unwrap().iter().find(|f| f["metric"] == "energy").unwrap();
    assert_eq!((&energy["verdict"], &energy["regression"], &energy["baseline_runs"]), (&json!("worse"), &json!(true), &json!(6)));
    assert_eq!(place.gate(&[&worse, "--baseline", "main", "--save", "--accept"]).code, Some(1));
    assert_eq!(files(&place.path("store/main")).len(), 7);
}

#[test]
fn formats_for_other_programs() {
    let place = Place::new();
    for seed in 0..6 {
        place.gate(&[&place.made("r.json", seed, 1.0), "--baseline", "main", "--save"]);
    }
    let out = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let worse = place.made("worse.json", 8, 1.06);
    let (junit, markdown, action, bmf, history) = (out("j.xml"), out("m.md"), out("a.json"), out("b.json"), out("history"));
    let args = [
        "--baseline",
        "main",
        "--junit",
        &junit,
        "--markdown",
        &markdown,
        "--benchmark-action",
        &action,
        "--bmf",
        &bmf,
        "--history",
        &history,
        "--github",
    ];
    let store = place.path("store");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_joulefront"));
    command.args(["gate", "--store", store.to_str().unwrap(), &worse]).args(args).env("GITHUB_STEP_SUMMARY", out("summary.md"));
    let ran = crate::support::ran(&mut command);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains("\n::error title=energy got worse::models/fashion-mlp.onnx"), "{}", ran.stdout);
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    insta::assert_snapshot!("gate_junit", read(&junit));
    insta::assert_snapshot!("gate_markdown", read(&markdown));
    assert_eq!(read(&markdown), read(&out("summary.md")));
    for (path, name) in [(&action, "gate_benchmark_action"), (&bmf, "gate_bmf")] {
        let mut value: Value = serde_json::from_str(&read(path)).unwrap();
        round(&mut value);
        insta::assert_snapshot!(name, format!("{value:#}"));
    }
    assert_eq!(files(Path::new(&history)).len(), 7, "{:?}", files(Path::new(&history)));
}

/// To six digits: the last ones are rounding.
fn round(value: &mut Value) {
    match value {
        Value::Array(a) => a.iter_mut().for_each(round),
        Value::Object(o) => o.values_mut().for_each(round),
        Value::Number(n) => *value = json!(format!("{:.6e}", n.as_f64().unwrap())),
        _ => {}
    }
}

#[test]
fn budgets_alone_and_beside_a_baseline() {
    let place = Place::new();
    let run = place.made("r.json", 3, 1.0);
    let file = place.path("joulefront.toml");
    let with = |limits: &str, more: &[&str]| {
        std::fs::write(&file, format!("[budget]\n\"fashion-mlp.onnx\" = [{limits}]\n")).unwrap();
        place.gate(&[&[&run[..], "--budget", file.to_str().unwrap()], more].concat())
    };
    let kept = with("\"energy <= 2 mJ\", \"size <= 500 KB\"", &[]);
    insta::assert_snapshot!("gate_budget_kept", place.shown(&kept));
    let broken = with("\"energy <= 500 uJ\", \"p99 <= 5 ms\", \"accuracy >= 0.9\"", &[]);
    insta::assert_snapshot!("gate_budget_broken", place.shown(&broken));
    // p99 has no interval here, so it is not shown to be kept.
    assert_eq!(with("\"p99 <= 5 ms\"", &[]).code, Some(1));
    assert_eq!(with("\"p99 <= 5 ms\"", &["--undecided", "pass"]).code, Some(0));
    with("\"energy <= 3\"", &[]).refused(2, &["unit is missing", "fashion-mlp.onnx"]);
    place.gate(&[&run, "--budget", place.path("none.toml").to_str().unwrap()]).refused(2, &["cannot read"]);
    place.gate(&[&run]).refused(2, &["--baseline"]);
}

#[test]
fn hostile_stores_and_runs() {
    let place = Place::new();
    for seed in 0..3 {
        place.gate(&[&place.made("r.json", seed, 1.0), "--baseline", "main", "--save"]);
    }
    let run = place.made("now.json", 5, 1.0);
    let file = place.path("store/main").join(&files(&place.path("store/main"))[1]);
    let whole = std::fs::read(&file).unwrap();
    for damage in [&whole[..whole.len() / 3], b"", b"null", b"{\"schema_version\": 1, \"cases\": [{}]}"] {
        std::fs::write(&file, damage).unwrap();
        place.gate(&[&run, "--baseline", "main", "--save"]).refused(2, &["000002-", "history is never changed"]);
        assert_eq!(std::fs::read(&file).unwrap(), damage);
        assert_eq!(files(&place.path("store/main")).len(), 3);
    }
    let newer = String::from_utf8(whole.clone()).unwrap().replacen("\"schema_version\": 1", "\"schema_version\": 9", 1);
    std::fs::write(&file, newer).unwrap();
    place.gate(&[&run, "--baseline", "main"]).refused(2, &["newer joulefront"]);
    std::fs::write(&file, whole).unwrap();
    assert_eq!(place.gate(&[&run, "--baseline", "main"]).code, Some(0));
    place.gate(&[&run, "--baseline", "../main"]).refused(2, &["no name for a baseline"]);
    place.gate(&["models/fashion-mlp.onnx", "--baseline", "main"]).refused(2, &["not JSON"]);
    place.gate(&["/nowhere", "--baseline", "main"]).refused(2, &["cannot read"]);
    // Another machine, and another kind of energy.
    let mut other: Value = serde_json::from_slice(&std::fs::read(&run).unwrap()).unwrap();
    other["run"]["environment"]["cpu"]["model_name"] = json!("Another CPU");
    other["run"]["cases"][0]["measurement"]["energy"]["kind"] = json!("measured");
    std::fs::write(&run, other.to_string()).unwrap();
    place
        .gate(&[&run, "--baseline", "main"])
        .refused(2, &["CPU (baseline: ", "this run: Another CPU", "kind of energy (baseline: estimated"]);
    assert_eq!(place.gate(&[&run, "--baseline", "main", "--save"]).code, Some(0), "a history of its own");
}

#[test]
fn bench_counts_right_answers_for_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let data = crate::support::small_data(folder.path(), 200);
    let out = folder.path().join("out");
    let fixed = [
        "bench",
        "--engine",
        "tract",
        "models/fashion-mlp.onnx",
        "--processes",
        "2",
        "--window",
        "10ms",
        "--disturbance",
        "100%",
        "--quiet",
        "--accuracy",
    ];
    let more = ["--data", data.to_str().unwrap(), "--out", out.to_str().unwrap(), "--json"];
    let row = joulefront(&[&fixed[..], &more].concat()).json()["results"][0].clone();
    assert!(row["accuracy"].as_f64().unwrap() > 0.8 && row["accuracy_lo"].as_f64() < row["accuracy"].as_f64());
    let stored: Value = serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
    assert_eq!(stored["run"]["cases"][0]["accuracy"]["samples"], 200);
    joulefront(&fixed).refused(2, &["--data"]);
}
