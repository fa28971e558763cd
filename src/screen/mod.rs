//! Screening: which engine, form, number of threads and batch pay for one model on this machine, before a search spends trials on
//! them.
//!
//! [`screen`] measures, in a few short interleaved rounds ([`crate::measure`]), the original on every engine × threads × batch and
//! with the batch left open; its layers one by one in each form that is chosen layer by layer; then the quantized model in every
//! form that an engine is offered. Every form is [checked](check) on its engine first: what is refused or wrong is a finding, and
//! is never offered. A form is compared with the float form of the same engine in the same rounds ([`Pays`]).
//!
//! The answer is a [`Screening`]: rows, what follows from them for a search ([`Screening::offers`]), and the [`findings`] in words.

mod check;
mod findings;
mod form;
mod layers;
mod model;
mod pays;
mod run;
mod table;

pub use check::{Checked, Fault, Probe, Suspect, check, classes, tolerance};
pub use findings::findings;
pub use form::{forms_of, forms_on, in_form};
pub use pays::Pays;
pub use run::{Event, Target, screen};
pub use table::{Figures, LayerWay, Offer, Outcome, Screening, Way};
