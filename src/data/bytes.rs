//! The bytes of an array: in memory, or in a file that is read by position.

use super::source::broken;
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, Write};
use tempfile::{SpooledData, SpooledTempFile};

/// What may be taken up for one array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes an array may unpack to. Larger declared sizes are refused before reading: a compressed file of a few megabytes
    /// can declare, and deliver, gigabytes. Arrays that are read where they lie need no such limit.
    pub(super) unpacked: u64,
    /// Bytes kept in memory; longer ones go to a temporary file.
    pub(super) memory: u64,
}

impl Limits {
    /// Those of every dataset.
    pub(super) const USUAL: Limits = Limits { unpacked: 4 << 30, memory: 64 << 20 };
}

/// Bytes that can be read at any position.
#[derive(Debug)]
pub(super) enum Bytes {
    Memory(Vec<u8>),
    /// The array begins at this byte of the file.
    File(File, u64),
}

impl Bytes {
    /// Fills `buffer` from byte `at` on.
    pub(super) fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        match self {
            Bytes::Memory(bytes) => {
                let start = usize::try_from(at).ok();
                let part = start.and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
                buffer.copy_from_slice(part.ok_or_else(|| Error::bad_input("the array is shorter than it was"))?);
                Ok(())
            }
            Bytes::File(file, start) => read_exact_at(file, buffer, start + at).map_err(broken),
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => (buffer, at) = (&mut buffer[n..], at + n as u64),
        }
    }
    Ok(())
}

/// Bytes on their way from a stream: they grow with what arrives, so that a header that lies costs nothing, and move from
/// memory to a temporary file, which has no name and goes with the process, when they become too many.
pub(super) struct Spool {
    file: SpooledTempFile,
    length: u64,
}

impl Spool {
    pub(super) fn new(limits: Limits) -> Self {
        Spool { file: SpooledTempFile::new(usize::try_from(limits.memory).unwrap_or(usize::MAX)), length: 0 }
    }

    /// Bytes written so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| {
            Error::environment(format!("unpacking to a temporary file failed: {e}"))
                .hint("set TMPDIR to a folder with more space, or store the data uncompressed, which is read where it lies")
                .with_source(e)
        })
    }

    /// Takes up to `length` bytes of `reader`.
    pub(super) fn fill(&mut self, reader: &mut impl Read, length: u64) -> Result<()> {
        let mut reader = reader.take(length);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read(&mut buffer).map_err(broken)? {
                0 => return Ok(()),
                n => self.write(&buffer[..n])?,
            }
        }
    }

    pub(super) fn finish(self) -> Bytes {
        match self.file.into_inner() {
            SpooledData::InMemory(cursor) => Bytes::Memory(cursor.into_inner()),
            SpooledData::OnDisk(file) => Bytes::File(file, 0),
        }
    }
}
