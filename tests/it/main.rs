//! The one integration-test binary; each module tests one thing from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dataset;
mod support;
