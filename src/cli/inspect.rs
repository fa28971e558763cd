//! `joulefront inspect`: what is in a model, and how two differ.

mod diff;
mod engines;
mod file;
mod layers;

use super::inputs::ModelFile;
use super::{Global, print, print_json, text};
use crate::compress::{Groups, prepare_within};
use crate::model::clean::clean_within;
use crate::model::{Dims, Facts, Given, Graph, Layer, Source, Totals, layers as list_layers, layers_with_sources, totals};
use crate::onnx::Model;
use crate::units::Bytes;
use crate::{Error, Result};
use serde_json::json;
use std::collections::HashMap;
use std::path::PathBuf;

/// Models up to this size are loaded by every engine without being asked: larger ones take engines minutes and gigabytes.
const ASK_ENGINES_UP_TO: u64 = 64_000_000;

/// Weights that are worked out in the graph are, up to this many bytes, made plain to see what compression could do with them.
const PLAIN_UP_TO: u64 = 16_000_000;

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
    let prepared = Prepared::new(file, dims);
    let rows = layers::rows(&model, &prepared)?;
    let asked = args.engines || file.size.0 <= ASK_ENGINES_UP_TO;
    let engines = if asked { engines::ask(file, dims)? } else { Vec::new() };
    let sums = &model.totals;
    if global.json {
        let groups = match &prepared.found {
            Ok((groups, _)) => groups.iter().map(|g| json!({"layers": g.layers, "channels": g.channels, "frozen": g.frozen})).collect(),
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
            "cleaning": prepared.cleaning,
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
    out += &file::text(file, &model);
    if !prepared.cleaning.is_empty() {
        out += "\ncleaning (what `compress` does first)\n";
        prepared.cleaning.iter().for_each(|line| out += &format!("  {line}\n"));
    }
    out += "\nprune groups (channels that go together)\n";
    match &prepared.found {
        Err(why) => out += &format!("  none: {}\n", one_line(why)),
        Ok((_, layers)) if layers.is_empty() => out += "  none: there are no layers\n",
        Ok((groups, _)) if groups.is_empty() && !model.facts.unknown().is_empty() => out += "  none: shapes are not known\n",
        Ok((groups, _)) if groups.is_empty() => out += "  none: the channels of these layers are not followed\n",
        Ok((groups, _)) => groups.iter().for_each(|g| out += &g.text()),
    }
    out += &layers::quantizable(&rows);
    out += "\nengines\n";
    if !asked {
        out += &format!("  not asked: the model is over {}; ask with --engines\n", Bytes(ASK_ENGINES_UP_TO));
    }
    engines.iter().for_each(|e| out += &e.text());
    out += &unknown(&model);
    print(&out)
}

/// Nodes whose results have no known shape, by reason.
fn unknown(model: &Inspected<'_>) -> String {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (index, why) in model.facts.unknown() {
        let label = model.graph.label(*index);
        match reasons.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, labels)) => labels.push(label),
            None => reasons.push((why, vec![label])),
        }
    }
    let line = |(why, labels): &(&str, Vec<String>)| {
        let first = labels.first().map_or("", String::as_str);
        match labels.len() {
            1 => format!("note: the shape of `{first}` is not known: {why}\n"),
            n => format!("note: the shapes of {n} nodes from `{first}` on are not known: {why}\n"),
        }
    };
    reasons.iter().map(line).collect()
}

struct GroupRow {
    layers: Vec<String>,
    channels: usize,
    frozen: Option<String>,
}

impl GroupRow {
    fn text(&self) -> String {
        let layers = self.layers.iter().map(|l| text::elided(l)).collect::<Vec<_>>().join(" + ");
        match &self.frozen {
            None => format!("  {} channels: {layers}\n", self.channels),
            Some(why) => format!("  {} channels stay: {layers}: {why}\n", self.channels),
        }
    }
}

/// What compression would start from.
struct Prepared {
    /// What cleaning does to the model.
    cleaning: Vec<String>,
    /// Prune groups and layers after it, or why compression cannot begin.
    found: Result<(Vec<GroupRow>, Vec<Layer>)>,
}

impl Prepared {
    /// A copy of the model shares its weights with the file.
    fn new(file: &ModelFile, dims: &Dims) -> Self {
        let mut model = file.model.clone();
        match clean_within(&mut model, PLAIN_UP_TO) {
            Ok(cleaning) => Prepared { cleaning, found: Self::find(&model, dims) },
            Err(e) => Prepared { cleaning: Vec::new(), found: Err(e) },
        }
    }

    fn find(cleaned: &Model, dims: &Dims) -> Result<(Vec<GroupRow>, Vec<Layer>)> {
        let (prepared, _) = prepare_within(cleaned, PLAIN_UP_TO)?;
        let facts = Facts::infer_with(&prepared, dims)?;
        let graph = Graph::new(&prepared);
        let list = list_layers(&graph, &facts)?;
        let found = Groups::find(&graph, &facts, &list)?;
        let rows = found.groups.into_iter().filter(|g| !g.producers.is_empty()).map(|g| GroupRow {
            layers: g.producers.iter().filter_map(|&i| list.get(i)).map(|l| l.name.clone()).collect(),
            channels: g.channels,
            frozen: g.frozen,
        });
        Ok((rows.collect(), list))
    }

    /// Why compression leaves each layer alone, by the name of its output.
    fn reasons(&self) -> HashMap<&str, Option<String>> {
        let layers = self.found.as_ref().map_or(&[][..], |(_, layers)| layers);
        layers.iter().map(|l| (l.output.as_str(), l.editable().err())).collect()
    }
}

/// An error with its hint on one line.
fn one_line(e: &Error) -> String {
    e.hint_text().map_or_else(|| e.to_string(), |h| format!("{e} ({h})"))
}
