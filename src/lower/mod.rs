//! Lowering: one quantized model, in the ONNX form that an engine runs best.
//!
//! Compression gives one *canonical* model: integers behind DequantizeLinear, and QuantizeLinear → DequantizeLinear pairs where
//! activations are quantized. It says what is computed, and it is what accuracy is judged by; hardly any engine runs it fast. A
//! [`Form`] is another way to write the same numbers. Which form is fastest depends on engine, model and machine, and is measured
//! elsewhere: nothing here runs an engine, or knows more of one than which forms it can be offered ([`forms`]).
//!
//! What a form does to each layer, how exact it is and who runs it: `docs/ENGINES.md`.

mod activations;
mod coded;
mod draft;
mod half;
mod integers;
mod nbits;
mod offer;
mod product;

pub use offer::{forms, suggested};

use crate::compress::Note;
use crate::model::{node_label, upgrade};
use crate::onnx::Model;
use crate::{Error, Result};
use coded::{Coded, Found};
use draft::Draft;
use std::collections::HashSet;
use std::fmt;

/// The operator set that forms are written in: the first with scales along an axis.
const OPSET: i64 = 13;

/// A way to write a quantized model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Form {
    /// Weights as the float32 numbers that their integers stand for; activations are not quantized.
    #[serde(rename = "float")]
    Float,
    /// Weights as integers behind DequantizeLinear; activations are not quantized.
    #[serde(rename = "dequantize-linear")]
    DequantizeLinear,
    /// The canonical form itself: weights and activations behind QuantizeLinear and DequantizeLinear.
    #[serde(rename = "qdq")]
    Qdq,
    /// Matrix products on int8 activations of known scale: QLinearMatMul, or MatMulInteger where a bias follows.
    #[serde(rename = "qlinear")]
    QLinear,
    /// Matrix products on uint8 activations that are quantized as they come: DynamicQuantizeLinear and MatMulInteger.
    #[serde(rename = "dynamic")]
    Dynamic,
    /// Matrix products by 4-bit weights in blocks: ONNX Runtime's MatMulNBits.
    #[serde(rename = "nbits")]
    NBits,
    /// Float16 weights and arithmetic.
    #[serde(rename = "fp16")]
    Half,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 7] = [Form::Float, Form::DequantizeLinear, Form::Qdq, Form::QLinear, Form::Dynamic, Form::NBits, Form::Half];

    /// How it is called on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Form::Float => "float",
            Form::DequantizeLinear => "dequantize-linear",
            Form::Qdq => "qdq",
            Form::QLinear => "qlinear",
            Form::Dynamic => "dynamic",
            Form::NBits => "nbits",
            Form::Half => "fp16",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Form {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Form::ALL.into_iter().find(|f| f.name() == name).ok_or_else(|| {
            let names = Form::ALL.map(Form::name).join(", ");
            Error::bad_input(format!("there is no form `{name}`")).hint(format!("forms are {names}"))
        })
    }
}

/// A model in one form.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The model.
    pub model: Model,
    /// What became of each layer, or why it stayed in float32.
    pub notes: Vec<Note>,
    /// Names of the layers that have the form.
    pub changed: Vec<String>,
}

/// Writes the layers of `model` that `select` picks by their names in `form`, and all others in float32.
///
/// `model` is a canonical quantized model, or any other with integers behind DequantizeLinear; [`Form::Float`] and [`Form::Half`]
/// take a float model too. Inputs and outputs keep their names, types and shapes. The same model gives the same bytes.
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// use joulefront::{compress::quantize_weights, lower::{Form, lower}, onnx::Model};
/// let (canonical, _) = quantize_weights(&Model::load("models/fashion-mlp.onnx")?, 8)?;
/// let lowered = lower(&canonical, Form::Dynamic, &|_| true)?;
/// assert_eq!(lowered.changed.len(), 3);
/// assert!(lowered.model.graph().node.iter().any(|n| n.op_type() == "MatMulInteger"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// No layer can have the form: the message gives the reason of each. Encodings are not valid, a constant cannot be decoded, or a
/// number is too large for float16.
pub fn lower(model: &Model, form: Form, select: &dyn Fn(&str) -> bool) -> Result<Lowered> {
    let mut model = model.clone();
    let mut notes = Vec::new();
    if model.opset() < OPSET {
        let (from, changed) = (model.opset(), upgrade(&mut model, OPSET)?);
        notes.push(Note::step(format!("operator set {from} converted to {OPSET}: {} nodes rewritten", changed.len())));
    }
    // Positions change: layers without a name are called by the one they have now.
    for (index, node) in model.graph_mut().node.iter_mut().enumerate().filter(|(_, n)| n.name().is_empty()) {
        node.set_name(node_label(node, index));
    }
    let mut draft = Draft::new(&model)?;
    let found = coded::find(&draft)?;
    let (mut changed, mut reasons) = (Vec::new(), Vec::new());
    for layer in &found {
        let name = layer.name();
        let became = match layer {
            _ if !select(name) => Err("not selected".to_owned()),
            Found::Coded(coded) => write(&mut draft, coded, form)?,
            Found::Plain { .. } if form == Form::Half => Ok("float16".to_owned()),
            Found::Plain { why, .. } => Err(why.clone()),
        };
        match became {
            Ok(what) => {
                changed.push(name.to_owned());
                notes.push(Note::changed(name, what));
            }
            Err(why) => {
                let then = if matches!(layer, Found::Coded(_)) { ": its weights become float32" } else { "" };
                notes.push(Note::skipped(name, format!("{why}{then}")));
                reasons.push(why);
            }
        }
    }
    if changed.is_empty() && form != Form::Float {
        return Err(nothing(form, reasons));
    }
    draft.release(form, &found, &changed)?;
    let mut model = draft.finish();
    if form == Form::Half {
        let (halved, more) = half::half(&model, &|name| !found.iter().any(|l| l.name() == name) || changed.iter().any(|c| c == name))?;
        model = halved;
        notes.extend(more);
    }
    Ok(Lowered { model, notes, changed })
}

/// Writes one coded layer; in words what became of it, or why it cannot be written so.
fn write(draft: &mut Draft<'_>, layer: &Coded, form: Form) -> Result<std::result::Result<String, String>> {
    let code = &layer.code;
    Ok(match form {
        Form::Float => Ok(format!("{code} weights as float32")),
        Form::DequantizeLinear => Ok(format!("{code} weights behind DequantizeLinear")),
        Form::Qdq => match draft.activation(layer.node) {
            Some(_) => Ok(format!("{code} weights and quantized activations")),
            None => Err("its activations are not quantized".into()),
        },
        Form::QLinear => return integers::fixed(draft, layer),
        Form::Dynamic => return integers::dynamic(draft, layer),
        Form::NBits => return nbits::packed(draft, layer),
        Form::Half => Ok(format!("{code} weights as float16")),
    })
}

/// The refusal of a form that no layer can have.
fn nothing(form: Form, mut reasons: Vec<String>) -> Error {
    let mut seen = HashSet::new();
    reasons.retain(|why| seen.insert(why.clone()));
    let reasons = if reasons.is_empty() { "there are no layers".to_owned() } else { reasons.join("; ") };
    let hint = match form {
        Form::Qdq | Form::QLinear => "quantize weights and activations first (`--weight-bits 8 --activation-bits 8`)",
        Form::NBits => "quantize the weights to 4 bits or fewer first (`--weight-bits 4`)",
        _ => "quantize the weights first (`--weight-bits 8`)",
    };
    Error::bad_input(format!("no layer can have the form `{form}`: {reasons}")).hint(hint)
}
