//! `joulefront inspect`: what is in a model, and how two differ.

mod diff;
mod engines;
mod file;
mod layers;

use super::inputs::ModelFile;
use super::{Global, print, print_json, text};
use crate::compress::{Groups, prepare};
use crate::model::{Dims, Facts, Given, Graph, Layer, Source, Totals, layers as list_layers, layers_with_sources, totals};
use crate::units::Bytes;
use crate::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Models up to this size are loaded by every engine without being asked: larger ones take engines minutes and gigabytes.
const ASK_ENGINES_UP_TO: u64 = 64 << 20;

/// Layers, parameters, multiply–adds, encodings, sizes, prune groups, and which engines load it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model
    model: PathBuf,
    /// Compare it, layer by layer, with this one: what changed from MODEL to OTHER
    #[arg(long, value_name = "OTHER")]
    diff: Option<PathBuf>,
    /// A number for an open dimension (`seq=128`), or an input's shape (`input=1x3x224x224`); may be repeated
    #[arg(long, value_name = "NAME=NUMBERS")]
    shape: Vec<Given>,
    /// Ask the engines whether they load it, however large it is
    #[arg(long)]
    engines: bool,
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let file = ModelFile::open(&args.model)?;
    let dims = args.shape.iter().cloned().fold(Dims::batch(1), Dims::with);
    match &args.diff {
        Some(other) => diff::run(&file, &ModelFile::open(other)?, &dims, global),
        None => show(args, &file, &dims, global),
    }
}

/// A model with everything that is read from its graph.
struct Inspected<'m> {
    graph: Graph<'m>,
    facts: Facts,
    layers: Vec<(Layer, Vec<Source<'m>>)>,
    totals: Totals,
}

impl<'m> Inspected<'m> {
    fn new(file: &'m ModelFile, dims: &Dims) -> Result<Self> {
        let facts = Facts::infer_with(&file.model, dims)?;
        let graph = Graph::new(&file.model);
        let layers = layers_with_sources(&graph, &facts)?;
        let list: Vec<Layer> = layers.iter().map(|(l, _)| l.clone()).collect();
        let totals = totals(&graph, &list)?;
        Ok(Inspected { graph, facts, layers, totals })
    }
}

fn show(args: &Args, file: &ModelFile, dims: &Dims, global: &Global) -> Result<()> {
    let model = Inspected::new(file, dims)?;
    let rows = layers::rows(&model.layers)?;
    let groups = group_rows(file, dims);
    let asked = args.engines || file.size.0 <= ASK_ENGINES_UP_TO;
    let engines = if asked { engines::ask(file, &model.facts)? } else { Vec::new() };
    let sums = &model.totals;
    if global.json {
        let groups = match &groups {
            Ok(groups) => groups.iter().map(|g| json!({"layers": g.layers, "channels": g.channels, "frozen": g.frozen})).collect(),
            Err(_) => Vec::new(),
        };
        let unknown = model.facts.unknown().iter().map(|(i, why)| json!({"node": model.graph.label(*i), "why": why}));
        let mut object = json!({
            "model": file.path.display().to_string(),
            "model_sha256": file.sha256,
            "model_bytes": file.size.0,
            "params": sums.params,
            "macs": sums.macs.exact(),
            "macs_at_least": sums.macs.at_least,
            "macs_missing": sums.macs.missing.iter().map(|(l, why)| json!({"layer": l, "why": why})).collect::<Vec<_>>(),
            "weight_bits": sums.weight_bits,
            "sparsity": sums.sparsity,
            "layers": rows.iter().map(layers::Row::json).collect::<Vec<_>>(),
            "prune_groups": groups,
            "engines": engines.iter().map(engines::Answer::json).collect::<Vec<_>>(),
            "unknown": unknown.collect::<Vec<_>>(),
            "stale_shapes": model.facts.stale(),
        });
        file::add_json(&mut object, file);
        return print_json(object);
    }
    let mut out = format!(
        "{}: {} parameters, {} multiply–adds per sample, {}, operator set {}\n",
        file.name(),
        text::count(sums.params),
        text::macs(&sums.macs),
        file.size,
        file.model.opset()
    );
    if !sums.macs.missing.is_empty() {
        out += &format!("multiply–adds: {}\n", sums.macs);
    }
    out += "\n";
    out += &layers::table(&rows, &sums.macs);
    out += &file::text(file, &model.facts, &model.graph);
    out += "\nprune groups (channels that go together)\n";
    match &groups {
        Err(why) => out += &format!("  none: {why}\n"),
        Ok(groups) if groups.is_empty() => out += "  none: no layer makes channels\n",
        Ok(groups) => {
            for g in groups {
                out += &match &g.frozen {
                    None => format!("  {} channels: {}\n", g.channels, g.layers.join(" + ")),
                    Some(why) => format!("  {} channels stay: {}: {why}\n", g.channels, g.layers.join(" + ")),
                };
            }
        }
    }
    out += &layers::quantizable(&rows);
    out += "\nengines\n";
    if !asked {
        out += &format!("  not asked: the model is over {}; ask with --engines\n", Bytes(ASK_ENGINES_UP_TO));
    }
    engines.iter().for_each(|e| out += &e.text());
    for (index, why) in model.facts.unknown() {
        out += &format!("note: `{}`: {why}\n", model.graph.label(*index));
    }
    print(&out)
}

struct GroupRow {
    layers: Vec<String>,
    channels: usize,
    frozen: Option<String>,
}

/// The groups, or why there are none. Groups depend on shapes only; the prepared model shares its weights with the file.
fn group_rows(file: &ModelFile, dims: &Dims) -> Result<Vec<GroupRow>> {
    let (prepared, _) = prepare(&file.model)?;
    let facts = Facts::infer_with(&prepared, dims)?;
    let graph = Graph::new(&prepared);
    let list = list_layers(&graph, &facts)?;
    let found = Groups::find(&graph, &facts, &list)?;
    let rows = found.groups.into_iter().filter(|g| !g.producers.is_empty()).map(|g| GroupRow {
        layers: g.producers.iter().filter_map(|&i| list.get(i)).map(|l| l.name.clone()).collect(),
        channels: g.channels,
        frozen: g.frozen,
    });
    Ok(rows.collect())
}

/// An error with its hint on one line.
fn one_line(e: &Error) -> String {
    e.hint_text().map_or_else(|| e.to_string(), |h| format!("{e} ({h})"))
}
