//! Shapes and element types of every tensor once the free dimensions have numbers, and the values of tensors that are constant.

use super::dims::{Dims, symbol};
use super::shapes::{self, args::Stop, scope::Scope};
use super::{control, eval, graph::Graph};
use crate::onnx::{Attributes, Model, dtype_from_onnx, pb, tensor_from_proto};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Type and dimensions of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Element type; `None` for those that are not computed with here (strings, complex numbers, 8-bit floats).
    pub dtype: Option<DType>,
    /// Dimensions.
    pub shape: Vec<usize>,
}

/// What is known of a graph's tensors once the free dimensions have a number.
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// use joulefront::{model::Facts, onnx::Model};
/// let model = Model::load("models/fashion-vit.onnx")?;
/// let facts = Facts::infer(&model, 2)?;
/// assert_eq!(facts.shape("logits"), Some(&[2, 10][..]));
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Facts {
    facts: HashMap<String, Fact>,
    values: HashMap<String, Tensor>,
    unknown: Vec<(usize, String)>,
    stated: HashSet<String>,
    stale: Vec<String>,
    inside: Inside,
}

/// Facts of the tensors within each call of a function, by the indices of the calls that lead there.
type Inside = HashMap<Vec<usize>, HashMap<String, Fact>>;

impl Facts {
    /// [`Facts::infer_with`] every open first dimension of an input set to `batch`.
    ///
    /// # Errors
    /// As [`Facts::infer_with`].
    pub fn infer(model: &Model, batch: usize) -> Result<Self> {
        Self::infer_with(model, &Dims::batch(batch))
    }

    /// Infers with `dims` for the open dimensions.
    ///
    /// An operator without a rule leaves its outputs unknown ([`Facts::unknown`]) and inference goes on; there, what the file
    /// states of a tensor (`value_info`) is taken where it states numbers ([`Facts::is_stated`]). A rule that is violated is an error.
    ///
    /// # Errors
    /// A number in `dims` does not fit the model, or shapes contradict each other: the message names the node.
    pub fn infer_with(model: &Model, dims: &Dims) -> Result<Self> {
        let graph = Graph::new(model);
        let inputs: Vec<_> = graph.inputs().collect();
        let symbols = dims.bind(&inputs)?;
        let mut facts = Facts::default();
        let mut root = Scope::default();
        for input in inputs {
            match input_fact(input, dims, &symbols)? {
                Ok(fact) => {
                    root.facts.insert(input.name().to_owned(), fact);
                }
                Err(why) => root.give_up(input.name(), &Arc::from(why)),
            }
        }
        let stated = stated(model.graph(), &symbols, &root)?;
        let mut walk = Walk::new(model, &stated);
        walk.constants(model.graph(), &mut root)?;
        walk.nodes(&model.graph().node, &mut root, &mut facts.unknown)?;
        facts.stated = walk.used;
        facts.stale = walk.stale;
        facts.inside = walk.inside;
        (facts.facts, facts.values) = (root.facts, root.values);
        Ok(facts)
    }

    /// Type and shape of `tensor`.
    pub fn get(&self, tensor: &str) -> Option<&Fact> {
        self.facts.get(tensor)
    }

    /// Dimensions of `tensor`.
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.facts.get(tensor).map(|f| f.shape.as_slice())
    }

    /// Facts within a call of a function: `path` are the indices of the calls that lead there, the main graph's first.
    pub(super) fn inside(&self, path: &[usize]) -> Option<&HashMap<String, Fact>> {
        self.inside.get(path)
    }

    /// The value of a small tensor that is the same for every input.
    pub fn value(&self, tensor: &str) -> Option<&Tensor> {
        self.values.get(tensor)
    }

    /// Nodes whose outputs could not be inferred, with the first cause.
    pub fn unknown(&self) -> &[(usize, String)] {
        &self.unknown
    }

    /// True when the shape of `tensor` was not worked out but is what the file states.
    pub fn is_stated(&self, tensor: &str) -> bool {
        self.stated.contains(tensor)
    }

    /// Tensors of which the file states another shape than its operators make (stale `value_info`).
    pub fn stale(&self) -> &[String] {
        &self.stale
    }
}

/// One pass over a model.
pub(super) struct Walk<'m> {
    pub(super) opset: i64,
    /// Functions of the model by domain and name.
    pub(super) functions: HashMap<(&'m str, &'m str), &'m pb::FunctionProto>,
    stated: &'m HashMap<String, Fact>,
    used: HashSet<String>,
    stale: Vec<String>,
    /// Nodes visited so far, those of loops and functions each time: a bound on what nesting can cost.
    visited: usize,
    /// Graphs and functions that are being walked.
    depth: usize,
    /// Indices of the nodes that are being walked, the main graph's first.
    at: Vec<usize>,
    inside: Inside,
    /// Facts in `inside`.
    kept: usize,
}

/// Operators without a shape rule whose outputs are no larger than what they are made of.
const NO_LARGER: &[&str] =
    &["Compress", "Det", "NegativeLogLikelihoodLoss", "NonMaxSuppression", "NonZero", "SoftmaxCrossEntropyLoss", "Unique"];
/// Nodes that are visited at most.
const MAX_VISITS: usize = 1 << 21;
/// Facts within functions that are kept at most: what nesting can cost in memory.
const MAX_KEPT: usize = 1 << 17;
/// Graphs within graphs, and functions within functions.
const MAX_DEPTH: usize = 24;

impl<'m> Walk<'m> {
    fn new(model: &'m Model, stated: &'m HashMap<String, Fact>) -> Self {
        let functions = model.proto().functions.iter().map(|f| ((f.domain(), f.name()), f)).collect();
        Walk {
            opset: model.opset(),
            functions,
            stated,
            used: HashSet::new(),
            stale: vec![],
            visited: 0,
            depth: 0,
            at: vec![],
            inside: Inside::new(),
            kept: 0,
        }
    }

    /// The initializers of `graph`.
    pub(super) fn constants(&self, graph: &pb::GraphProto, scope: &mut Scope) -> Result<()> {
        for t in &graph.initializer {
            let shape: Option<Vec<usize>> = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
            let Some(shape) = shape else {
                return Err(Error::bad_input(format!("constant `{}` has the dimensions {:?}", t.name(), t.dims)));
            };
            let dtype = dtype_from_onnx(t.data_type());
            let elements = eval::count(&shape).map_err(|e| e.context(format!("constant `{}`", t.name())))?;
            match elements <= shapes::scope::MAX_FOLDED && dtype.is_some() {
                true => scope.learn(t.name(), tensor_from_proto(t)?),
                false => {
                    scope.facts.insert(t.name().to_owned(), Fact { dtype, shape });
                }
            }
        }
        for s in &graph.sparse_initializer {
            let shape: Option<Vec<usize>> = s.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
            if let Some(shape) = shape {
                let dtype = dtype_from_onnx(s.values.data_type());
                eval::count(&shape).map_err(|e| e.context(format!("sparse constant `{}`", s.values.name())))?;
                scope.facts.insert(s.values.name().to_owned(), Fact { dtype, shape });
            }
        }
        Ok(())
    }

    /// All `nodes` in order. Nodes whose outputs stay unknown are listed with the cause.
    pub(super) fn nodes(&mut self, nodes: &[pb::NodeProto], scope: &mut Scope, unknown: &mut Vec<(usize, String)>) -> Result<()> {
        for (index, node) in nodes.iter().enumerate() {
            self.visited += 1;
            if self.visited > MAX_VISITS {
                return Err(Error::bad_input(format!("loops and functions expand to more than {MAX_VISITS} nodes")));
            }
            let in_context = |e: Error| e.context(format!("{} ({})", super::node_label(node, index), node.op_type()));
            self.at.push(index);
            let result = self.node(node, scope);
            self.at.pop();
            match result {
                Ok(()) => {}
                Err(Stop::Wrong(e)) => return Err(in_context(e)),
                Err(stop) => {
                    let cause = match stop {
                        Stop::Missing(name) => scope.cause(&name).cloned().unwrap_or_else(|| Arc::from(format!("`{name}` is not known"))),
                        Stop::Unknown(why) => Arc::from(why),
                        Stop::Wrong(_) => continue,
                    };
                    let mut all = true;
                    for name in node.output.iter().filter(|n| !n.is_empty()) {
                        match self.stated.get(name).filter(|_| self.depth == 0) {
                            Some(fact) => {
                                scope.facts.insert(name.clone(), fact.clone());
                                self.used.insert(name.clone());
                            }
                            None => {
                                scope.give_up(name, &cause);
                                all = false;
                            }
                        }
                    }
                    if !all {
                        unknown.push((index, cause.to_string()));
                    }
                }
            }
        }
        Ok(())
    }

    /// One node: folded to values where it can be, else its outputs' facts.
    fn node(&mut self, node: &pb::NodeProto, scope: &mut Scope) -> std::result::Result<(), Stop> {
        if let Some(outputs) = control::outputs(self, node, scope)? {
            return self.learn(node, outputs, scope);
        }
        let planned = shapes::outputs(node, self.opset, scope);
        // A few hostile bytes can stand for gigabytes (Expand, ConstantOfShape): only what is known to be small is worked out.
        let small = match &planned {
            Ok(facts) => facts.iter().all(|f| eval::count(&f.shape).is_ok_and(|n| n <= shapes::scope::MAX_FOLDED)),
            Err(_) => NO_LARGER.contains(&node.op_type()),
        };
        if small && self.fold(node, scope)? {
            return Ok(());
        }
        self.learn(node, planned?, scope)
    }

    fn learn(&mut self, node: &pb::NodeProto, outputs: Vec<Fact>, scope: &mut Scope) -> std::result::Result<(), Stop> {
        for (name, fact) in node.output.iter().zip(outputs).filter(|(n, _)| !n.is_empty()) {
            // From here on products of dimensions cannot overflow.
            eval::count(&fact.shape)?;
            if self.depth == 0 && self.stated.get(name).is_some_and(|s| s.shape != fact.shape) {
                self.stale.push(name.clone());
            }
            scope.facts.insert(name.clone(), fact);
        }
        Ok(())
    }

    /// Evaluates the node when all its inputs are known small values; true when it did.
    fn fold(&self, node: &pb::NodeProto, scope: &mut Scope) -> Result<bool> {
        // The shape of a tensor is known as soon as its dimensions are, whatever its values.
        if let (true, "Shape" | "Size") = (node.is_standard(), node.op_type()) {
            let Some(fact) = node.input.first().and_then(|i| scope.fact(i)) else { return Ok(false) };
            let value = if node.op_type() == "Shape" {
                shape_value(node, &fact.shape)
            } else {
                Tensor::i64s(vec![eval::count(&fact.shape)? as i64]).reshaped(vec![])?
            };
            if let Some(name) = node.output.first() {
                scope.learn(name, value);
            }
            return Ok(true);
        }
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            match (name.is_empty(), scope.value(name)) {
                (true, _) => inputs.push(None),
                (false, Some(v)) => inputs.push(Some(v)),
                (false, None) => return Ok(false),
            }
        }
        let Some(values) = eval::eval(node, self.opset, &inputs)? else { return Ok(false) };
        for (name, value) in node.output.iter().zip(values) {
            scope.learn(name, value);
        }
        Ok(true)
    }

    /// Keeps what was found within the function that the current node calls, as long as there is room.
    pub(super) fn keep(&mut self, facts: HashMap<String, Fact>) {
        self.kept += facts.len();
        if self.kept <= MAX_KEPT {
            self.inside.insert(self.at.clone(), facts);
        }
    }

    /// Walks a graph or function within this one.
    pub(super) fn within<T>(&mut self, walk: impl FnOnce(&mut Self) -> std::result::Result<T, Stop>) -> std::result::Result<T, Stop> {
        if self.depth >= MAX_DEPTH {
            return Err(Stop::Wrong(Error::bad_input("graphs or functions are nested too deeply")));
        }
        self.depth += 1;
        let result = walk(self);
        self.depth -= 1;
        result
    }
}

/// What a Shape node answers for an input of these dimensions (`start` and `end` since operator set 15).
fn shape_value(node: &pb::NodeProto, shape: &[usize]) -> Tensor {
    let rank = shape.len() as i64;
    let bound = |name: &str, default: i64| {
        let v = node.int(name).unwrap_or(default);
        (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize
    };
    let (start, end) = (bound("start", 0), bound("end", rank));
    Tensor::i64s(shape[start..end.max(start)].iter().map(|&d| d as i64).collect())
}

/// Type and dimensions of a graph input, or why they are not known.
fn input_fact(input: &pb::ValueInfoProto, dims: &Dims, symbols: &BTreeMap<String, usize>) -> Result<std::result::Result<Fact, String>> {
    let Some(tensor) = input.type_.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
        return Ok(Err(format!("input `{}` is no tensor", input.name())));
    };
    let dtype = dtype_from_onnx(tensor.elem_type());
    if tensor.shape.is_none() {
        return Ok(Err(format!("input `{}` has no shape in the file", input.name())));
    }
    let shape = match dims.shape(input, symbols) {
        Ok(shape) => shape,
        Err(why) => return Ok(Err(why)),
    };
    eval::count(&shape).map_err(|e| e.context(format!("input `{}`", input.name())))?;
    Ok(Ok(Fact { dtype, shape }))
}

/// What the file states of inner tensors and outputs, where all dimensions come out as numbers.
fn stated(graph: &pb::GraphProto, symbols: &BTreeMap<String, usize>, inputs: &Scope) -> Result<HashMap<String, Fact>> {
    // A symbol of an input's open first dimension stands for the batch everywhere.
    let mut symbols = symbols.clone();
    for input in &graph.input {
        if let (Some(dim), Some(fact)) = (input.type_.tensor_type.shape.dim.first(), inputs.facts.get(input.name()))
            && let (false, Some(&n)) = (symbol(dim).is_empty(), fact.shape.first())
        {
            symbols.insert(symbol(dim).to_owned(), n);
        }
    }
    let mut found = HashMap::new();
    for info in graph.value_info.iter().chain(&graph.output) {
        let Some(tensor) = info.type_.as_ref().and_then(|t| t.tensor_type.as_ref()) else { continue };
        if tensor.shape.is_none() {
            continue;
        }
        let dtype = dtype_from_onnx(tensor.elem_type());
        let number = |d: &pb::tensor_shape_proto::Dimension| match d.has_dim_value() {
            true => usize::try_from(d.dim_value()).ok(),
            false => symbols.get(symbol(d)).copied(),
        };
        let Some(shape) = tensor.shape.dim.iter().map(number).collect::<Option<Vec<_>>>() else { continue };
        if eval::count(&shape).is_ok() {
            found.insert(info.name().to_owned(), Fact { dtype, shape });
        }
    }
    Ok(found)
}
