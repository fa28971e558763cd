//! Trials and their store. Knows nothing of how trials come about or of what is made of them.

mod file;
mod header;
mod store;
mod trial;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

pub use header::{SCHEMA_VERSION, StudyHeader};
pub use store::{Inserted, Study};
pub use trial::{Configuration, Outcome, Results, Trial, VariantFacts};
