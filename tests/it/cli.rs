//! The command line as scripts see it: output, exit codes, units, JSON.

use crate::support::{joulefront, model, ran, repository, small_data};
use crate::zoo;
use joulefront::tensor::DType;
use std::process::{Command, Stdio};

/// Snapshot of stdout with the exit code; the version of the package may change freely.
macro_rules! snapshot {
    ($name:literal, $args:expr) => {
        let out = joulefront(&$args);
        let text = format!("exit code: {:?}\n{}", out.code, linked(&out.stdout)).replace(env!("CARGO_PKG_VERSION"), "VERSION");
        insta::assert_snapshot!($name, text);
    };
}

/// What `inspect` prints without the engine that not every machine has.
fn linked(text: &str) -> String {
    text.lines().filter(|l| !l.starts_with("  ort")).map(|l| format!("{l}\n")).collect()
}

#[test]
fn help() {
    snapshot!("help", ["--help"]);
    snapshot!("help_sweep", ["sweep", "--help"]);
    snapshot!("help_bench", ["bench", "--help"]);
    snapshot!("help_compress", ["compress", "--help"]);
    snapshot!("help_eval", ["eval", "--help"]);
    snapshot!("help_report", ["report", "--help"]);
    snapshot!("help_doctor", ["doctor", "--help"]);
    snapshot!("help_gate", ["gate", "--help"]);
    snapshot!("help_inspect", ["inspect", "--help"]);
    snapshot!("help_profile", ["profile", "--help"]);
    snapshot!("help_calibrate", ["calibrate", "--help"]);
}

#[test]
fn inspect() {
    snapshot!("inspect_resnet8", ["inspect", "models/fashion-resnet8.onnx"]);
    snapshot!("inspect_dscnn", ["inspect", "models/fashion-dscnn.onnx"]);
    snapshot!("inspect_vit", ["inspect", "models/fashion-vit.onnx"]);
    let json = joulefront(&["inspect", "--json", "models/fashion-resnet8.onnx"]).json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["params"], 77_418);
    assert_eq!(json["layers"].as_array().unwrap().len(), 10);
    assert_eq!(json["engines"][0]["loads"], true);
}

/// Graphs in graphs, functions, recurrent layers, integers: everything is listed with what is known of it, and with the reason
/// where something is not.
#[test]
fn inspect_anything() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "If with a constant",
        "Loop with a count",
        "functions",
        "LSTM",
        "decoder",
        "QLinearConv",
        "integer layers",
        "MatMulNBits",
        "blocks of four bits",
        "weights worked out",
        "sparse weights",
        "sparse Constant",
        "sixteen bits",
        "sequences",
        "operator set 7",
    ];
    let mut text = String::new();
    for creature in crate::zoo::creatures().into_iter().filter(|c| names.contains(&c.name)) {
        let file = folder.path().join(format!("{}.onnx", creature.name));
        std::fs::write(&file, &creature.bytes).unwrap();
        let out = joulefront(&["inspect", file.to_str().unwrap()]);
        assert_eq!(out.code, Some(0), "{}", out.stderr);
        text += &format!("{}\n\n", linked(&out.stdout).replace(folder.path().to_str().unwrap(), "FOLDER"));
        let json = joulefront(&["inspect", "--json", file.to_str().unwrap()]).json();
        assert!(json["layers"].is_array() && json["engines"][0]["engine"].as_str().unwrap().starts_with("tract"));
    }
    insta::assert_snapshot!("inspect_anything", text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[test]
fn inspect_compares_two_models_layer_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("small.onnx");
    let (out, resnet) = (out.to_str().unwrap(), "models/fashion-resnet8.onnx");
    let made = joulefront(&["compress", resnet, "-o", out, "--prune-channels", "50%", "--weight-bits", "8", "--data", "none", "--quiet"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let text = joulefront(&["inspect", resnet, "--diff", out]);
    assert_eq!(text.code, Some(0), "{}", text.stderr);
    insta::assert_snapshot!("inspect_diff", text.stdout.replace(folder.path().to_str().unwrap(), "FOLDER"));
    let json = joulefront(&["inspect", resnet, "--diff", out, "--json"]).json();
    assert_eq!(json["changed_layers"].as_array().unwrap().len(), 10);
    let same = joulefront(&["inspect", resnet, "--diff", resnet]);
    assert!(same.stdout.starts_with("A and B have the same layers with the same weights; nothing else differs"), "{}", same.stdout);
}

#[test]
fn compress_says_what_it_did_and_writes_a_smaller_model() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("v.onnx");
    let (out, resnet) = (out.to_str().unwrap(), "models/fashion-resnet8.onnx");
    let half = joulefront(&["compress", resnet, "-o", out, "--prune-channels", "50%", "--data", "none", "--json"]).json();
    assert_eq!(half["macs"], 2_364_864, "every group halved is about a quarter of the multiply–adds");
    assert_eq!(half["model_bytes"], std::fs::metadata(out).unwrap().len());
    let both = joulefront(&["compress", resnet, "-o", out, "--prune", "30%", "--weight-bits", "4", "--calibration-samples", "64"]);
    assert_eq!(both.code, Some(0), "{}", both.stderr);
    for line in ["/s1/c1/Conv", "refitted: output error", "weights to 4 bits", "multiply–adds", "sha256"] {
        assert!(both.stdout.contains(line), "`{line}` is not in: {}", both.stdout);
    }
    let vit = joulefront(&["compress", "models/fashion-vit.onnx", "-o", out, "--weight-bits", "8"]);
    assert!(vit.stdout.contains("/b.0/MatMul: left alone: it multiplies two activations"), "{}", vit.stdout);
}

#[test]
fn a_recipe_file_and_options_make_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let toml = "[[step]]\ndo = \"prune_connections\"\nshare = 0.5\n[[step]]\ndo = \"quantize\"\nweight_bits = 8\n";
    std::fs::write(path("r.toml"), toml).unwrap();
    let resnet = "models/fashion-resnet8.onnx";
    let samples = ["--calibration-samples", "32", "--json"];
    let by_file = joulefront(&[&["compress", resnet, "-o", &path("a.onnx"), "--recipe", &path("r.toml")][..], &samples].concat()).json();
    let options = ["--prune", "50%", "--granularity", "connection", "--weight-bits", "8"];
    let by_options = joulefront(&[&["compress", resnet, "-o", &path("b.onnx")][..], &options, &samples].concat()).json();
    assert_eq!(by_file["output_sha256"], by_options["output_sha256"]);
    std::fs::write(path("r.json"), by_file["recipe"].to_string()).unwrap();
    let by_json = joulefront(&[&["compress", resnet, "-o", &path("c.onnx"), "--recipe", &path("r.json")][..], &samples].concat()).json();
    assert_eq!(by_file["output_sha256"], by_json["output_sha256"]);
}

#[test]
fn activations_need_samples_and_their_recipe_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("a.onnx"), path("b.onnx"));
    let start = |out| vec!["compress", "models/fashion-mlp.onnx", "-o", out, "--calibration-samples", "64"];
    let options = ["--weight-bits", "6", "--activation-bits", "8", "--weight-granularity", "tensor", "--activation-range", "percentile"];
    let by_options = joulefront(&[&start(&a)[..], &options, &["--json"]].concat()).json();
    std::fs::write(path("r.json"), by_options["recipe"].to_string()).unwrap();
    let by_file = joulefront(&[&start(&b)[..], &["--recipe", &path("r.json"), "--json"]].concat()).json();
    assert_eq!(by_options["output_sha256"], by_file["output_sha256"]);
    assert_eq!((&by_options["touched"]["layers"], &by_options["touched"]["macs_share"]), (&3.into(), &1.0.into()));
    let refused = |args: &[&str], words: &[&str]| joulefront(&[&start(&a)[..], args].concat()).refused(2, words);
    let both = ["--weight-bits", "8", "--activation-bits", "8"];
    refused(&[&both[..], &["--data", "none"]].concat(), &["needs calibration samples", "--data DIR"]);
    refused(&["--weight-bits", "8", "--activation-bits", "4"], &["4 bits cannot be used for activations"]);
    refused(&["--activation-bits", "8"], &["--weight-bits"]);
    let cifar = joulefront(&[&["compress", "models/cifar-resnet8.onnx", "-o", &a][..], &both].concat());
    cifar.refused(2, &["needs calibration samples", "--data DIR"]);
}

#[test]
fn eval_counts_per_class_and_agreement() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_data(folder.path(), 300);
    let data = data.to_str().unwrap();
    let args = ["eval", "models/fashion-mlp.onnx", "--data", data, "--reference", "models/fashion-resnet8.onnx"];
    let json = joulefront(&[&args[..], &["--json", "--quiet"]].concat()).json();
    assert_eq!(json["samples"], 300);
    let (value, lo, hi) = (&json["accuracy"], &json["accuracy_lo"], &json["accuracy_hi"]);
    assert!(lo.as_f64() < value.as_f64() && value.as_f64() < hi.as_f64());
    let per_class = json["per_class"].as_array().unwrap();
    let sum = |key: &str| per_class.iter().map(|c| c[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((per_class.len(), sum("samples")), (10, 300));
    assert_eq!(sum("correct") as f64 / 300.0, value.as_f64().unwrap());
    assert!(json["agreement"].as_f64().unwrap() > 0.8);
    let text = joulefront(&args);
    assert!(text.stdout.starts_with("fashion-mlp.onnx: accuracy "), "{}", text.stdout);
}

#[test]
fn bench_prints_one_object_with_the_environment() {
    let common = ["--processes", "2", "--window", "10ms", "--quiet"];
    let models = ["models/fashion-mlp.onnx", "models/fashion-dscnn.onnx"];
    let out = joulefront(&[&["bench", "--engine", "tract", "--json"][..], &models, &common].concat());
    assert_eq!(out.stderr, "");
    let json = out.json();
    assert_eq!(json["schema_version"], 1);
    assert!(json["environment"]["cpu"].is_object());
    assert!(json["meter"]["kind"].is_string() && json["meter"]["warnings"].is_array(), "{}", json["meter"]);
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for (row, model) in results.iter().zip(models) {
        assert_eq!(row["model"], model);
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        assert!(number("latency_p50_s") <= number("latency_p90_s") && number("latency_p90_s") <= number("latency_p99_s"));
        assert!(number("energy_lo_j") <= number("energy_j") && number("energy_j") <= number("energy_hi_j"));
        assert!(number("peak_rss_bytes") >= number("rss_before_load_bytes"));
        assert!(number("throughput_per_s") > 0.0);
        assert!(row["accuracy"].is_null());
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let text = joulefront(&[&["bench", "--engine", "tract", models[0], "--out", out][..], &common].concat());
    assert!(text.stdout.contains("per inference") && text.stdout.contains("estimated from CPU time"), "{}", text.stdout);
    let csv = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 2);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.path().join("results.json")).unwrap()).unwrap();
    assert_eq!(json["results"].as_array().unwrap().len(), 1);
}

#[test]
fn requests_and_cold_starts_are_load_regimes() {
    let common = [
        "bench",
        "--engine",
        "tract",
        "models/fashion-mlp.onnx",
        "--processes",
        "2",
        "--window",
        "100ms",
        "--disturbance",
        "100%",
        "--quiet",
        "--json",
    ];
    let first = |more: &[&str]| joulefront(&[&common[..], more].concat()).json()["results"][0].clone();
    let open = first(&["--rate", "100/s"]);
    assert_eq!(open["load"], "open 100/s");
    // As many as arrive in that time, whatever the model could do: 2 processes × 4 windows × 10.
    assert_eq!(open["inferences"], 80);
    assert!(open["throughput_per_s"].as_f64().unwrap() < 400.0);
    let cold = first(&["--cold"]);
    assert_eq!(cold["load"], "cold");
    let seconds = |key: &str| cold[key].as_f64().unwrap();
    assert!(seconds("latency_p50_s") > seconds("cold_load_p50_s") && seconds("cold_load_p50_s") > 0.0 && seconds("cold_first_p50_s") > 0.0);
    // Loading and optimising cost more than an inference does.
    assert!(seconds("energy_j") > 10.0 * open["energy_j"].as_f64().unwrap());
    joulefront(&[&common[..], &["--rate", "5"]].concat()).refused(2, &["50/s"]);
    joulefront(&[&common[..], &["--rate", "5/s", "--cold"]].concat()).refused(2, &["cannot be used with"]);
}

/// A graph over sound of any length: the length is given, and its cost grows with it.
#[test]
fn open_dimensions_are_given_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let creature = zoo::creatures().into_iter().find(|c| c.name == "sound of any length").unwrap();
    let file = folder.path().join("sound.onnx");
    std::fs::write(&file, &creature.bytes).unwrap();
    let bench = |more: &[&str]| {
        let fixed = [
            "bench",
            "--engine",
            "tract",
            file.to_str().unwrap(),
            "--processes",
            "2",
            "--window",
            "5ms",
            "--disturbance",
            "100%",
            "--quiet",
            "--json",
        ];
        joulefront(&[&fixed[..], more].concat())
    };
    bench(&[]).refused(2, &["`T`", "--shape T="]);
    bench(&["--shape", "T=0"]).refused(2, &["NAME=NUMBERS"]);
    bench(&["--shape", "U=90"]).refused(2, &["no open dimension `U`", "[N, 1, T]"]);
    let macs = |shape: &str| bench(&["--shape", shape]).json()["results"][0]["macs"].as_u64().unwrap();
    assert!(macs("wave=1x1x180") > macs("T=90"));
}

/// The state of a recurrent network has its layers first: every run takes all of it.
#[test]
fn an_input_that_is_no_batch_is_given_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut b = zoo::Build::bare(17);
    let (x, state) = (b.input("x", "N=1,3"), b.input("state", "2,1,3"));
    let y = b.matmul(&x, 3, 3);
    let y = b.node("Add", &[&y, &state], &[]);
    let file = folder.path().join("state.onnx");
    std::fs::write(&file, b.creature("state", &[(&y, DType::F32, "2,N,3")]).bytes).unwrap();
    let bench = |more: &[&str]| {
        let fixed = [
            "bench",
            "--engine",
            "tract",
            file.to_str().unwrap(),
            "--processes",
            "2",
            "--window",
            "5ms",
            "--disturbance",
            "100%",
            "--quiet",
            "--json",
        ];
        joulefront(&[&fixed[..], more].concat())
    };
    bench(&[]).refused(2, &["`state` is fixed to batches of 2", "--shape state="]);
    let row = &bench(&["--shape", "state=2x1x3"]).json()["results"][0];
    assert!(row["energy_j"].as_f64().unwrap() > 0.0 && row["macs"] == 9, "{row}");
    // Nothing in this file takes two samples, so a run must not count as two.
    let mut b = zoo::Build::bare(17);
    let (x, state) = (b.input("x", "1,3"), b.input("state", "2,1,3"));
    let y = b.node("Add", &[&x, &state], &[]);
    std::fs::write(&file, b.creature("fixed state", &[(&y, DType::F32, "2,1,3")]).bytes).unwrap();
    let whole = ["--shape", "x=1x3", "--shape", "state=2x1x3"];
    assert!(bench(&whole).json()["results"][0]["energy_j"].as_f64().unwrap() > 0.0);
    bench(&[&whole[..], &["--batch", "2"]].concat()).refused(2, &["do not show that a run takes 2 samples"]);
}

#[test]
fn units_are_needed_and_checked() {
    let m = "models/fashion-mlp.onnx";
    for (args, word) in [
        (vec!["sweep", "--budget", "5"], "needs a unit"),
        (vec!["bench", m, "--max-time", "10"], "needs a unit"),
        (vec!["bench", m, "--window", "10xs"], "not a unit of time"),
        (vec!["compress", m, "-o", "x", "--prune", "150%"], "not between 0% and 100%"),
        (vec!["compress", m, "-o", "x", "--weight-bits", "9"], "9"),
        (vec!["compress", m, "-o", "x"], "nothing to do"),
        (vec!["bench", m, "--engine", "onnxruntime-gpu"], "tract"),
        (vec!["bench", m, "--meter", "wattmeter"], "there is no meter `wattmeter`"),
        (vec!["frobnicate"], "unrecognized subcommand"),
        (vec![], "Usage"),
    ] {
        let out = joulefront(&args);
        assert_eq!(out.code, Some(2), "{args:?}: {}", out.stderr);
        assert!(out.stderr.contains(word), "{args:?}: {}", out.stderr);
        assert_eq!(out.stdout, "");
    }
}

#[test]
fn measured_energy_can_be_required() {
    // No folder of counters is a real one.
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    for args in [vec!["doctor", "--require", "measured"], vec!["bench", "models/fashion-mlp.onnx", "--require", "measured"]] {
        joulefront(&[&args[..], &["--sysfs-root", root]].concat()).refused(3, &["there is no meter that measures", "estimated"]);
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_joulefront"));
    command.args(["inspect".as_ref(), model("fashion-vit").as_os_str()]).current_dir(repository(""));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    assert_eq!(out.status.code(), Some(0));
}

#[test]
fn messages_that_nobody_reads_do_not_matter() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_joulefront"));
    let mut child = command.args(["inspect", "/nowhere.onnx"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn colour_is_as_asked() {
    let run = |when: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_joulefront"));
        ran(command.args(["inspect", "/nowhere.onnx", "--color", when]).env_remove("NO_COLOR")).stderr
    };
    assert!(run("always").contains("\x1b[1;31merror:"));
    assert!(!run("auto").contains('\x1b') && !run("never").contains('\x1b'));
}
