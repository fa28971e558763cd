//! Executes a recipe: original model in, variant out, with what it became and what was done to each layer.

use crate::compress::{
    Activations, Amount, Calibration, ChannelShare, Factorization, Note, Quantization, Sparsity, factorize, prune_channels,
    prune_connections, quantize,
};
use crate::model::{Facts, Graph, Totals, layers, totals};
use crate::onnx::{Model, sha256_hex};
use crate::recipe::{Recipe, Step, WeightMethod};
use crate::units::Bytes;
use crate::{Error, Result};

/// A variant: the file's bytes and what is known of them.
#[derive(Debug, Clone)]
pub struct Variant {
    /// The bytes of the file that ships and is measured.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes.
    pub sha256: String,
    /// Parameters, multiply–adds, bits, sparsity of one sample.
    pub totals: Totals,
    /// Reached: share of multiply–adds removed for channels, else of weights zeroed; `None` when nothing was pruned.
    pub pruning_ratio: Option<f64>,
    /// What was done to each layer, or why not.
    pub notes: Vec<Note>,
}

impl Variant {
    /// Size of the file.
    pub fn size(&self) -> Bytes {
        Bytes(self.bytes.len() as u64)
    }

    /// The same variant in another form of its model, with what was done to get there.
    ///
    /// # Errors
    /// The model cannot be written, or does not load again.
    pub fn rewritten(self, model: &Model, notes: Vec<Note>) -> Result<Self> {
        let (bytes, totals) = (model.to_bytes()?, measure(model)?);
        Model::from_bytes(&bytes, "the variant")?;
        let notes = self.notes.into_iter().chain(notes).collect();
        Ok(Variant { sha256: sha256_hex(&bytes), bytes, totals, notes, pruning_ratio: self.pruning_ratio })
    }
}

/// Multiply–adds of a sample above which weights of 8 bits are rounded to nearest unless asked otherwise.
const LARGE: u64 = 100_000_000;

/// Makes the variant of `original` (whose file is `bytes`) that `recipe` describes. The original recipe gives the file
/// itself, byte for byte. The same recipe, model and samples give the same bytes, whatever the number of threads.
///
/// # Errors
/// A step cannot be taken on this model: the message says which and why.
pub fn make(original: &Model, bytes: &[u8], recipe: &Recipe, calibration: Option<&Calibration>) -> Result<Variant> {
    recipe.check()?;
    let before = measure(original)?;
    if recipe.is_original() {
        let notes = Vec::new();
        return Ok(Variant { bytes: bytes.to_vec(), sha256: sha256_hex(bytes), totals: before, pruning_ratio: None, notes });
    }
    let mut model = original.clone();
    let mut notes = Vec::new();
    for step in &recipe.steps {
        let (next, more) = match *step {
            Step::PruneChannels { macs: Some(share), round_to, .. } => {
                prune_channels(&model, ChannelShare::OfMacs(share), round_to, calibration)
            }
            Step::PruneChannels { channels, round_to, .. } => {
                prune_channels(&model, ChannelShare::OfChannels(channels.unwrap_or(0.0)), round_to, calibration)
            }
            Step::Factorize { macs, form, round_to } => {
                factorize(&model, &Factorization { macs, form, round_to }, calibration.ok_or_else(no_samples)?)
            }
            Step::PruneConnections { share, pattern, distribution, method } => {
                let amount = pattern.map_or(Amount::Share(share.unwrap_or(0.0), distribution), Amount::Pattern);
                prune_connections(&model, &Sparsity { amount, method }, calibration)
            }
            Step::Quantize { weight_bits, activation_bits, granularity, range, method } => {
                // `check` has seen to it that these are 8.
                let activations = match activation_bits {
                    Some(_) => Some(Activations { range, samples: calibration.ok_or_else(no_samples)? }),
                    None => None,
                };
                let nearest = match method {
                    WeightMethod::Rtn => true,
                    WeightMethod::LeastSquares => false,
                    WeightMethod::Auto => weight_bits == 8 && before.macs.at_least > LARGE,
                };
                let fit = calibration.filter(|_| !nearest);
                quantize(&model, &Quantization { weight_bits, granularity, activations, fit })
            }
        }
        .map_err(|e| e.context(step))?;
        model = next;
        notes.extend(more);
    }
    let totals = measure(&model)?;
    let bytes = model.to_bytes()?;
    // What leaves here must be a model that loads again.
    Model::from_bytes(&bytes, "the variant")?;
    let pruning_ratio = recipe.steps.iter().find_map(|s| match s {
        Step::PruneChannels { .. } | Step::Factorize { .. } => Some(1.0 - totals.macs.exact()? as f64 / before.macs.exact()?.max(1) as f64),
        Step::PruneConnections { .. } => Some(totals.sparsity),
        Step::Quantize { .. } => None,
    });
    Ok(Variant { sha256: sha256_hex(&bytes), bytes, totals, pruning_ratio, notes })
}

fn no_samples() -> Error {
    Error::bad_input("this step needs calibration samples").hint("a few hundred unlabelled samples are enough")
}

/// Sums for one sample.
fn measure(model: &Model) -> Result<Totals> {
    let facts = Facts::infer(model, 1)?;
    let graph = Graph::new(model);
    totals(&graph, &layers(&graph, &facts)?)
}
