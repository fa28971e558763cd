//! The measurement protocol: warm-up, interleaved windows, latency, memory, energy, environment.

mod figures;

pub use figures::{Energy, Latency, Measurement};
