//! NumPy's `.npz` format: a zip archive with one `.npy` file per array.

use super::npy;
use super::source::{broken, printable};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::io::{BufReader, Read, Seek};
use zip::ZipArchive;
use zip::result::ZipError;

/// Arrays named in a message that lists them.
const LISTED: usize = 20;

/// Reads the array called `name`; the error for a missing one lists those there are.
pub(super) fn read(file: impl Read + Seek, name: &str, limit: u64) -> Result<Tensor> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let member = format!("{name}.npy");
    let Some(index) = archive.index_for_name(&member) else {
        return Err(missing(name, &archive));
    };
    let entry = archive.by_index(index).map_err(damaged)?;
    // The size the archive declares is only a first check: reading is bounded by the array's own header.
    if entry.size() > limit.saturating_add(1 << 16) {
        return Err(Error::bad_input(format!("array `{}` takes {} bytes, more than can be loaded", printable(name), entry.size())));
    }
    npy::read(entry, limit).map_err(|e| e.context(format!("array `{}`", printable(name))))
}

fn missing<R: Read + Seek>(name: &str, archive: &ZipArchive<R>) -> Error {
    let mut names: Vec<String> = archive
        .file_names_raw()
        .take(LISTED)
        .map(|n| String::from_utf8_lossy(n).into_owned())
        .map(|n| format!("`{}`", printable(n.strip_suffix(".npy").unwrap_or(&n))))
        .collect();
    names.sort();
    let e = Error::bad_input(format!("there is no array `{}` in the file", printable(name)));
    match (names.len(), archive.len()) {
        (_, 0) => e.hint("the file holds no arrays"),
        (listed, all) if listed < all => e.hint(format!("it holds {all} arrays, among them {}", names.join(", "))),
        _ => e.hint(format!("its arrays are {}", names.join(", "))),
    }
}

fn damaged(e: ZipError) -> Error {
    match e {
        ZipError::Io(e) => broken(e),
        e => Error::bad_input(format!("the file is not a readable .npz archive: {}", printable(&e.to_string()))),
    }
}
