//! Which forms a recipe's variant can have, and writing it in one.

use crate::Result;
use crate::lower::{Form, forms, lower};
use crate::make::Variant;
use crate::onnx::Model;
use crate::recipe::{Recipe, Step};

/// The forms that a variant of `recipe` can have, the canonical one first. Whether an engine is offered them is another matter.
///
/// A model that is not quantized is float or half; quantized weights are integers, products of integers by activations that are
/// quantized as they come (8 bits), or packed (4 bits); quantized activations make all products integer, by scales that are known or
/// again as they come.
pub fn forms_of(recipe: &Recipe) -> &'static [Form] {
    match recipe.steps.last() {
        Some(Step::Quantize { activation_bits: Some(_), .. }) => &[Form::Qdq, Form::QLinear, Form::Dynamic],
        Some(Step::Quantize { weight_bits: ..=4, .. }) => &[Form::DequantizeLinear, Form::NBits],
        Some(Step::Quantize { .. }) => &[Form::DequantizeLinear, Form::Dynamic],
        _ => &[Form::Float, Form::Half],
    }
}

/// The forms that an engine gets: those it is offered, or of `wished` if that is not empty.
pub fn forms_on(engine: &str, wished: &[Form]) -> Vec<Form> {
    if wished.is_empty() { forms(engine).to_vec() } else { wished.to_vec() }
}

/// True for a form whose layers are chosen one by one; the others take the model as a whole.
pub(super) fn by_layer(form: Form) -> bool {
    matches!(form, Form::QLinear | Form::Dynamic | Form::NBits)
}

/// `variant`, which `recipe` made, in another form: the layers in `layers` (`None`: all that can have it). The canonical form is the
/// variant itself, byte for byte.
///
/// # Errors
/// No layer can have the form; the message gives the reason of each.
pub fn in_form(variant: &Variant, recipe: &Recipe, form: Form, layers: Option<&[String]>) -> Result<Variant> {
    if recipe.lowering() == form.name() {
        return Ok(variant.clone());
    }
    let model = Model::from_bytes(&variant.bytes, "the variant")?;
    let lowered = lower(&model, form, &|name| layers.is_none_or(|l| l.iter().any(|l| l == name)))?;
    variant.clone().rewritten(&lowered.model, lowered.notes)
}
