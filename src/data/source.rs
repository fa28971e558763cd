//! Where an array comes from: `FILE#ARRAY` within the dataset's folder.

use super::array::Array;
use super::bytes::Limits;
use super::images::{self, Images};
use super::input::Input;
use super::samples::Samples;
use super::table::{self, Columns};
use super::{idx, npy, npz};
use crate::tensor::DType;
use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Component, Path, PathBuf};

/// The hint where a format is not among those that are read.
pub(super) const SUPPORTED: &str =
    "supported are `FILE.npz#ARRAY`, `FILE.npy`, `FILE.csv`, `FILE.csv#COLUMN,…`, IDX files, also as `.gz`, and image folders, `FOLDER/`";

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
    Csv(Columns),
    Images,
}

impl Source {
    /// Parses `FILE`, `FILE#ARRAY` or `FOLDER/`; touches no file.
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
            (_, None) if file.ends_with('/') => Format::Images,
            (Some("npz"), Some(array)) if !array.is_empty() => Format::Npz { array: array.into() },
            (Some("npz"), _) => {
                return Err(Error::bad_input(format!("`{shown}` does not say which array of the file is meant"))
                    .hint(format!("write `{}#ARRAY`", printable(file))));
            }
            (Some("csv"), columns) => Format::Csv(columns.map_or(Columns::All, Columns::parse)),
            (Some("parquet"), _) => {
                return Err(Error::bad_input(format!("`{shown}`: this format is not supported yet")).hint(SUPPORTED));
            }
            (Some("png" | "jpg" | "jpeg" | "webp" | "bmp"), _) => {
                return Err(
                    Error::bad_input(format!("`{shown}` is a single image")).hint("name the folder that holds the images: `FOLDER/`")
                );
            }
            (_, Some(_)) => {
                return Err(Error::bad_input(format!("`{shown}`: only .npz and .csv files have names after `#`")).hint(SUPPORTED));
            }
            (Some("npy"), None) => Format::Npy,
            (extension, None) => Format::Idx { compressed: extension == Some("gz") },
        };
        Ok(Source { text: text.into(), path, format })
    }

    /// Whether this is a table, which may hold labels beside samples.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.format, Format::Csv(_))
    }

    /// Whether this is an image folder.
    pub(super) fn is_folder(&self) -> bool {
        matches!(self.format, Format::Images)
    }

    /// The single column of a table that is meant.
    pub(super) fn column(&self) -> Option<&str> {
        if let Format::Csv(columns) = &self.format { columns.single() } else { None }
    }

    pub(super) fn same_file(&self, other: &Source) -> bool {
        self.path == other.path
    }

    /// A column of the same table.
    pub(super) fn with_column(&self, name: String) -> Source {
        Source { format: Format::Csv(Columns::Some(vec![(name.clone(), name)])), ..self.clone() }
    }

    /// The names of class folders; none where this is anything else.
    pub(super) fn class_folders(&self, root: &Path) -> Result<Vec<String>> {
        if self.is_folder() { images::class_folders(root, &self.path).map_err(|e| self.at(e)) } else { Ok(Vec::new()) }
    }

    /// The real paths, which lie within `root`, of all files with their names in the dataset's folder.
    pub(super) fn files(&self, root: &Path, input: Option<&Input>, names: &[String]) -> Result<Vec<(String, PathBuf)>> {
        let named = |path: &Path| Ok((path.to_string_lossy().into_owned(), within(root, path)?));
        match (&self.format, input) {
            (Format::Images, Some(input)) => {
                Images::list(root, &self.path, names, input.frame()?).map_err(|e| self.at(e))?.files().iter().map(|p| named(p)).collect()
            }
            _ => Ok(vec![(self.text.clone(), within(root, &self.path)?)]),
        }
    }

    /// Opens what is an input's samples; `label` is where labels are. Arrays are unpacked or stay where they are, images are
    /// listed.
    pub(super) fn samples(&self, root: &Path, input: &Input, label: Option<&Source>, names: &[String]) -> Result<Samples> {
        let open = || match &self.format {
            Format::Images => Ok(Samples::Images(Images::list(root, &self.path, names, input.frame()?)?)),
            Format::Csv(columns) => {
                let label = label.filter(|l| l.same_file(self)).and_then(Source::column);
                let file = open_regular(&within(root, &self.path)?)?;
                table::samples(file, columns, label, input.dtype() != DType::F32, Limits::USUAL).map(Samples::Array)
            }
            _ => self.array(root).map(Samples::Array),
        };
        open().map_err(|e| self.at(e))
    }

    /// Opens an array of labels; in a table `names` stand for their numbers.
    pub(super) fn labels(&self, root: &Path, names: &[String]) -> Result<Array> {
        let open = || match self.column() {
            Some(column) => table::labels(open_regular(&within(root, &self.path)?)?, column, names, Limits::USUAL),
            None => self.array(root),
        };
        open().map_err(|e| self.at(e))
    }

    fn array(&self, root: &Path) -> Result<Array> {
        let file = open_regular(&within(root, &self.path)?)?;
        match &self.format {
            Format::Npz { array } => npz::open(file, array, Limits::USUAL),
            Format::Npy => in_file(file, npy::header),
            Format::Idx { compressed: false } => in_file(file, idx::header),
            Format::Idx { compressed: true } => {
                let mut reader = MultiGzDecoder::new(BufReader::new(file));
                idx::header(&mut reader)?.unpack(&mut reader, Limits::USUAL)
            }
            Format::Csv(_) | Format::Images => Err(Error::bad_input("this is not an array").hint(SUPPORTED)),
        }
    }

    fn at(&self, e: Error) -> Error {
        e.context(format!("`{}`", printable(&self.text)))
    }
}

/// The array that fills a file after its header.
fn in_file(file: File, header: impl Fn(&mut BufReader<File>) -> Result<super::array::Layout>) -> Result<Array> {
    let length = file.metadata().map_err(broken)?.len();
    let mut reader = BufReader::new(file);
    let layout = header(&mut reader)?;
    let start = reader.stream_position().map_err(broken)?;
    layout.in_file(reader.into_inner(), start, length)
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
        return Err(
            Error::bad_input(format!("`{}` is a folder", path.display())).hint("an image folder is written with a slash: `FOLDER/`")
        );
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
