//! What an image file is besides its pixels, from its header.

use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat};
use retinanet_anchors::ImageSize;
use serde::Serialize;

use crate::decode::{decoder, guarded, open, orientation_or_upright, stored_size};
use crate::{DecodeError, DecodeLimits};

/// What an image file is besides its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageTraits {
    /// The format of the content, whatever the ending says.
    pub format: ImageFileFormat,
    /// Columns and rows as stored, before the EXIF orientation.
    pub stored: ImageSize,
    /// EXIF's number for how the stored picture is shown: 1 is upright, 2 to 8 mirror or turn it.
    pub orientation: u8,
    /// Colour channels as stored, alpha among them: 4 is CMYK in a JPEG.
    pub channels: u8,
    /// Bits of a channel as stored.
    pub bits: u16,
    /// Whether the file is in CMYK or YCCK.
    pub is_cmyk: bool,
    /// A JPEG whose pixel data have no end marker: cut short, as a rule.
    pub is_truncated: bool,
}

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum ImageFileFormat {
    Jpeg,
    Png,
    Bmp,
    Gif,
    WebP,
    Tiff,
}

/// Reads what an image file is besides its pixels; of a JPEG also whether it ends as it should.
///
/// # Errors
/// Every error names the file: it cannot be read, is of no known format, or has a damaged header.
pub fn image_traits(path: &Path, limits: &DecodeLimits) -> Result<ImageTraits, DecodeError> {
    guarded(path, || {
        let mut bytes = Vec::new();
        let source = |source| DecodeError::Io { path: path.to_owned(), source };
        open(path, limits)?.take(limits.max_bytes).read_to_end(&mut bytes).map_err(source)?;
        let format = match image::guess_format(&bytes) {
            Ok(ImageFormat::Jpeg) => ImageFileFormat::Jpeg,
            Ok(ImageFormat::Png) => ImageFileFormat::Png,
            Ok(ImageFormat::Bmp) => ImageFileFormat::Bmp,
            Ok(ImageFormat::Gif) => ImageFileFormat::Gif,
            Ok(ImageFormat::WebP) => ImageFileFormat::WebP,
            Ok(ImageFormat::Tiff) => ImageFileFormat::Tiff,
            // The decoder tells what is wrong with all others.
            _ => return decoder(path, Cursor::new(&bytes[..]), limits).and_then(|_| Err(unknown(path))),
        };
        let mut decoder = decoder(path, Cursor::new(&bytes[..]), limits)?;
        let color = decoder.original_color_type();
        let channels = color.channel_count().max(1);
        let mut traits = ImageTraits {
            format,
            stored: stored_size(&decoder),
            orientation: orientation_or_upright(&mut decoder).to_exif(),
            channels,
            bits: color.bits_per_pixel() / u16::from(channels),
            is_cmyk: matches!(color, image::ExtendedColorType::Cmyk8 | image::ExtendedColorType::Cmyk16),
            is_truncated: false,
        };
        if format == ImageFileFormat::Jpeg {
            let frame = JpegFrame::read(&bytes);
            traits.is_truncated = !frame.has_end;
            traits.channels = frame.components.unwrap_or(channels);
            traits.is_cmyk = traits.channels == 4;
        }
        Ok(traits)
    })
}

fn unknown(path: &Path) -> DecodeError {
    DecodeError::Unsupported { path: path.to_owned(), expected: crate::decode::FORMATS, found: "another format".into() }
}

impl ImageTraits {
    /// The size that the annotations of a program would state that ignores the orientation; none where it is the same.
    #[must_use]
    pub fn turned(&self) -> Option<ImageSize> {
        let swaps = (5..=8).contains(&self.orientation) && self.stored.width != self.stored.height;
        swaps.then_some(self.stored)
    }

    /// Whether the picture is turned or mirrored when it is shown.
    #[must_use]
    pub fn is_oriented(&self) -> bool {
        self.orientation != Orientation::NoTransforms.to_exif()
    }
}

/// What the markers of a JPEG say.
#[derive(Debug, Default, PartialEq)]
struct JpegFrame {
    components: Option<u8>,
    has_end: bool,
}

impl JpegFrame {
    /// Walks from marker to marker up to the pixel data. In these the byte 255 is always followed by 0 or a restart, so that
    /// an end marker among them is one.
    fn read(bytes: &[u8]) -> Self {
        let mut frame = Self::default();
        let mut at = 2;
        while let Some(&[mark, kind]) = bytes.get(at..at + 2).and_then(|pair| pair.first_chunk()) {
            match (mark, kind) {
                (0xff, 0xd9) => {
                    frame.has_end = true;
                    return frame;
                }
                (0xff, 0xda) => {
                    frame.has_end = bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]);
                    return frame;
                }
                (0xff, 0x01 | 0xd0..=0xd8) => at += 2,
                // A byte of filling, or one that belongs nowhere.
                (0xff, 0x00 | 0xff) | (..=0xfe, _) => at += 1,
                (0xff, _) => {
                    let is_frame = (0xc0..=0xcf).contains(&kind) && ![0xc4, 0xc8, 0xcc].contains(&kind);
                    if is_frame {
                        frame.components = bytes.get(at + 9).copied();
                    }
                    let Some(&[high, low]) = bytes.get(at + 2..at + 4).and_then(|pair| pair.first_chunk()) else {
                        return frame;
                    };
                    at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
                }
            }
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: &[&[u8]], components: Option<u8>, has_end: bool) {
        assert_eq!(JpegFrame::read(&parts.concat()), JpegFrame { components, has_end });
    }

    #[test]
    fn markers_of_a_jpeg() {
        const START: &[u8] = &[0xff, 0xd8];
        const APP: &[u8] = &[0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff, 0xd9];
        const FRAME: &[u8] = &[0xff, 0xc2, 0, 11, 8, 0, 1, 0, 1, 4, 1, 0x11, 0];
        const TABLE: &[u8] = &[0xff, 0xff, 0xff, 0xc4, 0, 3, 9];
        const SCAN: &[u8] = &[0xff, 0xda, 0, 2, 1, 2, 0xff, 0, 3, 0xff, 0xd1, 4];
        const END: &[u8] = &[0xff, 0xd9];
        check(&[START, APP, FRAME, TABLE, SCAN, END], Some(4), true);
        check(&[START, APP, TABLE, FRAME, SCAN, SCAN, END, b"trailing"], Some(4), true);
        // The end of a thumbnail in the metadata is not the picture's.
        check(&[START, APP, FRAME, SCAN], Some(4), false);
        check(&[START, APP], None, false);
        check(&[START, END], None, true);
        check(&[START, &[0xff, 0xe1, 0]], None, false);
        check(&[START, &[0xff, 0xc0, 0, 0, 0xff]], None, false);
        check(&[b""], None, false);
    }
}
