//! A model that is being rewritten: what will be different is collected, and done at once in the end.

use super::Form;
use super::activations::{self, Kept, Pair};
use super::coded::{Coded, Found};
use crate::Result;
use crate::model::clean::remove_dead;
use crate::model::{Facts, Graph, eval};
use crate::onnx::{Model, pb, tensor_from_proto, tensor_to_proto};
use crate::tensor::Tensor;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The rewriting of one model.
pub(super) struct Draft<'m> {
    graph: Graph<'m>,
    facts: Facts,
    /// QuantizeLinear → DequantizeLinear pairs by the tensor they make.
    pairs: HashMap<String, Pair>,
    /// All names of tensors, old and new.
    names: HashSet<String>,
    constants: Vec<pb::TensorProto>,
    /// New nodes before the old one of that index.
    before: BTreeMap<usize, Vec<pb::NodeProto>>,
    removed: HashSet<usize>,
    /// New operands of old nodes, by node and input.
    operands: BTreeMap<(usize, usize), String>,
    /// What several layers share, made once: by what it is made of, its names.
    shared: HashMap<String, Vec<String>>,
    imports: Vec<(&'static str, i64)>,
}

impl<'m> Draft<'m> {
    /// Looks at the model and changes nothing.
    ///
    /// # Errors
    /// Shapes contradict each other, or scales are not valid.
    pub(super) fn new(model: &'m Model) -> Result<Self> {
        let (graph, facts) = (Graph::new(model), Facts::infer(model, 1)?);
        let g = model.graph();
        let of_nodes = g.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
        let of_constants = g.initializer.iter().map(|t| t.name());
        let names = of_nodes.chain(of_constants).chain(g.input.iter().map(|i| i.name())).map(str::to_owned).collect();
        let pairs = activations::pairs(&graph, &facts)?;
        Ok(Draft {
            graph,
            facts,
            pairs,
            names,
            constants: Vec::new(),
            before: BTreeMap::new(),
            removed: HashSet::new(),
            operands: BTreeMap::new(),
            shared: HashMap::new(),
            imports: Vec::new(),
        })
    }

    /// The old graph.
    pub(super) fn graph(&self) -> &Graph<'m> {
        &self.graph
    }

    /// Shapes and types of the old graph.
    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Old node number `index`.
    pub(super) fn node(&self, index: usize) -> &'m pb::NodeProto {
        self.graph.node(index)
    }

    /// The quantization of a layer's first input.
    pub(super) fn activation(&self, node: usize) -> Option<&Pair> {
        self.pairs.get(self.node(node).input.first()?)
    }

    /// The pair that reads `tensor` where nothing else does.
    pub(super) fn quantized_only(&self, tensor: &str) -> Option<&Pair> {
        let [reader] = self.graph.consumers(tensor) else { return None };
        let pair = self.pairs.values().find(|p| p.quantize == reader.node)?;
        (pair.source == tensor && !self.graph.is_output(tensor)).then_some(pair)
    }

    /// A name that no tensor has: `stem`, or `stem_2`, `stem_3`, …
    pub(super) fn fresh(&mut self, stem: &str) -> String {
        let numbered = (2..).map(|i| format!("{stem}_{i}"));
        let free = std::iter::once(stem.to_owned()).chain(numbered).find(|n| !self.names.contains(n)).unwrap_or_default();
        self.names.insert(free.clone());
        free
    }

    /// Adds a constant and returns its name.
    pub(super) fn constant(&mut self, stem: &str, value: &Tensor) -> String {
        let name = self.fresh(stem);
        self.constants.push(tensor_to_proto(&name, value));
        name
    }

    /// Adds a node before old node `at` and returns the name of what it makes, which is new: `stem` if it can be.
    pub(super) fn add(&mut self, at: usize, op: &str, inputs: &[&str], stem: &str) -> String {
        let output = self.fresh(stem);
        self.add_as(at, op, inputs, &output);
        output
    }

    /// Adds a node before old node `at` that makes `output`, and returns it to be completed.
    pub(super) fn add_as(&mut self, at: usize, op: &str, inputs: &[&str], output: &str) -> &mut pb::NodeProto {
        let mut node = pb::NodeProto::new();
        node.set_op_type(op.to_owned());
        node.set_name(output.to_owned());
        node.input = inputs.iter().map(|&i| i.to_owned()).collect();
        node.output = vec![output.to_owned()];
        let nodes = self.before.entry(at).or_default();
        nodes.push(node);
        let last = nodes.len() - 1;
        &mut nodes[last]
    }

    /// Takes old node `at` out: others that were added before it make what it made.
    pub(super) fn remove(&mut self, at: usize) {
        self.removed.insert(at);
    }

    /// Lets the model import a domain of operators.
    pub(super) fn import(&mut self, domain: &'static str, version: i64) {
        self.imports.push((domain, version));
    }

    /// What was made under `key`, or what `make` makes now.
    pub(super) fn shared(&mut self, key: String, make: impl FnOnce(&mut Self) -> Result<Vec<String>>) -> Result<Vec<String>> {
        if let Some(made) = self.shared.get(&key) {
            return Ok(made.clone());
        }
        let made = make(self)?;
        self.shared.insert(key, made.clone());
        Ok(made)
    }

    /// The value of a constant, old or new.
    ///
    /// # Errors
    /// It cannot be decoded.
    pub(super) fn value(&self, name: &str) -> Result<Option<Tensor>> {
        match self.constants.iter().find(|t| t.name() == name) {
            Some(new) => tensor_from_proto(new).map(Some),
            None => self.graph.constant(name),
        }
    }

    /// `tensor` as it was before it was quantized: what stands before its pair, or the numbers that its integers stand for. Itself
    /// where neither is known.
    pub(super) fn float(&mut self, tensor: &str) -> Result<String> {
        let mut chain: Vec<Pair> = Vec::new();
        let mut at = tensor.to_owned();
        while let Some(pair) = self.pairs.get(&at) {
            at.clone_from(&pair.source);
            chain.push(pair.clone());
        }
        let mut name = self.dequantized(&at)?;
        for pair in chain.into_iter().rev() {
            name = match pair.keeps {
                None => name,
                Some(Kept { producer, high }) => {
                    let made = self.shared(format!("clip {name} {high}"), |draft| {
                        let stem = format!("{}__clipped", pair.source);
                        let low = draft.constant(&format!("{stem}_low"), &Tensor::f32([], vec![0.0])?);
                        let high = draft.constant(&format!("{stem}_high"), &Tensor::f32([], vec![high])?);
                        // Right behind what makes it: whoever shares it stands after that.
                        Ok(vec![draft.add(producer + 1, "Clip", &[&name, &low, &high], &stem)])
                    })?;
                    made.into_iter().next().unwrap_or(name)
                }
            };
        }
        Ok(name)
    }

    /// The numbers behind a DequantizeLinear of constants, as a constant.
    fn dequantized(&mut self, tensor: &str) -> Result<String> {
        let Some(node) = self.graph.producer(tensor).map(|i| self.graph.node(i)) else { return Ok(tensor.to_owned()) };
        let is_folded = activations::is_linear(node, "DequantizeLinear")
            && node.input.iter().all(|i| i.is_empty() || self.graph.is_constant(i))
            && node.input.len() > 1;
        if !is_folded {
            return Ok(tensor.to_owned());
        }
        let made = self.shared(format!("fold {tensor}"), |draft| {
            let values = node.input.iter().map(|i| draft.graph.constant(i)).collect::<Result<Vec<_>>>()?;
            let values: Vec<Option<&Tensor>> = values.iter().map(Option::as_ref).collect();
            let value = eval::eval(node, draft.graph.model().opset(), &values)?.unwrap_or_default();
            Ok(value.first().map(|v| draft.constant(&format!("{tensor}__float"), v)).into_iter().collect())
        })?;
        Ok(made.into_iter().next().unwrap_or_else(|| tensor.to_owned()))
    }

    /// Gives every operand that no layer needs quantized its float32 numbers. A pair at an output of the graph stays: the output's
    /// name is its.
    ///
    /// # Errors
    /// A constant cannot be decoded.
    pub(super) fn release(&mut self, form: Form, found: &[Found], changed: &[String]) -> Result<()> {
        let of_layer: HashMap<usize, &Coded> =
            found.iter().filter_map(|l| if let Found::Coded(c) = l { Some((c.node, &**c)) } else { None }).collect();
        let changed: HashSet<&str> = changed.iter().map(String::as_str).collect();
        for (index, node) in self.graph.nodes().iter().enumerate() {
            if self.removed.contains(&index) || activations::is_linear(node, "DequantizeLinear") {
                continue;
            }
            let layer = of_layer.get(&index).map(|c| changed.contains(c.name.as_str()));
            for (input, name) in node.input.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
                let stays = match (form, layer) {
                    (Form::Qdq, Some(is_changed)) => is_changed,
                    // Engines fuse what stands between quantized layers, so it stays as the quantizer wrote it.
                    (Form::Qdq, None) => true,
                    (Form::DequantizeLinear, Some(true)) => input == 1,
                    _ => false,
                };
                if !stays {
                    let float = self.float(name)?;
                    if float != *name {
                        self.operands.insert((index, input), float);
                    }
                }
            }
        }
        Ok(())
    }

    /// The new model: nodes in topological order, without what nothing reads any more.
    pub(super) fn finish(mut self) -> Model {
        let mut model = self.graph.model().clone();
        for ((node, input), name) in self.operands {
            model.graph_mut().node[node].input[input] = name;
        }
        let graph = model.graph_mut();
        let old = std::mem::take(&mut graph.node);
        for (index, node) in old.into_iter().enumerate() {
            graph.node.extend(self.before.remove(&index).unwrap_or_default());
            if !self.removed.contains(&index) {
                graph.node.push(node);
            }
        }
        graph.initializer.extend(self.constants);
        for (domain, version) in self.imports {
            let imports = &mut model.proto_mut().opset_import;
            if imports.iter().all(|i| i.domain() != domain) {
                let mut import = pb::OperatorSetIdProto::new();
                import.set_domain(domain.to_owned());
                import.set_version(version);
                imports.push(import);
            }
        }
        remove_dead(&mut model);
        model
    }
}
