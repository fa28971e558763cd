//! What a part of a model has to do: multiply–adds and bytes, from shapes alone.

use super::mapping::Part;
use crate::model::{Facts, Graph, Layer};
use crate::units::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Work of a part in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Multiply–adds of its layers; `None` where they are not known.
    pub macs: Option<u64>,
    /// Constants that it reads, as the file stores them.
    pub weights: Option<Bytes>,
    /// Activations that it reads from outside and writes for others.
    pub activations: Option<Bytes>,
    /// Activations that are alive at most while it runs, in the order of the file: its own, and what later nodes still need.
    pub alive: Option<Bytes>,
}

impl Cost {
    /// Bytes moved at least: each constant and each activation once.
    pub fn moved(&self) -> Option<Bytes> {
        Some(Bytes(self.weights?.0 + self.activations?.0))
    }
}

/// Sizes of all tensors of a model, and who needs them for how long.
pub(super) struct Costs<'a, 'm> {
    graph: &'a Graph<'m>,
    facts: &'a Facts,
    alive: Vec<Option<u64>>,
}

impl<'a, 'm> Costs<'a, 'm> {
    pub(super) fn new(graph: &'a Graph<'m>, facts: &'a Facts) -> Self {
        let mut costs = Costs { graph, facts, alive: Vec::new() };
        costs.alive = costs.lives();
        costs
    }

    /// Bytes of a tensor; constants as the file stores them.
    fn bytes(&self, name: &str) -> Option<u64> {
        let fact = self.facts.get(name)?;
        fact.dtype?.packed_len(fact.shape.iter().product()).map(|n| n as u64)
    }

    fn is_constant(&self, name: &str) -> bool {
        self.graph.is_constant(name) || self.facts.value(name).is_some()
    }

    /// For each node, the bytes of activations alive while it runs.
    fn lives(&self) -> Vec<Option<u64>> {
        let nodes = self.graph.nodes();
        let mut last: HashMap<&str, usize> = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            last.extend(node.input.iter().chain(&node.output).map(|name| (name.as_str(), index)));
        }
        last.extend(self.graph.model().graph().output.iter().map(|o| (o.name(), nodes.len())));
        let mut leaves: Vec<Vec<&str>> = vec![Vec::new(); nodes.len() + 1];
        last.iter().for_each(|(name, &index)| leaves[index].push(name));
        let inputs = self.graph.inputs().filter(|i| last.contains_key(i.name()));
        let mut now = inputs.map(|i| self.bytes(i.name())).try_fold(0u64, |sum, b| Some(sum + b?));
        let mut there: HashSet<&str> = self.graph.inputs().map(|i| i.name()).collect();
        let mut all = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            for name in node.output.iter().filter(|o| !o.is_empty() && !self.is_constant(o)) {
                now = now.zip(self.bytes(name)).map(|(sum, b)| sum + b);
                there.insert(name);
            }
            all.push(now);
            for name in leaves[index].iter().filter(|name| there.contains(*name)) {
                now = now.zip(self.bytes(name)).map(|(sum, b)| sum.saturating_sub(b));
            }
        }
        all
    }

    /// What `part` costs; all unknown for one that only the engine knows.
    pub(super) fn of(&self, part: &Part, layers: &[Layer]) -> Cost {
        if part.nodes.is_empty() {
            return Cost::default();
        }
        let macs = part.layers.iter().map(|&l| layers[l].macs.clone().ok()).try_fold(0u64, |sum, n| Some(sum.saturating_add(n?)));
        let nodes = || part.nodes.iter().map(|&n| self.graph.node(n));
        let made: HashSet<&str> = nodes().flat_map(|n| n.output.iter().map(String::as_str)).collect();
        let read: BTreeSet<&str> = nodes().flat_map(|n| n.input.iter().map(String::as_str)).filter(|n| !n.is_empty()).collect();
        let sum = |names: &mut dyn Iterator<Item = &str>| names.map(|n| self.bytes(n)).try_fold(0u64, |sum, b| Some(sum + b?)).map(Bytes);
        let weights = sum(&mut read.iter().copied().filter(|n| self.is_constant(n)));
        let entering = read.iter().copied().filter(|n| !made.contains(n) && !self.is_constant(n));
        let leaves =
            |name: &&str| self.graph.is_output(name) || self.graph.consumers(name).iter().any(|reader| !part.nodes.contains(&reader.node));
        let leaving = made.iter().copied().filter(|n| !self.is_constant(n)).filter(leaves);
        let activations = sum(&mut entering.chain(leaving));
        let alive = part.nodes.iter().map(|&n| self.alive[n]).collect::<Option<Vec<_>>>().and_then(|a| a.into_iter().max()).map(Bytes);
        Cost { macs: macs.filter(|_| !part.layers.is_empty()), weights, activations, alive }
    }

    /// What a run touches: all constants, and the activations that are alive at most.
    pub(super) fn working_set(&self) -> Bytes {
        let constants = self.graph.model().graph().initializer.iter().filter_map(|t| self.bytes(t.name())).sum::<u64>();
        Bytes(constants + self.alive.iter().flatten().max().copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::model::layers;
    use crate::onnx::Model;

    #[test]
    fn bytes_are_those_of_the_boundary() {
        let model = Model::load("models/fashion-mlp.onnx").unwrap();
        let (graph, facts) = (Graph::new(&model), Facts::infer(&model, 2).unwrap());
        let layers = layers(&graph, &facts).unwrap();
        let costs = Costs::new(&graph, &facts);
        // Gemm and Relu: what lies between them is not moved.
        let part = Part { name: String::new(), operators: vec![], nodes: [1, 2].into(), layers: vec![0], engine: vec![] };
        let (rows, columns) = (784, layers[0].output_shape.clone().unwrap()[1] as u64);
        let cost = costs.of(&part, &layers);
        assert_eq!(cost.macs, Some(2 * rows * columns));
        assert_eq!(cost.weights, Some(Bytes(4 * (rows * columns + columns))));
        assert_eq!(cost.activations, Some(Bytes(4 * 2 * (rows + columns))));
        // While Relu runs both its input and its output are there, what Gemm read no longer is.
        assert_eq!(cost.alive, Some(Bytes(4 * 2 * (rows + columns).max(2 * columns))));
        assert!(costs.working_set().0 > cost.weights.unwrap().0);
    }
}
