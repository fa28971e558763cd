//! Runs a whole graph, or the part of it that is asked for.

use super::control::Limit;
use super::program::Program;
use super::run::{Context, Watch};
use super::value::{Item, View};
use crate::model::eval::{join, part};
use crate::onnx::{self, pb};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Samples that are evaluated together. Fixed, so that results do not depend on the number of threads.
pub const CHUNK: usize = 32;

/// Into how many parts the samples of [`Executor::observe`] are divided at most. Fixed for the same reason; it bounds the number of
/// states, and so the memory.
pub const PARTS: usize = 8;

/// A graph that is ready to run: constants decoded once, names resolved to slots.
///
/// Any tensor of the graph can be fed (weights too) and any can be asked for; only the nodes between them run, and every activation is
/// freed after its last use. Functions of the model are written out, `If`, `Loop` and `Scan` run their graphs; a loop that does not end
/// is stopped.
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
    program: Program,
    /// The batch size that the graph's inputs declare, where it is a number.
    fixed_batch: Option<usize>,
    threads: NonZeroUsize,
}

impl Executor {
    /// Decodes the constants of `model` and evaluates the nodes that depend on nothing else.
    ///
    /// # Errors
    /// An initializer cannot be decoded, or graphs and functions are nested too deeply or stand for too many nodes.
    pub fn new(model: &onnx::Model) -> Result<Self> {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(Executor { program: Program::new(model)?, fixed_batch: fixed_batch(model.graph()), threads })
    }

    /// Uses `threads` threads for batches instead of all cores. The results are the same.
    #[must_use]
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        Executor { threads, ..self }
    }

    /// Runs the nodes that lead from `inputs` to the tensors named in `wanted`.
    ///
    /// # Errors
    /// A name does not exist, an input is missing, a node cannot be evaluated, or a loop does not end.
    pub fn run(&self, inputs: &[(&str, &Tensor)], wanted: &[&str]) -> Result<HashMap<String, Tensor>> {
        let slots = wanted.iter().map(|&name| self.slot(name)).collect::<Result<Vec<_>>>()?;
        let found = Context::new(Limit::default()).run(
            &self.program,
            self.given(inputs)?,
            &slots,
            &mut Watch { slots: &[], see: &mut |_, _| Ok(()) },
        )?;
        let named = |(&name, item): (&&str, Item)| Ok((name.to_owned(), item.into_tensor().map_err(|e| e.context(format!("`{name}`")))?));
        wanted.iter().zip(found).map(named).collect()
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
        let chunks = self.chunks(inputs)?;
        let alone: Vec<Range<usize>> = (0..chunks.len()).map(|i| i..i + 1).collect();
        let parts =
            self.each(inputs, wanted, &chunks, &alone, &|| vec![None; wanted.len()], &|parts: &mut Vec<Option<Tensor>>, i, t| {
                parts[i] = Some(t.clone());
                Ok(())
            })?;
        let mut joined = HashMap::new();
        for (i, &name) in wanted.iter().enumerate() {
            let tensors: Vec<&Tensor> = parts.iter().filter_map(|part| part[i].as_ref()).collect();
            if let Some((t, _)) = tensors.iter().zip(&chunks).find(|(t, chunk)| t.shape().first() != Some(&chunk.len())) {
                return Err(Error::bad_input(format!("the first axis of `{name}` is not the batch: its shape is {:?}", t.shape())));
            }
            joined.insert(name.to_owned(), join(&tensors, 0)?);
        }
        Ok(joined)
    }

    /// Runs in chunks as [`Executor::run_batched`] does, and shows the tensors in `names` to `see` as they come about, chunk by chunk:
    /// for statistics of all layers in one pass and little memory, because every tensor is freed as soon as it has been seen and read.
    ///
    /// The chunks are divided into at most [`PARTS`] parts, in order. Each part has a state of its own, made by `start`, which `see` gets
    /// with the tensor and its index in `names`; the states come back in the order of the samples, to be merged in that order, so that
    /// the result does not depend on the number of threads.
    ///
    /// ```
    /// use joulefront::{exec::Executor, onnx::Model, tensor::Tensor};
    /// # fn main() -> joulefront::Result<()> {
    /// let executor = Executor::new(&Model::load("models/fashion-mlp.onnx")?)?;
    /// let x = Tensor::f32([100, 1, 28, 28], vec![0.5; 100 * 784])?;
    /// let parts = executor.observe(&[("input", &x)], &["logits"], || 0.0f32, |most, _, t| {
    ///     *most = t.as_f32()?.iter().fold(*most, |m, v| m.max(v.abs()));
    ///     Ok(())
    /// })?;
    /// assert!(parts.into_iter().fold(0.0, f32::max) > 0.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Executor::run`], and those of `see`.
    pub fn observe<S: Send>(
        &self,
        inputs: &[(&str, &Tensor)],
        names: &[&str],
        start: impl Fn() -> S + Sync,
        see: impl Fn(&mut S, usize, &Tensor) -> Result<()> + Sync,
    ) -> Result<Vec<S>> {
        let chunks = self.chunks(inputs)?;
        let parts = PARTS.min(chunks.len());
        let parts: Vec<Range<usize>> = (0..parts).map(|p| chunks.len() * p / parts..chunks.len() * (p + 1) / parts).collect();
        self.each(inputs, names, &chunks, &parts, &start, &see)
    }

    /// The samples of each chunk.
    fn chunks(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Range<usize>>> {
        let total = batch_size(inputs)?;
        if let Some(n) = self.fixed_batch.filter(|n| total % n != 0) {
            return Err(Error::bad_input(format!("the model takes exactly {n} samples at a time, which {total} is no multiple of"))
                .hint("export the model with a symbolic batch dimension, or use another number of samples"));
        }
        let chunk = self.fixed_batch.unwrap_or(CHUNK);
        Ok((0..total).step_by(chunk).map(|begin| begin..total.min(begin + chunk)).collect())
    }

    /// Runs `parts`, which are ranges of `chunks`, on all cores; each has a state of its own. What threads do next depends on their
    /// speed, what a part does and the order of the states do not.
    fn each<S: Send>(
        &self,
        inputs: &[(&str, &Tensor)],
        names: &[&str],
        chunks: &[Range<usize>],
        parts: &[Range<usize>],
        start: &(impl Fn() -> S + Sync),
        see: &(impl Fn(&mut S, usize, &Tensor) -> Result<()> + Sync),
    ) -> Result<Vec<S>> {
        let slots = names.iter().map(|&name| self.slot(name)).collect::<Result<Vec<_>>>()?;
        let one = |context: &mut Context, chunk: &Range<usize>, state: &mut S| {
            let lent = inputs.iter().map(|(name, t)| Ok((*name, part(t, 0, chunk.start, chunk.len())?))).collect::<Result<Vec<_>>>()?;
            let lent: Vec<(&str, &Tensor)> = lent.iter().map(|(name, t)| (*name, t)).collect();
            context.limit = Limit::default();
            let mut watch = Watch { slots: &slots, see: &mut |i, t| see(state, i, t) };
            context.run(&self.program, self.given(&lent)?, &[], &mut watch).map(drop)
        };
        let next = AtomicUsize::new(0);
        let work = || {
            let (mut done, mut context) = (Vec::new(), Context::new(Limit::default()));
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = parts.get(number) else { return done };
                let mut state = start();
                let ran = chunks[part.clone()].iter().try_for_each(|chunk| one(&mut context, chunk, &mut state));
                let failed = ran.is_err();
                done.push((number, ran.map(|()| state)));
                if failed {
                    return done;
                }
            }
        };
        let mut done = std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..self.threads.get().min(parts.len())).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for helper in helpers {
                done.extend(helper.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload)));
            }
            done
        });
        done.sort_by_key(|(number, _)| *number);
        done.into_iter().map(|(_, state)| state).collect()
    }

    /// The slots of `inputs` with their tensors.
    fn given<'a>(&self, inputs: &[(&str, &'a Tensor)]) -> Result<Vec<(usize, View<'a>)>> {
        let slot = |name: &str| match self.slot(name)? {
            slot if self.program.folded.contains(&slot) => {
                Err(Error::bad_input(format!("the constant `{name}` cannot be fed: others were worked out from it")))
            }
            slot => Ok(slot),
        };
        inputs.iter().map(|&(name, t)| Ok((slot(name)?, View::Tensor(t)))).collect()
    }

    fn slot(&self, name: &str) -> Result<usize> {
        self.program.slot(name).ok_or_else(|| Error::bad_input(format!("the graph has no tensor `{name}`")))
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
