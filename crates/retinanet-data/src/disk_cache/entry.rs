//! The file of one decoded image: what it belongs to, a checksum, sizes and pixels.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crc32c::{crc32c, crc32c_append};
use retinanet_anchors::ImageSize;
use sha2::{Digest, Sha256};

use crate::{DecodeLimits, Image, ReducedImage};

/// Changed whenever the decoders might give other pixels for the same file; the version of this crate counts too.
const DECODER: &str = concat!(env!("CARGO_PKG_VERSION"), " 1");

const MAGIC: [u8; 8] = *b"RN-RGB\0\x02";
const SUFFIX: &str = "rgb";
const TEMPORARY: (&str, &str) = ("entry-", ".tmp");

/// Magic, checksum, length of the key, width and height of the pixels and of the file's picture.
const FIXED: usize = 8 + 6 * 4;

/// What an entry belongs to.
pub(super) struct Key {
    text: String,
}

impl Key {
    pub(super) fn new(path: &Path, min_side: Option<usize>) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let metadata = fs::metadata(&path)?;
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut text = format!("{DECODER}\n{}\n{}.{}\n", metadata.len(), changed.as_secs(), changed.subsec_nanos());
        match min_side {
            Some(side) => _ = writeln!(text, "at least {side}"),
            None => text.push_str("whole\n"),
        }
        // A path that is no text is told apart from others by its debug form.
        _ = write!(text, "{path:?}");
        Ok(Self { text })
    }

    pub(super) fn file_name(&self) -> PathBuf {
        let mut name = String::new();
        for byte in &Sha256::digest(self.text.as_bytes())[..16] {
            _ = write!(name, "{byte:02x}");
        }
        PathBuf::from(name).with_extension(SUFFIX)
    }
}

/// Whether a file of the folder is one of ours: nothing else is ever counted or removed.
pub(super) fn is_entry(path: &Path) -> bool {
    let stem = path.file_stem().map(|stem| stem.as_encoded_bytes()).unwrap_or_default();
    path.extension().is_some_and(|extension| extension == SUFFIX)
        && stem.len() == 32
        && stem.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it is an entry on its way.
pub(super) fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    name.starts_with(TEMPORARY.0.as_bytes()) && name.ends_with(TEMPORARY.1.as_bytes())
}

/// All of an entry but the pixels.
pub(super) fn header(key: &Key, reduced: &ReducedImage) -> Vec<u8> {
    let ReducedImage { image, original } = reduced;
    let mut checked = Vec::new();
    let numbers = [key.text.len(), image.size.width, image.size.height, original.width, original.height];
    // A side of a decoded picture has at most 32 bits, and so has a path.
    numbers.iter().for_each(|&number| checked.extend((number as u32).to_le_bytes()));
    checked.extend(key.text.as_bytes());
    let checksum = crc32c_append(crc32c(&checked), &image.pixels);
    [&MAGIC[..], &checksum.to_le_bytes(), &checked].concat()
}

/// What is at the place of an entry.
pub(super) enum Read {
    Whole(ReducedImage),
    /// Of so many bytes.
    Damaged(u64),
    Nothing,
}

/// Reads an entry; what does not fit the key, the limits, its own length or the checksum is damaged.
pub(super) fn read(path: &Path, key: &Key, limits: &DecodeLimits) -> Read {
    let Ok(mut file) = File::open(path) else { return Read::Nothing };
    let Ok(metadata) = file.metadata() else { return Read::Nothing };
    match whole(&mut file, metadata.len(), key, limits) {
        Some(image) => Read::Whole(image),
        None => Read::Damaged(metadata.len()),
    }
}

fn whole(file: &mut File, length: u64, key: &Key, limits: &DecodeLimits) -> Option<ReducedImage> {
    let mut header = vec![0; FIXED + key.text.len()];
    file.read_exact(&mut header).ok()?;
    let number = |at: usize| Some(u32::from_le_bytes(*header[8 + 4 * at..].first_chunk()?) as usize);
    if header[..8] != MAGIC || number(1)? != key.text.len() || header[FIXED..] != *key.text.as_bytes() {
        return None;
    }
    let (size, original) = (ImageSize::new(number(2)?, number(3)?), ImageSize::new(number(4)?, number(5)?));
    let num_pixels = (size.width as u64).checked_mul(size.height as u64)?;
    let bytes = num_pixels.checked_mul(3)?;
    // Before memory is taken for them.
    if num_pixels == 0 || num_pixels > limits.max_pixels || bytes.checked_add(header.len() as u64)? != length {
        return None;
    }
    let mut pixels = Vec::with_capacity(usize::try_from(bytes).ok()?);
    file.take(bytes).read_to_end(&mut pixels).ok()?;
    let checksum = crc32c_append(crc32c(&header[12..]), &pixels);
    let is_whole = pixels.len() as u64 == bytes && checksum as usize == number(0)?;
    is_whole.then_some(ReducedImage { image: Image { size, pixels }, original })
}

/// Writes the parts beside and renames. The disk is not waited for: what a crash of the system leaves has a checksum.
pub(super) fn write(folder: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(TEMPORARY.0).suffix(TEMPORARY.1).tempfile_in(folder)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
