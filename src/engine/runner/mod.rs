//! Models run in a child process: `joulefront __runner`, driven over its stdin and stdout.
//!
//! A child has its own peak memory, is pinned to its own cores, and takes only one trial with it when it crashes, hangs or
//! runs out of memory. The child is the program itself, so an engine, its version and its build flags are the same on both
//! sides. A program that uses the library calls [`init`] first:
//!
//! ```
//! joulefront::runner::init(); // the first line of `main`; in the child it does not return
//! ```

mod child;
mod death;
mod parent;
mod program;
mod protocol;

pub use parent::{Job, MemoryLimit, Ran, Runner, find};
pub use program::{Program, init};
pub use protocol::{MAX_SLOTS, Memory};

/// Reads all that a child could say, as the parent does; for the fuzz target, which has no child.
#[cfg(fuzzing)]
pub fn read_replies(mut output: &[u8]) {
    let mut known = Vec::new();
    while let Ok(Some((reply, payload))) = protocol::read_message(&mut output) {
        match reply {
            protocol::Reply::Loaded { inputs, outputs, .. } => {
                known = protocol::specs(&outputs).unwrap_or_default();
                let samples = protocol::specs(&inputs).into_iter().flatten().find_map(|s| s.shape.first().copied());
                let _ = protocol::outputs(&known, samples.unwrap_or(1), &payload);
            }
            protocol::Reply::Failed { kind, message, hint } => drop(kind.into_error(message, hint)),
            _ => {
                let _ = protocol::outputs(&known, 1, &payload);
            }
        }
    }
}
