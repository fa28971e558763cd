//! The graph: nodes with their producers and consumers, constants, shapes, layers with parameters and multiply–adds.
//!
//! Nothing here knows datasets, engines or compression; those read the graph through this module.

mod control;
mod dims;
pub mod eval;
mod graph;
mod infer;
mod layers;
mod shapes;
mod upgrade;

pub use dims::{Dims, Given};
pub use graph::{Graph, Use, node_label};
pub use infer::{Fact, Facts};
pub use layers::{Encoding, Layer, LayerKind, Totals, Weight, layers, totals};
pub use upgrade::{NEWEST, OLDEST, upgrade};
