//! What a large model costs to look at and to copy: seconds, and memory beyond the mapped file.
//!
//! ```sh
//! cargo build --release && cargo run --release --example large_model -- [MEBIBYTES]
//! ```
//!
//! A model of 512 MiB (or as many as said) is written to a temporary folder, once as one file and once with its data in another.
//! `joulefront inspect` runs on each, then the file is loaded and saved. Memory is `RssAnon` of `/proc/PID/status`, read every
//! 2 ms: pages of the mapped file, which the kernel may take back, are not in it. Linux only.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use joulefront::onnx::{Model, pb};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A layer's weights are [SIDE, SIDE] of float32: 16 MiB.
const SIDE: usize = 2048;

fn main() -> Outcome<()> {
    let mebibytes: usize = std::env::args().nth(1).map_or(Ok(512), |n| n.parse())?;
    let folder = tempfile::tempdir()?;
    let (one, two) = (folder.path().join("one.onnx"), folder.path().join("two.onnx"));
    let mut model = chain(mebibytes.div_ceil(16))?;
    model.save(&one)?;
    model.graph_mut().initializer.iter_mut().for_each(|t| t.set_data_location(1));
    model.save(&two)?;
    drop(model);
    println!("| what | seconds | MiB beyond the file | MiB in its engine processes |\n|---|---|---|---|");
    for (what, path) in [("one file", &one), ("data in another file", &two)] {
        let (seconds, own, engines) = inspect(path)?;
        println!("| inspect, {what} | {seconds:.2} | {own:.1} | {engines:.1} |");
        let (seconds, own) = copy(path, &folder.path().join("copy.onnx"))?;
        println!("| load and save, {what} | {seconds:.2} | {own:.1} | |");
    }
    Ok(())
}

/// `layers` products one after the other. They share one buffer here; in a file each has its own.
fn chain(layers: usize) -> Outcome<Model> {
    let weights: Vec<u8> = (0..SIDE * SIDE).flat_map(|i| ((i * 7919 % 1009) as f32 / 1e5 - 0.005).to_le_bytes()).collect();
    let weights = bytes::Bytes::from(weights);
    let mut model = Model::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-mlp.onnx"))?;
    let graph = model.graph_mut();
    (graph.node, graph.initializer, graph.value_info) = Default::default();
    for layer in 0..layers {
        let mut tensor = pb::TensorProto::new();
        tensor.set_name(format!("w{layer}"));
        tensor.set_data_type(1);
        tensor.dims = vec![SIDE as i64; 2];
        tensor.set_raw_data(weights.clone());
        graph.initializer.push(tensor);
        let mut node = pb::NodeProto::new();
        node.set_op_type("MatMul".into());
        node.set_name(format!("layer{layer}"));
        node.input = vec![format!("x{layer}"), format!("w{layer}")];
        node.output = vec![format!("x{}", layer + 1)];
        graph.node.push(node);
    }
    for (info, name) in [(&mut graph.input[0], "x0".to_owned()), (&mut graph.output[0], format!("x{layers}"))] {
        info.set_name(name);
        let shape = info.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default();
        shape.dim.resize_with(2, Default::default);
        shape.dim[1].set_dim_value(SIDE as i64);
    }
    Ok(model)
}

/// Seconds that `joulefront inspect` takes, and mebibytes at most: its own, and those of the processes it starts.
fn inspect(model: &Path) -> Outcome<(f64, f64, f64)> {
    let program = std::env::current_exe()?.parent().and_then(Path::parent).map(|p| p.join("joulefront")).filter(|p| p.exists());
    let program = program.ok_or("`joulefront` is not built: run `cargo build --release` first")?;
    let began = Instant::now();
    let mut child = Command::new(program).arg("inspect").arg(model).stdout(Stdio::null()).spawn()?;
    let (mut own, mut engines) = (0f64, 0f64);
    let status = loop {
        own = own.max(anonymous(child.id()));
        engines = engines.max(children(child.id()).into_iter().map(anonymous).sum());
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    if status.success() { Ok((seconds, own, engines)) } else { Err(format!("inspect: {status}").into()) }
}

/// Seconds to load `from` and save it as `to`, and the mebibytes that this took at most.
fn copy(from: &Path, to: &PathBuf) -> Outcome<(f64, f64)> {
    let done = AtomicBool::new(false);
    let me = std::process::id();
    let before = anonymous(me);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = before;
            while !done.load(Ordering::Relaxed) {
                most = most.max(anonymous(me));
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        let saved = Model::load(from).and_then(|model| model.save(to));
        done.store(true, Ordering::Relaxed);
        let most = watch.join().map_err(|_| "the thread that watches the memory failed")?;
        saved?;
        Ok((began.elapsed().as_secs_f64(), most - before))
    })
}

/// Anonymous resident memory of a process in mebibytes; 0 once it is gone.
fn anonymous(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}
