//! The one error type of the library: what is wrong, where, and what to do about it.
//!
//! Errors are opaque: callers look at [`Error::kind`], people read the message and the hint. The command line turns the
//! kind into an exit code and prints the hint on a line of its own.

use std::fmt;
use std::path::Path;

/// What sort of failure it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A check the user asked for failed (exit code 1).
    CheckFailed,
    /// The user's input is wrong: a broken file, a wrong shape, an unknown name, a bad option (exit code 2).
    BadInput,
    /// An engine refused, crashed on or hung in a model (exit code 2: this model cannot be run there).
    Engine,
    /// This machine cannot do it: no permission, no space, no counter, a missing library (exit code 3).
    Environment,
    /// The user interrupted; what was finished is kept (exit code 130).
    Interrupted,
}

/// A failure with its kind, a message for people, an optional hint and an optional cause.
///
/// ```
/// use joulefront::{Error, ErrorKind};
/// let e = Error::bad_input("`x.onnx` is not an ONNX file").hint("give the path of a model saved as ONNX");
/// assert_eq!(e.kind(), ErrorKind::BadInput);
/// assert_eq!(e.to_string(), "`x.onnx` is not an ONNX file");
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), hint: None, source: None }))
    }

    /// The user's input is wrong.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadInput, message)
    }

    /// This machine cannot do it.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Environment, message)
    }

    /// An engine refused, crashed or hung.
    pub fn engine(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Engine, message)
    }

    /// Reading `path`, which the user named, failed: bad input when it is absent, else the environment's fault.
    pub fn read(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let path = path.as_ref().display();
        let kind = match source.kind() {
            Io::NotFound | Io::IsADirectory | Io::NotADirectory | Io::InvalidInput | Io::InvalidFilename => ErrorKind::BadInput,
            _ => ErrorKind::Environment,
        };
        Self::new(kind, format!("cannot read `{path}`: {}", plain(&source))).with_source(source)
    }

    /// Writing `path` failed.
    pub fn write(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let hint = match source.kind() {
            Io::StorageFull | Io::QuotaExceeded => Some("free some space or choose another output folder; nothing was left half-written"),
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Some("choose a folder you can write to"),
            Io::NotFound => Some("create the folder first"),
            _ => None,
        };
        let e = Self::environment(format!("cannot write `{}`: {}", path.as_ref().display(), plain(&source))).with_source(source);
        match hint {
            Some(hint) => e.hint(hint),
            None => e,
        }
    }

    /// Adds what to do about it; an earlier hint, nearer to the cause, is kept.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert(hint.into());
        self
    }

    /// Puts `context` and a colon before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// Keeps the cause for `source()`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What to do about it, where something is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

/// The system's own words without Rust's `(os error N)`.
fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as _)
    }
}
