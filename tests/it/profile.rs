//! Profiles from outside: real engines in their processes, a simulated counter, all formats.

use crate::extract::SHIPPED;
use crate::support::{joulefront, model, uniform};
use joulefront::energy::simulate::Ticker;
use joulefront::engine::{self, LoadOptions};
use joulefront::model::{Facts, Graph, layers};
use joulefront::onnx::Model;
use joulefront::profile::Mapping;
use joulefront::runner::{Clocked, Job, MemoryLimit, Program, Runner};
use joulefront::tensor::Tensor;
use joulefront::units::{Bytes, Seconds, Watts};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

fn runner(name: &str, engine: &str) -> joulefront::Result<Runner> {
    let job = Job {
        model: model(name),
        engine: engine.into(),
        options: LoadOptions::default(),
        cpus: Vec::new(),
        timeout: Duration::from_secs(120),
        memory: MemoryLimit::default(),
    };
    let mut runner = Runner::spawn(&Program::at(env!("CARGO_BIN_EXE_joulefront")), &job)?;
    let shape = runner.inputs()[0].shape.clone();
    let slots: Vec<Vec<Tensor>> = (0..3).map(|_| vec![Tensor::f32(shape.clone(), uniform(shape.iter().product())).unwrap()]).collect();
    runner.prepare(&slots)?;
    Ok(runner)
}

#[test]
fn every_layer_of_every_shipped_model_has_its_time_on_every_engine() {
    for engine in engine::all() {
        for name in SHIPPED {
            let what = format!("{name} on {}", engine.name());
            let mut runner = match runner(name, engine.name()) {
                Err(e) if e.kind() == joulefront::ErrorKind::Environment => {
                    crate::support::skipped(&format!("{what}: {e}"));
                    continue;
                }
                other => other.unwrap_or_else(|e| panic!("{what}: {e}")),
            };
            let Clocked { profiled, runs, took } = runner.profile(20).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(took.wall.0 * 1e9 >= profiled.wall_ns as f64, "{what}: {took:?}");
            assert_eq!(runs, 21, "{what}: runs are divided over the inputs");
            assert!(profiled.nodes.iter().all(|n| n.calls > 0 && n.calls % runs == 0), "{what}: {:?}", profiled.nodes);
            let sum: u64 = profiled.nodes.iter().map(|n| n.ns).sum();
            assert!(sum > profiled.wall_ns / 2, "{what}: {sum} of {}", profiled.wall_ns);

            let whole = Model::load(model(name)).unwrap();
            let (graph, facts) = (Graph::new(&whole), Facts::infer(&whole, 1).unwrap());
            let layers = layers(&graph, &facts).unwrap();
            let parts = Mapping::new(&graph, &layers, &profiled.nodes).parts;
            let seen: Vec<usize> = parts.iter().flat_map(|p| p.engine.clone()).collect();
            let once: BTreeSet<usize> = seen.iter().copied().collect();
            assert_eq!((seen.len(), once.len()), (profiled.nodes.len(), profiled.nodes.len()), "{what}: nothing is dropped or twice");
            for (index, layer) in layers.iter().enumerate().filter(|(_, l)| l.macs != Ok(0)) {
                let rows: Vec<_> = parts.iter().filter(|p| p.layers.contains(&index)).collect();
                let ns: u64 = rows.iter().flat_map(|p| &p.engine).map(|&n| profiled.nodes[n].ns).sum();
                let names: Vec<&str> = profiled.nodes.iter().map(|n| n.name.as_str()).collect();
                assert!(rows.len() == 1 && ns > 0, "{what}: `{}` has no time among {names:#?}", layer.name);
            }
        }
    }
}

#[test]
fn a_machine_has_a_roof() {
    let mut runner = runner("fashion-mlp", "tract").unwrap();
    let peak = runner.peak(1, Bytes(1 << 20)).unwrap();
    assert!(peak.flops > 1e8 && peak.bytes_per_s > 1e8 && peak.threads == 1, "{peak:?}");
    // A profile and a run go on as before.
    assert!(runner.run(3).is_ok() && runner.profile(1).is_ok());
}

/// Short, on a counter of 20 W.
fn profiled(args: &[&str]) -> crate::support::Ran {
    let sim = Ticker::default().start(|t| Watts(20.0) * Seconds::from(t)).unwrap();
    let common = ["--sysfs-root", sim.root().to_str().unwrap(), "--quiet", "profile"];
    let short = ["--processes", "2", "--window", "20ms", "--disturbance", "100%", "--meter", "powercap"];
    joulefront(&[&common[..], args, &short[..]].concat())
}

fn sum(rows: &[Value], name: &str) -> f64 {
    rows.iter().filter_map(|r| r[name].as_f64()).sum()
}

#[test]
fn energy_is_apportioned_and_adds_up() {
    let document = profiled(&["models/fashion-resnet8.onnx", "--format", "json", "--batch", "2"]).json();
    let (whole, rows) = (&document["profiles"][0], document["results"].as_array().unwrap());
    assert_eq!((document["schema_version"].as_u64(), whole["batch"].as_u64()), (Some(1), Some(2)));
    assert!((sum(rows, "share") - 1.0).abs() < 1e-9, "shares of all rows, with what lies between, make the whole");
    let energy = whole["energy"]["run"]["value"].as_f64().unwrap();
    assert!((sum(rows, "energy_j") / energy - 1.0).abs() < 1e-9 && energy > 0.0);
    let overhead = &whole["whole"]["overhead"];
    assert!(overhead["lo"].as_f64() <= overhead["value"].as_f64() && overhead["value"].as_f64() <= overhead["hi"].as_f64());
    let macs: u64 = rows.iter().filter_map(|r| r["macs"].as_u64()).sum();
    let one = joulefront(&["inspect", "--json", "models/fashion-resnet8.onnx"]).json()["macs"].as_u64().unwrap();
    assert_eq!(macs, 2 * one, "every multiply–add is in a row");
    for row in rows.iter().filter(|r| r["energy_j"].is_number()) {
        assert_eq!((row["energy_kind"].as_str(), row["energy_from"].as_str()), (Some("apportioned"), Some("simulated")), "{row}");
    }
    assert_eq!(rows.last().unwrap()["layer"], "between nodes");
}

#[test]
fn large_layers_are_measured_alone_when_asked() {
    let ran = profiled(&["models/fashion-resnet8.onnx", "--format", "json", "--verify-layers"]);
    // Whether they agree is a matter of how quiet the machine is; that they are compared is not.
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let rows = document["results"].as_array().unwrap();
    let large: Vec<&Value> = rows.iter().filter(|r| r["share"].as_f64() > Some(0.05) && r["sort"] != "between").collect();
    assert!(large.len() >= 3);
    let off = |r: &Value| (r["apportioned_over_alone"].as_f64().unwrap() - 1.0).abs() > 0.2;
    for row in &large {
        let alone = row["alone_j"].as_f64().unwrap_or_else(|| panic!("not measured: {row}\n{}", document["profiles"][0]["warnings"]));
        assert!(
            alone > 0.0 && (row["energy_j"].as_f64().unwrap() / alone / row["apportioned_over_alone"].as_f64().unwrap() - 1.0).abs() < 1e-9
        );
    }
    let refuted = large.iter().any(|r| off(r));
    assert_eq!(ran.code, Some(i32::from(refuted)), "{}", ran.stderr);
    assert_eq!(refuted, ran.stderr.contains("off by more than 20 %"));
}

#[test]
fn every_format_is_written_for_one_model_and_for_two() {
    let folder = tempfile::tempdir().unwrap();
    let variant = folder.path().join("int8.onnx");
    let made = joulefront(&["compress", "models/fashion-mlp.onnx", "--weight-bits", "8", "-o", variant.to_str().unwrap()]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    for format in ["table", "json", "csv", "folded", "chrome", "svg"] {
        let out = folder.path().join(format);
        let ran = profiled(&["models/fashion-mlp.onnx", variant.to_str().unwrap(), "--format", format, "-o", out.to_str().unwrap()]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{format}: {}", ran.stderr);
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(text.contains("int8.onnx"), "{format}: {text}");
        match format {
            "table" => assert!(text.contains("/f/f.1/Gemm") && text.contains("between nodes"), "{text}"),
            "json" | "chrome" => assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}"),
            "svg" => assert!(text.starts_with("<svg"), "{text}"),
            _ => {}
        }
    }
}

#[test]
fn what_cannot_be_profiled_is_refused() {
    profiled(&["models/fashion-mlp.onnx", "--engine", "abacus"]).refused(2, &["there is no engine `abacus`"]);
    profiled(&["absent.onnx"]).refused(2, &["absent.onnx"]);
}
