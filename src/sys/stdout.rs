//! What code that prints has to say: for engines that tell something only in print.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

/// Runs `work` while this process's stdout is a temporary file, and gives what was printed with the result. Other threads' prints
/// land there too: meant for a process that does nothing else meanwhile.
///
/// # Errors
/// There is no room for the file, or the system's calls fail. Away from Unix: `Unsupported`.
pub fn printed<T>(work: impl FnOnce() -> T) -> io::Result<(T, String)> {
    let mut file = tempfile::tempfile()?;
    io::stdout().flush()?;
    let redirected = Redirected::to(&file)?;
    let made = work();
    // What still lies in the buffer belongs to the file.
    io::stdout().flush()?;
    drop(redirected);
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok((made, String::from_utf8_lossy(&bytes).into_owned()))
}

/// stdout is another file until this is dropped.
#[cfg(unix)]
struct Redirected(std::os::fd::OwnedFd);

#[cfg(unix)]
impl Redirected {
    fn to(file: &File) -> io::Result<Self> {
        use std::os::fd::{AsFd, AsRawFd};
        let before = io::stdout().as_fd().try_clone_to_owned()?;
        replace(file.as_raw_fd())?;
        Ok(Redirected(before))
    }
}

#[cfg(unix)]
impl Drop for Redirected {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd;
        let _ = replace(self.0.as_raw_fd());
    }
}

#[cfg(unix)]
fn replace(by: std::os::fd::RawFd) -> io::Result<()> {
    // SAFETY: `dup2` takes two numbers and touches no memory; `by` is open for as long as its owner, which the callers hold.
    match unsafe { libc::dup2(by, libc::STDOUT_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
struct Redirected;

#[cfg(not(unix))]
impl Redirected {
    fn to(_: &File) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
