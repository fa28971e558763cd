//! Where an array lies: what `dataset.toml` writes for a file, kept within the dataset's folder.

use super::array::MAX_ARRAY_BYTES;
use super::{idx, npy, npz, table};
use crate::tensor::Tensor;
use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

/// The hint where a format is not among those that are read.
pub(super) const SUPPORTED: &str = "supported are `FILE.npz#ARRAY`, `FILE.npy`, `FILE.csv` and IDX files, also as `.gz`";

/// One array as `dataset.toml` names it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    text: String,
    /// Relative to the dataset's folder, without `..`.
    path: PathBuf,
    format: Format,
}

#[derive(Debug, Clone)]
enum Format {
    Npz { array: String },
    Npy,
    Idx { compressed: bool },
    Csv,
}

impl Source {
    /// Parses `FILE` or `FILE#ARRAY`; touches no file.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let shown = printable(text);
        let (file, array) = text.split_once('#').map_or((text, None), |(file, array)| (file, Some(array)));
        let path = PathBuf::from(file);
        let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside || file.is_empty() || file.contains('\0') {
            return Err(Error::bad_input(format!("`{shown}` is not a path within the dataset's folder"))
                .hint("paths in `dataset.toml` are relative to its folder and do not leave it"));
        }
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let format = match (extension.as_deref(), array) {
            (Some("npz"), Some(array)) if !array.is_empty() => Format::Npz { array: array.into() },
            (Some("npz"), _) => {
                return Err(Error::bad_input(format!("`{shown}` does not say which array of the file is meant"))
                    .hint(format!("write `{}#ARRAY`", printable(file))));
            }
            (Some("parquet" | "png" | "jpg" | "jpeg"), _) => {
                return Err(Error::bad_input(format!("`{shown}`: this format is not supported yet")).hint(SUPPORTED));
            }
            (_, Some(_)) => return Err(Error::bad_input(format!("`{shown}`: only .npz files hold named arrays")).hint(SUPPORTED)),
            (Some("npy"), None) => Format::Npy,
            (Some("csv"), None) => Format::Csv,
            (extension, None) => Format::Idx { compressed: extension == Some("gz") },
        };
        Ok(Source { text: text.into(), path, format })
    }

    /// As written in `dataset.toml`.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The file's real path, which lies within `root`.
    pub(super) fn locate(&self, root: &Path) -> Result<PathBuf> {
        within(root, &self.path)
    }

    /// Whether this is a table, which may hold labels beside samples.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.format, Format::Csv)
    }

    /// Reads the array; of a table all columns.
    pub(super) fn read(&self, root: &Path) -> Result<Tensor> {
        let file = open_regular(&self.locate(root)?)?;
        match &self.format {
            Format::Npz { array } => npz::read(file, array, MAX_ARRAY_BYTES),
            Format::Npy => npy::read(BufReader::new(file), MAX_ARRAY_BYTES),
            Format::Idx { compressed: true } => idx::read(MultiGzDecoder::new(BufReader::new(file)), MAX_ARRAY_BYTES),
            Format::Idx { compressed: false } => idx::read(BufReader::new(file), MAX_ARRAY_BYTES),
            Format::Csv => table::read(file, None, &[], MAX_ARRAY_BYTES).map(|(samples, _)| samples),
        }
        .map_err(|e| self.at(e))
    }

    /// Reads a table whose column `label` holds class numbers or `names`: samples and labels.
    pub(super) fn read_labelled(&self, root: &Path, label: &str, names: &[String]) -> Result<(Tensor, Option<Tensor>)> {
        let file = open_regular(&self.locate(root)?)?;
        table::read(file, Some(label), names, MAX_ARRAY_BYTES).map_err(|e| self.at(e))
    }

    fn at(&self, e: Error) -> Error {
        e.context(format!("`{}`", printable(&self.text)))
    }
}

/// Resolves `relative` below `root` (itself resolved) and refuses what leads out of it.
pub(super) fn within(root: &Path, relative: &Path) -> Result<PathBuf> {
    let joined = root.join(relative);
    let real = joined.canonicalize().map_err(|e| Error::read(&joined, e))?;
    if !real.starts_with(root) {
        return Err(Error::bad_input(format!("`{}` is a link that leads out of the dataset's folder", relative.display()))
            .hint("copy the file into the folder"));
    }
    Ok(real)
}

/// Opens a regular file; a folder, pipe or device (which could block or never end) is refused.
pub(super) fn open_regular(path: &Path) -> Result<File> {
    let kind = path.metadata().map_err(|e| Error::read(path, e))?.file_type();
    if kind.is_dir() {
        return Err(Error::bad_input(format!("`{}` is a folder; image folders are not supported yet", path.display())).hint(SUPPORTED));
    }
    if !kind.is_file() {
        return Err(Error::bad_input(format!("`{}` is not a regular file", path.display())));
    }
    File::open(path).map_err(|e| Error::read(path, e))
}

/// An error while reading or decompressing a file that was opened: damage is the file's, all else the machine's.
pub(super) fn broken(e: std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    let message = match e.kind() {
        Io::UnexpectedEof => "the file is cut short".to_string(),
        Io::InvalidData | Io::InvalidInput | Io::Other => format!("the file is damaged: {}", printable(&e.to_string())),
        _ => return Error::environment(format!("reading failed: {e}")).with_source(e),
    };
    Error::bad_input(message).hint("make or copy the file again").with_source(e)
}

/// Text from a file, safe to show on a terminal and of bounded length.
pub(super) fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    let shown = text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let more = text.chars().nth(LONGEST).map(|_| '…');
    shown.chain(more).collect()
}
