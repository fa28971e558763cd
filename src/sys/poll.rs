//! Waiting for data on a file, for a limited time.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What can be waited for.
#[cfg(unix)]
pub use std::os::fd::AsRawFd as Pollable;

/// What can be waited for: here nothing can, and reading waits.
#[cfg(not(unix))]
pub trait Pollable {}

#[cfg(not(unix))]
impl<T> Pollable for T {}

/// Waits until something can be read from `file` (or it has ended or failed, which reading will show); `false` when `timeout`
/// passed without.
///
/// # Errors
/// What the kernel says.
#[cfg(unix)]
pub fn readable(file: &impl Pollable, timeout: Duration) -> io::Result<bool> {
    let mut fd = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `fd` is one valid `pollfd` that lives through the call, and the kernel writes to its `revents` only.
    match unsafe { libc::poll(&mut fd, 1, milliseconds) } {
        n if n >= 0 => Ok(n > 0),
        _ => match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
            e => Err(e),
        },
    }
}

/// Opens a file for reading without waiting: of a FIFO nobody need have the other end.
///
/// # Errors
/// It cannot be opened.
#[cfg(unix)]
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Always; reading may then wait.
#[cfg(not(unix))]
pub fn readable(_file: &impl Pollable, _timeout: Duration) -> io::Result<bool> {
    Ok(true)
}

/// Opens a file for reading.
#[cfg(not(unix))]
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use std::io::Write;

    #[test]
    fn a_pipe_before_and_after_something_is_written() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert!(!readable(&reader, Duration::from_millis(1)).unwrap());
        writer.write_all(b"x").unwrap();
        assert!(readable(&reader, Duration::from_secs(60)).unwrap());
    }
}
