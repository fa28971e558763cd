//! A sysfs tree: the kernel's own, or another one that stands for it.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type ReadFile = dyn Fn(&Path) -> io::Result<String> + Send + Sync;

/// Where sysfs is and how its files are read.
#[derive(Clone)]
pub struct Tree {
    root: PathBuf,
    given: bool,
    /// `None`: from the file system.
    read: Option<Arc<ReadFile>>,
}

impl Tree {
    /// The kernel's: `/sys`.
    pub fn system() -> Self {
        Tree { root: PathBuf::from("/sys"), given: false, read: None }
    }

    /// A folder that is taken for the kernel's own, to test what is said of real machines.
    #[cfg(test)]
    pub(super) fn as_system(root: impl Into<PathBuf>) -> Self {
        Tree { root: root.into(), ..Self::system() }
    }

    /// A tree that somebody gave. What is read from it is never `measured`, even if it is the kernel's own.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Tree { root: root.into(), given: true, ..Self::system() }
    }

    /// The same tree with another way of reading files, for faults that a file system cannot be made to show (root reads files
    /// of mode 0000).
    #[must_use]
    pub fn with_reader(mut self, read: impl Fn(&Path) -> io::Result<String> + Send + Sync + 'static) -> Self {
        self.given = true;
        self.read = Some(Arc::new(read));
        self
    }

    /// The folder that stands for `/sys`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether somebody gave it.
    pub fn is_given(&self) -> bool {
        self.given
    }

    /// A file's text without the white space around it.
    ///
    /// # Errors
    /// What reading it gives.
    pub fn text(&self, path: &Path) -> io::Result<String> {
        let text = self.read.as_ref().map_or_else(|| std::fs::read_to_string(path), |read| read(path));
        text.map(|text| text.trim().to_owned())
    }

    /// A file with one number.
    ///
    /// # Errors
    /// What reading it gives; `InvalidData` when it is not a number.
    pub fn number(&self, path: &Path) -> io::Result<u64> {
        if self.read.is_none()
            && let Some(number) = short(path)?
        {
            return Ok(number);
        }
        let mut text = self.text(path)?;
        // sysfs is never empty, but a program that rewrites a simulated counter may just have truncated it.
        for _ in 0..20 {
            if !text.is_empty() {
                break;
            }
            std::thread::yield_now();
            text = self.text(path)?;
        }
        text.parse().map_err(|_| {
            let shown: String = text.chars().take(40).collect();
            io::Error::new(io::ErrorKind::InvalidData, format!("`{shown}` is not a number"))
        })
    }

    /// Reads one number from each of `files`, with the file's name in each error.
    pub(super) fn read_all(&self, files: Vec<PathBuf>) -> super::follow::ReadAll {
        let tree = self.clone();
        let value = move |file: &PathBuf| tree.number(file).map_err(|e| format!("cannot read `{}`: {e}", file.display()));
        Box::new(move || files.iter().map(&value).collect())
    }

    /// Whether `path` really is a file of the kernel's sysfs: not a given tree, and not one mounted in its place.
    pub fn is_real(&self, path: &Path) -> bool {
        !self.given && crate::sys::on_sysfs(path).unwrap_or(false)
    }
}

/// A number as sysfs writes them, by one open, one read and one close: counters are read at the edges of windows. `None`: it
/// takes a closer look.
fn short(path: &Path) -> io::Result<Option<u64>> {
    let mut bytes = [0; 32];
    let n = std::fs::File::open(path)?.read(&mut bytes)?;
    Ok(std::str::from_utf8(&bytes[..n]).ok().filter(|_| n < bytes.len()).and_then(|text| text.trim().parse().ok()))
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("root", &self.root).field("given", &self.given).finish_non_exhaustive()
    }
}
