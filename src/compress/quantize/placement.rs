//! Which nodes compute on integers, and between which tensors and readers a quantizer therefore stands.
//!
//! Layers with integer weights are given. Additions, pooling, Concat and what only moves values (Flatten, Reshape, …) join them
//! where integers come in and integers are wanted after: there an engine fuses the pairs around a node into one kernel on
//! integers. Everything else stays float, and no pair stands where nothing is fused.

use crate::compress::activation::{self, Bounds, UNBOUNDED};
use crate::model::{Graph, Use};
use crate::onnx::{Attributes, pb};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A tensor that is quantized.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Site {
    /// Its name.
    pub(super) tensor: String,
    /// The activation that makes it, when the quantizer's saturation does the same: the pair reads the activation's input.
    pub(super) activation: Option<usize>,
    /// Who reads the quantized values.
    pub(super) readers: Vec<Use>,
    /// Sites of the same group share one code.
    pub(super) group: usize,
    /// Its values are those of others of its group and need not be counted.
    pub(super) repeats: bool,
}

/// All quantized tensors, in the order of their readers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placement {
    pub(super) sites: Vec<Site>,
    /// Where the code of each group must end.
    pub(super) bounds: Vec<Bounds>,
    /// Layers whose activations stay float, with the reason.
    pub(super) refused: BTreeMap<usize, &'static str>,
}

/// What a node does with integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A layer with integer weights. A convolution's result is an integer in any case: there is no kernel that gives floats.
    Layer,
    /// Its result has a code of its own.
    Own,
    /// Its result has the code of what it reads.
    Same,
}

/// The role of a node that is no layer; `None` when it always stays float.
fn role(node: &pb::NodeProto) -> Option<Role> {
    let single = node.output.iter().skip(1).all(String::is_empty);
    match node.op_type() {
        _ if !node.is_standard() || !single => None,
        "Add" | "GlobalAveragePool" | "AveragePool" => Some(Role::Own),
        "Concat" | "MaxPool" | "Flatten" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" => Some(Role::Same),
        _ => None,
    }
}

/// A graph seen with the activations that belong to the node before them, and who is on integers.
struct Plan<'g> {
    graph: &'g Graph<'g>,
    roles: Vec<Option<Role>>,
    /// Activations whose input nothing else reads, with their bounds.
    activations: HashMap<usize, Bounds>,
}

impl<'g> Plan<'g> {
    /// With no node on integers yet.
    fn new(graph: &'g Graph<'g>) -> Self {
        let alone = |node: &pb::NodeProto| {
            let (Some(from), Some(to)) = (node.input.first(), node.output.first()) else { return false };
            graph.consumers(from).len() == 1 && !graph.is_output(from) && !graph.is_output(to) && graph.producer(from).is_some()
        };
        let activations = (graph.nodes().iter().enumerate())
            .filter_map(|(i, node)| Some((i, activation::bounds(graph, node).filter(|_| alone(node))?)))
            .collect();
        Plan { graph, roles: vec![None; graph.nodes().len()], activations }
    }

    /// Why a layer's activations stay float.
    fn refusal(&self, layer: usize) -> Option<&'static str> {
        let node = self.graph.node(layer);
        let factor = |name: &str| node.float(name).unwrap_or(1.0);
        match node.op_type() {
            _ if self.graph.is_constant(&node.input[0]) => Some("it is a constant"),
            "Gemm" if node.int("transA").unwrap_or(0) != 0 => Some("it is transposed"),
            "Gemm" if factor("alpha") != 1.0 || factor("beta") != 1.0 => Some("the product is scaled"),
            "Conv" if self.graph.is_output(self.result(layer)) => {
                Some("the layer's result is the model's, and integer convolutions give integers")
            }
            _ => None,
        }
    }

    /// Gives `layers` and all that can join them their roles.
    fn assign(&mut self, layers: &BTreeSet<usize>) {
        let nodes = self.graph.nodes().iter().enumerate();
        self.roles = nodes.map(|(i, n)| if layers.contains(&i) { Some(Role::Layer) } else { role(n) }).collect();
        // From the most to what holds: each removal may take the reason of another away.
        loop {
            let between = |i: &usize| matches!(self.roles[*i], Some(Role::Own | Role::Same));
            let wrong: Vec<usize> = (0..self.roles.len()).filter(between).filter(|&i| !self.holds(i)).collect();
            if wrong.is_empty() {
                return;
            }
            wrong.into_iter().for_each(|i| self.roles[i] = None);
        }
    }

    /// Inputs of a node that hold activations.
    fn data_inputs(&self, node: usize) -> &'g [String] {
        let all = &self.graph.node(node).input;
        match (self.roles[node], self.graph.node(node).op_type()) {
            (Some(_), "Add" | "Concat") => all,
            (Some(_), _) => all.get(..1).unwrap_or_default(),
            (None, _) => &[],
        }
    }

    /// True when this is the reading of an activation by a node on integers.
    fn is_integer_use(&self, u: &Use) -> bool {
        u.input < self.data_inputs(u.node).len()
    }

    /// The node that makes `tensor`, seen through an activation.
    fn maker(&self, tensor: &str) -> Option<usize> {
        let node = self.graph.producer(tensor)?;
        if self.activations.contains_key(&node) { self.graph.producer(&self.graph.node(node).input[0]) } else { Some(node) }
    }

    /// What a node makes, after its activation.
    fn result(&self, node: usize) -> &'g str {
        let made = self.graph.node(node).output.first().map_or("", String::as_str);
        match self.graph.consumers(made) {
            [only] if self.activations.contains_key(&only.node) => &self.graph.node(only.node).output[0],
            _ => made,
        }
    }

    fn is_integer(&self, node: usize) -> bool {
        self.roles[node].is_some()
    }

    /// Whether a node between layers gets integers and something wants integers of it.
    fn holds(&self, node: usize) -> bool {
        let comes_as_integer = |x: &String| {
            let read_by_layer = |u: &Use| self.roles[u.node] == Some(Role::Layer) && self.is_integer_use(u);
            !self.graph.is_constant(x)
                && (self.maker(x).is_some_and(|m| self.is_integer(m)) || self.graph.consumers(x).iter().any(read_by_layer))
        };
        let result = self.result(node);
        self.data_inputs(node).iter().all(comes_as_integer)
            && !self.graph.is_output(result)
            && self.graph.consumers(result).iter().any(|u| self.is_integer_use(u))
    }

    fn site(&self, tensor: &str) -> Site {
        let all = self.graph.consumers(tensor);
        // An integer kernel gives nothing but integers, to whoever reads them.
        let made_of_integers = self.maker(tensor).is_some_and(|m| self.is_integer(m)) && !self.graph.is_output(tensor);
        let readers: Vec<Use> = all.iter().filter(|u| made_of_integers || self.is_integer_use(u)).copied().collect();
        let activation = self.graph.producer(tensor).filter(|p| self.activations.contains_key(p) && readers.len() == all.len());
        Site { tensor: tensor.to_owned(), activation, readers, group: 0, repeats: false }
    }
}

impl Placement {
    /// `layers`: indices of the nodes with integer weights.
    pub(super) fn new(graph: &Graph<'_>, layers: impl Iterator<Item = usize>) -> Self {
        let mut plan = Plan::new(graph);
        let (mut taken, mut refused) = (BTreeSet::new(), BTreeMap::new());
        for layer in layers {
            match plan.refusal(layer) {
                None => drop(taken.insert(layer)),
                Some(why) => drop(refused.insert(layer, why)),
            }
        }
        plan.assign(&taken);
        let mut placement = Placement { sites: Vec::new(), bounds: Vec::new(), refused };
        let mut index: HashMap<&str, usize> = HashMap::new();
        for node in (0..graph.nodes().len()).filter(|&i| plan.is_integer(i)) {
            let conv = plan.roles[node] == Some(Role::Layer) && graph.node(node).op_type() == "Conv";
            for tensor in plan.data_inputs(node).iter().map(String::as_str).chain(conv.then(|| plan.result(node))) {
                index.entry(tensor).or_insert_with(|| placement.add(&plan, plan.site(tensor)));
            }
        }
        for node in (0..graph.nodes().len()).filter(|&i| plan.roles[i] == Some(Role::Same)) {
            let read: Vec<usize> = plan.data_inputs(node).iter().filter_map(|x| index.get(x.as_str()).copied()).collect();
            if let Some(&made) = index.get(plan.result(node)) {
                placement.share(&read, made);
            }
        }
        placement
    }

    fn add(&mut self, plan: &Plan<'_>, site: Site) -> usize {
        self.bounds.push(site.activation.map_or(UNBOUNDED, |a| plan.activations[&a]));
        self.sites.push(Site { group: self.bounds.len() - 1, ..site });
        self.sites.len() - 1
    }

    /// Gives the result of a node that only moves values the code of what it reads, unless an end of one would cut off
    /// values of another.
    fn share(&mut self, read: &[usize], made: usize) {
        let Some(&first) = read.first() else { return };
        let bounds = |site: &usize| self.bounds[self.sites[*site].group];
        if self.sites[made].activation.is_some() || read.iter().any(|r| bounds(r) != bounds(&first)) {
            return;
        }
        let group = self.sites[first].group;
        let joined: BTreeSet<usize> = read.iter().chain([&made]).map(|&s| self.sites[s].group).collect();
        self.sites.iter_mut().filter(|s| joined.contains(&s.group)).for_each(|s| s.group = group);
        self.sites[made].repeats = true;
    }
}
