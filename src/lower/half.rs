//! Float16 weights and arithmetic, between Casts at the graph's inputs and outputs.

use crate::compress::Note;
use crate::model::clean::remove_dead;
use crate::model::{Facts, Graph, eval, node_label};
use crate::onnx::{Attributes, Model, dtype_to_onnx, pb, tensor_from_proto, tensor_to_proto};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Operators that ONNX defines for float32 but not for float16 (in some operator set we write), or whose float operands include
/// factors and random numbers that must not be rounded.
#[rustfmt::skip]
const FLOAT32: &[&str] = &[
    "Bernoulli", "BlackmanWindow", "CumSum", "DequantizeLinear", "DynamicQuantizeLinear", "EyeLike", "HammingWindow", "HannWindow",
    "ImageDecoder", "MelWeightMatrix", "Multinomial", "NonMaxSuppression", "QuantizeLinear", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike", "Range", "Resize", "RoiAlign", "TfIdfVectorizer", "Upsample",
];

/// Rewrites a float32 model. Nodes whose name (or operator and position) `select` does not pick keep float32, and so do operators
/// that have no float16.
///
/// # Errors
/// A constant is too large for float16 or, being the only number of its tensor, too small; a node holds a graph of its own, or the
/// model has functions; a tensor's type is not known.
pub(super) fn half(model: &Model, select: &dyn Fn(&str) -> bool) -> Result<(Model, Vec<Note>)> {
    if let Some((i, node)) =
        model.graph().node.iter().enumerate().find(|(_, n)| n.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()))
    {
        return Err(Error::bad_input(format!("`{}` ({}) holds a graph of its own", node_label(node, i), node.op_type()))
            .hint("models with control flow are not written in float16"));
    }
    if !model.proto().functions.is_empty() {
        return Err(Error::bad_input("the model has functions of its own").hint("export it without them to write it in float16"));
    }
    let model = &without_gemms(model, select)?;
    let facts = Facts::infer(model, 1)?;
    let mut writer = Writer::new(model, &facts)?;
    let mut wide: BTreeSet<&str> = BTreeSet::new();
    for (index, node) in model.graph().node.iter().enumerate() {
        let keeps = !node.is_standard() || FLOAT32.contains(&node.op_type());
        if keeps && node.input.iter().chain(&node.output).any(|t| writer.floats.contains(t)) {
            wide.insert(node.op_type());
        }
        writer.node(node, keeps || !select(&node_label(node, index)))?;
    }
    let mut notes = vec![Note::step("float16 between Casts at inputs and outputs")];
    if !wide.is_empty() {
        let list = wide.into_iter().collect::<Vec<_>>().join(", ");
        notes.push(Note::step(format!("these operators stay float32: {list}")));
    }
    Ok((writer.finish(model)?, notes))
}

/// Gemm as MatMul and Add: it scales its operands by float32 numbers, which one engine does not convert. The factors go into
/// constants; where there is none for them the Gemm stays.
fn without_gemms(model: &Model, select: &dyn Fn(&str) -> bool) -> Result<Model> {
    let mut split = model.clone();
    let nodes = std::mem::take(&mut split.graph_mut().node);
    let graph = Graph::new(model);
    let mut made = Vec::new();
    for (index, mut node) in nodes.into_iter().enumerate() {
        let factor = |name: &str| node.float(name).unwrap_or(1.0);
        let is_gemm = node.is_standard() && node.op_type() == "Gemm" && node.int("transA").unwrap_or(0) == 0;
        let names: Vec<&str> = node.input.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
        let (true, [_, weights, rest @ ..]) = (is_gemm && select(&node_label(&node, index)), names.as_slice()) else {
            made.push(node);
            continue;
        };
        let bias = rest.first().map(|name| constant_times(&graph, name, factor("beta"))).transpose()?;
        let (Some(mut weights), true) = (constant_times(&graph, weights, factor("alpha"))?, !matches!(bias, Some(None))) else {
            made.push(node);
            continue;
        };
        if node.int("transB").unwrap_or(0) != 0 {
            weights = eval::permute(&weights, &[1, 0])?;
        }
        let output = node.output[0].clone();
        let weights = split.add_initializer(&format!("{}__factor", names[1]), &weights);
        node.set_op_type("MatMul".into());
        node.attribute.clear();
        node.input.truncate(1);
        node.input.push(weights);
        if let Some(Some(bias)) = bias {
            let mut add = pb::NodeProto::new();
            add.set_op_type("Add".into());
            add.set_name(format!("{output}__sum"));
            let product = free_name(model, &split, &format!("{output}__product"));
            let bias = split.add_initializer(&format!("{output}__bias"), &bias);
            add.input = vec![product.clone(), bias];
            add.output = vec![output];
            node.output = vec![product];
            made.extend([node, add]);
        } else {
            made.push(node);
        }
    }
    split.graph_mut().node = made;
    remove_dead(&mut split);
    Ok(split)
}

/// A constant times a number; `None` when `name` is none.
fn constant_times(graph: &Graph<'_>, name: &str, factor: f32) -> Result<Option<Tensor>> {
    let value = graph.constant(name)?.filter(|v| v.dtype() == DType::F32);
    // What does not fit is named as the file names it.
    value.as_ref().map(|v| narrowed(name, v)).transpose()?;
    match value {
        Some(value) if factor != 1.0 => eval::multiply(&value, &Tensor::f32([], vec![factor])?).map(Some),
        other => Ok(other),
    }
}

/// A name that neither the old graph nor the constants of the new one have.
fn free_name(old: &Model, new: &Model, stem: &str) -> String {
    let free = old.free_name(stem);
    if free == new.free_name(&free) { free } else { new.free_name(&format!("{free}_")) }
}

/// Writes nodes one after another and inserts the Casts that they need.
struct Writer<'m> {
    facts: &'m Facts,
    /// Float32 tensors of the old graph.
    floats: HashSet<String>,
    /// Inputs and outputs of the graph: their names stay with float32.
    bound: HashSet<&'m str>,
    constants: HashMap<&'m str, &'m pb::TensorProto>,
    taken: HashSet<String>,
    /// Names of what exists, by old name and by whether it is float16.
    made: HashMap<(String, bool), String>,
    nodes: Vec<pb::NodeProto>,
    initializers: Vec<pb::TensorProto>,
}

impl<'m> Writer<'m> {
    fn new(model: &'m Model, facts: &'m Facts) -> Result<Self> {
        let graph = model.graph();
        let outputs = || graph.node.iter().flat_map(|n| n.output.iter()).filter(|o| !o.is_empty());
        let names =
            || graph.input.iter().map(|i| i.name()).chain(graph.initializer.iter().map(|t| t.name())).chain(outputs().map(String::as_str));
        if let Some(unknown) = outputs().find(|o| facts.get(o).is_none_or(|f| f.dtype.is_none())) {
            return Err(Error::bad_input(format!("the type of `{unknown}` is not known")).hint("float16 needs every tensor's type"));
        }
        let is_float = |name: &str| facts.get(name).and_then(|f| f.dtype) == Some(DType::F32);
        let constants: HashMap<&str, &pb::TensorProto> = graph.initializer.iter().map(|t| (t.name(), t)).collect();
        let of_type = |name: &str| is_float(name) || constants.get(name).is_some_and(|t| t.data_type() == dtype_to_onnx(DType::F32));
        let floats: HashSet<String> = names().filter(|n| of_type(n)).map(str::to_owned).collect();
        let mut writer = Writer {
            facts,
            bound: graph.input.iter().chain(&graph.output).map(|v| v.name()).filter(|n| !constants.contains_key(n)).collect(),
            taken: names().map(str::to_owned).collect(),
            made: HashMap::new(),
            nodes: Vec::new(),
            initializers: graph.initializer.iter().filter(|t| !floats.contains(t.name())).cloned().collect(),
            constants,
            floats,
        };
        for input in graph.input.iter().filter(|i| writer.floats.contains(i.name())) {
            writer.made.insert((input.name().to_owned(), false), input.name().to_owned());
        }
        Ok(writer)
    }

    /// The name of `tensor` in float16 or in float32: its own where nothing outside knows it and most will read it.
    fn called(&mut self, tensor: &str, half: bool) -> String {
        let keeps_own = half != self.bound.contains(tensor);
        if keeps_own {
            return tensor.to_owned();
        }
        let stem = format!("{tensor}__{}", if half { "half" } else { "float" });
        let numbered = (2..).map(|i| format!("{stem}_{i}"));
        let free = std::iter::once(stem.clone()).chain(numbered).find(|n| !self.taken.contains(n)).unwrap_or_default();
        self.taken.insert(free.clone());
        free
    }

    /// `tensor` as float16 or as float32, through a Cast where it is the other so far.
    fn wanted(&mut self, tensor: &str, half: bool) -> Result<String> {
        if !self.floats.contains(tensor) {
            return Ok(tensor.to_owned());
        }
        if let Some(made) = self.made.get(&(tensor.to_owned(), half)) {
            return Ok(made.clone());
        }
        let name = self.called(tensor, half);
        if let Some(&stored) = self.constants.get(tensor) {
            let mut stored = stored.clone();
            if half {
                stored = tensor_to_proto(&name, &narrowed(tensor, &tensor_from_proto(&stored)?)?);
            }
            stored.set_name(name.clone());
            self.initializers.push(stored);
        } else if let Some(other) = self.made.get(&(tensor.to_owned(), !half)).cloned() {
            let mut cast = pb::NodeProto::new();
            cast.set_op_type("Cast".into());
            cast.set_name(name.clone());
            cast.input = vec![other];
            cast.output = vec![name.clone()];
            cast.set_int("to", dtype_to_onnx(if half { DType::F16 } else { DType::F32 }).into());
            self.nodes.push(cast);
        } else {
            return Err(Error::bad_input(format!("`{tensor}` is read before it is made")));
        }
        self.made.insert((tensor.to_owned(), half), name.clone());
        Ok(name)
    }

    fn node(&mut self, node: &pb::NodeProto, keeps: bool) -> Result<()> {
        let mut new = node.clone();
        for input in &mut new.input {
            *input = self.wanted(input, !keeps)?;
        }
        for output in &mut new.output {
            if self.floats.contains(output.as_str()) {
                let name = self.called(output, !keeps);
                self.made.insert((output.clone(), !keeps), name.clone());
                *output = name;
            }
        }
        let makes_floats = node.output.iter().any(|o| self.floats.contains(o));
        if !keeps && makes_floats {
            retype(&mut new)?;
        }
        self.nodes.push(new);
        Ok(())
    }

    fn finish(mut self, model: &Model) -> Result<Model> {
        for output in model.graph().output.iter().map(|o| o.name()) {
            self.wanted(output, false)?;
        }
        let mut model = model.clone();
        let graph = model.graph_mut();
        graph.node = self.nodes;
        graph.initializer = self.initializers;
        // What the file states of inner tensors are types that they no longer have.
        let facts = self.facts;
        graph.value_info.retain(|v| facts.get(v.name()).and_then(|f| f.dtype) != Some(DType::F32));
        Ok(model)
    }
}

/// The types that a node states of what it makes.
fn retype(node: &mut pb::NodeProto) -> Result<()> {
    let (float, half) = (i64::from(dtype_to_onnx(DType::F32)), i64::from(dtype_to_onnx(DType::F16)));
    match node.op_type() {
        "Cast" if node.int("to") == Some(float) => node.set_int("to", half),
        "ConstantOfShape" | "Constant" => {
            let label = node.output.first().cloned().unwrap_or_default();
            let value = match node.attribute.iter().find(|a| matches!(a.name(), "value" | "value_float" | "value_floats")) {
                None => Tensor::f32([1], vec![0.0])?,
                Some(a) if a.name() == "value" => tensor_from_proto(a.t.as_ref().unwrap_or(&pb::TensorProto::new()))?,
                Some(a) if a.name() == "value_float" => Tensor::f32([], vec![a.f()])?,
                Some(a) => Tensor::f32([a.floats.len()], a.floats.clone())?,
            };
            let mut attribute = pb::AttributeProto::new();
            attribute.set_name("value".into());
            attribute.set_type(4);
            attribute.t = Some(tensor_to_proto("", &narrowed(&label, &value)?)).into();
            node.attribute = vec![attribute];
        }
        _ => {}
    }
    Ok(())
}

/// `value` in float16.
fn narrowed(name: &str, value: &Tensor) -> Result<Tensor> {
    let numbers = value.as_f32()?;
    let narrow = eval::cast(value, DType::F16)?;
    let Data::F16(bits) = narrow.data() else { return Err(Error::bad_input(format!("`{name}` did not become float16"))) };
    let is_infinite = |bits: u16| bits & 0x7fff == 0x7c00;
    if let Some((large, _)) = numbers.iter().zip(bits).find(|(v, b)| v.is_finite() && is_infinite(**b)) {
        return Err(Error::bad_input(format!("`{name}` holds {large}, which float16 cannot: it ends at 65504"))
            .hint("leave the layer that reads it in float32, or do not use the form `fp16`"));
    }
    if let ([v], [b]) = (numbers, bits.as_slice())
        && *v != 0.0
        && b & 0x7fff == 0
    {
        return Err(Error::bad_input(format!("`{name}` is {v}, which is zero in float16")).hint("do not use the form `fp16`"));
    }
    Ok(narrow)
}
