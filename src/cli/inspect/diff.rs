//! Two models side by side.

use crate::Result;
use crate::cli::Global;
use crate::cli::inputs::ModelFile;
use crate::model::Dims;

/// Compares two models and prints what changed.
pub(super) fn run(_a: &ModelFile, _b: &ModelFile, _dims: &Dims, _global: &Global) -> Result<()> {
    Err(crate::Error::bad_input("not yet"))
}
