//! What can go wrong: broken files, wrong data, no permission, full disks, engines that crash or hang.

use crate::support::{SHORT_SWEEP, joulefront, ran, repository, skipped, small_data};
use joulefront::onnx::{Attributes, Model, pb};
use joulefront::tensor::Tensor;
use std::path::{Path, PathBuf};
use std::process::Command;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// No temporary or partial file is in `folder`.
#[track_caller]
fn nothing_left(folder: &Path) {
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn files_that_are_no_models() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let whole = std::fs::read(repository("models/fashion-resnet8.onnx")).unwrap();
    std::fs::write(at("cut.onnx"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(at("text.onnx"), "Dear diary, today I renamed a text file.\n").unwrap();
    std::fs::write(at("empty.onnx"), "").unwrap();
    let noise: Vec<u8> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(at("noise.onnx"), noise).unwrap();
    std::fs::create_dir(at("folder.onnx")).unwrap();
    let out = at("out");
    std::fs::create_dir(&out).unwrap();
    for name in ["cut.onnx", "text.onnx", "empty.onnx", "noise.onnx", "folder.onnx", "absent.onnx"] {
        let model = at(name);
        let model = text(&model);
        joulefront(&["inspect", model]).refused(2, &[name]);
        joulefront(&["eval", model]).refused(2, &[name]);
        joulefront(&["bench", model]).refused(2, &[name]);
        joulefront(&["compress", model, "-o", text(&out.join("v.onnx")), "--weight-bits", "8"]).refused(2, &[name]);
        joulefront(&["sweep", model, "--study", text(&out.join("s.sqlite"))]).refused(2, &[name]);
    }
    nothing_left(&out);
}

/// The shipped MLP with its last node replaced.
fn edited(folder: &Path, name: &str, edit: impl FnOnce(&mut pb::NodeProto)) -> PathBuf {
    let mut model = Model::load(repository("models/fashion-mlp.onnx")).unwrap();
    edit(model.graph_mut().node.iter_mut().rfind(|n| n.op_type() == "Relu").unwrap());
    let path = folder.join(name);
    model.save(&path).unwrap();
    path
}

#[test]
fn operators_that_the_engine_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let custom = edited(folder.path(), "custom.onnx", |n| {
        n.set_domain("com.example".into());
        n.set_op_type("Frobnicate".into());
    });
    let data = small_data(folder.path(), 50);
    joulefront(&["eval", text(&custom), "--data", text(&data)]).refused(2, &["Frobnicate"]);
    // In a bench only that model fails.
    let out = joulefront(&["bench", "--engine", "tract", "models/fashion-mlp.onnx", text(&custom), "--processes", "2", "--window", "10ms"]);
    out.refused(2, &["1 of 2 configurations"]);
    assert!(out.stdout.contains("custom.onnx: failed") && out.stdout.contains("Frobnicate"), "{}", out.stdout);
    // What is in it can be seen all the same.
    let inspect = joulefront(&["inspect", text(&custom)]);
    assert_eq!(inspect.code, Some(0), "{}", inspect.stderr);
    for says in ["there is no shape rule for Frobnicate", "channels are not followed through Frobnicate", "it has no operator `Frobnicate`"]
    {
        assert!(inspect.stdout.contains(says), "`{says}` is not in: {}", inspect.stdout);
    }
}

#[test]
fn data_that_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_data(folder.path(), 50);
    let toml = data.join("dataset.toml");
    let good = std::fs::read_to_string(&toml).unwrap();
    let eval = |split: &str| joulefront(&["eval", "models/fashion-mlp.onnx", "--data", text(&data), "--split", split]);
    assert_eq!(eval("test").code, Some(0));
    for (from, to, words) in [
        ("shape = [1, 28, 28]", "shape = [3, 32, 32]", ["[1, 28, 28]", "[3, 32, 32]"]),
        ("name = \"input\"", "name = \"pixels\"", ["`input`", "`pixels`"]),
        ("test.npz#x", "test.npz#samples", ["samples", "x"]),
        ("test.npz#y", "test.npz#x", ["label", "test"]),
        ("test.npz#y", "../secret.npz#y", ["../secret.npz", "folder"]),
        ("range = [0, 50]", "range = [0, 50000]", ["50000", "range"]),
        ("task = ", "tusk = ", ["tusk", "unknown field"]),
        ("[splits]", "[split]", ["split", "dataset.toml"]),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&toml, good.replace(from, to)).unwrap();
        eval("test").refused(2, &words);
    }
    std::fs::write(&toml, good.replace(", y = \"test.npz#y\"", "")).unwrap();
    eval("test").refused(2, &["has no labels", "--reference"]);
    std::fs::write(&toml, &good).unwrap();
    eval("holdout").refused(2, &["holdout", "validation"]);
    std::fs::write(data.join("test.npz"), b"PK\x03\x04 not really").unwrap();
    eval("test").refused(2, &["test.npz"]);
    joulefront(&["eval", "models/fashion-mlp.onnx", "--data", text(&folder.path().join("nowhere"))]).refused(2, &["nowhere"]);
    joulefront(&["sweep", "models/cifar-resnet8.onnx", "--data", text(&data)]).refused(2, &["[3, 32, 32]", "[1, 28, 28]"]);
}

#[test]
fn places_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_data(folder.path(), 20);
    let (mlp, absent) = ("models/fashion-mlp.onnx", folder.path().join("absent/v"));
    joulefront(&["compress", mlp, "-o", text(&absent), "--weight-bits", "8"]).refused(3, &["absent/v", "create the folder"]);
    joulefront(&["sweep", mlp, "--data", text(&data), "--study", text(&absent)]).refused(3, &["absent/v"]);
    // /proc is a folder in which nobody, not even root, creates files.
    joulefront(&["compress", mlp, "-o", "/proc/v.onnx", "--weight-bits", "8"]).refused(3, &["/proc/v.onnx"]);
    joulefront(&["bench", "--engine", "tract", mlp, "--out", "/proc/out", "--processes", "2", "--window", "5ms"])
        .refused(3, &["/proc/out"]);
}

/// A small file system of its own, or a visible reason why there is none.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(kilobytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kilobytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|out| out.status.success()) {
            return Some(Disk(folder));
        }
        skipped("mounting a tmpfs needs root");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let Some(disk) = Disk::new(300) else { return };
    let at = disk.0.path();
    let out = at.join("v.onnx");
    let mlp = "models/fashion-mlp.onnx";
    // The variant has 544 KB.
    joulefront(&["compress", mlp, "-o", text(&out), "--weight-bits", "8"]).refused(3, &["v.onnx", "space"]);
    nothing_left(at);
    let folder = tempfile::tempdir().unwrap();
    let data = small_data(folder.path(), 20);
    let sweep = joulefront(&["sweep", mlp, "--data", text(&data), "--study", text(&at.join("s.sqlite"))]);
    sweep.refused(3, &["space"]);
    let partial = |name: &str| name.ends_with(".onnx") || name.starts_with(".joulefront-");
    let files: Vec<String> = walk(at).iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert!(!files.iter().any(|f| partial(f)), "{files:?}");
}

#[test]
fn a_full_disk_for_reports_and_results() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_data(folder.path(), 20);
    let (config, study) = (folder.path().join("s.toml"), folder.path().join("s.sqlite"));
    std::fs::write(&config, SHORT_SWEEP).unwrap();
    let sweep = ["sweep", "models/fashion-mlp.onnx", "--data", text(&data), "--config", text(&config), "--study", text(&study)];
    let ended = joulefront(&[&sweep[..], &["--budget", "1trials"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // A few kilobytes: no file of either fits whole.
    let Some(disk) = Disk::new(4) else { return };
    let out = disk.0.path().join("out");
    joulefront(&["report", text(&study), "-o", text(&out)]).refused(3, &["space"]);
    joulefront(&["bench", "--engine", "tract", "models/fashion-mlp.onnx", "--processes", "2", "--window", "5ms", "--out", text(&out)])
        .refused(3, &["space"]);
    let files = walk(disk.0.path());
    assert!(files.iter().all(|f| std::fs::metadata(f).unwrap().len() > 0 && !text(f).contains(".joulefront-")), "{files:?}");
    // The study is as whole as before.
    let again = joulefront(&["report", text(&study), "-o", text(&folder.path().join("report")), "--json"]).json();
    assert_eq!(again["results"].as_array().unwrap().len(), 1);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

/// A model whose single inference multiplies 1200×1200 matrices 3,000 times: minutes of work in a few kilobytes.
pub(crate) fn slow(folder: &Path) -> PathBuf {
    const SIZE: usize = 1200;
    let mut model = Model::load(repository("models/fashion-mlp.onnx")).unwrap();
    let graph = model.graph_mut();
    let flat = graph.node[0].output[0].clone();
    let node = |op: &str, inputs: &[&str], output: &str| {
        let mut n = pb::NodeProto::new();
        n.set_op_type(op.into());
        n.input = inputs.iter().map(|i| (*i).to_owned()).collect();
        n.output = vec![output.to_owned()];
        n
    };
    // A matrix that depends on the input, so that nothing can be folded at load.
    let mut nodes = vec![graph.node[0].clone()];
    let mut sum = node("ReduceSum", &[&flat, "axis"], "sum");
    sum.set_int("keepdims", 1);
    nodes.push(sum);
    nodes.push(node("Expand", &["sum", "square"], "m0"));
    for i in 0..3000 {
        nodes.push(node("MatMul", &[&format!("m{i}"), "m0"], &format!("m{}", i + 1)));
    }
    let mut last = node("ReduceMean", &["m3000"], "mean");
    last.set_ints("axes", vec![0, 1]);
    nodes.push(last);
    nodes.push(node("Expand", &["mean", "ten"], "logits"));
    graph.node = nodes;
    let constant = |name: &str, values: Vec<i64>| joulefront::onnx::tensor_to_proto(name, &Tensor::i64s(values));
    graph.initializer = vec![constant("axis", vec![1]), constant("square", vec![SIZE as i64, SIZE as i64]), constant("ten", vec![1, 10])];
    let path = folder.join("slow.onnx");
    model.save(&path).unwrap();
    path
}

#[test]
fn a_model_that_hangs_the_engine_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let slow = slow(folder.path());
    let data = small_data(folder.path(), 4);
    let timeout = ["--timeout", "2s"];
    joulefront(&[&["eval", text(&slow), "--data", text(&data)][..], &timeout].concat()).refused(2, &["slow.onnx", "2"]);
    let bench = ["bench", "--engine", "tract", "models/fashion-mlp.onnx", text(&slow), "--processes", "2", "--window", "10ms"];
    let out = joulefront(&[&bench[..], &timeout].concat());
    out.refused(2, &["1 of 2 configurations"]);
    assert!(out.stdout.contains("slow.onnx: failed"), "{}", out.stdout);
}

#[test]
fn a_model_that_needs_more_memory_than_there_is_ends_alone() {
    // The child may not use more than 2 GB; 10¹¹ elements are asked for.
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::load(slow(folder.path())).unwrap();
    let huge = joulefront::onnx::tensor_to_proto("square", &Tensor::i64s(vec![100_000, 1_000_000]));
    *model.graph_mut().initializer.iter_mut().find(|t| t.name() == "square").unwrap() = huge;
    let graph = model.graph_mut();
    graph.node.retain(|n| n.op_type() != "MatMul");
    graph.node.iter_mut().find(|n| n.op_type() == "ReduceMean").unwrap().input[0] = "m0".into();
    let path = folder.path().join("huge.onnx");
    model.save(&path).unwrap();
    let data = small_data(folder.path(), 4);
    let words = format!("ulimit -v 3000000; exec {} eval {} --data {}", env!("CARGO_BIN_EXE_joulefront"), text(&path), text(&data));
    let out = ran(Command::new("sh").args(["-c", &words]).current_dir(repository("")));
    assert_eq!(out.code, Some(2), "{}", out.stderr);
    assert!(out.stderr.contains("error:") && out.stderr.contains("huge.onnx"), "{}", out.stderr);
}

#[test]
fn counters_in_a_given_or_mounted_tree_are_simulated() {
    use joulefront::energy::simulate::Ticker;
    use joulefront::units::{Seconds, Watts};
    let sim = Ticker::default().start(|t| Watts(40.0) * Seconds::from(t)).unwrap();
    let root = text(sim.root()).to_owned();
    let bench = [
        "bench",
        "--engine",
        "tract",
        "models/fashion-mlp.onnx",
        "--processes",
        "2",
        "--window",
        "200ms",
        "--disturbance",
        "100%",
        "--json",
    ];
    let json = joulefront(&[&bench[..], &["--sysfs-root", &root]].concat()).json();
    let row = &json["results"][0];
    assert_eq!((&row["energy_kind"], &row["energy_meter"]), (&"simulated".into(), &"powercap".into()));
    // 40 W whatever is done: energy per inference is 40 W times the time of one, within what two processes can tell.
    let energy = row["energy_j"].as_f64().unwrap() * row["throughput_per_s"].as_f64().unwrap();
    assert!((30.0..60.0).contains(&energy), "{energy} W");
    // The default path, in a mount namespace of its own.
    let script = format!(
        "mount -t tmpfs tmpfs /sys/class && mkdir /sys/class/powercap && cp -r {root}/class/powercap/. /sys/class/powercap/ && exec {} doctor --json",
        env!("CARGO_BIN_EXE_joulefront")
    );
    let out = ran(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    if out.code != Some(0) {
        skipped("a private mount namespace needs root");
        return;
    }
    assert!(!out.stdout.contains("\"measured\""), "{}", out.stdout);
}
