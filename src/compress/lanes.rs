//! A lane: one model evaluated node by node on all calibration samples, in fixed chunks over all cores.
//!
//! Two lanes run side by side when a variant is fitted: the original's, whose outputs are the targets, and the
//! variant's, whose inputs are what its layers really see. Chunks have a fixed size and sums are merged in order, so the
//! result does not depend on the number of threads.

use super::calibration::Calibration;
use super::spool::{Spool, Waiting};
use crate::Result;
use crate::exec;
use crate::model::Graph;
use crate::onnx::{Model, pb};
use crate::tensor::Tensor;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// A model half-way through its nodes.
pub(super) struct Lane {
    nodes: Vec<pb::NodeProto>,
    opset: i64,
    constants: HashMap<String, Tensor>,
    /// What is still to be read, chunk by chunk.
    chunks: Vec<HashMap<String, Waiting>>,
    spool: Spool,
    last_use: HashMap<String, usize>,
    /// Tensors that must outlive their last reader.
    pinned: HashSet<String>,
    next: usize,
}

impl Lane {
    /// Starts before the first node, with the input's chunks in place.
    pub(super) fn new(model: &Model, samples: &Calibration) -> Result<Self> {
        let graph = Graph::new(model);
        let mut constants = HashMap::new();
        for t in &model.graph().initializer {
            if let Some(value) = graph.constant(t.name())? {
                constants.insert(t.name().to_owned(), value);
            }
        }
        let mut last_use = HashMap::new();
        for (index, node) in graph.nodes().iter().enumerate() {
            node.input.iter().for_each(|name| {
                last_use.insert(name.clone(), index);
            });
        }
        let spool = Spool::new();
        let place = |i: usize| Ok(HashMap::from([(samples.input().to_owned(), spool.keep(samples.get(i)?)?)]));
        let chunks = (0..samples.portions()).map(place).collect::<Result<_>>()?;
        let (nodes, opset, pinned) = (graph.nodes().to_vec(), model.opset(), HashSet::new());
        Ok(Lane { nodes, opset, constants, chunks, spool, last_use, pinned, next: 0 })
    }

    /// Keeps `tensor` until [`Lane::unpin`].
    pub(super) fn pin(&mut self, tensor: &str) {
        self.pinned.insert(tensor.to_owned());
    }

    /// Lets `tensor` go; at once when all its readers are done.
    pub(super) fn unpin(&mut self, tensor: &str) {
        self.pinned.remove(tensor);
        if self.last_use.get(tensor).is_none_or(|&u| u < self.next) {
            self.free(tensor);
        }
    }

    fn free(&mut self, tensor: &str) {
        for waiting in self.chunks.iter_mut().filter_map(|c| c.remove(tensor)) {
            self.spool.free(waiting);
        }
    }

    /// Replaces a constant for the nodes still to come.
    pub(super) fn set_constant(&mut self, name: &str, value: Tensor) {
        self.constants.insert(name.to_owned(), value);
    }

    /// A tensor of one chunk, or a constant.
    ///
    /// # Errors
    /// It cannot be read back.
    pub(super) fn get(&self, chunk: usize, tensor: &str) -> Result<Option<Cow<'_, Tensor>>> {
        match self.chunks[chunk].get(tensor) {
            Some(waiting) => self.spool.read(waiting).map(Some),
            None => Ok(self.constants.get(tensor).map(Cow::Borrowed)),
        }
    }

    /// The dimensions of what [`Lane::get`] gives.
    pub(super) fn shape(&self, chunk: usize, tensor: &str) -> Option<&[usize]> {
        self.chunks[chunk].get(tensor).map(Waiting::shape).or_else(|| self.constants.get(tensor).map(Tensor::shape))
    }

    /// Number of chunks.
    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Evaluates nodes up to and including `node`.
    pub(super) fn advance_past(&mut self, node: usize) -> Result<()> {
        while self.next <= node && self.next < self.nodes.len() {
            self.step()?;
        }
        Ok(())
    }

    /// Evaluates the next node on every chunk and frees what nobody reads any more.
    fn step(&mut self) -> Result<()> {
        let node = &self.nodes[self.next];
        let is_constant = node.input.iter().all(|n| n.is_empty() || self.constants.contains_key(n));
        if is_constant {
            let inputs: Vec<Option<&Tensor>> = node.input.iter().map(|n| self.constants.get(n)).collect();
            let outputs = exec::eval_node(node, self.opset, &inputs)?;
            let named: Vec<(String, Tensor)> = named(node, outputs).collect();
            self.constants.extend(named);
        } else {
            let results = map_chunks(&self.chunks, |chunk, _| {
                let inputs = node.input.iter().map(|n| self.get(chunk, n)).collect::<Result<Vec<_>>>()?;
                let outputs = exec::eval_node(node, self.opset, &inputs.iter().map(Option::as_deref).collect::<Vec<_>>())?;
                named(node, outputs).map(|(name, t)| Ok((name, self.spool.keep(t)?))).collect::<Result<Vec<_>>>()
            })?;
            for (chunk, outputs) in self.chunks.iter_mut().zip(results) {
                chunk.extend(outputs);
            }
        }
        let read = |n: &&String| self.last_use.get(*n) == Some(&self.next) && !self.pinned.contains(*n);
        let mut dead: Vec<String> = self.nodes[self.next].input.iter().filter(read).cloned().collect();
        // What nobody reads at all.
        let unread = |n: &&String| !self.last_use.contains_key(*n) && !self.pinned.contains(*n);
        dead.extend(self.nodes[self.next].output.iter().filter(unread).cloned());
        dead.iter().for_each(|name| self.free(name));
        self.next += 1;
        Ok(())
    }
}

/// The outputs with their names; what the graph does not name is dropped (an empty name also stands for an input left out).
fn named(node: &pb::NodeProto, outputs: Vec<Tensor>) -> impl Iterator<Item = (String, Tensor)> {
    node.output.iter().cloned().zip(outputs).filter(|(name, _)| !name.is_empty())
}

/// Applies `f` to every chunk over all cores; results come back in the chunks' order.
pub(super) fn map_chunks<C: Sync, T: Send>(chunks: &[C], f: impl Fn(usize, &C) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(chunks.len().max(1));
    let per_thread = chunks.len().div_ceil(threads.max(1)).max(1);
    let f = &f;
    let parts: Vec<Result<Vec<T>>> = std::thread::scope(|scope| {
        let handles: Vec<_> = chunks
            .chunks(per_thread)
            .enumerate()
            .map(|(part, slice)| {
                scope.spawn(move || slice.iter().enumerate().map(|(i, c)| f(part * per_thread + i, c)).collect::<Result<Vec<T>>>())
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))).collect()
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Sums what `add` contributes chunk by chunk, of rows with `d` inputs: in a fixed number of parts over all cores, so that memory does
/// not grow with the samples and the result does not depend on the threads.
pub(super) fn sum_parts<S: Send>(
    count: usize,
    d: usize,
    new: impl Fn() -> S + Sync,
    add: impl Fn(usize, &mut S) -> Result<()> + Sync,
    merge: impl Fn(&mut S, &S),
) -> Result<S> {
    // Sums over many inputs are large themselves.
    let most = if d > 1024 { 2 } else { 8 };
    let parts: Vec<Range<usize>> = (0..most).map(|p| count * p / most..count * (p + 1) / most).filter(|r| !r.is_empty()).collect();
    let sums = map_chunks(&parts, |_, part| {
        let mut sum = new();
        part.clone().try_for_each(|chunk| add(chunk, &mut sum))?;
        Ok(sum)
    })?;
    let mut total = new();
    sums.iter().for_each(|part| merge(&mut total, part));
    Ok(total)
}
