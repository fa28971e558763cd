//! Which version of a model to ship, and what each inference costs in joules.
//!
//! The modules in the order data goes through them; nothing on a later line is known to an earlier one. A test holds the
//! code to this order (`tests/it/architecture.rs`).

pub mod atomic;
mod error;
pub mod stats;
pub mod sys;
pub mod tensor;
pub mod units;

pub mod onnx;

pub mod model;

pub mod exec;

pub mod data;

pub mod recipe;

pub mod compress;

pub mod make;

pub mod lower;

pub mod engine;

pub mod energy;

pub mod measure;

pub mod profile;

pub mod screen;

pub mod study;

pub mod search;

pub mod report;

pub mod gate;

#[cfg(feature = "criterion")]
pub mod criterion;

pub mod cli;

pub use engine::runner;
pub use error::{Error, ErrorKind, Result};
