//! The graph: nodes with their producers and consumers, constants, shapes, layers with parameters and multiply–adds.
//!
//! Nothing here knows datasets, engines or compression; those read the graph through this module.

pub mod clean;
mod control;
mod diff;
mod dims;
mod elements;
mod encoding;
pub mod eval;
mod extract;
mod graph;
mod infer;
mod layers;
mod nested;
mod shapes;
mod source;
mod upgrade;

pub use diff::{Diff, Pair, WeightChange, diff};
pub use dims::{Dims, Given};
pub use encoding::{Encoding, FloatFormat, Format, Granularity, Levels, Quantized, Scheme, Storage};
pub use extract::{extract, fused};
pub use graph::{Graph, Use, node_label};
pub use infer::{Fact, Facts};
pub use layers::{Layer, LayerKind, Macs, Totals, Weight, layers, layers_with_sources, totals};
pub use source::Source;
pub use upgrade::{NEWEST, OLDEST, upgrade};
