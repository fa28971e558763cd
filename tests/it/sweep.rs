//! Sweeps that are killed, interrupted, resumed, repeated and refused.

use crate::support::{Ran, SHORT_SWEEP, joulefront, ran, repository, small_data};
use joulefront::study::{Study, Trial};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A folder with a small dataset and settings.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        small_data(folder.path(), 200);
        std::fs::write(folder.path().join("s.toml"), SHORT_SWEEP).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, study: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_joulefront"));
        command.current_dir(repository("")).args(["sweep", "models/fashion-mlp.onnx"]);
        command.arg("--data").arg(self.path("data")).arg("--study").arg(self.path(study)).args(more);
        command
    }

    fn start(&self, study: &str, more: &[&str]) -> Command {
        let mut command = self.command(study, more);
        command.arg("--config").arg(self.path("s.toml"));
        command
    }

    fn trials(&self, study: &str) -> BTreeMap<u64, Trial> {
        let trials = Study::open_read_only(&self.path(study)).unwrap().trials().unwrap();
        trials.into_iter().map(|t| (t.id, t)).collect()
    }
}

#[track_caller]
fn finished(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "stdout: {}\nstderr: {}", ran.stdout, ran.stderr);
}

fn shas(trials: &BTreeMap<u64, Trial>) -> Vec<(String, String)> {
    let sha = |t: &Trial| (t.configuration.recipe.clone(), t.results().unwrap().variant.model_sha256.clone());
    trials.values().map(sha).collect()
}

/// The trials that a run of `before` stored are in `after` as they were.
#[track_caller]
fn kept(before: &BTreeMap<u64, Trial>, after: &BTreeMap<u64, Trial>) {
    for (id, trial) in before {
        let mut now = after.get(id).unwrap_or_else(|| panic!("trial {id} is lost")).clone();
        // The accuracy on `test` is filled in at the end.
        if let (joulefront::study::Outcome::Done(new), Some(old)) = (&mut now.outcome, trial.results()) {
            new.test_accuracy = old.test_accuracy;
        }
        assert_eq!(&now, trial);
    }
}

/// Waits until the study holds at least `count` trials or the child ended.
fn wait_for(place: &Place, study: &str, count: usize, child: &mut std::process::Child) {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(300) {
        let there = Study::open_read_only(&place.path(study)).and_then(|s| s.trials()).map_or(0, |t| t.len());
        if there >= count {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stands in the environment of a sweep and of everything it starts.
const MARK: &str = "JOULEFRONT_TEST_MARK";

/// Fails unless every process that a killed sweep started ends by itself.
#[track_caller]
fn no_process_left(mark: &Path) {
    let entry = format!("{MARK}={}", mark.display());
    let marked = |pid: &Path| std::fs::read(pid.join("environ")).is_ok_and(|e| e.split(|&b| b == 0).any(|v| v == entry.as_bytes()));
    let left = || std::fs::read_dir("/proc").unwrap().flatten().map(|e| e.path()).find(|p| marked(p));
    let start = Instant::now();
    while let Some(pid) = left() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} still runs", pid.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_sweep_whose_original_cannot_run_leaves_no_study() {
    let place = Place::new();
    let mut model = joulefront::onnx::Model::load(repository("models/fashion-mlp.onnx")).unwrap();
    let relu = model.graph_mut().node.iter_mut().find(|n| n.op_type() == "Relu").unwrap();
    relu.set_domain("com.example".into());
    relu.set_op_type("Frobnicate".into());
    model.save(place.path("custom.onnx")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_joulefront"));
    command.arg("sweep").arg(place.path("custom.onnx")).arg("--data").arg(place.path("data"));
    command.arg("--config").arg(place.path("s.toml")).arg("--study").arg(place.path("n.sqlite"));
    let out = ran(&mut command);
    out.refused(2, &["Frobnicate"]);
    assert!(!out.stderr.contains("--resume"), "{}", out.stderr);
    let mut names: Vec<_> = std::fs::read_dir(place.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["custom.onnx", "data", "s.toml"]);
}

#[test]
fn same_seed_same_bytes_on_any_number_of_cores() {
    let place = Place::new();
    finished(&ran(&mut place.start("a.sqlite", &[])));
    let mut pinned = Command::new("taskset");
    let one = place.start("b.sqlite", &[]);
    pinned.current_dir(repository("")).args(["-c", "0"]).arg(one.get_program()).args(one.get_args());
    finished(&ran(&mut pinned));
    let (a, b) = (place.trials("a.sqlite"), place.trials("b.sqlite"));
    assert_eq!(a.len(), 5);
    assert_eq!(shas(&a), shas(&b));
    let files = |study: &str| {
        let mut names: Vec<_> = std::fs::read_dir(place.path(&format!("{study}.files"))).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(files("a.sqlite"), files("b.sqlite"));
}

#[test]
fn killed_at_any_moment_no_trial_is_lost_or_run_twice() {
    let place = Place::new();
    let mut before = BTreeMap::new();
    for kill in 0..6u32 {
        let exists = place.path("k.sqlite").exists();
        let mut command = if exists { place.command("k.sqlite", &["--resume"]) } else { place.start("k.sqlite", &[]) };
        command.env(MARK, place.path("k.sqlite"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Now before, now after another trial is stored, and somewhere within the next one.
        if kill % 3 != 0 {
            wait_for(&place, "k.sqlite", before.len() + 1, &mut child);
        }
        std::thread::sleep(Duration::from_millis(u64::from(kill) * 170));
        child.kill().unwrap();
        child.wait().unwrap();
        no_process_left(&place.path("k.sqlite"));
        if place.path("k.sqlite").exists() {
            let after = place.trials("k.sqlite");
            kept(&before, &after);
            before = after;
        }
    }
    // What a killed writer leaves is removed when it is certainly nobody's; a writer that may be at work is left alone.
    std::fs::create_dir_all(place.path("k.sqlite.files")).unwrap();
    let (old, young) = (place.path("k.sqlite.files/.joulefront-old"), place.path(".joulefront-young"));
    let hours_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
    std::fs::File::create(&old).unwrap().set_modified(hours_ago).unwrap();
    std::fs::write(&young, "half").unwrap();
    let last = ran(&mut place.command("k.sqlite", &["--resume"]));
    finished(&last);
    assert!(!old.exists() && young.exists());
    let after = place.trials("k.sqlite");
    kept(&before, &after);
    assert_eq!(after.len(), 5);
    let mut recipes: Vec<_> = after.values().map(|t| &t.configuration.recipe).collect();
    recipes.sort();
    recipes.dedup();
    assert_eq!(recipes.len(), 5, "no recipe twice");
    // Every file that a trial names is whole.
    let study = Study::open_read_only(&place.path("k.sqlite")).unwrap();
    for (_, sha) in shas(&after) {
        let bytes = std::fs::read(study.artifact_path(&sha).unwrap()).unwrap();
        assert_eq!(joulefront::onnx::sha256_hex(&bytes), sha);
    }
    assert!(place.path("k-report/index.html").is_file());
    // Once more: nothing is left to do.
    let again = ran(&mut place.command("k.sqlite", &["--resume", "--json"])).json();
    assert_eq!((&again["trials_run"], &again["trials_found"]), (&0.into(), &5.into()));
    assert_eq!(place.trials("k.sqlite"), after);
}

#[test]
fn ctrl_c_keeps_what_is_done_and_prints_the_line_that_resumes() {
    let place = Place::new();
    for (study, signal) in [("i.sqlite", "-INT"), ("t.sqlite", "-TERM")] {
        let mut child = place.start(study, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&place, study, 1, &mut child);
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let out = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(130), "{stderr}");
        let before = place.trials(study);
        assert!(!before.is_empty() && before.len() < 5, "{}", before.len());
        let line = stderr.lines().find_map(|l| l.split_once("to go on: joulefront ")).expect("the resume line").1.to_owned();
        let words = format!("{} {line}", env!("CARGO_BIN_EXE_joulefront"));
        finished(&ran(Command::new("sh").args(["-c", &words]).current_dir(repository(""))));
        let after = place.trials(study);
        kept(&before, &after);
        assert_eq!(after.len(), 5);
    }
}

#[test]
fn a_budget_ends_it_between_trials() {
    let place = Place::new();
    let out = ran(&mut place.start("b.sqlite", &["--budget", "2trials", "--json"])).json();
    assert_eq!((&out["trials_run"], &out["recipes_left"]), (&2.into(), &3.into()));
    let rows = out["results"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["recipe"], "original");
    assert_eq!(rows[0]["energy_kind"], "estimated");
    let out = ran(&mut place.command("b.sqlite", &["--resume", "--budget", "1trials", "--json"])).json();
    assert_eq!(out["trials_run"], 0);
}

#[test]
fn studies_are_not_mixed_up() {
    let place = Place::new();
    finished(&ran(&mut place.start("a.sqlite", &["--budget", "1trials"])));
    ran(&mut place.start("a.sqlite", &[])).refused(2, &["exists already", "--resume"]);
    ran(&mut place.command("absent.sqlite", &["--resume"])).refused(2, &["absent.sqlite"]);
    std::fs::write(place.path("text.sqlite"), "this is no database, but it is long enough to be taken for one: ".repeat(40)).unwrap();
    ran(&mut place.command("text.sqlite", &["--resume"])).refused(2, &["text.sqlite"]);
    std::fs::write(place.path("s.toml"), SHORT_SWEEP.replace("seed = 3", "seed = 4")).unwrap();
    ran(&mut place.start("a.sqlite", &["--resume"])).refused(2, &["differs from the settings"]);
    let other = |model: &str, data: &Path| {
        let (data, study) = (data.to_str().unwrap().to_owned(), place.path("a.sqlite").to_str().unwrap().to_owned());
        joulefront(&["sweep", model, "--data", &data, "--study", &study, "--resume"])
    };
    other("models/fashion-dscnn.onnx", &place.path("data")).refused(2, &["another model"]);
    let more = tempfile::tempdir().unwrap();
    other("models/fashion-mlp.onnx", &small_data(more.path(), 150)).refused(2, &["another dataset"]);
    std::fs::write(place.path("s.toml"), "[space]\nchannel_ratio = [0.5]\n").unwrap();
    ran(&mut place.start("c.sqlite", &[])).refused(2, &["channel_ratio"]);
}

#[test]
fn a_trial_that_fails_is_kept_with_its_reason_and_the_sweep_goes_on() {
    let place = Place::new();
    // An operator set below 13 cannot hold weights quantized per channel, and a model with functions is not converted.
    let mut model = joulefront::onnx::Model::load(repository("models/fashion-mlp.onnx")).unwrap();
    model.proto_mut().opset_import[0].set_version(12);
    let mut function = joulefront::onnx::pb::FunctionProto::new();
    function.set_name("unused".into());
    function.set_domain("test".into());
    model.proto_mut().functions.push(function);
    model.save(place.path("old.onnx")).unwrap();
    let (model, data, config, study) = (place.path("old.onnx"), place.path("data"), place.path("s.toml"), place.path("f.sqlite"));
    let args = ["sweep".as_ref(), model.as_os_str(), "--data".as_ref(), data.as_os_str(), "--config".as_ref(), config.as_os_str()];
    let out = joulefront(&[&args[..], &["--study".as_ref(), study.as_os_str(), "--json".as_ref()]].concat()).json();
    let rows = out["results"].as_array().unwrap();
    let failed: Vec<_> = rows.iter().filter(|r| r["status"] == "failed").collect();
    assert_eq!((rows.len(), failed.len()), (5, 1));
    assert!(failed[0]["energy_j"].is_null() && failed[0]["accuracy"].is_null());
    let page = std::fs::read_to_string(place.path("f-report/index.html")).unwrap();
    assert!(page.contains("operator set 12 cannot be converted to 13"), "the page says why");
}

#[test]
fn without_labels_accuracy_is_agreement_with_the_original() {
    let place = Place::new();
    let toml = place.path("data/dataset.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    let unlabelled: String = text.lines().map(|l| l.split(", y = ").collect::<Vec<_>>()).map(strip).collect();
    std::fs::write(&toml, unlabelled).unwrap();
    let out = ran(&mut place.start("u.sqlite", &["--json", "--budget", "3trials"])).json();
    let rows = out["results"].as_array().unwrap();
    assert_eq!(rows[0]["accuracy"], 1.0);
    assert!(rows[1]["accuracy"].as_f64().unwrap() <= 1.0);
    assert!(rows[1]["accuracy_drop_points"].as_f64().unwrap() >= 0.0);
}

/// A line of dataset.toml without its labels: `x = "…", y = "…", range = […] }` loses `y`.
fn strip(parts: Vec<&str>) -> String {
    match parts[..] {
        [x, rest] => format!("{x}, {}\n", rest.split_once(", ").unwrap().1),
        _ => format!("{}\n", parts[0]),
    }
}

/// Two engines that are part of every build, one coding, one share.
const MATRIX: &str = "
seed = 3
calibration_samples = 64
[space]
channel_ratios = [0.6]
connection_ratios = []
weight_bits = []
pruned_bits = []
engines = ['tract', 'rten']
quantize = [{ do = 'quantize', weight_bits = 8, activation_bits = 8 }]
pruned_quantize = [0.6]
forms = ['dynamic', 'qlinear']
threads = [1]
batch = [1, 4]
[measure]
processes = 3
blocks = 1
window_s = 0.01
disturbance = 1.0
";

#[test]
fn engines_forms_and_batches_are_trials_of_one_study_and_compared_on_their_own_engine() {
    let place = Place::new();
    std::fs::write(place.path("s.toml"), MATRIX).unwrap();
    let out = ran(&mut place.start("m.sqlite", &["--json"])).json();
    let trials = place.trials("m.sqlite");
    let of = |engine: &str, lowering: &str| {
        let same = |t: &&Trial| t.configuration.engine == engine && t.configuration.lowering == lowering;
        trials.values().filter(same).map(|t| t.results().unwrap_or_else(|| panic!("{t:?}"))).collect::<Vec<_>>()
    };
    let reference = &trials[&0];
    assert_eq!((reference.configuration.engine.as_str(), reference.configuration.recipe.as_str()), ("tract", "original"));
    // The original on each engine, what each form is worth, and an open batch come whatever the machine is like.
    let original = of("rten", "float")[0];
    assert_eq!(original.energy_ratio_engine.map(|r| r.value), Some(1.0));
    assert!(original.measurement.energy.as_ref().unwrap().ratio.unwrap().lo > 0.0);
    for (engine, form) in [("tract", "qlinear"), ("rten", "dynamic")] {
        let screened = of(engine, form)[0];
        let (ratio, on_engine) = (screened.measurement.energy.as_ref().unwrap().ratio.unwrap(), screened.energy_ratio_engine.unwrap());
        assert!(on_engine.lo > 0.0 && on_engine.lo <= on_engine.value && on_engine.value <= on_engine.hi, "{on_engine:?}");
        // On the first engine the original on the engine is the reference.
        assert_eq!(ratio.value == on_engine.value, engine == "tract", "{engine}: {ratio:?} {on_engine:?}");
        assert!(screened.accuracy_drop_points.unwrap().value.abs() < 5.0);
        assert_eq!(of(engine, "open-batch").len(), 1);
    }
    assert!(trials.values().any(|t| t.configuration.batch == 4), "the best are run in batches too");
    // A form on pruned models is tried only where it pays, and nothing says that it does here.
    let findings: Vec<&str> = out["findings"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    assert_eq!(findings.len(), 4, "{findings:?}");
    for (engine, form) in [("tract", "qlinear"), ("rten", "dynamic")] {
        let pays = findings.iter().any(|f| f.contains(&format!("form `{form}` takes")) && f.contains(engine));
        let built = trials.values().any(|t| t.configuration.lowering == form && t.configuration.recipe.contains("pruned"));
        assert_eq!(pays, built, "{findings:?}");
    }
    // Nothing is left to do, and the findings are there again.
    let again = ran(&mut place.command("m.sqlite", &["--resume", "--json"])).json();
    assert_eq!((&again["trials_run"], &again["findings"]), (&0.into(), &out["findings"]));
    // The command of a trial makes its very file.
    let (id, trial) = trials.iter().find(|(_, t)| t.configuration.lowering == "dynamic").unwrap();
    let file = place.path("again.onnx");
    let mut words = vec!["compress", "models/fashion-mlp.onnx", "-o", file.to_str().unwrap(), "--calibration-samples", "64"];
    words.extend(trial.configuration.reproduce.split(' '));
    let data = place.path("data");
    words.extend(["--data", data.to_str().unwrap()]);
    finished(&joulefront(&words));
    let sha = joulefront::onnx::sha256_hex(&std::fs::read(&file).unwrap());
    assert_eq!(sha, trial.results().unwrap().variant.model_sha256, "trial {id}: {}", trial.configuration.reproduce);
}

/// ONNX Runtime behind a library that dies once, in the midst of a sweep: that trial fails with the signal's name, all others are done.
#[cfg(target_os = "linux")]
#[test]
fn a_death_inside_a_library_fails_one_trial_and_no_others() {
    let place = Place::new();
    let Some(real) = crate::engines::onnx_runtime() else { return };
    let fuse = place.path("fuse");
    // It hands out the functions of the real library, unless it finds the fuse: then it burns that and dies.
    let body = format!(
        "if (!unlink({fuse:?})) *(volatile int *)0 = 1;\n\
         void *real = dlopen({real:?}, RTLD_NOW); typedef struct {{ const void *(*api)(unsigned); }} Base;\n\
         return ((const Base *(*)(void))dlsym(real, \"OrtGetApiBase\"))()->api(v)"
    );
    let Some(library) = crate::engines::library(place.folder.path(), "once", 99, &body) else { return };
    let settings = SHORT_SWEEP.replace("engines = ['tract']", "engines = ['tract', 'ort']");
    std::fs::write(place.path("s.toml"), settings).unwrap();
    let mut command = place.start("d.sqlite", &["--quiet"]);
    let mut child = command.env("ORT_DYLIB_PATH", &library).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&place, "d.sqlite", 1, &mut child);
    std::fs::write(&fuse, "").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!fuse.exists());
    let trials = place.trials("d.sqlite");
    let failed: Vec<&Trial> = trials.values().filter(|t| t.results().is_none()).collect();
    let [one] = failed[..] else { panic!("{failed:?}") };
    match &one.outcome {
        joulefront::study::Outcome::Failed { reason } => assert!(reason.contains("SIGSEGV (11)"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(trials.len() >= 6, "{}", trials.len());
}

#[test]
fn engines_that_are_not_there_are_refused_before_anything_is_made() {
    let place = Place::new();
    let mut command = place.start("e.sqlite", &["--engine", "tract,ort"]);
    ran(command.env("ORT_DYLIB_PATH", "/nonexistent/libonnxruntime.so")).refused(3, &["ORT_DYLIB_PATH"]);
    ran(&mut place.start("e.sqlite", &["--engine", "abacus"])).refused(2, &["`tract`, `rten`, `ort`"]);
    assert!(!place.path("e.sqlite").exists());
}
