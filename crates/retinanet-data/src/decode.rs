//! Image files to RGB bytes in the displayed frame. The only place that knows the decoding library.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use retinanet_anchors::ImageSize;
use serde::{Deserialize, Serialize};

use crate::{DecodeError, Image};

pub(crate) const FORMATS: &str = "JPEG, PNG, BMP, GIF, WebP or TIFF";

/// Enough for the header of nearly every JPEG: one metadata segment has at most 64 KiB, and the size follows the metadata.
const JPEG_HEADER_BYTES: u64 = 1 << 17;

/// How large a file may be, checked against its header before memory is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecodeLimits {
    /// Most pixels, width times height. Default 100 million: more than cameras give, and 300 MB of RGB.
    pub max_pixels: u64,
    /// Most bytes of the file itself, of the pixels in the file's own depth, and of the decoder's buffers where it can be
    /// told, each. Default 512 MiB, so that a 16-bit RGBA picture may have 67 million pixels.
    ///
    /// The file's pixels and their RGB bytes are held together for a moment, and a progressive JPEG keeps 6 bytes a pixel
    /// beside its 3: at both default limits the peak of one decoding is about 1 GiB.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_pixels: 100_000_000, max_bytes: 512 << 20 }
    }
}

/// Reads an image file: JPEG, PNG, BMP, GIF (first frame), WebP (first frame) or TIFF (first page), told by content.
///
/// EXIF orientation is applied. Gray becomes RGB; alpha is dropped, not blended, so a transparent pixel shows the colour
/// stored with it; CMYK and YCCK JPEG become RGB without a colour profile; 16 bits and floats become 8 by rounding.
///
/// A JPEG cut short inside its pixel data is whatever the decoder makes of it: mostly a picture whose missing part is a
/// flat gray, since a partial photo is still data; cut inside the header it is an error.
///
/// # Errors
/// Every error names the file: it cannot be read, is of no known format, passes a limit, or is damaged.
pub fn decode_file(path: &Path, limits: &DecodeLimits) -> Result<Image, DecodeError> {
    guarded(path, || {
        let file = open(path, limits)?;
        let mut decoder = decoder(path, BufReader::new(file), limits)?;
        let stored = stored_size(&decoder);
        check_pixels(path, stored, limits)?;
        if decoder.total_bytes() > limits.max_bytes {
            return Err(DecodeError::TooLarge {
                path: path.to_owned(),
                what: "bytes of decoded pixels",
                expected: limits.max_bytes,
                found: decoder.total_bytes().to_string(),
            });
        }
        let orientation = orientation_or_upright(&mut decoder);
        let decoded = DynamicImage::from_decoder(decoder).map_err(|error| named(path, error))?;
        let mut upright = DynamicImage::ImageRgb8(decoded.into_rgb8());
        upright.apply_orientation(orientation);
        let pixels = upright.into_rgb8();
        let size = ImageSize::new(pixels.width() as usize, pixels.height() as usize);
        Ok(Image { size, pixels: pixels.into_raw() })
    })
}

/// Reads the size of an image file in its displayed frame, from the header alone.
///
/// A file whose pixels are damaged still has a size, and so has one that passes every limit on pixels.
///
/// # Errors
/// Every error names the file: it cannot be read, is of no known format, has a damaged header, or a side is 0.
pub fn image_size(path: &Path) -> Result<ImageSize, DecodeError> {
    guarded(path, || {
        let limits = DecodeLimits { max_pixels: u64::MAX, ..DecodeLimits::default() };
        let mut file = open(path, &limits)?;
        let io = |source| DecodeError::Io { path: path.to_owned(), source };
        // The JPEG decoder reads all that it is given before it looks at the header.
        let mut head = Vec::new();
        file.by_ref().take(JPEG_HEADER_BYTES).read_to_end(&mut head).map_err(io)?;
        if image::guess_format(&head).is_ok_and(|format| format == ImageFormat::Jpeg)
            && let Ok(mut decoder) = decoder(path, Cursor::new(head), &limits)
        {
            return displayed_size(path, &mut decoder, &limits);
        }
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let mut decoder = decoder(path, BufReader::new(file), &limits)?;
        displayed_size(path, &mut decoder, &limits)
    })
}

/// Decoders meet hostile bytes; one that panics must cost its file, not the run. Nothing is shared with the decoder that
/// unwinding could leave half changed.
pub(crate) fn guarded<T>(path: &Path, decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(DecodeError::Broken { path: path.to_owned(), found: format!("a panic of the decoder ({message})") })
    })
}

pub(crate) fn open(path: &Path, limits: &DecodeLimits) -> Result<File, DecodeError> {
    let io = |source| DecodeError::Io { path: path.to_owned(), source };
    // Before opening, which would wait for the other end of a pipe.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(DecodeError::Unsupported {
            path: path.to_owned(),
            expected: FORMATS,
            found: "a folder, pipe or device".to_owned(),
        });
    }
    if metadata.len() > limits.max_bytes {
        return Err(DecodeError::TooLarge {
            path: path.to_owned(),
            what: "bytes of the file",
            expected: limits.max_bytes,
            found: metadata.len().to_string(),
        });
    }
    File::open(path).map_err(io)
}

pub(crate) fn decoder<'a>(
    path: &Path,
    source: impl BufRead + Seek + 'a,
    limits: &DecodeLimits,
) -> Result<impl ImageDecoder + 'a, DecodeError> {
    let mut reader = ImageReader::new(source)
        .with_guessed_format()
        .map_err(|source| DecodeError::Io { path: path.to_owned(), source })?;
    if reader.format().is_none() {
        return Err(DecodeError::Unsupported {
            path: path.to_owned(),
            expected: FORMATS,
            found: "other content".to_owned(),
        });
    }
    let mut allocation = Limits::default();
    allocation.max_alloc = Some(limits.max_bytes);
    reader.limits(allocation);
    reader.into_decoder().map_err(|error| named(path, error))
}

pub(crate) fn stored_size(decoder: &impl ImageDecoder) -> ImageSize {
    let (width, height) = decoder.dimensions();
    ImageSize::new(width as usize, height as usize)
}

fn displayed_size(
    path: &Path,
    decoder: &mut impl ImageDecoder,
    limits: &DecodeLimits,
) -> Result<ImageSize, DecodeError> {
    let stored = stored_size(decoder);
    check_pixels(path, stored, limits)?;
    Ok(match orientation_or_upright(decoder) {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            ImageSize::new(stored.height, stored.width)
        }
        _ => stored,
    })
}

/// Metadata that cannot be read says nothing; the picture is still good.
pub(crate) fn orientation_or_upright(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

pub(crate) fn check_pixels(path: &Path, size: ImageSize, limits: &DecodeLimits) -> Result<(), DecodeError> {
    if size.width == 0 || size.height == 0 {
        return Err(DecodeError::Broken { path: path.to_owned(), found: format!("a header of {size} pixels") });
    }
    let pixels = (size.width as u64).saturating_mul(size.height as u64);
    if pixels > limits.max_pixels {
        return Err(DecodeError::TooLarge {
            path: path.to_owned(),
            what: "pixels",
            expected: limits.max_pixels,
            found: format!("{pixels} ({size})"),
        });
    }
    Ok(())
}

fn named(path: &Path, error: ImageError) -> DecodeError {
    let path = path.to_owned();
    match error {
        ImageError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Io { path, source }
        }
        ImageError::Unsupported(error) => {
            DecodeError::Unsupported { path, expected: FORMATS, found: one_line(&error.to_string()) }
        }
        ImageError::Decoding(error) => {
            // The error itself only repeats the format's name before its cause.
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            DecodeError::Broken { path, found: one_line(&cause) }
        }
        other => DecodeError::Broken { path, found: one_line(&other.to_string()) },
    }
}

/// The decoder's words as they fit into one line: some end in a line break, some print whole structures, some are
/// quoted and escaped.
fn one_line(words: &str) -> String {
    const LONGEST: usize = 120;
    let plain = words.trim().trim_matches('"').replace("\\n", " ");
    let mut text = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}
