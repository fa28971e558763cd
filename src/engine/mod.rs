//! Inference engines: load a model with fixed dimensions, run it, or say why it cannot be run.
//!
//! An [`Engine`] turns a model into a [`Session`]. The session has two ways to run: [`Session::infer`] for answers, and the
//! pair [`Session::prepare`] and [`Session::run_slot`] for measurement, where the inputs already lie in the engine's own form
//! and a call does nothing but the inference. Measurement runs sessions in a child process: see [`runner`].

pub mod dims;
mod fit;
mod ort;
mod profile;
mod refusal;
mod rten;
pub mod runner;
mod score;
mod stated;
mod tract;

pub use fit::Fit;
pub use profile::{NodeTime, Profiled};
pub use score::{Predict, Rows, predict, predict_rows};
pub use tract::{NodeCost, cost};

use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a model comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A file; tensors that it keeps in other files are looked for beside it.
    Path(&'a Path),
    /// The bytes of a file.
    Bytes(&'a [u8]),
}

/// How a model is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Samples per run: the value of the first dimension of every input.
    pub batch: usize,
    /// Threads the engine may use.
    pub threads: usize,
    /// Values of symbolic dimensions other than the batch, by name.
    pub dims: BTreeMap<String, usize>,
    /// Whole shapes of inputs by name, for dimensions without a name and for inputs that are no batch ([`dims::fix`]). What the
    /// file fixes stays what it is.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Leave a named batch open for the engine, as a service does that loads the file as it is; runs have [`batch`](Self::batch)
    /// samples all the same. To see what that costs.
    pub symbolic: bool,
}

impl Default for LoadOptions {
    /// One sample per run on one thread.
    fn default() -> Self {
        LoadOptions { batch: 1, threads: 1, dims: BTreeMap::new(), shapes: BTreeMap::new(), symbolic: false }
    }
}

/// An input or output of a loaded model. Every dimension is fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The name in the graph.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, the batch first.
    pub shape: Vec<usize>,
}

impl Spec {
    /// Bytes of one tensor of this spec.
    pub fn bytes(&self) -> usize {
        self.dtype.packed_len(self.shape.iter().product()).unwrap_or(usize::MAX)
    }

    /// Refuses a tensor of another type or shape, naming both.
    ///
    /// # Errors
    /// The tensor does not fit.
    pub fn check(&self, tensor: &Tensor) -> Result<()> {
        if tensor.dtype() == self.dtype && tensor.shape() == self.shape {
            return Ok(());
        }
        Err(Error::bad_input(format!(
            "input `{}` takes {} {:?}, it was given {} {:?}",
            self.name,
            self.dtype.name(),
            self.shape,
            tensor.dtype().name(),
            tensor.shape()
        )))
    }
}

/// An engine that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its version.
    pub version: String,
    /// The library's file, where the engine is not part of this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
}

/// An inference engine.
pub trait Engine: Sync {
    /// The name on the command line and in tables.
    fn name(&self) -> &'static str;

    /// True when the engine is part of this program; else it is looked for when the program runs.
    fn linked(&self) -> bool;

    /// Finds the engine. One that is not [linked](Engine::linked) is loaded into this process for it, and a broken library may end
    /// the process: [`runner::find`] does it in a child.
    ///
    /// # Errors
    /// Environment: it is not there, too old or broken; the hint says how to get it.
    fn find(&self) -> Result<Found>;

    /// Loads a model, with every dimension fixed before the engine optimises it: a symbolic batch costs an engine 2–7 times
    /// the time on the same file, so it would flatter every variant compared with it.
    ///
    /// An engine may panic over a damaged model: load files of unknown origin in a [`runner::Runner`].
    ///
    /// # Errors
    /// The file cannot be read, a dimension has no value, or the engine refuses an operator; the message names it.
    fn load(&self, model: Source<'_>, options: &LoadOptions) -> Result<Box<dyn Session>>;
}

/// A loaded model that is ready to run.
pub trait Session {
    /// Inputs, in the order in which tensors are given.
    fn inputs(&self) -> &[Spec];

    /// Outputs, in the order in which tensors come back.
    fn outputs(&self) -> &[Spec];

    /// Turns sets of inputs, one tensor per model input, into the engine's own form and keeps them as slots 0, 1, … in place
    /// of earlier ones.
    ///
    /// # Errors
    /// Number, types or shapes are not those of [`Session::inputs`].
    fn prepare(&mut self, slots: &[Vec<Tensor>]) -> Result<()>;

    /// Runs a prepared input and drops the outputs. This is what is measured: it allocates and copies nothing of ours.
    ///
    /// # Errors
    /// There is no such slot, or the engine fails.
    fn run_slot(&mut self, slot: usize) -> Result<()>;

    /// Runs on the given inputs and returns the outputs.
    ///
    /// # Errors
    /// As [`Session::prepare`] and [`Session::run_slot`].
    fn infer(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>>;

    /// Runs a prepared input `runs` times with a clock at each of the engine's own nodes, which costs time: what a run takes is
    /// measured without.
    ///
    /// # Errors
    /// As [`Session::run_slot`]; or the engine does not tell what its nodes take.
    fn profile(&mut self, slot: usize, runs: u64) -> Result<Profiled> {
        let _ = (slot, runs);
        Err(Error::engine("this engine does not tell what its nodes take"))
    }
}

/// Every engine that this program knows, those that are part of it first.
pub fn all() -> &'static [&'static dyn Engine] {
    &[&tract::Tract, &rten::Rten, &ort::Ort]
}

/// The engine of that name.
///
/// ```
/// assert_eq!(joulefront::engine::by_name("tract").map(|e| e.name()).ok(), Some("tract"));
/// let e = joulefront::engine::by_name("abacus").err().map(|e| e.to_string());
/// assert_eq!(e.as_deref(), Some("there is no engine `abacus`"));
/// ```
///
/// # Errors
/// There is none of that name; the hint lists those there are.
pub fn by_name(name: &str) -> Result<&'static dyn Engine> {
    all().iter().copied().find(|e| e.name() == name).ok_or_else(|| {
        let known: Vec<_> = all().iter().map(|e| format!("`{}`", e.name())).collect();
        Error::bad_input(format!("there is no engine `{name}`")).hint(format!("the engines: {}", known.join(", ")))
    })
}

/// Refuses numbers that no run has.
fn check_options(options: &LoadOptions) -> Result<()> {
    match options {
        LoadOptions { batch: 0, .. } => Err(Error::bad_input("a run of 0 samples was asked for").hint("give a batch of 1 or more")),
        LoadOptions { threads: 0, .. } => Err(Error::bad_input("a run on 0 threads was asked for").hint("give 1 thread or more")),
        _ => Ok(()),
    }
}

/// Refuses a wrong number, type or shape of inputs.
fn check_inputs(specs: &[Spec], inputs: &[Tensor]) -> Result<()> {
    if specs.len() != inputs.len() {
        return Err(Error::bad_input(format!("the model has {} inputs, it was given {}", specs.len(), inputs.len())));
    }
    specs.iter().zip(inputs).try_for_each(|(spec, tensor)| spec.check(tensor))
}
