//! Cleaning: steps that change what a file says but not what its model computes, each explicit, each saying what it did.
//!
//! Exporters leave behind what engines stumble over and compression cannot look through: an `If` that always takes the same
//! branch, copies that do nothing, weights behind a Transpose, shapes that were true once. Every step takes the model and
//! returns one line for each sort of change, for people; a model that needs nothing gives none. All but [`fold_batch_norms`]
//! keep the outputs bit for bit. Names of inputs and outputs stay.
//!
//! Only the main graph is rewritten. Graphs within it and functions are left as they are, but what they read is respected.

mod branches;
mod constants;
mod dead;
pub(super) mod names;
mod no_ops;
mod norms;

pub use branches::inline_constant_ifs;
pub use constants::{own_initializers, plain_weights};
pub use dead::{drop_stale_shapes, remove_dead};
pub use no_ops::remove_no_ops;
pub use norms::fold_batch_norms;

use crate::Result;
use crate::onnx::Model;

/// Every step that keeps the outputs bit for bit, in the order in which one makes way for the next.
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// use joulefront::{model::clean::clean, onnx::Model};
/// let mut model = Model::load("models/fashion-vit.onnx")?;
/// for line in clean(&mut model)? {
///     println!("{line}");
/// }
/// assert!(clean(&mut model)?.is_empty(), "what is clean stays as it is");
/// # Ok(()) }
/// ```
///
/// # Errors
/// A constant cannot be decoded, or shapes contradict each other.
pub fn clean(model: &mut Model) -> Result<Vec<String>> {
    clean_within(model, u64::MAX)
}

/// The same; weights that are worked out in the graph become plain ones as long as all of them together take at most
/// `max_bytes`, and the others stay where they are.
///
/// # Errors
/// As [`clean`].
pub fn clean_within(model: &mut Model, max_bytes: u64) -> Result<Vec<String>> {
    let mut lines = own_initializers(model);
    lines.extend(inline_constant_ifs(model)?);
    lines.extend(remove_no_ops(model));
    lines.extend(plain_weights(model, max_bytes)?);
    lines.extend(remove_dead(model));
    lines.extend(drop_stale_shapes(model)?);
    Ok(lines)
}

/// `1 node`, `2 nodes`.
fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
