//! Image files to smaller pictures than they hold, for those who need no more.

use std::io::Read;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use retinanet_anchors::ImageSize;

use crate::decode::{check_pixels, guarded, open};
use crate::jpeg::Jpeg;
use crate::{DecodeError, DecodeLimits, Image, decode_file};

/// A picture whose sides were divided while it was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReducedImage {
    /// The picture; each pixel is the mean over 1, 2 x 2, 4 x 4 or 8 x 8 of the file's.
    pub image: Image,
    /// The file's own size, in the displayed frame.
    pub original: ImageSize,
}

/// Reads an image file as [`decode_file`] does, with both sides divided by the largest of 1, 2, 4 and 8
/// that leaves `min_side` pixels of the shorter one, rounded up.
///
/// Each pixel is the mean over those that it stands for, as resizing with smoothing gives. A plain JPEG is never computed
/// whole: at a half it takes about 2/3 of the time, at an eighth 2/5. Colours stored at half the resolution are averaged as
/// stored, where [`decode_file`] interpolates them first, and bytes are not rounded in between, so that
/// the pixels of photos are 50 dB from the mean of the whole picture: mostly the same, seldom more than a step or two.
///
/// # Errors
/// As [`decode_file`]; the limits are those on the whole picture.
pub fn decode_at_least(path: &Path, min_side: usize, limits: &DecodeLimits) -> Result<ReducedImage, DecodeError> {
    if let Some(reduced) = guarded(path, || plain_jpeg(path, min_side, limits))? {
        return Ok(reduced);
    }
    let image = decode_file(path, limits)?;
    let original = image.size;
    Ok(ReducedImage { image: mean(image, divisor(original, min_side)), original })
}

/// None where the file is to be decoded whole.
fn plain_jpeg(path: &Path, min_side: usize, limits: &DecodeLimits) -> Result<Option<ReducedImage>, DecodeError> {
    let io = |source| DecodeError::Io { path: path.to_owned(), source };
    let mut file = open(path, limits)?;
    let mut bytes = Vec::new();
    file.by_ref().take(3).read_to_end(&mut bytes).map_err(io)?;
    if bytes != [0xFF, 0xD8, 0xFF] {
        return Ok(None);
    }
    file.take(limits.max_bytes).read_to_end(&mut bytes).map_err(io)?;
    let Some(jpeg) = Jpeg::parse(&bytes) else { return Ok(None) };
    check_pixels(path, jpeg.size(), limits)?;
    let divisor = divisor(jpeg.size(), min_side);
    if divisor == 1 {
        return Ok(None);
    }
    let Some((size, pixels)) = jpeg.decode_divided(divisor) else { return Ok(None) };
    let Some(picture) = RgbImage::from_raw(size.width as u32, size.height as u32, pixels) else { return Ok(None) };
    let orientation = jpeg.exif().and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let mut upright = DynamicImage::ImageRgb8(picture);
    upright.apply_orientation(orientation);
    let upright = upright.into_rgb8();
    let shown = ImageSize::new(upright.width() as usize, upright.height() as usize);
    let stored = jpeg.size();
    let is_turned = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let original = if is_turned { ImageSize::new(stored.height, stored.width) } else { stored };
    Ok(Some(ReducedImage { image: Image { size: shown, pixels: upright.into_raw() }, original }))
}

fn divisor(size: ImageSize, min_side: usize) -> usize {
    let shorter = size.width.min(size.height);
    [8, 4, 2].into_iter().find(|&divisor| shorter.div_ceil(divisor) >= min_side.max(1)).unwrap_or(1)
}

/// The means over squares of so many pixels; over fewer at the right and the lower border.
fn mean(image: Image, divisor: usize) -> Image {
    if divisor == 1 {
        return image;
    }
    let from = image.size;
    let size = ImageSize::new(from.width.div_ceil(divisor), from.height.div_ceil(divisor));
    let mut pixels = Vec::with_capacity(3 * size.width * size.height);
    let mut sums = vec![[0u32; 3]; size.width];
    for rows in image.pixels.chunks(3 * from.width * divisor) {
        sums.fill([0; 3]);
        for row in rows.chunks_exact(3 * from.width) {
            for (sum, square) in sums.iter_mut().zip(row.as_chunks::<3>().0.chunks(divisor)) {
                for pixel in square {
                    for c in 0..3 {
                        sum[c] += u32::from(pixel[c]);
                    }
                }
            }
        }
        let num_rows = rows.len() / (3 * from.width);
        for (x, sum) in sums.iter().enumerate() {
            let count = (num_rows * divisor.min(from.width - x * divisor)) as u32;
            pixels.extend(sum.map(|sum| ((sum + count / 2) / count) as u8));
        }
    }
    Image { size, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_by_hand() {
        let check = |sides: (usize, usize), min_side, expected| {
            assert_eq!(divisor(ImageSize::new(sides.0, sides.1), min_side), expected, "{sides:?} {min_side}");
        };
        check((640, 480), 240, 2);
        check((640, 480), 241, 1);
        check((639, 479), 240, 2);
        check((640, 480), 120, 4);
        check((480, 4000), 60, 8);
        check((640, 480), 1, 8);
        check((640, 480), 0, 8);
        check((1, 1), 1, 8);
        check((640, 480), 9999, 1);
    }

    #[test]
    fn means_by_hand() {
        let gray = |values: &[u8]| values.iter().flat_map(|&value| [value; 3]).collect::<Vec<u8>>();
        let image = Image { size: ImageSize::new(3, 3), pixels: gray(&[1, 2, 9, 3, 5, 8, 7, 8, 4]) };
        let reduced = mean(image, 2);
        assert_eq!((reduced.size, reduced.pixels), (ImageSize::new(2, 2), gray(&[3, 9, 8, 4])));
    }
}
