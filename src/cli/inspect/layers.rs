//! The table of layers.

use crate::cli::text;
use crate::model::{Layer, Macs, Source};
use crate::{Error, Result};
use serde_json::{Value, json};

/// A layer with what is counted over its weights.
pub(super) struct Row<'a> {
    layer: &'a Layer,
    /// Weights that stand for exactly zero.
    zeros: u64,
    /// What is wrong with the scales or zero points.
    wrong: Option<String>,
}

/// One row per layer.
pub(super) fn rows<'a>(layers: &'a [(Layer, Vec<Source<'_>>)]) -> Result<Vec<Row<'a>>> {
    let row = |(layer, sources): &'a (Layer, Vec<Source<'_>>)| {
        let zeros = sources.iter().map(Source::zeros).sum::<Result<u64>>()?;
        let wrong = sources.iter().find_map(|s| s.encoding().err()).map(|e: Error| e.to_string());
        Ok(Row { layer, zeros, wrong })
    };
    layers.iter().map(row).collect()
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
            "zeros": self.zeros,
            "output_shape": l.output_shape,
            "params": l.params,
            "macs": l.macs.as_ref().ok(),
            "macs_unknown": l.macs.as_ref().err(),
            "encoding_invalid": self.wrong,
            "not_compressed_because": l.editable().err(),
        })
    }

    fn cells(&self, total: Option<u64>) -> Vec<String> {
        let l = self.layer;
        let sample = l.output_shape.as_deref().map(|s| text::dims(s.get(1..).unwrap_or(&[])));
        vec![
            l.name.clone(),
            l.kind.to_string(),
            l.weight.as_ref().map_or_else(String::new, |w| text::dims(&w.shape)),
            l.weight.as_ref().map_or_else(String::new, |w| w.encoding()),
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
    let cells: Vec<Vec<String>> = rows.iter().map(|r| r.cells(macs.exact())).collect();
    let mut out = text::table(&["layer", "kind", "weights", "encoding", "output", "params", "multiply–adds", "share"], &cells);
    for row in rows {
        if let Some(why) = &row.wrong {
            out += &format!("note: the encoding of `{}` is not valid: {why}\n", row.layer.name);
        }
    }
    out
}

/// Which layers `compress` rewrites, and why not the others.
pub(super) fn quantizable(rows: &[Row<'_>]) -> String {
    let refused: Vec<(&str, String)> = rows.iter().filter_map(|r| Some((r.layer.name.as_str(), r.layer.editable().err()?))).collect();
    let able = rows.len() - refused.len();
    let mut out = format!("\nweights that can be quantized or zeroed: {able} of {} layers\n", rows.len());
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
