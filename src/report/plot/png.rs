//! PNG (W3C, third edition): signature, header, one zlib stream of unfiltered rows, end. Pixels come from memory and go
//! to memory, which the bitmap back end itself cannot do.

use crate::{Error, Result};
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use std::io::Write;

/// 8-bit RGB rows as a PNG file.
pub(super) fn encode(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let stride = width as usize * 3;
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    let rows = rgb.chunks_exact(stride).try_for_each(|row| zlib.write_all(&[0]).and_then(|()| zlib.write_all(row)));
    let data = rows.and_then(|()| zlib.finish()).map_err(|e| Error::environment(format!("cannot encode PNG: {e}")))?;

    let mut header = Vec::with_capacity(13);
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    // Eight bits, colour without palette or alpha; the only compression and filter method; not interlaced.
    header.extend([8, 2, 0, 0, 0]);

    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in [(b"IHDR", header), (b"IDAT", data), (b"IEND", Vec::new())] {
        let length = u32::try_from(content.len()).map_err(|_| Error::environment("the PNG is larger than 4 GiB"))?;
        let mut crc = Crc::new();
        crc.update(name);
        crc.update(&content);
        file.extend(length.to_be_bytes());
        file.extend(name);
        file.extend(content);
        file.extend(crc.sum().to_be_bytes());
    }
    Ok(file)
}
