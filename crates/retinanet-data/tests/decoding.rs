//! Files of every format, orientation and depth, and files that lie.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA, Rgb, Rgba};
use retinanet_anchors::ImageSize;
use retinanet_data::{DecodeError, DecodeLimits, Image, decode_file, image_size};

const ROBUST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/robust");

fn decode(path: &Path) -> Result<Image, DecodeError> {
    decode_file(path, &DecodeLimits::default())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn colourful(width: u32, height: u32) -> ImageBuffer<Rgb<u8>, Vec<u8>> {
    ImageBuffer::from_fn(width, height, |x, y| Rgb([40 * x as u8, 60 * y as u8, 7]))
}

#[test]
fn every_format_told_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let source = colourful(5, 3);
    for format in
        [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Jpeg]
    {
        let bytes = encode(&source.clone().into(), format);
        // A wrong ending changes nothing.
        let path = write(folder.path(), &format!("{format:?}.txt"), &bytes);
        let image = decode(&path).unwrap();
        assert_eq!(image.size, ImageSize::new(5, 3), "{format:?}");
        assert_eq!(image_size(&path).unwrap(), image.size);
        let far = image.pixels.iter().zip(source.as_raw());
        let far = far.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        // JPEG blurs colours over two pixels.
        assert!(far <= if format == ImageFormat::Jpeg { 60 } else { 0 }, "{format:?}: {far}");
    }
}

#[test]
fn gray_alpha_and_depth_become_rgb_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let check = |image: DynamicImage, expected: [u8; 3]| {
        let path = write(folder.path(), "a.png", &encode(&image, ImageFormat::Png));
        assert_eq!(decode(&path).unwrap().pixels, expected, "{:?}", image.color());
    };
    let one = |_, _| Luma([90u8]);
    check(ImageBuffer::from_fn(1, 1, one).into(), [90; 3]);
    // Alpha is dropped, not blended.
    check(ImageBuffer::from_pixel(1, 1, LumaA([90u8, 0])).into(), [90; 3]);
    check(ImageBuffer::from_pixel(1, 1, Rgba([1u8, 2, 3, 0])).into(), [1, 2, 3]);
    // 257 steps of 16 bits are one of 8; rounded.
    check(ImageBuffer::from_pixel(1, 1, Rgb([257u16, 257 + 128, 257 + 129])).into(), [1, 1, 2]);
    check(ImageBuffer::from_pixel(1, 1, Luma([u16::MAX])).into(), [255; 3]);
}

/// EXIF that holds nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

#[test]
fn orientation_by_hand() {
    // Where the stored pixel (x, y) of 3 x 2 is shown.
    type Shown = fn(usize, usize) -> (usize, usize);
    let table: [(u8, Shown); 9] = [
        (1, |x, y| (x, y)),
        (2, |x, y| (2 - x, y)),
        (3, |x, y| (2 - x, 1 - y)),
        (4, |x, y| (x, 1 - y)),
        (5, |x, y| (y, x)),
        (6, |x, y| (1 - y, x)),
        (7, |x, y| (1 - y, 2 - x)),
        (8, |x, y| (y, 2 - x)),
        (9, |x, y| (x, y)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let stored = colourful(3, 2);
    for (orientation, shown) in table {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.write_image(stored.as_raw(), 3, 2, image::ExtendedColorType::Rgb8).unwrap();
        let path = write(folder.path(), "turned.png", &bytes);
        let image = decode(&path).unwrap();
        let transposed = (5..=8).contains(&orientation);
        let size = if transposed { (2, 3) } else { (3, 2) };
        assert_eq!(image.size, ImageSize::new(size.0, size.1), "{orientation}");
        assert_eq!(image_size(&path).unwrap(), image.size);
        for (x, y, pixel) in stored.enumerate_pixels() {
            let (x, y) = shown(x as usize, y as usize);
            let found = &image.pixels[(y * image.size.width + x) * 3..][..3];
            assert_eq!(found, pixel.0, "orientation {orientation}");
        }
    }
}

/// A PNG header that asks for this many pixels, and nothing else.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let crc = !chunk.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1)))
    });
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend(chunk);
    bytes.extend(crc.to_be_bytes());
    bytes.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    bytes
}

#[test]
fn limits_come_before_memory() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = write(folder.path(), "bomb.png", &png_header(60_000, 50_000));
    let error = decode(&bomb).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
    let expected = format!("{}: pixels: expected at most 100000000, found 3000000000 (60000x50000)", bomb.display());
    assert_eq!(error.to_string(), expected);
    assert_eq!(image_size(&bomb).unwrap(), ImageSize::new(60_000, 50_000));

    let png = encode(&colourful(6, 4).into(), ImageFormat::Png);
    let path = write(folder.path(), "a.png", &png);
    let limits = |max_pixels, max_bytes| DecodeLimits { max_pixels, max_bytes };
    assert!(decode_file(&path, &limits(24, 1 << 20)).is_ok());
    assert!(matches!(decode_file(&path, &limits(23, 1 << 20)), Err(DecodeError::TooLarge { .. })));
    // Fewer bytes than the file, then fewer than its pixels.
    assert!(matches!(decode_file(&path, &limits(24, 9)), Err(DecodeError::TooLarge { .. })));
    let large = encode(&ImageBuffer::from_pixel(100, 100, Luma([0u8])).into(), ImageFormat::Png);
    assert!(large.len() < 9_999);
    let path = write(folder.path(), "large.png", &large);
    assert!(matches!(decode_file(&path, &limits(1 << 20, 9_999)), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(&colourful(40, 40).into(), ImageFormat::Png);
    for (path, part) in [
        (folder.path().join("none.png"), "No such file"),
        (folder.path().to_owned(), "found a folder, pipe or device"),
        (write(folder.path(), "empty.jpg", b""), "found other content"),
        (write(folder.path(), "text.jpg", b"not a picture"), "found other content"),
        (write(folder.path(), "cut.png", &png[..png.len() / 2]), "image data"),
        (write(folder.path(), "head.png", &png[..20]), "image data"),
    ] {
        let error = decode(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        assert!(cfg!(not(unix)) || error.contains(part), "{error}");
    }
}

#[test]
fn messages_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    // The PNG decoder prints a structure, the JPEG decoder ends in a line break.
    let mut png = encode(&colourful(4, 4).into(), ImageFormat::Png);
    png[30] ^= 1;
    for (name, bytes) in
        [("crc.png", &png[..]), ("end.jpg", b"\xff\xd8\xff\xe0garbage"), ("dht.jpg", b"\xff\xd8\xff\xc4\0\0")]
    {
        let path = write(folder.path(), name, bytes);
        let message = decode(&path).unwrap_err().to_string();
        let words = message.strip_prefix(&format!("{}: image data: expected a whole image, found ", path.display()));
        let words = words.unwrap_or_else(|| panic!("{message}"));
        assert!(!words.is_empty() && words.chars().count() <= 123, "{words}");
        assert!(!words.contains(['\n', '"']) && !words.contains("\\n") && words.trim() == words, "{words:?}");
        assert!(!words.contains("Format error"), "{words}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (sender, receiver) = std::sync::mpsc::channel();
    let pipe = path.clone();
    std::thread::spawn(move || sender.send((decode(&pipe), image_size(&pipe))).expect("the test waits"));
    let (decoded, size) = receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("it does not wait");
    for message in [decoded.unwrap_err().to_string(), size.unwrap_err().to_string()] {
        assert!(
            message.contains("pipe.png: image format") && message.contains("a folder, pipe or device"),
            "{message}"
        );
    }
}

#[test]
fn a_jpeg_cut_short_is_what_is_left_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = ImageBuffer::from_fn(160, 160, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
    let jpeg = encode(&source.into(), ImageFormat::Jpeg);
    let path = write(folder.path(), "cut.jpg", &jpeg[..jpeg.len() * 3 / 4]);
    let image = decode(&path).unwrap();
    assert_eq!(image.size, ImageSize::new(160, 160));
    // The upper rows are there.
    assert!(image.pixels[3 * 150].abs_diff(150) < 20);
    let path = write(folder.path(), "cut.jpg", &jpeg[..30]);
    assert!(decode(&path).is_err());
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[test]
fn odd_and_broken_files_are_images_or_named_errors() {
    if !Path::new(ROBUST).is_dir() {
        println!("skipped: {ROBUST} is not there");
        return;
    }
    let mut files = Vec::new();
    files_below(Path::new(ROBUST), &mut files);
    let mut images = 0;
    for path in &files {
        let size = image_size(path);
        match decode(path) {
            Ok(image) => {
                images += 1;
                assert_eq!(image.pixels.len(), 3 * image.size.width * image.size.height);
                assert_eq!(size.unwrap(), image.size, "{}", path.display());
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
                assert!(!error.contains("panic"), "{error}");
            }
        }
    }
    println!("{} files: {images} images", files.len());
    assert!(files.len() >= 330 && images >= 200, "{images} of {}", files.len());
}

#[test]
fn cmyk_is_not_inverted() {
    let path = Path::new(ROBUST).join("pillow/pil_sample_cmyk.jpg");
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    // Full magenta and yellow in the first corner, full black in the last.
    let pixels = decode(&path).unwrap().pixels;
    assert!(pixels[0] > 200 && pixels[1] < 60 && pixels[2] < 60, "{:?}", &pixels[..3]);
    assert!(pixels[pixels.len() - 3..].iter().all(|&v| v < 40));
}

#[test]
fn one_scene_in_eight_orientations() {
    let folder = Path::new(ROBUST).join("exif-orientation");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    for scene in ["Landscape", "Portrait"] {
        let decoded = |n: usize| decode(&folder.join(format!("{scene}_{n}.jpg"))).unwrap();
        let upright = decoded(1);
        for n in 2..=8 {
            let other = decoded(n);
            assert_eq!(other.size, upright.size, "{scene}_{n}");
            let sum: u64 = other.pixels.iter().zip(&upright.pixels).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = sum as f64 / upright.pixels.len() as f64;
            assert!(mean < 8.0, "{scene}_{n}: mean difference {mean}");
        }
    }
}
