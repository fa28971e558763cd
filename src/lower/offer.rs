//! Which forms an engine is offered.

use super::Form;
use super::coded::{self, Found};
use super::draft::Draft;
use super::integers::keeps_zero_points;
use crate::Result;
use crate::model::{Format, Granularity};
use crate::onnx::Model;

/// The forms that the engine of that name runs and may gain from, fewest risks first; none for an engine that is not known.
///
/// Whether one pays is measured, whether its numbers are right is checked on the engine: this only says what is worth a look.
///
/// ```
/// use joulefront::lower::{Form, forms};
/// assert!(forms("ort").contains(&Form::Qdq) && !forms("tract").contains(&Form::Qdq));
/// ```
pub fn forms(engine: &str) -> &'static [Form] {
    match engine {
        "tract" => &[Form::Float, Form::DequantizeLinear, Form::QLinear, Form::NBits, Form::Half],
        // Half precision is widened when it is loaded.
        "rten" => &[Form::Float, Form::DequantizeLinear, Form::Dynamic, Form::NBits],
        "ort" => &[Form::Float, Form::DequantizeLinear, Form::Qdq, Form::Dynamic, Form::NBits, Form::Half],
        _ => &[],
    }
}

/// The form that a model gets for an engine when nobody says which: what its encodings are made for. A model without encodings
/// stays [`Form::Float`].
///
/// # Errors
/// Encodings are not valid.
pub fn suggested(engine: &str, model: &Model) -> Result<Form> {
    let mut draft = Draft::new(model)?;
    let found = coded::find(&draft)?;
    let coded: Vec<_> = found.iter().filter_map(|l| if let Found::Coded(c) = l { Some(c) } else { None }).collect();
    let products = || coded.iter().filter(|c| matches!(c.operator.as_str(), "Gemm" | "MatMul"));
    let all_few = || products().all(|c| matches!(c.format, Format::Integer { bits, .. } if bits <= 4));
    let with_activations = coded.iter().any(|c| draft.activation(c.node).is_some());
    let forgotten = engine == "rten"
        && coded.iter().try_fold(false, |any, layer| Ok::<_, crate::Error>(any || keeps_zero_points(&mut draft, layer)?))?;
    Ok(match engine {
        _ if coded.is_empty() => Form::Float,
        "ort" if with_activations => Form::Qdq,
        // Where there is no product of matrices, packed or integer weights have no place.
        _ if products().next().is_none() => Form::Float,
        "rten" | "ort" if all_few() => Form::NBits,
        // rten forgets zero points of packed weights.
        "rten" if forgotten => Form::DequantizeLinear,
        "rten" | "ort" => Form::Dynamic,
        // tract has no DequantizeLinear in blocks. All others it folds when it loads them: as fast as float32, and a smaller file.
        _ if coded.iter().any(|c| matches!(c.encoding.granularity(), Granularity::Block { .. })) => Form::Float,
        _ => Form::DequantizeLinear,
    })
}
