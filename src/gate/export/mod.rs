//! The outcome of a gate in the forms that other programs read. Pure functions; the command line writes the files.

mod escape;
mod github;
mod junit;
mod markdown;
mod series;

pub use github::annotations;
pub use junit::junit;
pub use markdown::markdown;
pub use series::{bencher, benchmark_action};

#[cfg(test)]
mod tests;
