//! ONNX Runtime's shared library, loaded once in a process.

use super::places::Places;
use crate::engine::Found;
use crate::sys::onnx_runtime_version;
use crate::{Error, Result};
use ort::environment::Environment;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How to get it.
const FIX: &str = "install it (`pip install onnxruntime`), or name the library's file in `ORT_DYLIB_PATH`";

/// The library in this process.
pub(super) struct Library {
    pub(super) found: Found,
    pub(super) environment: Environment,
}

/// Calls `f` with the library, which is looked for and loaded the first time.
///
/// # Errors
/// Environment: there is none, or none of those there are can be used; the message says why of each.
pub(super) fn loaded<T>(f: impl FnOnce(&Library) -> T) -> Result<T> {
    static LIBRARY: Mutex<Option<Library>> = Mutex::new(None);
    let mut library = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = &*library {
        return Ok(f(library));
    }
    Ok(f(library.insert(first(&Places::here().candidates())?)))
}

/// The first of `candidates` that can be used.
fn first(candidates: &[PathBuf]) -> Result<Library> {
    let mut reasons = Vec::new();
    for path in candidates {
        match open(path) {
            Ok(library) => return Ok(library),
            Err(why) => reasons.push(why),
        }
    }
    Err(match reasons.as_slice() {
        [] => Error::environment("ONNX Runtime is not here: no `libonnxruntime.so` was found").hint(FIX),
        _ => Error::environment(format!("ONNX Runtime cannot be used: {}", reasons.join("; "))).hint(FIX),
    })
}

/// Loads one file; the error says why it cannot be used.
fn open(path: &Path) -> std::result::Result<Library, String> {
    let shown = path.display();
    let version = onnx_runtime_version(path, ort::MINOR_VERSION).map_err(|why| format!("`{shown}` {why}"))?;
    let builder = ort::init_from(path).map_err(|e| format!("`{shown}` cannot be used: {e}"))?;
    let environment = builder.with_name("joulefront").with_telemetry(false).build();
    let environment = environment.map_err(|e| format!("`{shown}` does not start: {e}"))?;
    Ok(Library { found: Found { version, library: Some(path.to_owned()) }, environment })
}
