//! The table of layers.

use super::{Inspected, Prepared};
use crate::cli::text;
use crate::model::{Encoding, Layer, LayerKind, Macs, Source, Storage};
use crate::{Error, Result};
use serde_json::{Value, json};

/// A layer with what is counted over its weights.
pub(super) struct Row<'a> {
    layer: &'a Layer,
    /// Weights that stand for exactly zero.
    zeros: u64,
    /// How what it reads besides weights is encoded: `u8 per tensor`; empty where nothing says it.
    input: String,
    /// Why compression leaves it alone.
    untouched: Option<String>,
    /// What is wrong with the scales or zero points.
    wrong: Option<String>,
}

/// One row per layer.
pub(super) fn rows<'a>(model: &'a Inspected<'_>, prepared: &Prepared) -> Result<Vec<Row<'a>>> {
    let reasons = prepared.reasons();
    let untouched = |layer: &Layer| match &prepared.found {
        Err(why) => Some(why.to_string()),
        // A layer that cleaning takes away, or gives another name, has its own reason.
        Ok(_) => reasons.get(layer.output.as_str()).cloned().unwrap_or_else(|| layer.editable().err()),
    };
    let row = |(layer, sources): &'a (Layer, Vec<Source<'_>>)| {
        let zeros = sources.iter().map(Source::zeros).sum::<Result<u64>>()?;
        let wrong = sources.iter().find_map(|s| s.encoding().err());
        let (input, bad_input) = match input(model, layer) {
            Ok(input) => (input, None),
            Err(e) => ("not valid".to_owned(), Some(e)),
        };
        Ok(Row { layer, zeros, input, untouched: untouched(layer), wrong: wrong.or(bad_input).map(|e: Error| e.to_string()) })
    };
    model.layers.iter().map(row).collect()
}

/// How the activation that a layer of the main graph reads is encoded.
fn input(model: &Inspected<'_>, layer: &Layer) -> Result<String> {
    let node = layer.node.map(|i| model.graph.node(i));
    let is_weight = |i: usize| layer.weights().any(|w| w.input == i);
    let inputs = node.map_or(&[][..], |n| &n.input);
    let Some((_, name)) = inputs.iter().enumerate().find(|(i, name)| !is_weight(*i) && !name.is_empty()) else { return Ok(String::new()) };
    if layer.kind == LayerKind::Embedding {
        return Ok(String::new());
    }
    Ok(match Encoding::of(&model.graph, &model.facts, name)? {
        Some(encoding) => encoding.format().to_string(),
        None => {
            let storage = model.facts.get(name).and_then(|f| f.dtype).and_then(Storage::of);
            storage.map_or_else(String::new, |s| format!("{}, scale computed", s.name()))
        }
    })
}

impl Row<'_> {
    pub(super) fn json(&self) -> Value {
        let l = self.layer;
        let weight = l.weight.as_ref();
        json!({
            "name": l.name,
            "kind": l.kind.to_string(),
            "operator": l.operator,
            "weight": weight.map(|w| &w.name),
            "weight_shape": weight.map(|w| &w.shape),
            "weight_bits": weight.map(|w| w.format.bits()),
            "encoding": weight.map(|w| w.encoding()),
            "weight_through": weight.map(|w| &w.through),
            "input_encoding": Some(&self.input).filter(|i| !i.is_empty()),
            "zeros": self.zeros,
            "output_shape": l.output_shape,
            "params": l.params,
            "macs": l.macs.as_ref().ok(),
            "macs_unknown": l.macs.as_ref().err(),
            "encoding_invalid": self.wrong,
            "not_compressed_because": self.untouched,
        })
    }

    fn cells(&self, total: Option<u64>) -> Vec<String> {
        let l = self.layer;
        let sample = l.output_shape.as_deref().map(|s| text::dims(s.get(1..).unwrap_or(&[])));
        let two_activations = matches!(l.kind, LayerKind::ActivationMatMul | LayerKind::Attention | LayerKind::Einsum);
        let no_weights = if two_activations { "" } else { "computed" };
        vec![
            text::elided(&l.name),
            l.kind.to_string(),
            l.weight.as_ref().map_or_else(|| no_weights.to_owned(), |w| text::dims(&w.shape)),
            l.weight.as_ref().map_or_else(String::new, |w| w.encoding()),
            self.input.clone(),
            sample.unwrap_or_else(|| "?".into()),
            text::count(l.params),
            l.macs.as_ref().map_or_else(|_| "?".into(), |&n| text::count(n)),
            match (&l.macs, total) {
                (Ok(n), Some(total)) => text::percent(*n as f64 / total.max(1) as f64),
                _ => String::new(),
            },
        ]
    }
}

/// The table for people, with what is wrong below it.
pub(super) fn table(rows: &[Row<'_>], macs: &Macs) -> String {
    if rows.is_empty() {
        return "no layers: nothing here holds weights or multiplies matrices\n".into();
    }
    let mut header = vec!["layer", "kind", "weights", "encoding", "input", "output", "params", "multiply–adds", "share"];
    let mut cells: Vec<Vec<String>> = rows.iter().map(|r| r.cells(macs.exact())).collect();
    // Columns that would say nothing: activations as everybody expects them, shares of an unknown whole.
    let is_plain = |c: &Vec<String>| matches!(c[INPUT].as_str(), "" | "f32");
    for (column, empty) in [(SHARE, macs.exact().is_none()), (INPUT, cells.iter().all(is_plain))] {
        if empty {
            header.remove(column);
            cells.iter_mut().for_each(|c| drop(c.remove(column)));
        }
    }
    let mut out = text::table(&header, &cells);
    for row in rows {
        if let Some(why) = &row.wrong {
            out += &format!("note: the encoding of `{}` is not valid: {why}\n", row.layer.name);
        }
    }
    out
}

/// Columns of the table that may be left out.
const INPUT: usize = 4;
const SHARE: usize = 8;

/// Which layers `compress` rewrites, and why not the others.
pub(super) fn quantizable(rows: &[Row<'_>]) -> String {
    let refused: Vec<(&str, String)> = rows.iter().filter_map(|r| Some((r.layer.name.as_str(), r.untouched.clone()?))).collect();
    let able = rows.len() - refused.len();
    if rows.is_empty() {
        return String::new();
    }
    let layers = if rows.len() == 1 { "layer" } else { "layers" };
    let mut out = format!("\nweights that can be quantized or zeroed: {able} of {} {layers}\n", rows.len());
    // Layers with the same reason stand together, in the order of the first.
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, why) in refused {
        match reasons.iter_mut().find(|(r, _)| *r == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    for (why, names) in reasons {
        out += &format!("  not {}: {why}\n", text::some(&names));
    }
    out
}
