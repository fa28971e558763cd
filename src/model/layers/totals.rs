//! Sums over a model.

use super::{Layer, plan};
use crate::Result;
use crate::model::encoding::scale_inputs;
use crate::model::{Graph, nested};
use crate::onnx::{dtype_from_onnx, pb};
use std::collections::HashSet;
use std::fmt;

/// Multiply–adds of a model: a number, or a lower bound with what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Macs {
    /// Of all layers whose multiply–adds are known.
    pub at_least: u64,
    /// The other layers, each with the reason.
    pub missing: Vec<(String, String)>,
}

impl Macs {
    /// Of the given layers together.
    pub fn of(layers: &[Layer]) -> Self {
        let mut sum = Macs::default();
        for layer in layers {
            match &layer.macs {
                Ok(n) => sum.at_least = sum.at_least.saturating_add(*n),
                Err(why) => sum.missing.push((layer.name.clone(), why.clone())),
            }
        }
        sum
    }

    /// The number, when every layer's is known.
    pub fn exact(&self) -> Option<u64> {
        self.missing.is_empty().then_some(self.at_least)
    }
}

impl fmt::Display for Macs {
    /// Why there is only a lower bound; nothing when there is a number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missing.as_slice() {
            [] => Ok(()),
            [(layer, why)] => write!(f, "those of `{layer}` are not known: {why}"),
            [(layer, why), _] => write!(f, "those of `{layer}` and one more layer are not known: {why}"),
            [(layer, why), rest @ ..] => write!(f, "those of `{layer}` and {} more layers are not known: {why}", rest.len()),
        }
    }
}

/// Sums over a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// Parameters: elements of all float constants of rank ≥ 1 that something reads, and of quantized weights and biases; not
    /// scales and zero points. A constant that several layers read counts once.
    pub params: u64,
    /// Multiply–adds, for the batch that shapes were inferred with.
    pub macs: Macs,
    /// Parameter-weighted mean bits of the layers' weights.
    pub weight_bits: f64,
    /// Weights of layers that stand for exactly zero, as a share.
    pub sparsity: f64,
}

/// Sums over the whole model, of which `layers` are the layers.
///
/// # Errors
/// A constant's data is not there.
pub fn totals(graph: &Graph<'_>, layers: &[Layer]) -> Result<Totals> {
    let (mut params, mut weights, mut bits, mut zeros) = (0u64, 0u64, 0f64, 0u64);
    // By identity: a constant counts once, whoever reads it.
    let mut counted: HashSet<*const pb::TensorProto> = HashSet::new();
    let mut scales: HashSet<*const pb::TensorProto> = HashSet::new();
    let mut read: Vec<&pb::TensorProto> = Vec::new();
    nested::walk(graph, &mut |names, _, node| {
        if let Some(plan) = plan(names, node) {
            for source in plan.weights.into_iter().map(|w| w.source) {
                let Some(format) = source.format()? else { continue };
                if counted.insert(source.identity()) {
                    let len = source.len() as u64;
                    (params, weights) = (params.saturating_add(len), weights.saturating_add(len));
                    bits += len as f64 * f64::from(format.bits());
                    zeros = zeros.saturating_add(source.zeros()?);
                }
            }
            if let Some(bias) = plan.bias.filter(|b| b.is_quantized() && counted.insert(b.identity())) {
                params = params.saturating_add(bias.len() as u64);
            }
        }
        let numbers = scale_inputs(node);
        for (index, name) in node.input.iter().enumerate() {
            match names.constant(name) {
                Some(t) if numbers.contains(&index) => drop(scales.insert(t)),
                Some(t) => read.push(t),
                None => {}
            }
        }
        Ok(())
    })?;
    for t in read {
        let is_float = dtype_from_onnx(t.data_type()).is_some_and(|d| d.is_float());
        if is_float && !t.dims.is_empty() && !scales.contains(&std::ptr::from_ref(t)) && counted.insert(t) {
            params = params.saturating_add(t.dims.iter().fold(1, |n: u64, &d| n.saturating_mul(d.max(0).unsigned_abs())));
        }
    }
    let share = |x: f64| if weights == 0 { 0.0 } else { x / weights as f64 };
    Ok(Totals { params, macs: Macs::of(layers), weight_bits: share(bits), sparsity: share(zeros as f64) })
}
