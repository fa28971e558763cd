//! What else is in the file: versions, operators, inputs and outputs, metadata.

use super::Inspected;
use crate::cli::inputs::ModelFile;
use crate::cli::text;
use crate::model::Graph;
use crate::onnx::{dtype_from_onnx, pb};
use crate::units::Bytes;
use serde_json::{Value, json};

/// Type and dimensions as the file states them: `float32 [batch, 3, 224, 224]`.
pub(super) fn stated(value: &pb::ValueInfoProto) -> String {
    let Some(tensor) = value.type_.as_ref().and_then(|t| t.tensor_type.as_ref()) else { return "no tensor".into() };
    let dtype = dtype_from_onnx(tensor.elem_type()).map_or_else(|| format!("type {}", tensor.elem_type()), |d| d.name().to_owned());
    if tensor.shape.is_none() {
        return format!("{dtype} of any shape");
    }
    let dims: Vec<String> = tensor.shape.dim.iter().map(dim).collect();
    format!("{dtype} [{}]", dims.join(", "))
}

fn dim(d: &pb::tensor_shape_proto::Dimension) -> String {
    match (d.has_dim_value(), d.dim_param()) {
        (true, _) => d.dim_value().to_string(),
        (false, "") => "?".into(),
        (false, symbol) => symbol.to_owned(),
    }
}

/// Operator sets by domain, ONNX's own first.
pub(super) fn opsets(file: &ModelFile) -> Vec<(String, i64)> {
    let name = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
    file.model.proto().opset_import.iter().map(|o| (name(o.domain()), o.version())).collect()
}

/// Names of dimensions that are left open.
fn symbols(file: &ModelFile) -> Vec<String> {
    let graph = Graph::new(&file.model);
    let dims = graph.inputs().flat_map(|i| i.type_.tensor_type.shape.dim.iter());
    let mut found: Vec<String> = dims.filter(|d| !d.dim_param().is_empty()).map(|d| d.dim_param().to_owned()).collect();
    found.sort();
    found.dedup();
    found
}

/// The operators of a graph with how often each occurs, the most frequent first.
fn operators(graph: &pb::GraphProto) -> String {
    const SHOWN: usize = 8;
    let mut counts = std::collections::BTreeMap::new();
    graph.node.iter().for_each(|n| *counts.entry(n.op_type()).or_insert(0usize) += 1);
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
    let mut shown: Vec<String> = counts.iter().take(SHOWN).map(|(op, n)| format!("{n} {op}")).collect();
    if counts.len() > SHOWN {
        shown.push(format!("{} others", counts[SHOWN..].iter().map(|(_, n)| n).sum::<usize>()));
    }
    shown.join(", ")
}

/// Adds the file's facts to the object.
pub(super) fn add_json(object: &mut Value, file: &ModelFile) {
    let proto = file.model.proto();
    let graph = Graph::new(&file.model);
    let value = |v: &pb::ValueInfoProto| json!({"name": v.name(), "type": stated(v)});
    let more = json!({
        "opset": file.model.opset(),
        "opsets": opsets(file).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "ir_version": proto.ir_version(),
        "producer": proto.producer_name(),
        "producer_version": proto.producer_version(),
        "metadata_keys": proto.metadata_props.iter().map(|p| p.key()).collect::<Vec<_>>(),
        "functions": proto.functions.iter().map(|f| format!("{}.{}", f.domain(), f.name())).collect::<Vec<_>>(),
        "external_data": file.model.has_external_data(),
        "nodes": file.model.graph().node.len(),
        "inputs": graph.inputs().map(value).collect::<Vec<_>>(),
        "outputs": file.model.graph().output.iter().map(value).collect::<Vec<_>>(),
        "symbols": symbols(file),
    });
    if let (Some(all), Value::Object(more)) = (object.as_object_mut(), more) {
        all.extend(more);
    }
}

/// The same for people.
pub(super) fn text(file: &ModelFile, model: &Inspected<'_>) -> String {
    let proto = file.model.proto();
    let mut out = "\nfile\n".to_owned();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!("  {name:<10} {value}\n");
        }
    };
    let sets: Vec<String> = opsets(file).iter().map(|(d, v)| format!("{d} {v}")).collect();
    line("versions", format!("IR {}, operator sets {}", proto.ir_version(), sets.join(", ")));
    line("producer", format!("{} {}", proto.producer_name(), proto.producer_version()).trim().to_owned());
    line("metadata", proto.metadata_props.iter().map(|p| p.key()).collect::<Vec<_>>().join(", "));
    line("functions", proto.functions.iter().map(|f| f.name()).collect::<Vec<_>>().join(", "));
    let proto = file.model.graph();
    line("nodes", format!("{}: {}", proto.node.len(), operators(proto)));
    let sums = &model.totals;
    if model.layers.iter().any(|(l, _)| l.weight.is_some()) {
        line("weights", format!("{:.1} bits on average, {} are zero", sums.weight_bits, text::percent(sums.sparsity)));
    }
    if file.model.has_external_data() {
        let bytes = file.model.external_data().iter().map(|b| b.len() as u64).sum();
        line("data", format!("{} in other files", Bytes(bytes)));
    }
    for input in model.graph.inputs() {
        line("input", format!("`{}` {}", input.name(), stated(input)));
    }
    for output in &file.model.graph().output {
        line("output", format!("`{}` {}", output.name(), stated(output)));
    }
    out
}
