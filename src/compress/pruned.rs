//! A structurally pruned model beside the full-size one.

use super::blocks::zeroed;
use super::groups::scatter;
use super::note::Note;
use crate::Result;
use crate::model::Graph;
use crate::onnx::Model;
use crate::tensor::DType;
use std::collections::BTreeMap;

/// What stayed of a constant along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Name of the constant.
    pub constant: String,
    /// Its axis.
    pub axis: usize,
    /// The entries that stayed, ascending, by their old numbers.
    pub kept: Vec<usize>,
}

/// A structurally pruned model, and what relates it to the full-size one.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// The smaller model.
    pub model: Model,
    /// What was done to each group of layers.
    pub notes: Vec<Note>,
    /// The graph that was pruned: prepared and, where the variant was repaired, with normalisation folded.
    pub full: Model,
    /// Every cut that was made through weights and other constants.
    pub cuts: Vec<Cut>,
    /// Constants of the full graph that are in none of the smaller one: those of residual blocks that went.
    pub removed: Vec<String>,
}

impl Pruned {
    /// The full-size graph that carries the variant's weights at their old places and zeros where channels were removed. It
    /// computes what the variant does, so that any engine can check the surgery.
    ///
    /// # Errors
    /// A constant cannot be decoded.
    pub fn embedded(&self) -> Result<Model> {
        let mut full = self.full.clone();
        // A constant that was cut along two axes is put back along one after the other.
        let mut put: BTreeMap<&str, Vec<&Cut>> = BTreeMap::new();
        self.cuts.iter().for_each(|cut| put.entry(&cut.constant).or_default().push(cut));
        let (small, large) = (Graph::new(&self.model), Graph::new(&self.full));
        for name in self.full.graph().initializer.iter().map(|t| t.name()).chain(put.keys().copied()) {
            let (Some(mut value), Some(shape)) = (small.constant(name)?, large.constant_shape(name)) else { continue };
            // Only weights go back: the target of a Reshape stays the full one.
            if value.dtype() != DType::F32 {
                continue;
            }
            for cut in put.get(name).into_iter().flatten() {
                value = scatter(&value, cut.axis, &cut.kept, shape[cut.axis])?;
            }
            full.set_constant(name, &value)?;
        }
        self.removed.iter().try_for_each(|name| zeroed(&mut full, name))?;
        Ok(full)
    }
}
