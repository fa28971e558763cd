//! Engines in and out of their child process, and children that misbehave.

use joulefront::engine::{self, LoadOptions, Predict, Source, by_name, predict};
use joulefront::runner::{Job, MemoryLimit, Program, Runner};
use joulefront::tensor::Tensor;
use joulefront::{ErrorKind, onnx};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

fn program() -> Program {
    Program::at(env!("CARGO_BIN_EXE_joulefront"))
}

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(format!("{name}.onnx"))
}

fn job(model: PathBuf, batch: usize) -> Job {
    let options = LoadOptions { batch, ..LoadOptions::default() };
    Job { model, engine: "tract".into(), options, cpus: vec![], timeout: Duration::from_secs(60), memory: MemoryLimit::default() }
}

/// The input that `scripts/engine_outputs.py` makes, from sample `start` on.
fn made_up(shape: &[usize], start: usize) -> Tensor {
    let each: usize = shape[1..].iter().product();
    let value = |i: usize| ((i * 7919) % 1000) as f32 / 500.0 - 1.0;
    Tensor::f32(shape, (start * each..start * each + shape.iter().product::<usize>()).map(value).collect()).unwrap()
}

struct Fixture {
    name: String,
    shape: Vec<usize>,
    logits: Vec<f32>,
}

fn fixtures() -> Vec<Fixture> {
    let json: serde_json::Value = serde_json::from_str(include_str!("../fixtures/engine_outputs.json")).unwrap();
    let numbers = |v: &serde_json::Value| v.as_array().unwrap().clone();
    let fixture = |(name, f): (&String, &serde_json::Value)| Fixture {
        name: name.clone(),
        shape: numbers(&f["shape"]).iter().map(|d| d.as_u64().unwrap() as usize).collect(),
        logits: numbers(&f["logits"]).iter().flat_map(numbers).map(|x| x.as_f64().unwrap() as f32).collect(),
    };
    json.as_object().unwrap().iter().map(fixture).collect()
}

#[track_caller]
fn assert_close(name: &str, got: &[f32], expect: &[f32]) {
    assert_eq!(got.len(), expect.len(), "{name}");
    for (g, e) in got.iter().zip(expect) {
        assert!((g - e).abs() < 1e-3 * (1.0 + e.abs()), "{name}: {g} instead of {e}");
    }
}

#[test]
fn tract_agrees_with_onnx_runtime_on_every_shipped_model_alone_and_in_batches() {
    for f in fixtures() {
        for batch in [1, 2] {
            let options = LoadOptions { batch, ..LoadOptions::default() };
            let mut session = by_name("tract").unwrap().load(Source::Path(&model(&f.name)), &options).unwrap();
            let shape = [&[batch], &f.shape[1..]].concat();
            assert_eq!((session.inputs()[0].name.as_str(), &session.inputs()[0].shape), ("input", &shape));
            assert_eq!((session.outputs()[0].name.as_str(), session.outputs()[0].shape.as_slice()), ("logits", &[batch, 10][..]));
            let got: Vec<f32> = (0..2 / batch)
                .flat_map(|run| session.infer(&[made_up(&shape, run * batch)]).unwrap()[0].as_f32().unwrap().to_vec())
                .collect();
            assert_close(&f.name, &got, &f.logits);
        }
    }
}

#[test]
fn the_child_gives_the_engines_own_outputs_whatever_the_batch() {
    for f in fixtures().iter().filter(|f| f.name != "cifar-resnet8") {
        // Three samples in batches of 2: the last batch is filled up.
        let mut runner = Runner::spawn(&program(), &job(model(&f.name), 2)).unwrap();
        let three = made_up(&[3, 1, 28, 28], 0);
        let outputs = runner.infer(std::slice::from_ref(&three)).unwrap();
        assert_eq!(outputs[0].shape(), [3, 10]);
        assert_close(&f.name, &outputs[0].as_f32().unwrap()[..20], &f.logits);
        let mut alone = by_name("tract").unwrap().load(Source::Path(&model(&f.name)), &LoadOptions::default()).unwrap();
        let third = alone.infer(&[made_up(&[1, 1, 28, 28], 2)]).unwrap();
        assert_close(&f.name, &outputs[0].as_f32().unwrap()[20..], third[0].as_f32().unwrap());
    }
}

#[test]
fn a_run_is_exactly_n_inferences_whose_latencies_add_up_to_the_wall_time() {
    let mut runner = Runner::spawn(&program(), &job(model("fashion-mlp"), 1)).unwrap();
    let slots: Vec<_> = (0..5).map(|i| vec![made_up(&[1, 1, 28, 28], i)]).collect();
    runner.prepare(&slots).unwrap();
    for n in [1, 7, 500] {
        let ran = runner.run(n).unwrap();
        let latencies = runner.latencies().unwrap();
        assert_eq!(latencies.len() as u64, n);
        assert_eq!(latencies.iter().sum::<u64>(), (ran.wall.0 * 1e9).round() as u64);
        assert!(latencies.iter().all(|&l| l > 0));
    }
    assert!(runner.load_time().0 > 0.0);
    let (before, after) = (runner.memory_before_load(), runner.memory().unwrap());
    assert!(before.peak.0 > 0 && after.peak.0 > before.peak.0 + 1_000_000, "{before:?} {after:?}");
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_the_child_lives_on() {
    let mut runner = Runner::spawn(&program(), &job(model("fashion-mlp"), 1)).unwrap();
    let e = runner.run(1).unwrap_err();
    assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::BadInput, "no inputs are prepared"));
    let e = runner.prepare(&[vec![made_up(&[1, 3, 28, 28], 0)]]).unwrap_err();
    assert_eq!(e.to_string(), "input `input` takes float32 [1, 1, 28, 28], it was given float32 [1, 3, 28, 28]");
    runner.prepare(&[vec![made_up(&[1, 1, 28, 28], 0)]]).unwrap();
    assert!(runner.run(3).is_ok());
}

#[test]
fn models_that_cannot_be_loaded_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("garbage.onnx"), [0xff; 64]).unwrap();
    let mut unknown = onnx::Model::load(model("fashion-mlp")).unwrap();
    unknown.graph_mut().node[1].set_op_type("QGemm".into());
    unknown.save(path("unknown.onnx")).unwrap();
    // A tensor of strings as raw bytes, over which tract panics.
    let mut strings = onnx::Model::load(model("fashion-mlp")).unwrap();
    strings.graph_mut().initializer[0].set_data_type(8);
    strings.save(path("strings.onnx")).unwrap();
    for (file, kind, expect) in [
        (path("absent.onnx"), ErrorKind::BadInput, "no such file"),
        (path("garbage.onnx"), ErrorKind::Engine, "the file is damaged or no ONNX model"),
        (path("unknown.onnx"), ErrorKind::Engine, "unknown.onnx`: tract cannot run this model: it has no operator `QGemm`"),
        (path("strings.onnx"), ErrorKind::Engine, "the engine panicked; it last said: "),
    ] {
        let e = Runner::spawn(&program(), &job(file, 1)).err().expect(expect);
        assert_eq!(e.kind(), kind);
        assert!(e.to_string().contains(expect) && (kind == ErrorKind::BadInput || e.hint_text().is_some()), "{e}");
    }
    let e = Runner::spawn(&program(), &Job { engine: "abacus".into(), ..job(model("fashion-mlp"), 1) }).err().unwrap();
    assert_eq!(e.hint_text(), Some("the engines: `tract`, `rten`, `ort`"));
}

#[test]
fn several_threads_give_the_same_outputs() {
    let load = |threads| {
        let options = LoadOptions { batch: 2, threads, ..LoadOptions::default() };
        by_name("tract").unwrap().load(Source::Path(&model("fashion-resnet8")), &options)
    };
    let infer = |threads| load(threads).map(|mut s| s.infer(&[made_up(&[2, 1, 28, 28], 0)]).unwrap());
    assert_eq!(infer(1).unwrap(), infer(2).unwrap());
    assert_eq!(infer(0).unwrap_err().kind(), ErrorKind::BadInput);
}

#[test]
fn tract_counts_the_multiply_adds_of_the_mlp() {
    let macs = |batch| {
        let options = LoadOptions { batch, ..LoadOptions::default() };
        engine::cost(Source::Path(&model("fashion-mlp")), &options).unwrap().iter().map(|n| n.macs).sum::<u64>()
    };
    let expect = 784 * 512 + 512 * 256 + 256 * 10;
    assert_eq!((macs(1), macs(3)), (expect, 3 * expect));
}

#[test]
fn predictions_come_in_order_from_several_children() {
    let cancel = AtomicBool::new(false);
    let what = Predict {
        model: model("fashion-mlp"),
        engine: "tract".into(),
        options: LoadOptions { batch: 4, ..LoadOptions::default() },
        count: 1001,
        workers: 3,
        timeout: Duration::from_secs(60),
        cancel: &cancel,
    };
    let inputs = |r: std::ops::Range<usize>| Ok(vec![made_up(&[r.len(), 1, 28, 28], r.start)]);
    let top = predict(&program(), &what, &inputs, &|_| ()).unwrap();
    let scores = crate::support::all_scores(&program(), &what, &inputs).unwrap();
    let mut one = Runner::spawn(&program(), &job(model("fashion-mlp"), 4)).unwrap();
    let expect = one.infer(&inputs(0..1001).unwrap()).unwrap();
    assert_eq!(scores, expect[0].as_f32().unwrap());
    assert_eq!(top.len(), 1001);
    assert!(top.iter().zip(scores.chunks(10)).all(|(&top, s)| s.iter().all(|&x| x <= s[top as usize])));

    let nan = |r: std::ops::Range<usize>| {
        let values = (0..r.len() * 784).map(|i| if r.start + i / 784 == 900 { f32::NAN } else { 0.5 }).collect();
        Ok(vec![Tensor::f32([r.len(), 1, 28, 28], values)?])
    };
    let e = predict(&program(), &what, &nan, &|_| ()).unwrap_err();
    assert_eq!(e.to_string(), "the score of sample 900 is not a number");
}

/// A program that reads the first request, then runs the shell commands, where `$load` is a right answer to it.
#[cfg(unix)]
fn fake(folder: &Path, commands: &str) -> Program {
    let link = folder.join("fake");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fake_runner.sh");
    if !link.exists() {
        std::os::unix::fs::symlink(script, &link).unwrap();
    }
    std::fs::write(folder.join("commands"), commands).unwrap();
    Program::at(link)
}

#[cfg(unix)]
#[test]
fn children_that_crash_hang_or_babble_become_errors() {
    let folder = tempfile::tempdir().unwrap();
    let short = Duration::from_millis(700);
    let long = Duration::from_secs(60);
    for (commands, timeout, expect) in [
        ("exit 3", long, "failed: it exited with code 3"),
        ("echo no memory left >&2; exit 1", long, "it exited with code 1; it last said: no memory left"),
        ("kill -SEGV $$", long, "it was ended by SIGSEGV (11)"),
        ("kill -KILL $$", long, "it was ended by SIGKILL (9)"),
        ("kill -ABRT $$", long, "it was ended by SIGABRT (6)"),
        ("kill -BUS $$", long, "it was ended by SIGBUS (7)"),
        ("kill -XCPU $$", long, "it was ended by SIGXCPU (24)"),
        ("exec sleep 100", short, "gave no answer in 700 ms; it was ended"),
        ("echo hello; exec sleep 100", long, "answered with something else than was asked: `hello`"),
        (r#"echo '{"answer":"prepared","slots":1}'; exec sleep 100"#, long, "something else than was asked: `Prepared { slots: 1 }`"),
        (r#"printf '{"answer":"load'"#, long, "failed in the middle of an answer"),
        (r#"echo '{"answer":"latencies","payload":100}'; printf abc"#, long, "failed in the middle of an answer (3 of 100 bytes came)"),
    ] {
        let started = Instant::now();
        let job = Job { timeout, ..job(model("fashion-mlp"), 1) };
        let e = Runner::spawn(&fake(folder.path(), commands), &job).err().expect(commands);
        assert_eq!(e.kind(), ErrorKind::Engine, "{commands}");
        assert!(e.to_string().contains(expect) && e.hint_text().is_some(), "{commands}: {e}");
        assert!(started.elapsed() < Duration::from_secs(50), "{commands}");
    }
}

/// What a child says of its death counts more than its signal.
#[cfg(unix)]
#[test]
fn an_allocation_that_failed_is_told_from_other_aborts() {
    let folder = tempfile::tempdir().unwrap();
    for (words, hint) in
        [("memory allocation of 99 bytes failed", "--max-memory"), ("assertion failed", "the model or the engine is at fault")]
    {
        let e =
            Runner::spawn(&fake(folder.path(), &format!("echo {words} >&2; kill -ABRT $$")), &job(model("fashion-mlp"), 1)).err().unwrap();
        assert!(e.to_string().contains("SIGABRT") && e.to_string().contains(words), "{e}");
        assert!(e.hint_text().unwrap().contains(hint), "{:?}", e.hint_text());
    }
}

/// The child by itself, without a parent that looks at its clock: one answer may take a second of CPU time, this one takes minutes.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_takes_more_cpu_time_than_it_may_is_ended_by_the_kernel() {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().unwrap();
    let load = serde_json::json!({
        "ask": "load", "model": crate::faults::slow(folder.path()), "engine": "tract", "threads": 1, "batch": 1, "dims": {}, "shapes": {},
        "symbolic": false, "cpus": [], "memory": null, "cpu_s": 1.0,
    });
    let mut command = std::process::Command::new(program().path());
    let mut child = command.arg("__runner").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    // Two requests; the end of stdin does not reach a child that computes.
    let stdin = child.stdin.as_mut().unwrap();
    writeln!(stdin, "{load}\n{{\"ask\":\"infer\",\"samples\":1,\"payload\":3136}}").unwrap();
    stdin.write_all(&[0; 3136]).unwrap();
    stdin.flush().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(24), "it was to be ended by SIGXCPU");
}

#[cfg(unix)]
#[test]
fn a_child_that_stops_reading_does_not_hang_the_parent() {
    let folder = tempfile::tempdir().unwrap();
    let program = fake(folder.path(), "echo \"$load\"; exec sleep 100");
    let mut runner = Runner::spawn(&program, &Job { timeout: Duration::from_millis(700), ..job(model("fashion-mlp"), 1) }).unwrap();
    // Far more than a pipe holds.
    let much = Tensor::f32([1_000_000, 2], vec![0.0; 2_000_000]).unwrap();
    let e = runner.infer(&[much]).unwrap_err();
    assert!(e.to_string().contains("gave no answer in 700 ms"), "{e}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_dropped_runner_leaves_no_process_behind() {
    let runner = Runner::spawn(&program(), &job(model("fashion-mlp"), 1)).unwrap();
    let process = PathBuf::from(format!("/proc/{}", runner.pid()));
    assert!(process.exists());
    drop(runner);
    assert!(!process.exists());
}
