//! Trials and their store.

mod trial;

pub use trial::{Configuration, Outcome, Results, Trial, VariantFacts};
