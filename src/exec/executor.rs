//! Runs a whole graph, or the part of it that is asked for.

use super::eval_node;
use crate::model::eval::{join, label, part};
use crate::onnx::{self, pb, tensor_from_proto};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Samples that are evaluated together. Fixed, so that results do not depend on the number of threads.
pub const CHUNK: usize = 32;

/// A graph that is ready to run: constants decoded once, names resolved to slots.
///
/// Any tensor of the graph can be fed (weights too) and any can be asked for; only the nodes between them run, and every activation is
/// freed after its last use.
///
/// ```
/// use joulefront::{exec::Executor, onnx::Model, tensor::Tensor};
/// # fn main() -> joulefront::Result<()> {
/// let executor = Executor::new(&Model::load("models/fashion-mlp.onnx")?)?;
/// let x = Tensor::f32([2, 1, 28, 28], vec![0.5; 2 * 784])?;
/// let outputs = executor.run(&[("input", &x)], &["logits"])?;
/// assert_eq!(outputs["logits"].shape(), [2, 10]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Executor {
    opset: i64,
    nodes: Vec<Node>,
    slots: HashMap<String, usize>,
    /// By slot: initializers and what follows from them alone.
    constants: Vec<Option<Tensor>>,
    /// Slots of constants that others were worked out from.
    folded: HashSet<usize>,
    /// The batch size that the graph's inputs declare, where it is a number.
    fixed_batch: Option<usize>,
    threads: NonZeroUsize,
}

#[derive(Debug)]
struct Node {
    proto: pb::NodeProto,
    inputs: Vec<Option<usize>>,
    outputs: Vec<Option<usize>>,
}

/// A value of a run: what the caller lent, or what a node made.
enum Value<'a> {
    Lent(&'a Tensor),
    Made(Tensor),
}

impl Value<'_> {
    fn get(&self) -> &Tensor {
        match self {
            Value::Lent(t) => t,
            Value::Made(t) => t,
        }
    }
}

impl Executor {
    /// Decodes the constants of `model` and evaluates the nodes that depend on nothing else.
    ///
    /// # Errors
    /// An initializer cannot be decoded, or a node that needs no input cannot be evaluated.
    pub fn new(model: &onnx::Model) -> Result<Self> {
        let graph = model.graph();
        let mut slots = HashMap::new();
        let mut constants = Vec::new();
        let mut slot = |name: &String, constants: &mut Vec<Option<Tensor>>| match name.as_str() {
            "" => None,
            _ => Some(*slots.entry(name.clone()).or_insert_with(|| {
                constants.push(None);
                constants.len() - 1
            })),
        };
        for i in &graph.initializer {
            if let Some(at) = slot(&i.name().to_owned(), &mut constants) {
                constants[at] = Some(tensor_from_proto(i)?);
            }
        }
        for i in &graph.input {
            slot(&i.name().to_owned(), &mut constants);
        }
        let mut nodes = Vec::new();
        let mut folded = HashSet::new();
        for proto in &graph.node {
            let inputs = proto.input.iter().map(|name| slot(name, &mut constants)).collect::<Vec<_>>();
            let outputs = proto.output.iter().map(|name| slot(name, &mut constants)).collect::<Vec<_>>();
            if inputs.iter().flatten().all(|&s| constants[s].is_some()) {
                let values: Vec<_> = inputs.iter().map(|s| s.and_then(|s| constants[s].as_ref())).collect();
                let made = eval_node(proto, model.opset(), &values)?;
                for (slot, t) in outputs.iter().zip(made) {
                    if let &Some(s) = slot {
                        constants[s] = Some(t);
                    }
                }
                folded.extend(inputs.into_iter().flatten());
            } else {
                // Attributes of a node may hold large tensors (`Constant`): only nodes that really run are kept.
                nodes.push(Node { proto: proto.clone(), inputs, outputs });
            }
        }
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(Executor { opset: model.opset(), nodes, slots, constants, folded, fixed_batch: fixed_batch(graph), threads })
    }

    /// Uses `threads` threads in [`Executor::run_batched`] instead of all cores. The results are the same.
    #[must_use]
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        Executor { threads, ..self }
    }

    /// Runs the nodes that lead from `inputs` to the tensors named in `wanted`.
    ///
    /// # Errors
    /// A name does not exist, an input is missing, or a node cannot be evaluated.
    pub fn run(&self, inputs: &[(&str, &Tensor)], wanted: &[&str]) -> Result<HashMap<String, Tensor>> {
        let mut values: Vec<Option<Value>> = self.constants.iter().map(|c| c.as_ref().map(Value::Lent)).collect();
        for (name, t) in inputs {
            let slot = self.slot(name)?;
            if self.folded.contains(&slot) {
                return Err(Error::bad_input(format!("the constant `{name}` cannot be fed: others were worked out from it")));
            }
            values[slot] = Some(Value::Lent(t));
        }
        let wanted = wanted.iter().map(|&name| Ok((name, self.slot(name)?))).collect::<Result<Vec<_>>>()?;
        let (plan, mut uses) = self.plan(&values, &wanted);
        for node in plan {
            let made = {
                let args = node.inputs.iter().map(|slot| self.value(&values, *slot)).collect::<Result<Vec<_>>>()?;
                eval_node(&node.proto, self.opset, &args)?
            };
            for slot in node.inputs.iter().flatten() {
                uses[*slot] -= 1;
                if uses[*slot] == 0 {
                    values[*slot] = None;
                }
            }
            for (slot, t) in node.outputs.iter().zip(made) {
                if let Some(slot) = slot.filter(|&s| uses[s] > 0 && values[s].is_none()) {
                    values[slot] = Some(Value::Made(t));
                }
            }
        }
        wanted
            .into_iter()
            .map(|(name, slot)| {
                uses[slot] -= 1;
                let t = match values[slot].take() {
                    Some(Value::Made(t)) if uses[slot] == 0 => t,
                    Some(value) => {
                        let t = value.get().clone();
                        values[slot] = Some(value);
                        t
                    }
                    None => return Err(self.absent(slot)),
                };
                Ok((name.to_owned(), t))
            })
            .collect()
    }

    /// The nodes to run, in order, and how often each slot will be read (the caller's wishes included).
    fn plan(&self, values: &[Option<Value>], wanted: &[(&str, usize)]) -> (Vec<&Node>, Vec<usize>) {
        let mut uses = vec![0usize; values.len()];
        wanted.iter().for_each(|&(_, slot)| uses[slot] += 1);
        let mut plan = Vec::new();
        for node in self.nodes.iter().rev() {
            if node.outputs.iter().flatten().any(|&s| uses[s] > 0 && values[s].is_none()) {
                node.inputs.iter().flatten().for_each(|&s| uses[s] += 1);
                plan.push(node);
            }
        }
        plan.reverse();
        (plan, uses)
    }

    /// Runs in chunks along the first axis of all `inputs`, on all cores, and joins the results along theirs.
    ///
    /// A chunk is [`CHUNK`] samples, or as many as the graph's inputs declare if that is a number. The graph must treat samples
    /// independently of each other.
    ///
    /// # Errors
    /// As [`Executor::run`]; also when the inputs disagree in their number of samples, that number is no multiple of the declared one,
    /// or a wanted tensor has no batch axis.
    pub fn run_batched(&self, inputs: &[(&str, &Tensor)], wanted: &[&str]) -> Result<HashMap<String, Tensor>> {
        let chunks = self.map_batched(inputs, wanted, |_, chunk| Ok(chunk))?;
        let total = batch_size(inputs)?;
        let size = total.min(self.fixed_batch.unwrap_or(CHUNK));
        let mut parts: HashMap<String, Vec<Tensor>> = HashMap::new();
        for (i, chunk) in chunks.into_iter().enumerate() {
            for (name, t) in chunk {
                if t.shape().first() != Some(&size.min(total - i * size)) {
                    return Err(Error::bad_input(format!("the first axis of `{name}` is not the batch: its shape is {:?}", t.shape())));
                }
                parts.entry(name).or_default().push(t);
            }
        }
        parts.into_iter().map(|(name, parts)| Ok((name, join(&parts.iter().collect::<Vec<_>>(), 0)?))).collect()
    }

    /// Like [`Executor::run_batched`], but hands each chunk's tensors to `f` (with the number of its first sample) instead of keeping
    /// them, and returns what `f` made, in the order of the samples: for statistics over many samples in little memory.
    ///
    /// # Errors
    /// As [`Executor::run`], and those of `f`.
    pub fn map_batched<R: Send>(
        &self,
        inputs: &[(&str, &Tensor)],
        wanted: &[&str],
        f: impl Fn(usize, HashMap<String, Tensor>) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let total = batch_size(inputs)?;
        if let Some(n) = self.fixed_batch.filter(|n| total % n != 0) {
            return Err(Error::bad_input(format!("the model takes exactly {n} samples at a time, which {total} is no multiple of"))
                .hint("export the model with a symbolic batch dimension, or use another number of samples"));
        }
        let chunk = self.fixed_batch.unwrap_or(CHUNK);
        let starts: Vec<usize> = (0..total).step_by(chunk).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(&begin) = starts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let size = chunk.min(total - begin);
                let parts = inputs.iter().map(|(name, t)| Ok((*name, part(t, 0, begin, size)?))).collect::<Result<Vec<_>>>();
                let made = parts.and_then(|parts| {
                    let lent: Vec<_> = parts.iter().map(|(name, t)| (*name, t)).collect();
                    f(begin, self.run(&lent, wanted)?)
                });
                let failed = made.is_err();
                done.push((begin, made));
                if failed {
                    break;
                }
            }
            done
        };
        let mut done = std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..self.threads.get().min(starts.len())).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for helper in helpers {
                done.extend(helper.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload)));
            }
            done
        });
        done.sort_by_key(|(begin, _)| *begin);
        done.into_iter().map(|(_, made)| made).collect()
    }

    fn slot(&self, name: &str) -> Result<usize> {
        self.slots.get(name).copied().ok_or_else(|| Error::bad_input(format!("the graph has no tensor `{name}`")))
    }

    fn value<'a>(&self, values: &'a [Option<Value>], slot: Option<usize>) -> Result<Option<&'a Tensor>> {
        let Some(slot) = slot else { return Ok(None) };
        match &values[slot] {
            Some(value) => Ok(Some(value.get())),
            None => Err(self.absent(slot)),
        }
    }

    /// The error for a tensor that neither the caller nor a node has given.
    fn absent(&self, slot: usize) -> Error {
        let name = self.slots.iter().find(|&(_, &s)| s == slot).map_or("", |(name, _)| name);
        match self.nodes.iter().find(|n| n.outputs.contains(&Some(slot))) {
            Some(n) => Error::bad_input(format!("{} does not give its optional output `{name}` in inference", label(&n.proto))),
            None => Error::bad_input(format!("the input `{name}` is missing")),
        }
    }
}

/// The length of the first axis that all inputs of the graph declare, if they do and agree.
fn fixed_batch(graph: &pb::GraphProto) -> Option<usize> {
    let constant = |name: &str| graph.initializer.iter().any(|i| i.name() == name);
    let mut declared = graph.input.iter().filter(|i| !constant(i.name())).map(|i| {
        let first = i.type_.tensor_type.shape.dim.first()?;
        usize::try_from(first.dim_value()).ok().filter(|&n| n > 0)
    });
    let first = declared.next()??;
    declared.all(|n| n == Some(first)).then_some(first)
}

/// The common length of the inputs' first axes.
fn batch_size(inputs: &[(&str, &Tensor)]) -> Result<usize> {
    let mut sizes = inputs.iter().map(|(name, t)| (name, t.shape().first().copied().unwrap_or(0)));
    let (first, n) = sizes.next().ok_or_else(|| Error::bad_input("there is no input to run on"))?;
    match sizes.find(|&(_, m)| m != n) {
        Some((other, m)) => Err(Error::bad_input(format!("`{first}` has {n} samples, `{other}` has {m}"))),
        None if n == 0 => Err(Error::bad_input(format!("`{first}` has no samples"))),
        None => Ok(n),
    }
}
