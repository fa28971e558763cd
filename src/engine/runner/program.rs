//! How the child's program is found.

use super::child;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first argument of a child.
pub(super) const ARGUMENT: &str = "__runner";

/// Set once [`init`] ran: then this very program can be its own child.
static INITIALISED: AtomicBool = AtomicBool::new(false);

/// The program that is started as a child with the argument `__runner`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// The `joulefront` binary, or a program that calls [`init`], at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Program { path: path.into() }
    }

    /// This program itself when it called [`init`], else `joulefront` on `PATH`.
    ///
    /// # Errors
    /// Neither is there.
    pub fn find() -> Result<Self> {
        if INITIALISED.load(Ordering::Relaxed) {
            return this_program();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join("joulefront")).find(|p| p.is_file());
        found.map(Program::at).ok_or_else(|| {
            Error::environment("no program to run models in was found")
                .hint("call `joulefront::runner::init()` first in `main`, or install `joulefront` on PATH")
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The link names the running file even after the file on disk was replaced, so that parent and child are always the same build.
fn this_program() -> Result<Program> {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return Ok(Program::at(link));
    }
    std::env::current_exe().map(Program::at).map_err(|e| Error::environment("this program cannot find its own file").with_source(e))
}

/// Makes this program able to be its own child. To be called first in `main`: started as a child, it runs the child's loop and
/// exits; otherwise it returns at once.
pub fn init() {
    if std::env::args_os().nth(1).is_some_and(|a| a == ARGUMENT) {
        std::process::exit(child::main());
    }
    INITIALISED.store(true, Ordering::Relaxed);
}
