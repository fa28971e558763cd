//! Which layer of the file a node of the engine belongs to.
//!
//! Engines rename: they split a node (`conv.im2col`, `conv.matmatmul`), fuse several into one that bears the name of the first, and
//! add nodes of their own (layouts). What is known is the name, so a node belongs to the node of the file with the longest name that
//! its own begins with. Nodes of the file that then have no time were fused, and go to the neighbour that they were fused into.

use crate::engine::NodeTime;
use crate::model::{Graph, Layer, constant_nodes, fused};
use crate::onnx::pb;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Nodes of the file that are one row, with what the engine runs for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name for people: the first layer's, else the first node's, else the engine's node's.
    pub name: String,
    /// Operators of the file, in order; the engine's where no node of the file is known.
    pub operators: Vec<String>,
    /// Indices of nodes of the file; empty for a node that only the engine knows.
    pub nodes: BTreeSet<usize>,
    /// Indices into the model's list of layers.
    pub layers: Vec<usize>,
    /// Indices into the engine's list of nodes.
    pub engine: Vec<usize>,
}

/// The rows of a profile: every node of the engine is in exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// In the order of the file; nodes that only the engine knows at the end.
    pub parts: Vec<Part>,
}

impl Mapping {
    /// Maps `engine`, the engine's nodes, onto the layers of a model.
    pub fn new(graph: &Graph<'_>, layers: &[Layer], engine: &[NodeTime]) -> Mapping {
        let constant = constant_nodes(graph);
        let names = Names::of(graph, &constant);
        let found: Vec<Option<usize>> = engine.iter().map(|n| names.find(&n.name)).collect();
        let mut rows = Rows::together(graph, layers, engine, &found);
        rows.merge_untimed(graph, &found);
        rows.into_mapping(graph, layers, engine, (&found, &constant))
    }
}

/// What an engine may call a node of the file by.
struct Names<'m>(HashMap<&'m str, usize>);

impl<'m> Names<'m> {
    fn of(graph: &Graph<'m>, constant: &HashSet<usize>) -> Self {
        // Constants, and what is worked out from them, belong to who reads them first.
        let reader = |name: &str| {
            let mut first = graph.consumers(name).first()?.node;
            while constant.contains(&first) {
                first = graph.node(first).output.iter().find_map(|o| graph.consumers(o).first())?.node;
            }
            Some(first)
        };
        let mut names = HashMap::new();
        let sources = graph.model().graph().initializer.iter().map(|t| t.name()).chain(graph.inputs().map(|i| i.name()));
        names.extend(sources.filter_map(|name| Some((name, reader(name)?))));
        let nodes = || graph.nodes().iter().enumerate();
        let owner = |index: usize| match constant.contains(&index) {
            true => graph.node(index).output.iter().find_map(|o| reader(o)).unwrap_or(index),
            false => index,
        };
        // What a node is called itself counts more than what it makes.
        names.extend(nodes().flat_map(|(i, n)| n.output.iter().filter(|o| !o.is_empty()).map(move |o| (o.as_str(), owner(i)))));
        names.extend(nodes().filter(|(_, n)| !n.name().is_empty()).map(|(i, n)| (n.name(), owner(i))));
        Names(names)
    }

    /// The node whose name is `name`, or the longest that `name` goes on from after a sign: `conv.im2col`, `conv_quant`.
    fn find(&self, name: &str) -> Option<usize> {
        let name = name.strip_prefix("fused ").unwrap_or(name);
        let whole = self.0.get(name).copied();
        // `conv_1` is not a piece of `conv`: another node of the file may have borne that name and be gone.
        let is_number = |rest: &str| rest.strip_prefix('_').is_some_and(|r| !r.is_empty() && r.bytes().all(|b| b.is_ascii_digit()));
        let ends = name.char_indices().filter(|(at, c)| !c.is_alphanumeric() && !is_number(&name[*at..])).map(|(at, _)| at);
        whole.or_else(|| ends.collect::<Vec<_>>().into_iter().rev().find_map(|end| self.0.get(&name[..end]).copied()))
    }
}

/// True for an engine's operator that does multiply–adds, whatever it is fused with.
fn multiplies(operator: &str) -> bool {
    let operator = operator.to_ascii_lowercase();
    ["matmul", "gemm", "conv", "einsum"].iter().any(|word| operator.contains(word))
}

/// Rows under construction: for each node of the file, which row it is in.
struct Rows {
    row: Vec<usize>,
    count: usize,
    /// Rows that hold a layer.
    has_layer: Vec<bool>,
}

impl Rows {
    /// A row for each layer with what runs in one go with it, and for every other node one.
    fn together(graph: &Graph<'_>, layers: &[Layer], engine: &[NodeTime], found: &[Option<usize>]) -> Self {
        let nodes = graph.nodes().len();
        let mut row: Vec<Option<usize>> = vec![None; nodes];
        // An engine may name what it fused by the last piece (tract: `clip.max.prefused`): what multiplies is the layer itself.
        let apart = |(node, at): (&NodeTime, &Option<usize>)| at.filter(|_| !multiplies(&node.operator));
        let heavy: BTreeSet<usize> = engine.iter().zip(found).filter(|(n, _)| multiplies(&n.operator)).filter_map(|(_, at)| *at).collect();
        let timed: BTreeSet<usize> = engine.iter().zip(found).filter_map(apart).filter(|n| !heavy.contains(n)).collect();
        let mut count = 0;
        let is_layer: BTreeSet<usize> = layers.iter().filter_map(|l| l.node).collect();
        for &layer in is_layer.iter().filter(|&&n| n < nodes) {
            if row[layer].is_some() {
                continue;
            }
            // What the engine runs apart is a row apart.
            let mut own = vec![layer];
            let followers = fused(graph, layer);
            own.extend(followers.into_iter().filter(|&n| n != layer && row[n].is_none() && !is_layer.contains(&n) && !timed.contains(&n)));
            own.iter().for_each(|&n| row[n] = Some(count));
            count += 1;
        }
        let mut has_layer = vec![true; count];
        let row = row.into_iter().map(|r| {
            r.unwrap_or_else(|| {
                has_layer.push(false);
                count += 1;
                count - 1
            })
        });
        let row = row.collect();
        Rows { row, count, has_layer }
    }

    /// Rows that the engine has no node for join the one that they were fused into: what makes their inputs, the last to run first,
    /// else who reads their output.
    fn merge_untimed(&mut self, graph: &Graph<'_>, found: &[Option<usize>]) {
        let mut last_run: Vec<Option<usize>> = vec![None; self.count];
        for (at, node) in found.iter().enumerate().filter_map(|(at, n)| Some((at, (*n)?))) {
            last_run[self.row[node]] = Some(at);
        }
        let feeds = |n: &pb::NodeProto| n.input.iter().filter_map(|i| graph.producer(i)).collect::<Vec<_>>();
        for (index, node) in graph.nodes().iter().enumerate() {
            let own = self.row[index];
            if last_run[own].is_some() {
                continue;
            }
            let before = feeds(node).into_iter().map(|p| self.row[p]);
            let after = node.output.iter().flat_map(|o| graph.consumers(o)).map(|u| self.row[u.node]);
            // A layer without a node of its name runs as a piece of who reads it; anything else as one of what comes before.
            let (first, second): (Vec<usize>, Vec<usize>) =
                if self.has_layer[own] { (after.collect(), vec![]) } else { (before.collect(), after.collect()) };
            let latest = |rows: Vec<usize>| rows.into_iter().filter(|&r| r != own).filter_map(|r| Some((last_run[r]?, r))).max();
            let joins = latest(first).or_else(|| latest(second)).filter(|&(_, r)| !(self.has_layer[own] && self.has_layer[r]));
            if let Some((_, into)) = joins {
                self.row.iter_mut().filter(|r| **r == own).for_each(|r| *r = into);
                self.has_layer[into] |= self.has_layer[own];
            }
        }
    }

    fn into_mapping(
        self,
        graph: &Graph<'_>,
        layers: &[Layer],
        engine: &[NodeTime],
        (found, constant): (&[Option<usize>], &HashSet<usize>),
    ) -> Mapping {
        let mut parts: Vec<Option<Part>> = vec![None; self.count];
        for (index, node) in graph.nodes().iter().enumerate() {
            let empty = || Part { name: String::new(), operators: vec![], nodes: BTreeSet::new(), layers: vec![], engine: vec![] };
            let part = parts[self.row[index]].get_or_insert_with(empty);
            part.nodes.insert(index);
            // Constants come along; they are nothing that is run.
            if !constant.contains(&index) {
                part.operators.push(node.op_type().to_owned());
            }
        }
        for (index, layer) in layers.iter().enumerate() {
            if let Some(part) = layer.node.and_then(|n| parts[self.row[n]].as_mut()) {
                part.layers.push(index);
            }
        }
        let mut unknown = Vec::new();
        for (index, node) in found.iter().enumerate() {
            match node.and_then(|n| parts[self.row[n]].as_mut()) {
                Some(part) => part.engine.push(index),
                None => unknown.push(Part {
                    name: engine[index].name.clone(),
                    operators: vec![engine[index].operator.clone()],
                    nodes: BTreeSet::new(),
                    layers: vec![],
                    engine: vec![index],
                }),
            }
        }
        let named = |mut part: Part| {
            let runs = part.nodes.iter().find(|n| !constant.contains(n)).or_else(|| part.nodes.first());
            let first = runs.map(|&n| graph.label(n)).unwrap_or_default();
            part.name = part.layers.first().map_or(first, |&l| layers[l].name.clone());
            part
        };
        // What the engine worked out beforehand (constants, shapes) has no time and is no layer: it is not there when the model runs.
        let runs = |p: &Part| !p.engine.is_empty() || !p.layers.is_empty();
        let mut parts: Vec<Part> = parts.into_iter().flatten().filter(runs).map(named).collect();
        parts.sort_by_key(|p| p.nodes.first().copied());
        parts.extend(unknown);
        Mapping { parts }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::model::{Facts, layers};
    use crate::onnx::Model;

    fn node(name: &str) -> NodeTime {
        NodeTime { name: name.into(), operator: "Op".into(), ns: 1, calls: 1 }
    }

    fn map(file: &str, engine: &[&str]) -> Vec<(String, String, usize)> {
        let model = Model::load(file).unwrap();
        let graph = Graph::new(&model);
        let layers = layers(&graph, &Facts::infer(&model, 1).unwrap()).unwrap();
        let engine: Vec<NodeTime> = engine.iter().map(|n| node(n)).collect();
        let parts = Mapping::new(&graph, &layers, &engine).parts;
        assert_eq!(parts.iter().map(|p| p.engine.len()).sum::<usize>(), engine.len(), "every node of the engine is in one row");
        parts.into_iter().map(|p| (p.name, p.operators.join("+"), p.engine.len())).collect()
    }

    #[test]
    fn pieces_and_fused_nodes_find_their_layer() {
        let rows =
            map("models/fashion-mlp.onnx", &["input", "/f/f.1/Gemm.pack", "/f/f.1/Gemm", "/f/f.3/Gemm.ab.bias", "Reorder", "/f/f.5/Gemm"]);
        let expect = [
            ("/f/f.0/Flatten", "Flatten", 1),
            ("/f/f.1/Gemm", "Gemm+Relu", 2),
            ("/f/f.3/Gemm", "Gemm+Relu", 1),
            ("/f/f.5/Gemm", "Gemm", 1),
            ("Reorder", "Op", 1),
        ];
        assert_eq!(rows, expect.map(|(a, b, n)| (a.to_owned(), b.to_owned(), n)));
    }

    #[test]
    fn a_sum_that_was_fused_goes_to_the_convolution_that_ran_last() {
        let named = ["/s2/sc/sc.0/Conv", "/s2/c1/Conv", "/s2/c2/Conv", "/s2/Relu_1", "/s2/Relu_7"];
        let rows = map("models/fashion-resnet8.onnx", &named);
        let of = |name: &str| rows.iter().find(|r| r.0 == name).expect("a row of that name").clone();
        assert_eq!(of("/s2/c2/Conv").1, "Conv+Add");
        assert_eq!(of("/s2/sc/sc.0/Conv").1, "Conv");
        // It has a node of its own, so it is a row of its own; a number after the name makes another name.
        assert_eq!((of("/s2/Relu_1").1.as_str(), of("/s2/Relu_7").1.as_str()), ("Relu", "Op"));
        // Layers without any node stay, so that their absence is seen.
        assert_eq!(of("/fc/Gemm").2, 0);
    }

    #[test]
    fn what_multiplies_under_the_name_of_an_activation_is_the_layer() {
        let model = Model::load("models/fashion-dscnn.onnx").unwrap();
        let graph = Graph::new(&model);
        let layers = layers(&graph, &Facts::infer(&model, 1).unwrap()).unwrap();
        let of = |name: &str, operator: &str| NodeTime { name: name.into(), operator: operator.into(), ns: 1, calls: 1 };
        let engine = [
            of("/f/f.3/f.3.0/Conv", "DepthWiseConv"),
            of("/f/f.3/f.3.2/Clip.max", "OptBinByScalar"),
            of("/f/f.3/f.3.3/Conv.einsum.pack_a", "OptMatMulPack"),
            of("/f/f.3/f.3.5/Clip.max.prefused", "OptMatMul"),
        ];
        let parts = Mapping::new(&graph, &layers, &engine).parts;
        let rows: Vec<(String, String)> =
            parts.iter().filter(|p| !p.engine.is_empty()).map(|p| (p.name.clone(), p.operators.join("+"))).collect();
        let expect = [("/f/f.3/f.3.0/Conv", "Conv"), ("/f/f.3/f.3.2/Clip", "Clip"), ("/f/f.3/f.3.3/Conv", "Conv+Clip")];
        assert_eq!(rows, expect.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn what_is_worked_out_from_constants_belongs_to_its_reader() {
        let named = ["Identity_1", "s2.b2.bias", "s2.sc.1.bias", "/s2/sc/sc.0/Conv", "/s2/c2/Conv"];
        let rows = map("models/fashion-resnet8-bn.onnx", &named);
        let timed: Vec<(&str, &str, usize)> =
            rows.iter().filter(|r| r.2 > 0).map(|(name, operators, n)| (name.as_str(), operators.as_str(), *n)).collect();
        assert_eq!(timed.iter().map(|r| r.2).sum::<usize>(), 5);
        assert!(timed.iter().all(|r| !r.0.contains("Identity") && !r.1.contains("Identity")), "{timed:?}");
    }

    #[test]
    fn a_layer_that_bears_its_activations_name_is_found() {
        let rows = map("models/fashion-mlp.onnx", &["/f/f.2/Relu", "/f/f.4/Relu", "/f/f.5/Gemm"]);
        let gemm = rows.iter().find(|r| r.0 == "/f/f.1/Gemm").unwrap();
        assert_eq!((gemm.1.as_str(), gemm.2), ("Gemm+Relu", 1));
    }
}
