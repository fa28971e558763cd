//! `joulefront inspect`: what is in a model.

use super::inputs::ModelFile;
use super::{Global, print, print_json, text};
use crate::compress::{Groups, prepare};
use crate::engine::{self, Engine, LoadOptions};
use crate::model::{Encoding, Facts, Graph, Layer, LayerKind, layers, totals};
use crate::runner::{Job, Program, Runner};
use crate::{Error, Result};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// How long an engine may take to load a model.
const LOADING: Duration = Duration::from_secs(120);

/// Layers, parameters, multiply–adds, sizes, prune groups, and which engines load it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model
    model: PathBuf,
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let file = ModelFile::open(&args.model)?;
    let facts = Facts::infer(&file.model, 1)?;
    let graph = Graph::new(&file.model);
    let list = layers(&graph, &facts)?;
    let sums = totals(&graph, &list)?;
    let groups = group_rows(&file)?;
    let engines = engine_rows(&file)?;
    if global.json {
        return print_json(json!({
            "model": file.path.display().to_string(),
            "model_sha256": file.sha256,
            "model_bytes": file.size.0,
            "opset": file.model.opset(),
            "producer": file.model.proto().producer_name(),
            "params": sums.params,
            "macs": sums.macs,
            "weight_bits": sums.weight_bits,
            "sparsity": sums.sparsity,
            "layers": list.iter().map(layer_json).collect::<Vec<_>>(),
            "prune_groups": groups.iter().map(|g| json!({"layers": g.layers, "channels": g.channels, "frozen": g.frozen})).collect::<Vec<_>>(),
            "engines": engines.iter().map(|(n, r)| json!({"engine": n, "loads": r.is_none(), "why": r})).collect::<Vec<_>>(),
            "unknown": facts.unknown().iter().map(|(i, why)| json!({"node": graph.label(*i), "why": why})).collect::<Vec<_>>(),
        }));
    }
    let mut out = format!(
        "{}: {} parameters, {} multiply–adds per sample, {}, operator set {}\n\n",
        file.name(),
        text::count(sums.params),
        text::count(sums.macs),
        file.size,
        file.model.opset()
    );
    let total = sums.macs.max(1) as f64;
    let rows: Vec<Vec<String>> = list.iter().map(|l| layer_row(l, total)).collect();
    out += &text::table(&["layer", "kind", "weights", "bits", "output", "params", "multiply–adds", "share"], &rows);
    out += "\nprune groups (channels that go together)\n";
    for g in &groups {
        match &g.frozen {
            None => out += &format!("  {} channels: {}\n", g.channels, g.layers.join(" + ")),
            Some(why) => out += &format!("  {} channels stay: {}: {why}\n", g.channels, g.layers.join(" + ")),
        }
    }
    out += "\nengines\n";
    for (name, why) in &engines {
        out += &match why {
            None => format!("  {name}: loads\n"),
            Some(why) => format!("  {name}: {why}\n"),
        };
    }
    for (index, why) in facts.unknown() {
        out += &format!("note: `{}`: {why}\n", graph.label(*index));
    }
    print(&out)
}

struct GroupRow {
    layers: Vec<String>,
    channels: usize,
    frozen: Option<String>,
}

fn group_rows(file: &ModelFile) -> Result<Vec<GroupRow>> {
    let (prepared, _) = prepare(&file.model)?;
    let facts = Facts::infer(&prepared, 1)?;
    let graph = Graph::new(&prepared);
    let list = layers(&graph, &facts)?;
    let found = Groups::find(&graph, &facts, &list)?;
    let rows = found.groups.into_iter().filter(|g| !g.producers.is_empty()).map(|g| GroupRow {
        layers: g.producers.iter().map(|&i| list[i].name.clone()).collect(),
        channels: g.channels,
        frozen: g.frozen,
    });
    Ok(rows.collect())
}

/// Every engine, and why it refuses the model if it does. Each loads it in a process of its own: a damaged model may crash an
/// engine, and that is an answer too.
fn engine_rows(file: &ModelFile) -> Result<Vec<(String, Option<String>)>> {
    let program = Program::find()?;
    let refusal = |e: Error| e.hint_text().map_or_else(|| e.to_string(), |h| format!("{e} ({h})"));
    let row = |e: &&'static dyn Engine| {
        let job = Job {
            model: file.path.clone(),
            engine: e.name().to_owned(),
            options: LoadOptions::default(),
            cpus: Vec::new(),
            timeout: LOADING,
        };
        (format!("{} {}", e.name(), e.version()), Runner::spawn(&program, &job).err().map(refusal))
    };
    Ok(engine::all().iter().map(row).collect())
}

fn kind(layer: &Layer) -> &'static str {
    match layer.kind {
        LayerKind::Conv => "conv",
        LayerKind::DepthwiseConv => "depthwise conv",
        LayerKind::GroupedConv => "grouped conv",
        LayerKind::Gemm => "gemm",
        LayerKind::MatMul => "matmul",
        LayerKind::ActivationMatMul => "matmul of activations",
    }
}

fn dims(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

fn layer_row(l: &Layer, total_macs: f64) -> Vec<String> {
    let bits = l.weight.as_ref().map_or_else(String::new, |w| match w.encoding {
        Encoding::Float(b) => format!("f{b}"),
        Encoding::Quantized(b) => format!("i{b}"),
    });
    vec![
        l.name.clone(),
        kind(l).into(),
        l.weight.as_ref().map_or_else(String::new, |w| dims(&w.shape)),
        bits,
        dims(l.output_shape.get(1..).unwrap_or(&[])),
        text::count(l.params),
        text::count(l.macs),
        text::percent(l.macs as f64 / total_macs),
    ]
}

fn layer_json(l: &Layer) -> serde_json::Value {
    json!({
        "name": l.name,
        "kind": kind(l),
        "weight_shape": l.weight.as_ref().map(|w| &w.shape),
        "weight_bits": l.weight.as_ref().map(|w| w.encoding.bits()),
        "output_shape": l.output_shape,
        "params": l.params,
        "macs": l.macs,
    })
}
