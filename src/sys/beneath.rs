//! Files within a folder that nobody can lead out of.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

/// Opens the regular file `relative` beneath `folder` for reading. Absolute paths, `..`, symbolic links (of the file and of any
/// folder on the way) and files with more than one hard link are refused: a model from a stranger must not make us read other
/// files of the user (CVE-2022-25882, CVE-2024-27318 and their successors in other readers).
///
/// # Errors
/// `PermissionDenied` with the reason when the path would leave the folder; else what the system says.
pub fn open_beneath(folder: &Path, relative: &Path) -> io::Result<File> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why);
    let mut names = Vec::new();
    for part in relative.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(refused("the path leads out of the folder")),
        }
    }
    let Some((file, folders)) = names.split_last() else { return Err(refused("the path names no file")) };
    let file = open_parts(folder, folders, file)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(refused("it is not a regular file"));
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
        return Err(refused("it is a hard link: the same file has another name elsewhere"));
    }
    Ok(file)
}

/// One step at a time, each relative to the folder that is open already and none through a symbolic link: what `openat2` does
/// with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, on every kernel and in every sandbox.
#[cfg(unix)]
fn open_parts(folder: &Path, folders: &[&std::ffi::OsStr], file: &std::ffi::OsStr) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open, openat};
    let step = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let links = |e: rustix::io::Errno| match e {
        rustix::io::Errno::LOOP => io::Error::new(io::ErrorKind::PermissionDenied, "it is a symbolic link"),
        // A link where a folder should be is "not a directory" to the kernel.
        rustix::io::Errno::NOTDIR => io::Error::new(io::ErrorKind::PermissionDenied, "its folder is a symbolic link or a file"),
        e => e.into(),
    };
    let mut at = open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for name in folders {
        at = openat(&at, *name, step | OFlags::DIRECTORY, Mode::empty()).map_err(links)?;
    }
    // NONBLOCK: opening a pipe must not wait for a writer; the caller refuses it next.
    Ok(openat(&at, file, step | OFlags::NONBLOCK, Mode::empty()).map_err(links)?.into())
}

/// Without `openat` links are seen beforehand, which a race could deceive.
#[cfg(not(unix))]
fn open_parts(folder: &Path, folders: &[&std::ffi::OsStr], file: &std::ffi::OsStr) -> io::Result<File> {
    let mut path = folder.to_owned();
    for name in folders.iter().chain([&file]) {
        path.push(name);
        if path.symlink_metadata()?.is_symlink() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is a symbolic link"));
        }
    }
    File::open(path)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_plain_files_within_the_folder_open() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("model");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(root.path().join("secret"), "s").unwrap();
        std::fs::write(folder.join("sub/weights"), "w").unwrap();
        std::fs::hard_link(root.path().join("secret"), folder.join("hard")).unwrap();
        symlink(root.path().join("secret"), folder.join("soft")).unwrap();
        symlink(root.path(), folder.join("up")).unwrap();
        symlink("sub", folder.join("within")).unwrap();
        let mut text = String::new();
        open_beneath(&folder, Path::new("./sub/weights")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "w");
        for path in ["../secret", "/etc/hostname", "sub/../../secret", "soft", "up/secret", "within/weights", "hard", "sub", ".", ""] {
            let e = open_beneath(&folder, Path::new(path)).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::PermissionDenied, "{path}: {e}");
        }
        assert_eq!(open_beneath(&folder, Path::new("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
