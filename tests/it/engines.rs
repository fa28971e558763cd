//! All engines: what they answer, how a library that is found at run time may be missing, old or broken, and what bounds them.

use crate::pruning::{distance, run};
use crate::support::{joulefront, model, ran, repository, skipped, uniform};
use joulefront::ErrorKind;
use joulefront::engine::{Engine, LoadOptions, all, by_name};
use joulefront::model::Facts;
use joulefront::onnx::{Attributes, Model, pb};
use joulefront::runner::{Job, MemoryLimit, Program, Runner, find};
use joulefront::tensor::{Data, Tensor};
use joulefront::units::Bytes;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) fn program() -> Program {
    Program::at(env!("CARGO_BIN_EXE_joulefront"))
}

/// The engines that are here; a test that misses one says so.
pub(crate) fn engines() -> Vec<&'static dyn Engine> {
    let here = |e: &&'static dyn Engine| match find(&program(), *e) {
        Ok(_) => true,
        Err(why) => {
            skipped(&format!("{}: {why}", e.name()));
            false
        }
    };
    all().iter().copied().filter(here).collect()
}

pub(crate) fn job(model: PathBuf, engine: &dyn Engine, options: LoadOptions) -> Job {
    let (timeout, memory) = (Duration::from_secs(120), MemoryLimit::default());
    Job { model, engine: engine.name().to_owned(), options, cpus: vec![], timeout, memory }
}

/// Answers of ONNX Runtime under Python to the inputs that `scripts/engine_outputs.py` makes.
fn stored() -> Vec<(String, Tensor, Vec<f32>)> {
    let json: serde_json::Value = serde_json::from_str(include_str!("../fixtures/engine_outputs.json")).unwrap();
    let one = |(name, f): (&String, &serde_json::Value)| {
        let shape: Vec<usize> = serde_json::from_value(f["shape"].clone()).unwrap();
        let value = |i: usize| ((i * 7919) % 1000) as f32 / 500.0 - 1.0;
        let x = Tensor::f32(shape.as_slice(), (0..shape.iter().product()).map(value).collect()).unwrap();
        let logits: Vec<Vec<f32>> = serde_json::from_value(f["logits"].clone()).unwrap();
        (name.clone(), x, logits.concat())
    };
    json.as_object().unwrap().iter().map(one).collect()
}

#[test]
fn every_engine_gives_the_stored_answers_whatever_the_batch_and_the_threads_and_with_an_open_batch() {
    let stored = stored();
    assert_eq!(stored.len(), 6);
    for engine in engines() {
        for (name, x, expect) in &stored {
            for (batch, threads, symbolic) in [(1, 1, false), (2, 1, false), (1, 2, false), (2, 2, true), (1, 1, true)] {
                let options = LoadOptions { batch, threads, symbolic, ..LoadOptions::default() };
                let what = format!("{} {name}, batch {batch}, {threads} threads, open {symbolic}", engine.name());
                let mut runner = Runner::spawn(&program(), &job(model(name), engine, options)).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!((runner.outputs()[0].name.as_str(), &runner.outputs()[0].shape), ("logits", &vec![batch, 10]), "{what}");
                let got = runner.infer(std::slice::from_ref(x)).unwrap();
                let got = got[0].as_f32().unwrap();
                assert_eq!(got.len(), expect.len(), "{what}");
                for (g, e) in got.iter().zip(expect) {
                    assert!((g - e).abs() < 1e-3 * (1.0 + e.abs()), "{what}: {g} instead of {e}");
                }
            }
        }
    }
}

/// Our own reference execution computes in another order: the answers agree to 10⁻⁴ of the largest value, which is far less than
/// what a wrong kernel does.
#[test]
fn every_engine_agrees_with_the_reference_execution_on_every_shipped_model() {
    const TOLERANCE: f32 = 1e-4;
    let names: Vec<String> = std::fs::read_dir(repository("models"))
        .unwrap()
        .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".onnx")?.to_owned()))
        .collect();
    assert!(names.len() >= 6);
    for name in names {
        let original = Model::load(model(&name)).unwrap();
        let sample = Facts::infer(&original, 1).unwrap().shape("input").unwrap().to_vec();
        let shape = [&[4], &sample[1..]].concat();
        let x = Tensor::f32(shape.as_slice(), uniform(shape.iter().product())).unwrap();
        let expect = run(&original, &x);
        for engine in engines() {
            for (batch, threads) in [(1, 1), (1, 2), (4, 1), (4, 2)] {
                let options = LoadOptions { batch, threads, ..LoadOptions::default() };
                let got = Runner::spawn(&program(), &job(model(&name), engine, options)).unwrap().infer(std::slice::from_ref(&x)).unwrap();
                let far = distance(got[0].as_f32().unwrap(), &expect);
                assert!(far <= TOLERANCE, "{} {name}, batch {batch}, {threads} threads: {far}", engine.name());
            }
        }
    }
}

#[test]
fn every_engine_runs_prepared_inputs_and_refuses_others() {
    for engine in engines() {
        let mut runner = Runner::spawn(&program(), &job(model("fashion-mlp"), engine, LoadOptions::default())).unwrap();
        let image = |seed: usize| Tensor::f32([1, 1, 28, 28], (0..784).map(|i| ((i * 31 + seed) % 255) as f32 / 255.0).collect()).unwrap();
        runner.prepare(&[vec![image(0)], vec![image(1)]]).unwrap();
        assert!(runner.run(9).unwrap().wall.0 > 0.0);
        assert_eq!(runner.latencies().unwrap().len(), 9, "{}", engine.name());
        assert!(runner.prepare(&[vec![Tensor::f32([1, 784], vec![0.0; 784]).unwrap()]]).is_err());
        for (options, word) in [
            (LoadOptions { batch: 0, ..LoadOptions::default() }, "0 samples"),
            (LoadOptions { threads: 0, ..LoadOptions::default() }, "0 threads"),
        ] {
            let e = Runner::spawn(&program(), &job(model("fashion-mlp"), engine, options)).err().unwrap();
            assert!(e.kind() == ErrorKind::BadInput && e.to_string().contains(word), "{}: {e}", engine.name());
        }
    }
}

/// What each engine says of operators, types and files that it does not take.
#[test]
fn what_an_engine_refuses_is_named_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut custom = Model::load(model("fashion-mlp")).unwrap();
    custom.graph_mut().node[1].set_op_type("Frobnicate".into());
    custom.save(path("custom.onnx")).unwrap();
    std::fs::write(path("garbage.onnx"), [0xff; 64]).unwrap();
    for engine in engines() {
        for (file, word) in [("custom.onnx", "Frobnicate"), ("garbage.onnx", "ONNX"), ("absent.onnx", "no such file")] {
            let e = Runner::spawn(&program(), &job(path(file), engine, LoadOptions::default())).err().unwrap();
            assert!(e.to_string().contains(word), "{} {file}: {e}", engine.name());
            assert!(e.hint_text().is_some() || e.kind() == ErrorKind::BadInput, "{} {file}: {e}", engine.name());
        }
    }
}

/// x ↦ the largest element of x repeated `n` times: its memory is not in the file.
fn hungry(path: &Path, n: i64) {
    let mut model = Model::load(model("fashion-mlp")).unwrap();
    let shape = model.add_initializer("repeated", &Tensor::new(vec![4], Data::I64(vec![n, 1, 28, 28])).unwrap());
    let node = |op: &str, inputs: &[&str], output: &str| {
        let mut node = pb::NodeProto::new();
        node.set_op_type(op.into());
        node.input = inputs.iter().map(|&i| i.to_owned()).collect();
        node.output = vec![output.to_owned()];
        node
    };
    let mut max = node("ReduceMax", &["large"], "logits");
    max.set_ints("axes", vec![1, 2, 3]);
    max.set_int("keepdims", 0);
    let graph = model.graph_mut();
    graph.node = vec![node("Expand", &["input", &shape], "large"), max];
    graph.value_info.clear();
    graph.output[0].type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.clear();
    let used = shape.clone();
    graph.initializer.retain(|t| t.name() == used);
    model.save(path).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn an_allocation_beyond_the_limit_ends_one_child_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hungry.onnx");
    // 1.25 GB.
    hungry(&file, 400_000);
    for engine in engines() {
        let limited = Job { memory: MemoryLimit::At(Bytes(400 << 20)), ..job(file.clone(), engine, LoadOptions::default()) };
        let ended = Runner::spawn(&program(), &limited).and_then(|mut runner| {
            runner.prepare(&[vec![Tensor::f32([1, 1, 28, 28], vec![1.0; 784])?]])?;
            runner.run(1)
        });
        let e = ended.err().unwrap_or_else(|| panic!("{} took what it may not", engine.name()));
        assert_eq!(e.kind(), ErrorKind::Engine, "{}: {e}", engine.name());
        let said = e.to_string().to_lowercase();
        assert!(said.contains("memory") || said.contains("alloc"), "{}: {e}", engine.name());
        assert!(e.hint_text().is_some_and(|hint| hint.contains("--max-memory")), "{}: {:?}", engine.name(), e.hint_text());
        // The others of a bench are measured.
        let bench = ["bench", "models/fashion-mlp.onnx", file.to_str().unwrap(), "--engine", engine.name(), "--max-memory", "400MB"];
        let ran =
            joulefront(&[&bench[..], &["--processes", "2", "--window", "10ms", "--disturbance", "100%", "--json", "--quiet"]].concat());
        ran.refused(2, &["1 of 2 configurations could not be measured"]);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let status: Vec<&str> = json["results"].as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect();
        assert_eq!(status, ["done", "failed"], "{}", engine.name());
    }
}

/// ONNX Runtime's library, where there is one.
pub(crate) fn onnx_runtime() -> Option<PathBuf> {
    let found = find(&program(), by_name("ort").unwrap());
    match found {
        Ok(found) => found.library,
        Err(why) => {
            skipped(&format!("ONNX Runtime: {why}"));
            None
        }
    }
}

/// A shared library with ONNX Runtime's entry point, of the version `1.minor.0`, which does `body` when it is asked for its functions.
pub(crate) fn library(folder: &Path, name: &str, minor: u32, body: &str) -> Option<PathBuf> {
    let (source, file) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    let code = format!(
        "#include <signal.h>\n#include <stdlib.h>\n#include <stddef.h>\n#include <unistd.h>\n#include <dlfcn.h>\n\
         static const void *api(unsigned v) {{ (void)v; {body}; return NULL; }}\n\
         static const char *version(void) {{ return \"1.{minor}.0\"; }}\n\
         static const struct {{ const void *(*a)(unsigned); const char *(*v)(void); }} base = {{ api, version }};\n\
         const void *OrtGetApiBase(void) {{ return &base; }}\n"
    );
    std::fs::write(&source, code).unwrap();
    match Command::new("cc").args(["-shared", "-fPIC", "-O0", "-o"]).arg(&file).arg(&source).arg("-ldl").status() {
        Ok(status) if status.success() => Some(file),
        _ => {
            skipped("there is no C compiler `cc`");
            None
        }
    }
}

/// The binary with ONNX Runtime's library looked for at `library`.
fn with_library(library: &Path, args: &[&str]) -> crate::support::Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_joulefront"));
    ran(command.args(args).current_dir(repository("")).env("ORT_DYLIB_PATH", library).env("NO_COLOR", "1"))
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_that_is_absent_old_or_broken_is_no_engine_and_all_else_works() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text.so"), "not a library").unwrap();
    std::fs::write(at("empty.so"), "").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.lines().filter_map(|l| l.split_whitespace().last()).find(|f| f.contains("libc.so") || f.contains("libc-"));
    let other = PathBuf::from(libc.expect("this test is linked to libc"));
    let mut cases = vec![
        (at("absent.so"), "cannot be loaded"),
        (at("text.so"), "cannot be loaded"),
        (at("empty.so"), "cannot be loaded"),
        (other, "it has no `OrtGetApiBase`"),
    ];
    if let Some(old) = library(folder.path(), "old", 9, "") {
        cases.push((old, "is version 1.9.0, at least 1.18 is needed"));
    }
    if let Some(none) = library(folder.path(), "none", 99, "") {
        cases.push((none, "is version 1.99.0 without the functions of 1.18"));
    }
    for (library, word) in cases {
        let eval = with_library(&library, &["eval", "models/fashion-mlp.onnx", "--engine", "ort"]);
        eval.refused(3, &["hint: install it (`pip install onnxruntime`), or name the library's file in `ORT_DYLIB_PATH`"]);
        for data in [&[][..], &["--data", "models/fashion-mnist"]] {
            let bench = ["bench", "models/fashion-mlp.onnx", "--engine", "ort,rten", "--processes", "2", "--window", "5ms"];
            with_library(&library, &[&bench[..], data].concat()).refused(3, &["hint: install it (`pip install onnxruntime`)"]);
        }
        let doctor = with_library(&library, &["doctor", "--json"]).json();
        let engines = doctor["engines"].as_array().unwrap();
        assert_eq!(engines.iter().map(|e| e["version"].is_string()).collect::<Vec<_>>(), [true, true, false], "{engines:?}");
        let reason = engines[2]["reason"].as_str().unwrap();
        assert!(reason.contains(word), "{reason}");
        assert_eq!(engines[2]["name"], "ort");
        let inspect = with_library(&library, &["inspect", "models/fashion-mlp.onnx", "--json"]).json();
        let loads: Vec<bool> = inspect["engines"].as_array().unwrap().iter().map(|e| e["loads"].as_bool().unwrap()).collect();
        assert_eq!(loads, [true, true, false]);
    }
}

/// Death inside a native library ends one configuration, with its signal named; the others are measured.
#[cfg(target_os = "linux")]
#[test]
fn a_library_that_dies_or_hangs_takes_one_trial_with_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, body, said) in [
        ("segv", "*(volatile int *)0 = 1", "SIGSEGV (11)"),
        ("abort", "abort()", "SIGABRT (6)"),
        ("kill", "kill(getpid(), SIGKILL)", "SIGKILL (9)"),
        ("hang", "for (;;) pause()", "gave no answer in 2.00 s"),
        ("exit", "_exit(7)", "exited with code 7"),
    ] {
        let Some(library) = library(folder.path(), name, 99, body) else { return };
        let args = ["bench", "models/fashion-mlp.onnx", "--engine", "tract,ort", "--processes", "2", "--window", "10ms"];
        let rest = ["--disturbance", "100%", "--timeout", "2s", "--json", "--quiet"];
        let ran = with_library(&library, &[&args[..], &rest[..]].concat());
        assert_eq!(ran.code, Some(2), "{name}: {}", ran.stderr);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let rows = json["results"].as_array().unwrap();
        assert_eq!(rows.iter().map(|r| r["status"].as_str().unwrap()).collect::<Vec<_>>(), ["done", "failed"], "{name}");
        assert!(rows[0]["energy_j"].as_f64().unwrap() > 0.0);
        assert!(ran.stderr.contains("1 of 2 configurations could not be measured"), "{name}: {}", ran.stderr);
        let text = with_library(&library, &[&args[..], &rest[..4]].concat()).stdout;
        assert!(text.contains(said), "{name}: {text}");
    }
}

#[test]
fn engines_are_listed_with_their_versions() {
    let doctor = joulefront(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{}", doctor.stderr);
    for (name, version) in [("tract", "0.23.9"), ("rten", "0.27.0")] {
        assert!(doctor.stdout.contains(&format!("  {name:<9} {version}\n")), "{}", doctor.stdout);
    }
    joulefront(&["eval", "models/fashion-mlp.onnx", "--engine", "abacus"]).refused(2, &["`tract`, `rten`, `ort`"]);
}
