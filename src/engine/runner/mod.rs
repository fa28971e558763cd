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

pub use parent::{Job, Ran, Runner};
pub use program::{Program, init};
pub use protocol::{MAX_SLOTS, Memory};
