//! A profile as people and programs read it: table, CSV, JSON, folded stacks, trace, bars. Pure functions of profiles; the first is
//! the original, a second one the variant beside it.

mod bars;
mod beside;
mod chrome;
mod folded;
mod record;
mod table;

pub use bars::profile_svg;
pub use beside::{Beside, beside};
pub use chrome::chrome_trace;
pub use folded::folded_stacks;
pub use record::{LayerRow, layer_rows, profile_csv, profile_json};
pub use table::profile_table;

/// Folders of a name, as exporters write modules: `/s1/c1/Conv` → `s1`, `c1`, `Conv`.
fn frames(name: &str) -> impl Iterator<Item = &str> {
    name.split('/').filter(|f| !f.is_empty())
}

#[cfg(test)]
mod samples;
