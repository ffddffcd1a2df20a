//! Pictures from raw bytes, and files from pictures.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _, ImageResult, RgbImage};
use retinanet_anchors::ImageSize;

use crate::DrawError;

/// A picture over raw RGB bytes, which are moved, not copied.
///
/// # Shapes
/// - `pixels`: `[H, W, 3]`
///
/// # Errors
/// The number of bytes is not that of the size.
pub fn picture_from_rgb(size: ImageSize, pixels: Vec<u8>) -> Result<RgbImage, DrawError> {
    let expected = size.width as u128 * size.height as u128 * 3;
    let found = pixels.len();
    let mismatch = DrawError::ByteCount { size, expected, found };
    if expected != found as u128 {
        return Err(mismatch);
    }
    let (Ok(width), Ok(height)) = (u32::try_from(size.width), u32::try_from(size.height)) else {
        return Err(mismatch);
    };
    RgbImage::from_raw(width, height, pixels).ok_or(mismatch)
}

/// The bytes of a PNG file.
///
/// # Errors
/// The encoder refuses the picture: it has no pixels, or too many.
pub fn encode_png(picture: &RgbImage) -> Result<Vec<u8>, DrawError> {
    let mut file = Vec::new();
    let done = PngEncoder::new(&mut file).write_image(
        picture.as_raw(),
        picture.width(),
        picture.height(),
        ExtendedColorType::Rgb8,
    );
    finished("PNG", picture, done, file)
}

/// The bytes of a JPEG file; `quality` from 1 to 100, and outside of it the nearer of both.
///
/// # Errors
/// The encoder refuses the picture: it has no pixels, or a side of more than 65535.
pub fn encode_jpeg(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, DrawError> {
    let mut file = Vec::new();
    let done = JpegEncoder::new_with_quality(&mut file, quality.clamp(1, 100)).write_image(
        picture.as_raw(),
        picture.width(),
        picture.height(),
        ExtendedColorType::Rgb8,
    );
    finished("JPEG", picture, done, file)
}

fn finished(
    format: &'static str,
    picture: &RgbImage,
    done: ImageResult<()>,
    file: Vec<u8>,
) -> Result<Vec<u8>, DrawError> {
    match done {
        Ok(()) => Ok(file),
        Err(source) => {
            let (width, height) = picture.dimensions();
            Err(DrawError::Encode { format, width, height, source })
        }
    }
}
