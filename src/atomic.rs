//! The one place that writes files: a temporary file beside the target, fsync, rename.

use crate::{Error, Result};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// How the names of temporary files begin.
pub(crate) const TEMPORARY: &str = ".joulefront-";

/// A temporary file lives for the milliseconds of one write; one that was not touched for this long is nobody's.
const STALE: Duration = Duration::from_secs(3600);

/// Removes the temporary files that killed processes left in `folder`. One that is in use by another process is younger.
pub(crate) fn remove_stale(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes())) {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|a| a > STALE) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes `bytes` to `path` so that a reader, or a crash, finds the old file or the new one and never a part.
///
/// # Errors
/// The folder is missing or not writable, or the disk is full; the temporary file is removed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Like [`write`], for content that comes piece by piece.
///
/// # Errors
/// As [`write`], and those of `content`.
pub(crate) fn write_with(path: &Path, content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let run = move || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
        content(&mut file)?;
        file.as_file().sync_all()?;
        set_default_mode(file.as_file())?;
        file.persist(path).map_err(|e| e.error)?;
        // The rename itself must survive a power cut as well.
        std::fs::File::open(folder)?.sync_all()
    };
    run().map_err(|e| Error::write(path, e))
}

/// Temporary files are private (0600); results are as readable as any other file of the user.
pub(crate) fn set_default_mode(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}
