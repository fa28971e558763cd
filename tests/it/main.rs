//! The one integration-test binary; each module tests one thing from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod activations;
mod architecture;
#[path = "../../src/sys/counting.rs"]
mod budget;
mod clean;
mod cli;
mod costs;
mod criterion_energy;
mod dataset;
mod docs;
mod engines;
mod extract;
mod faults;
mod fitting;
mod floors;
mod gate;
mod hostile;
mod judge;
mod large;
mod lowering;
mod measure;
mod meters;
mod mutation;
mod nodes;
mod packages;
mod predictions;
mod profile;
mod protocol;
mod pruning;
mod quantization;
mod reference;
mod refusals;
mod roundtrip;
mod runner;
mod screen;
mod seeds;
mod structures;
mod support;
mod sweep;
mod upgrade;
mod zoo;

#[path = "../../benches/protocol/methods.rs"]
mod methods;

#[path = "../../benches/gate/sessions.rs"]
mod sessions;
