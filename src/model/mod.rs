//! The graph: nodes, constants, shapes, multiply–adds, encodings.

pub mod eval;
