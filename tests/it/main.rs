//! The one integration-test binary; each module tests one thing from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod architecture;
mod costs;
mod dataset;
mod floors;
mod hostile;
mod judge;
mod pruning;
mod quantization;
mod support;
mod zoo;
