//! What an engine's own nodes take.

pub(super) mod ort;
pub(super) mod rten;

use serde::{Deserialize, Serialize};

/// One node of an engine's optimised graph, over all runs of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTime {
    /// The engine's name of it, which it derives from the file's.
    pub name: String,
    /// The engine's operator.
    pub operator: String,
    /// Nanoseconds in total.
    pub ns: u64,
    /// How often it ran.
    pub calls: u64,
}

/// Runs with a clock at each node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profiled {
    /// Nanoseconds of the runs, from the first start to the last end: the instrumented whole.
    pub wall_ns: u64,
    /// Nodes in the order in which they run.
    pub nodes: Vec<NodeTime>,
}

impl Profiled {
    /// Adds another profile of the same model. Nodes are told apart by name and operator.
    pub fn add(&mut self, other: Profiled) {
        self.wall_ns += other.wall_ns;
        // Engines list their nodes in the same order each time.
        for (at, node) in other.nodes.into_iter().enumerate() {
            let same = |n: &NodeTime| n.name == node.name && n.operator == node.operator;
            let place = self.nodes.get(at).filter(|n| same(n)).map(|_| at).or_else(|| self.nodes.iter().position(same));
            match place.and_then(|place| self.nodes.get_mut(place)) {
                Some(sum) => (sum.ns, sum.calls) = (sum.ns + node.ns, sum.calls + node.calls),
                None => self.nodes.push(node),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_add_up_node_by_node() {
        let node = |name: &str, ns| NodeTime { name: name.into(), operator: "Conv".into(), ns, calls: 1 };
        let mut sum = Profiled::default();
        sum.add(Profiled { wall_ns: 40, nodes: vec![node("a", 10), node("b", 20)] });
        sum.add(Profiled { wall_ns: 50, nodes: vec![node("b", 21), node("c", 5)] });
        assert_eq!(sum.wall_ns, 90);
        let nodes: Vec<(&str, u64, u64)> = sum.nodes.iter().map(|n| (n.name.as_str(), n.ns, n.calls)).collect();
        assert_eq!(nodes, [("a", 10, 1), ("b", 41, 2), ("c", 5, 1)]);
    }
}
