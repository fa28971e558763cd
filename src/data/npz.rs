//! NumPy's `.npz` format: a zip archive with one `.npy` file per array.

use super::array::Array;
use super::bytes::Limits;
use super::npy;
use super::source::{broken, printable};
use crate::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// Arrays named in a message that lists them.
const LISTED: usize = 20;

/// The array called `name`; the error for a missing one lists those there are. A member that is stored uncompressed and too
/// long for the memory stays where it is (its checksum is not verified then); all others are unpacked.
pub(super) fn open(file: File, name: &str, limits: Limits) -> Result<Array> {
    let length = file.metadata().map_err(broken)?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let member = format!("{name}.npy");
    let Some(index) = archive.index_for_name(&member) else {
        return Err(missing(name, &archive));
    };
    let at = |e: Error| e.context(format!("array `{}`", printable(name)));
    let mut entry = archive.by_index(index).map_err(damaged)?;
    let size = entry.size();
    if let (CompressionMethod::Stored, Some(start)) = (entry.compression(), entry.data_start().filter(|_| size > limits.memory)) {
        let end = start.checked_add(size).filter(|&end| end <= length);
        let end = end.ok_or_else(|| at(Error::bad_input("the file is cut short")))?;
        let mut counted = Counted { inner: entry, read: 0 };
        let layout = npy::header(&mut counted).map_err(at)?;
        let start = start + counted.read;
        drop(counted);
        return layout.in_file(archive.into_inner().into_inner(), start, end).map_err(at);
    }
    // The size the archive declares is only a first check: reading is bounded by the array's own header.
    if size > limits.unpacked.saturating_add(1 << 16) {
        return Err(at(Error::bad_input(format!("it takes {size} bytes, more than can be loaded"))));
    }
    npy::header(&mut entry).and_then(|layout| layout.unpack(&mut entry, limits)).map_err(at)
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read += n as u64;
        Ok(n)
    }
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
