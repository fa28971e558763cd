//! Two models side by side.

use super::Inspected;
use super::file::{opsets, stated};
use crate::Result;
use crate::cli::inputs::ModelFile;
use crate::cli::{Global, print, print_json, text};
use crate::model::{Dims, Format, Layer, Pair, diff};
use crate::onnx::pb;
use serde_json::{Value, json};

/// Compares two models and prints what changed from the first to the second.
pub(super) fn run(a: &ModelFile, b: &ModelFile, dims: &Dims, global: &Global) -> Result<()> {
    let (left, right) = (Inspected::new(a, dims)?, Inspected::new(b, dims)?);
    let found = diff(&left.layers, &right.layers)?;
    let changed: Vec<Change<'_>> = found
        .pairs
        .iter()
        .filter(|p| !p.same)
        .filter_map(|pair| Some(Change { a: &left.layers.get(pair.a)?.0, b: &right.layers.get(pair.b)?.0, pair }))
        .collect();
    let unchanged = found.pairs.len() - changed.len();
    let only = |list: &[usize], model: &Inspected<'_>| -> Vec<String> {
        list.iter().filter_map(|&i| model.layers.get(i)).map(|(l, _)| l.name.clone()).collect()
    };
    let (only_a, only_b) = (only(&found.only_a, &left), only(&found.only_b, &right));
    let sums = sums(a, &left, b, &right);
    let rest = other_changes(a, b);
    let head = head(&sums, &changed, only_a.len(), only_b.len(), &rest);
    if global.json {
        return print_json(json!({
            "summary": head,
            "a": {"model": a.path.display().to_string(), "model_sha256": a.sha256},
            "b": {"model": b.path.display().to_string(), "model_sha256": b.sha256},
            "totals": sums.iter().map(|s| (s.key.to_owned(), json!({"a": s.a, "b": s.b, "ratio": s.ratio()}))).collect::<serde_json::Map<_, _>>(),
            "unchanged_layers": unchanged,
            "changed_layers": changed.iter().map(Change::json).collect::<Vec<_>>(),
            "only_a": only_a,
            "only_b": only_b,
            "other_changes": rest,
        }));
    }
    let mut out = format!("{head}\n\n");
    let rows: Vec<Vec<String>> = sums.iter().map(Sum::cells).collect();
    out += &text::table(&["", "A", "B", "B / A"], &rows);
    out += &format!("\nA is {}, B is {}\n", a.path.display(), b.path.display());
    out += &format!("{unchanged} layers are unchanged\n");
    if !changed.is_empty() {
        out += "\nchanged layers\n";
        let rows: Vec<Vec<String>> = changed.iter().map(Change::cells).collect();
        out += &text::table(&["layer", "weights", "encoding", "params", "multiply–adds", "zeros", "max |Δw|", "‖Δw‖ / ‖w‖"], &rows);
    }
    for (names, which) in [(&only_a, "A"), (&only_b, "B")] {
        if !names.is_empty() {
            out += &format!("\nonly in {which}: {}\n", names.join(", "));
        }
    }
    if !rest.is_empty() {
        out += "\nbesides layers\n";
        rest.iter().for_each(|line| out += &format!("  {line}\n"));
    }
    print(&out)
}

/// One figure of both models; `None` where it is not known.
struct Sum {
    key: &'static str,
    name: &'static str,
    a: Option<f64>,
    b: Option<f64>,
    shown: (String, String),
}

impl Sum {
    fn ratio(&self) -> Option<f64> {
        let (a, b) = (self.a?, self.b?);
        if a == b { Some(1.0) } else { (a > 0.0).then(|| b / a) }
    }

    fn cells(&self) -> Vec<String> {
        let ratio = self.ratio().map_or_else(String::new, text::percent);
        vec![self.name.to_owned(), self.shown.0.clone(), self.shown.1.clone(), ratio]
    }
}

fn sums(a: &ModelFile, left: &Inspected<'_>, b: &ModelFile, right: &Inspected<'_>) -> Vec<Sum> {
    let (ta, tb) = (&left.totals, &right.totals);
    let number = |n: u64| Some(n as f64);
    let macs = |m: &crate::model::Macs| m.exact().map(|n| n as f64);
    let bits = |bits: f64| format!("{bits:.1}");
    vec![
        Sum {
            key: "macs",
            name: "multiply–adds",
            a: macs(&ta.macs),
            b: macs(&tb.macs),
            shown: (text::macs(&ta.macs), text::macs(&tb.macs)),
        },
        Sum {
            key: "params",
            name: "parameters",
            a: number(ta.params),
            b: number(tb.params),
            shown: (text::count(ta.params), text::count(tb.params)),
        },
        Sum { key: "model_bytes", name: "file", a: number(a.size.0), b: number(b.size.0), shown: (a.size.to_string(), b.size.to_string()) },
        Sum {
            key: "weight_bits",
            name: "weight bits",
            a: Some(ta.weight_bits),
            b: Some(tb.weight_bits),
            shown: (bits(ta.weight_bits), bits(tb.weight_bits)),
        },
        Sum {
            key: "sparsity",
            name: "zero weights",
            a: Some(ta.sparsity),
            b: Some(tb.sparsity),
            shown: (text::percent(ta.sparsity), text::percent(tb.sparsity)),
        },
    ]
}

/// A layer that both models have, with differences.
struct Change<'a> {
    a: &'a Layer,
    b: &'a Layer,
    pair: &'a Pair,
}

impl Change<'_> {
    /// Fewer weights of the same rank.
    fn is_narrower(&self) -> bool {
        matches!((&self.a.weight, &self.b.weight), (Some(a), Some(b)) if a.shape.len() == b.shape.len() && b.len() < a.len())
    }

    /// Integers where there were numbers, or fewer bits.
    fn is_quantized(&self) -> bool {
        let bits = |l: &Layer| l.weight.as_ref().map(|w| (w.format.bits(), matches!(w.format, Format::Integer { .. })));
        matches!((bits(self.a), bits(self.b)), (Some((a, _)), Some((b, true))) if b < a)
    }

    fn is_sparser(&self) -> bool {
        self.pair.zeros.1 > self.pair.zeros.0 && !self.is_quantized() && !self.is_narrower()
    }

    fn cells(&self) -> Vec<String> {
        let shape = |l: &Layer| l.weight.as_ref().map_or_else(|| "–".into(), |w| text::dims(&w.shape));
        let code = |l: &Layer| l.weight.as_ref().map_or_else(|| "–".into(), |w| w.encoding());
        let macs = |l: &Layer| l.macs.as_ref().map_or_else(|_| "?".into(), |&n| text::count(n));
        let weights = self.pair.weights;
        vec![
            self.a.name.clone(),
            arrow(shape(self.a), shape(self.b)),
            arrow(code(self.a), code(self.b)),
            arrow(text::count(self.a.params), text::count(self.b.params)),
            arrow(macs(self.a), macs(self.b)),
            arrow(text::count(self.pair.zeros.0), text::count(self.pair.zeros.1)),
            weights.map_or_else(String::new, |w| format!("{:.3e}", w.largest)),
            weights.and_then(|w| w.relative).map_or_else(String::new, |r| format!("{:.2} %", r * 100.0)),
        ]
    }

    fn json(&self) -> Value {
        let side = |l: &Layer, zeros: u64| {
            json!({
                "name": l.name,
                "kind": l.kind.to_string(),
                "weight_shape": l.weight.as_ref().map(|w| &w.shape),
                "weight_bits": l.weight.as_ref().map(|w| w.format.bits()),
                "encoding": l.weight.as_ref().map(|w| w.encoding()),
                "params": l.params,
                "macs": l.macs.as_ref().ok(),
                "zeros": zeros,
            })
        };
        json!({
            "a": side(self.a, self.pair.zeros.0),
            "b": side(self.b, self.pair.zeros.1),
            "max_abs_change": self.pair.weights.map(|w| w.largest).filter(|v| v.is_finite()),
            "relative_change": self.pair.weights.and_then(|w| w.relative).filter(|v| v.is_finite()),
        })
    }
}

fn arrow(a: String, b: String) -> String {
    if a == b { a } else { format!("{a} → {b}") }
}

/// The one sentence.
fn head(sums: &[Sum], changed: &[Change<'_>], only_a: usize, only_b: usize, rest: &[String]) -> String {
    let same_layers = changed.is_empty() && only_a == 0 && only_b == 0;
    if same_layers {
        let rest = if rest.is_empty() { "nothing else differs" } else { "the files differ elsewhere" };
        return format!("A and B have the same layers with the same weights; {rest}");
    }
    let share = |key: &str| sums.iter().find(|s| s.key == key).and_then(Sum::ratio).map(|r| format!("{:.0} %", r * 100.0));
    let mut parts = vec![match (share("macs"), share("params")) {
        (Some(macs), Some(params)) => format!("B has {macs} of A's multiply–adds, {params} of the parameters"),
        (None, Some(params)) => format!("B has {params} of A's parameters (multiply–adds are not known)"),
        _ => "A has no parameters".to_owned(),
    }];
    let count = |what: &str, n: usize| match n {
        0 => None,
        1 => Some(format!("1 layer {what}")),
        n => Some(format!("{n} layers {what}")),
    };
    let narrower = changed.iter().filter(|c| c.is_narrower()).count();
    let quantized = changed.iter().filter(|c| c.is_quantized()).count();
    let sparser = changed.iter().filter(|c| c.is_sparser()).count();
    let other = changed.iter().filter(|c| !c.is_narrower() && !c.is_quantized() && !c.is_sparser()).count();
    let found = [
        count("narrower", narrower),
        count("quantized", quantized),
        count("with more zeros", sparser),
        count("changed otherwise", other),
        count("only in A", only_a),
        count("only in B", only_b),
    ];
    parts.push(found.into_iter().flatten().collect::<Vec<_>>().join(", "));
    parts.join("; ")
}

/// What differs besides layers: inputs, outputs, versions, metadata.
fn other_changes(a: &ModelFile, b: &ModelFile) -> Vec<String> {
    let mut out = Vec::new();
    let mut compare = |what: &str, left: Vec<(String, String)>, right: Vec<(String, String)>| {
        for (name, value) in &left {
            match right.iter().find(|(n, _)| n == name) {
                None => out.push(format!("{what} `{name}` is only in A")),
                // Metadata may be a page long.
                Some((_, other)) if other != value && what == "metadata" => out.push(format!("metadata `{name}` differs")),
                Some((_, other)) if other != value => out.push(format!("{what} `{name}`: {value} → {other}")),
                Some(_) => {}
            }
        }
        let new = right.iter().filter(|(n, _)| !left.iter().any(|(m, _)| m == n));
        new.for_each(|(name, _)| out.push(format!("{what} `{name}` is only in B")));
    };
    let values = |list: &[pb::ValueInfoProto]| list.iter().map(|v| (v.name().to_owned(), stated(v))).collect::<Vec<_>>();
    let fed = |f: &ModelFile| crate::model::Graph::new(&f.model).inputs().map(|v| (v.name().to_owned(), stated(v))).collect::<Vec<_>>();
    let sets = |f: &ModelFile| opsets(f).into_iter().map(|(d, v)| (d, v.to_string())).collect::<Vec<_>>();
    let metadata =
        |f: &ModelFile| f.model.proto().metadata_props.iter().map(|p| (p.key().to_owned(), p.value().to_owned())).collect::<Vec<_>>();
    compare("input", fed(a), fed(b));
    compare("output", values(&a.model.graph().output), values(&b.model.graph().output));
    compare("operator set", sets(a), sets(b));
    compare("metadata", metadata(a), metadata(b));
    let ir = |f: &ModelFile| vec![("IR".to_owned(), f.model.proto().ir_version().to_string())];
    compare("version", ir(a), ir(b));
    out
}
