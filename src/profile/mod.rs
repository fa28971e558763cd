//! Where a model's time and joules go, layer by layer.
//!
//! [`profile`] runs a model in fresh processes, in turn as it is and with a clock at each of the engine's nodes
//! ([`crate::engine::Session::profile`]), and puts the engine's nodes back together as layers of the file ([`Mapping`]). Energy
//! is measured of the uninstrumented whole, by the protocol ([`crate::measure`]), and divided by the layers' shares of its
//! time, without what clocks take within nodes: it is [`Kind::Apportioned`](crate::energy::Kind::Apportioned), never measured. [`verify`](Plan::verify) holds
//! it against windows over the layers alone, each extracted as a model of its own.
//!
//! Nothing is dropped: a node of the engine that no layer of the file accounts for is a row of its own, and time between the nodes
//! is one too, so the rows add up to the whole.

mod account;
mod cost;
mod empty;
mod extracted;
mod mapping;
mod roof;
mod run;
mod times;

pub use account::{Check, Energy, Profile, Row, Whole};
pub use cost::Cost;
pub use mapping::{Mapping, Part};
pub use roof::{Bound, Place};
pub use run::{Plan, Target, profile};
pub use times::{Process, Times};
