//! Small models of every shape that the program must cope with, built node by node.
//!
//! [`all`] are those that compression is tested on: float32, one input, one output. [`creatures`] are these and everything
//! else, each with inputs to run it on; `tests/fixtures/zoo` keeps what `onnx.checker` and ONNX Runtime say of them.

mod builder;
mod control;
mod old;
mod prunable;
mod quantized;
mod sequence;
mod structures;
mod vision;
mod weights;

pub(crate) use builder::{At, Build};
pub(crate) use prunable::{all, cuttable, fixed_batch};

use joulefront::onnx::Model;
use joulefront::tensor::Tensor;

/// A model of the zoo, with what the tests need to know of it.
pub(crate) struct Animal {
    pub(crate) name: &'static str,
    pub(crate) model: Model,
    /// Shape of one sample.
    pub(crate) sample: Vec<usize>,
    /// Part of the reason why some group is frozen, where the graph gives one beyond input and output.
    pub(crate) frozen: Option<&'static str>,
    /// Whether anything can be pruned.
    pub(crate) prunable: bool,
}

/// Inputs [n, sample…] in ±1.
pub(crate) fn inputs(n: usize, sample: &[usize]) -> Tensor {
    let shape = [&[n], sample].concat();
    Tensor::f32(shape.clone(), crate::support::uniform(shape.iter().product())).unwrap()
}

/// A model file with inputs to run it on.
#[derive(Clone)]
pub(crate) struct Creature {
    pub(crate) name: &'static str,
    /// The model file. It is not parsed here, so that a file which cannot be read fails one test and not all.
    pub(crate) bytes: Vec<u8>,
    /// A value for each input of the graph.
    pub(crate) inputs: Vec<(String, Tensor)>,
}

/// The whole zoo.
pub(crate) fn creatures() -> Vec<Creature> {
    let prunable = all().into_iter().map(|a| Creature {
        name: a.name,
        bytes: a.model.to_bytes().unwrap(),
        inputs: vec![("x".into(), inputs(2, &a.sample))],
    });
    let families = [vision::family(), sequence::family(), weights::family(), control::family(), quantized::family(), old::family()];
    prunable.chain(families.into_iter().flatten()).collect()
}
