//! Which kind of file system a path is on.

use std::io;
use std::path::Path;

/// Whether `path` is a file of the kernel's own sysfs (and not of a copy, a tmpfs or an overlay mounted in its place).
///
/// # Errors
/// The path cannot be reached.
#[cfg(target_os = "linux")]
pub fn on_sysfs(path: &Path) -> io::Result<bool> {
    /// `SYSFS_MAGIC` of `linux/magic.h`.
    const SYSFS_MAGIC: u64 = 0x6265_6572;
    // The field's type differs between architectures; the magic is positive in all of them.
    Ok(rustix::fs::statfs(path)?.f_type as u64 == SYSFS_MAGIC)
}

/// There is no sysfs away from Linux.
#[cfg(not(target_os = "linux"))]
pub fn on_sysfs(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_copy_is_not_sysfs() {
        let copy = tempfile::tempdir().unwrap();
        assert!(!on_sysfs(copy.path()).unwrap());
        assert!(on_sysfs(Path::new("/nowhere/at/all")).is_err());
        // Where sysfs is mounted (everywhere but in some sandboxes), it is recognised.
        if std::fs::read_to_string("/proc/mounts").is_ok_and(|m| m.lines().any(|l| l.contains(" /sys sysfs "))) {
            assert!(on_sysfs(Path::new("/sys/kernel")).unwrap());
        }
    }
}
