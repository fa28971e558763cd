//! The layers of a model, and how the weights of each are encoded.

use super::draft::Draft;
use crate::Result;
use crate::model::{Encoding, Format, Layer, Quantized, Source, Weight, layers_with_sources};

/// A layer, as far as lowering is concerned.
pub(super) enum Found {
    /// Integers behind DequantizeLinear.
    Coded(Box<Coded>),
    /// Any other.
    Plain {
        /// The layer's name.
        name: String,
        /// Why there is nothing to lower.
        why: String,
    },
}

impl Found {
    /// The layer's name.
    pub(super) fn name(&self) -> &str {
        match self {
            Found::Coded(coded) => &coded.name,
            Found::Plain { name, .. } => name,
        }
    }
}

/// A layer of the main graph whose second input is a DequantizeLinear of a constant.
pub(super) struct Coded {
    /// The layer's name.
    pub(super) name: String,
    /// Index of its node.
    pub(super) node: usize,
    /// Its operator.
    pub(super) operator: String,
    /// The weights; `name` is the constant that holds the integers.
    pub(super) weight: Weight,
    /// Scales and zero points, along the axes that the operator reads.
    pub(super) encoding: Quantized,
    /// What sort of code the integers are.
    pub(super) format: Format,
    /// The same in words: `8-bit per channel`.
    pub(super) code: String,
}

/// All layers in node order.
///
/// # Errors
/// Scales or zero points are not valid.
pub(super) fn find(draft: &Draft<'_>) -> Result<Vec<Found>> {
    let list = layers_with_sources(draft.graph(), draft.facts())?;
    list.into_iter().map(|(layer, sources)| found(layer, &sources)).collect()
}

fn found(layer: Layer, sources: &[Source<'_>]) -> Result<Found> {
    let name = layer.name.clone();
    match place(&layer) {
        Err(why) => Ok(Found::Plain { name, why }),
        Ok((node, weight)) => {
            let encoding = sources.first().map(Source::encoding).transpose().map_err(|e| e.context(format!("layer `{name}`")))?;
            let Some(Some(Encoding::Quantized(encoding))) = encoding else {
                return Ok(Found::Plain { name, why: "the scales of its weights are computed in the graph".into() });
            };
            let (format, shared) = (weight.format, weight.encoding());
            let code = match shared.split_once(" per ").or_else(|| shared.split_once(" block ")) {
                Some((_, "channel")) => format!("{}-bit per channel", format.bits()),
                Some((_, size)) if shared.contains(" block ") => format!("{}-bit block {size}", format.bits()),
                Some((_, place)) => format!("{}-bit per {place}", format.bits()),
                None => format!("{}-bit", format.bits()),
            };
            Ok(Found::Coded(Box::new(Coded {
                name,
                node,
                operator: layer.operator.clone(),
                weight: weight.clone(),
                encoding,
                format,
                code,
            })))
        }
    }
}

/// Node and weights of a layer that has integers in the canonical place, or why it has none.
fn place(layer: &Layer) -> std::result::Result<(usize, &Weight), String> {
    let Some(node) = layer.node else { return Err("it is inside the body of another node".into()) };
    let Some(weight) = &layer.weight else { return Err("it multiplies no constant weights".into()) };
    match (&weight.format, weight.through.as_slice()) {
        (Format::Float(f), _) => Err(format!("its weights are {f}: nothing encodes them")),
        (_, [only]) if only == "DequantizeLinear" && weight.input == 1 && layer.more.is_empty() => Ok((node, weight)),
        (_, [only]) if only == "DequantizeLinear" => Err("its integers are not its second input alone".into()),
        (_, []) => Err(format!("{} computes with integers already", layer.operator)),
        (_, through) => Err(format!("its integers stand behind {}", through.join(" and "))),
    }
}
