//! Files as memory: small ones are read, large ones mapped.

use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read};

/// Files from this size on are mapped. Below it a copy costs microseconds and cannot change behind our back.
pub const MAPPED_FROM: u64 = 8 << 20;

/// The whole content of a regular file.
///
/// Large files are mapped privately: they take no memory of ours until they are touched, and the kernel may take it back. What
/// another process writes into such a file in the meantime may be seen, and truncating it ends this process with `SIGBUS`, as it
/// does with any program that maps files. Replacing the file (rename), as this program does when it writes, is harmless.
///
/// # Errors
/// The file cannot be read, or is no regular file.
#[expect(unsafe_code, reason = "a mapped file may be changed by others; see above")]
pub fn contents(mut file: File) -> io::Result<Bytes> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() < MAPPED_FROM {
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.read_to_end(&mut bytes)?;
        return Ok(bytes.into());
    }
    // SAFETY: the mapping is private and read-only, and outlives every slice of it (`Bytes` owns it). That nobody truncates the
    // file meanwhile cannot be proved; the documentation says what happens then.
    let map = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn small_and_large_files_are_read_alike() {
        let folder = tempfile::tempdir().unwrap();
        for len in [0, 1000, MAPPED_FROM as usize + 5] {
            let content: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let path = folder.path().join("file");
            std::fs::write(&path, &content).unwrap();
            assert_eq!(contents(File::open(&path).unwrap()).unwrap(), content);
        }
        assert!(contents(File::open(folder.path()).unwrap()).is_err());
    }
}
