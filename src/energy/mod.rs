//! Meters: sources of energy readings, each with its kind, scope and uncertainty.

mod kind;

pub use kind::{Kind, Scope, Systematic, WindowEnergy};
