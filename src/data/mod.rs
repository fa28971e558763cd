//! Datasets: a folder with `dataset.toml` that says which files hold which split and how a raw value becomes the model's
//! input. Splits are loaded when asked for.
//!
//! | in `dataset.toml` | is |
//! |---|---|
//! | `x = "f.npz#x", y = "f.npz#y"` | arrays of NumPy archives; any order and byte order; bool, 8–64-bit integers, floats |
//! | `x = "f.npy"` | a single array |
//! | `x = "images-idx3-ubyte.gz"` | IDX, also compressed |
//! | `x = "f.csv", label = "column"` | one sample a line under a header line; the other columns are its values |
//! | `x = "f.csv#a,c..f", y = "f.csv#g"` | the columns `a` and `c` to `f`, labels in `g` |
//! | `x = "train/"` | PNG, JPEG, WebP, BMP or PNM images: a folder for each class, or unlabelled images |
//! | `x = { ids = "i.npy", mask = "m.npy" }` | one file for each of several inputs (`[inputs.ids]`, `[inputs.mask]`) |
//! | `range = [0, 2000]` | samples 0 to 1,999 of the above |
//!
//! `[input]` (or each `[inputs.NAME]`) takes `shape` and `dtype`, and for floats `scale`, `mean`, `std`; integers and bool
//! (token ids, bytes, masks) are passed as they are. `layout = "HWC"` puts the channels last. Images must have the size of the
//! `shape` unless `resize` is `"stretch"`, `"cover"` (scaled until it covers the shape, middle taken) or the length of the
//! shorter side (`256`, middle taken). They are grey or RGB as the shape has one or three channels; `orientation = "exif"` turns
//! them as their Exif data says, which Pillow and torchvision do not do by themselves.
//!
//! Without `classes`, the names of the class folders of all splits, sorted, are the classes.
//!
//! A dataset is somebody else's data and may be hostile: files must lie within the folder, every size is checked with
//! overflow against a limit before anything is read, and no more is read than was declared. Samples never appear in
//! messages; file, array and class names do.

mod array;
mod bytes;
mod draw;
mod idx;
mod images;
mod input;
mod manifest;
mod npy;
mod npz;
mod samples;
mod source;
mod split;
mod table;

pub use input::Input;
pub use split::Split;

use crate::{Error, Result};
use manifest::{Manifest, SplitFiles};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The description in a dataset's folder.
const MANIFEST: &str = "dataset.toml";

/// An opened dataset: the description is read and checked, the arrays are not.
///
/// ```
/// use joulefront::data::Dataset;
/// let data = Dataset::open("models/fashion-mnist")?;
/// let validation = data.split("validation")?;
/// assert_eq!((validation.len(), data.classes().len()), (4000, 10));
/// assert_eq!(validation.batch(0..8)?.shape(), [8, 1, 28, 28]);
/// # Ok::<(), joulefront::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The folder, with symbolic links resolved.
    root: PathBuf,
    /// `dataset.toml` as it was read.
    text: String,
    manifest: Manifest,
    /// Given, or the sorted names of all class folders.
    classes: Vec<String>,
}

impl Dataset {
    /// Reads and checks `dir/dataset.toml`.
    ///
    /// # Errors
    /// Bad input that names the line and the key, table, path or number at fault and what is allowed there.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let root = dir.canonicalize().map_err(|e| Error::read(dir, e).hint("give the folder that holds `dataset.toml`"))?;
        let shown = dir.join(MANIFEST);
        let path = source::within(&root, Path::new(MANIFEST)).map_err(|e| {
            e.context(format!("`{}` is not a dataset", dir.display()))
                .hint("a dataset is a folder with a `dataset.toml`; README, \"Your own data\", shows one")
        })?;
        let mut text = String::new();
        source::open_regular(&path)?
            .take(manifest::MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|e| source::broken(e).context(format!("`{}`", shown.display())))?;
        let manifest = Manifest::parse(&text).map_err(|e| e.context(format!("`{}`", shown.display())))?;
        let classes = match manifest.classes.as_slice() {
            [] => class_folders(&root, &manifest).map_err(|e| {
                e.context("the classes are those of the class folders").hint("name them in `classes` where a folder is not there")
            })?,
            given => given.to_vec(),
        };
        Ok(Dataset { root, text, manifest, classes })
    }

    /// The dataset's name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The licence its description states.
    pub fn license(&self) -> Option<&str> {
        self.manifest.license.as_deref()
    }

    /// Class names in the order of class numbers; empty when the description has none and no split has class folders.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What the model takes and how raw values become it; at least one. Several are in the order of their names.
    pub fn inputs(&self) -> &[Input] {
        &self.manifest.inputs
    }

    /// The only input.
    ///
    /// # Errors
    /// There are several.
    pub fn input(&self) -> Result<&Input> {
        match self.inputs() {
            [only] => Ok(only),
            all => {
                let names: Vec<_> = all.iter().map(|i| format!("`{}`", source::printable(i.name()))).collect();
                Err(Error::bad_input(format!("dataset `{}` has {} inputs", source::printable(self.name()), all.len()))
                    .hint(format!("one is expected here, not {}", names.join(", "))))
            }
        }
    }

    /// Names of the splits, in alphabetical order.
    pub fn splits(&self) -> impl Iterator<Item = &str> {
        self.manifest.splits.keys().map(String::as_str)
    }

    /// Opens a split: its labels are read, its samples only where they have to be unpacked.
    ///
    /// # Errors
    /// Bad input for an unknown split, a file outside the folder, a damaged or unsupported file, an array that does not fit
    /// the input's shape, labels that are not class numbers.
    pub fn split(&self, name: &str) -> Result<Split> {
        let files = self.files(name)?;
        Split::load(&self.root, files, &self.manifest, &self.classes).map_err(|e| self.at(name, e))
    }

    /// SHA-256, in hexadecimal, over `dataset.toml` and all bytes of the files of one split: the part of a cache key that
    /// stands for the data.
    pub fn split_digest(&self, split: &str) -> Result<String> {
        let files = self.files(split)?;
        let mut hash = Sha256::new();
        part(&mut hash, split, self.text.len() as u64);
        hash.update(&self.text);
        if self.manifest.classes.is_empty() {
            // Folders of other splits may have numbered these classes.
            self.classes.iter().for_each(|c| part(&mut hash, c, 0));
        }
        let inputs = self.inputs().iter().map(Some).chain([None]);
        for (source, input) in files.sources().zip(inputs) {
            for (name, path) in source.files(&self.root, input, &self.classes).map_err(|e| self.at(split, e))? {
                digest_file(&mut hash, &name, &path)?;
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn files(&self, name: &str) -> Result<&SplitFiles> {
        self.manifest.splits.get(name).ok_or_else(|| {
            let known: Vec<_> = self.splits().map(|s| format!("`{}`", source::printable(s))).collect();
            Error::bad_input(format!("dataset `{}` has no split `{name}`", source::printable(self.name())))
                .hint(format!("its splits are {}", known.join(", ")))
        })
    }

    fn at(&self, split: &str, e: Error) -> Error {
        e.context(format!("split `{}` of dataset `{}`", source::printable(split), source::printable(self.name())))
    }
}

/// The sorted names of the class folders of all splits: so a class has the same number in each.
fn class_folders(root: &Path, manifest: &Manifest) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for source in manifest.splits.values().flat_map(|s| &s.x) {
        names.extend(source.class_folders(root)?);
    }
    Ok(names.into_iter().collect())
}

fn digest_file(hash: &mut Sha256, name: &str, path: &Path) -> Result<()> {
    let mut file = source::open_regular(path)?;
    part(hash, name, file.metadata().map_err(|e| Error::read(path, e))?.len());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(|e| Error::read(path, e))? {
            0 => return Ok(()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Names and lengths go before the bytes, so that no two different sets of files give the same stream.
fn part(hash: &mut Sha256, name: &str, length: u64) {
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update(length.to_le_bytes());
}

#[cfg(test)]
mod tests;
