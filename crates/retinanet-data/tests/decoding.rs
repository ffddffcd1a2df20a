//! Files of every format, orientation and depth, and files that lie.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA, Rgb, Rgba};
use retinanet_anchors::ImageSize;
use retinanet_data::{DecodeError, DecodeLimits, Image, ReducedImage, decode_at_least, decode_file, image_size};

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

/// JPEGs of every sampling, gray, with restart markers and odd sizes, and files of other formats.
fn many_files(folder: &Path) -> Vec<PathBuf> {
    let photo = |x: u32, y: u32| {
        let wave = |period: f32, phase: f32| (x as f32 / period + phase).sin() * (y as f32 / (period + 3.0)).cos();
        [wave(19.0, 0.0), wave(31.0, 1.0), wave(11.0, 2.0)].map(|wave| (128.0 + 100.0 * wave) as u8)
    };
    let mut paths = Vec::new();
    for (width, height) in [(160, 120), (161, 123), (97, 64), (8, 9)] {
        let rgb = ImageBuffer::from_fn(width, height, |x, y| Rgb(photo(x, y)));
        let gray = ImageBuffer::from_fn(width, height, |x, y| Luma([photo(x, y)[0]]));
        for (name, image) in [("rgb", DynamicImage::from(rgb)), ("gray", gray.into())] {
            for format in [ImageFormat::Jpeg, ImageFormat::Png] {
                let name = format!("{name}-{width}x{height}.{format:?}");
                paths.push(write(folder, &name, &encode(&image, format)));
            }
        }
    }
    paths
}

/// The mean over squares of the whole picture, and the distance of the pixels from it in dB.
fn psnr_to_mean(whole: &Image, reduced: &ReducedImage, divisor: usize) -> f64 {
    let (width, height) = (whole.size.width, whole.size.height);
    let mut squares = 0.0;
    for (at, &found) in reduced.image.pixels.iter().enumerate() {
        let (x, y, c) = (at / 3 % reduced.image.size.width, at / 3 / reduced.image.size.width, at % 3);
        let columns = x * divisor..((x + 1) * divisor).min(width);
        let (mut sum, mut count) = (0.0, 0.0);
        for y in y * divisor..((y + 1) * divisor).min(height) {
            for x in columns.clone() {
                sum += f64::from(whole.pixels[3 * (y * width + x) + c]);
                count += 1.0;
            }
        }
        squares += (sum / count - f64::from(found)).powi(2);
    }
    10.0 * (255.0f64.powi(2) * reduced.image.pixels.len() as f64 / squares.max(1e-9)).log10()
}

/// The lowest distance over the divisors.
#[track_caller]
fn check_reduced(path: &Path, limits: &DecodeLimits) -> f64 {
    let whole = decode_file(path, limits).unwrap();
    let shorter = whole.size.width.min(whole.size.height);
    let mut lowest = f64::INFINITY;
    for divisor in [1, 2, 4, 8] {
        let reduced = decode_at_least(path, shorter.div_ceil(divisor), limits).unwrap();
        assert_eq!(reduced.original, whole.size, "{}", path.display());
        let size = ImageSize::new(whole.size.width.div_ceil(divisor), whole.size.height.div_ceil(divisor));
        if reduced.image.size == size {
            lowest = lowest.min(psnr_to_mean(&whole, &reduced, divisor));
        } else {
            // So few pixels that a larger divisor leaves as many.
            assert!(shorter < 64 && reduced.image.size.width < size.width, "{}", path.display());
        }
    }
    lowest
}

#[test]
fn a_reduced_picture_is_the_mean_of_the_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    for path in many_files(folder.path()) {
        let psnr = check_reduced(&path, &DecodeLimits::default());
        // Bytes are rounded once more than the mean of them.
        assert!(psnr > 38.0, "{}: {psnr:.1} dB", path.display());
    }
}

#[test]
fn photos_reduced_are_the_means_of_whole_ones() {
    let data = Path::new(ROBUST).with_file_name("");
    for (set, bound) in [("bccd/BCCD/JPEGImages", 46.0), ("coco128x2", 46.0), ("photos", 46.0)] {
        let folder = data.join(set);
        if !folder.is_dir() {
            println!("skipped: {} is not there", folder.display());
            continue;
        }
        let mut files = Vec::new();
        files_below(&folder, &mut files);
        files.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
        files.sort();
        let step = files.len().div_ceil(9);
        let found = files.iter().step_by(step).map(|path| check_reduced(path, &DecodeLimits::default()));
        let (mut sum, mut lowest, mut count) = (0.0, f64::INFINITY, 0.0);
        for psnr in found {
            (sum, lowest, count) = (sum + psnr, psnr.min(lowest), count + 1.0);
        }
        println!("{set}: {:.1} dB on average, {lowest:.1} at least", sum / count);
        assert!(lowest > bound, "{set}: {lowest:.1} dB");
    }
}

/// A JPEG with EXIF behind its first marker.
fn jpeg_turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let block = [&b"Exif\0\0"[..], &exif(orientation)].concat();
    let length = (block.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &block, &jpeg[2..]].concat()
}

#[test]
fn reduced_pictures_are_upright_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = ImageBuffer::from_fn(64, 48, |x, y| Rgb([4 * x as u8, 5 * y as u8, 90]));
    let jpeg = encode(&source.into(), ImageFormat::Jpeg);
    for orientation in 1..=8 {
        let path = write(folder.path(), "turned.jpg", &jpeg_turned(&jpeg, orientation));
        let size = if orientation < 5 { ImageSize::new(64, 48) } else { ImageSize::new(48, 64) };
        assert_eq!(decode(&path).unwrap().size, size, "orientation {orientation}");
        let psnr = check_reduced(&path, &DecodeLimits::default());
        assert!(psnr > 38.0, "orientation {orientation}: {psnr:.1} dB");
    }
}

#[test]
fn damaged_files_reduced_are_what_they_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let source = ImageBuffer::from_fn(120, 90, |x, y| Rgb([2 * x as u8, 2 * y as u8, (x * y) as u8]));
    let jpeg = encode(&source.into(), ImageFormat::Jpeg);
    let limits = DecodeLimits::default();
    let mut state = 7u32;
    let mut next = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for round in 0..400 {
        let mut bytes = jpeg.clone();
        if round % 4 == 0 {
            bytes.truncate(next(jpeg.len()));
        }
        for _ in 0..1 + round % 3 {
            let at = next(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = next(256) as u8;
            }
        }
        let path = write(folder.path(), "damaged.jpg", &bytes);
        match (decode_at_least(&path, 30, &limits), decode_file(&path, &limits)) {
            (Ok(reduced), Ok(whole)) => assert_eq!(reduced.original, whole.size),
            (Err(reduced), Err(whole)) => assert_eq!(reduced.to_string(), whole.to_string()),
            // What lies behind the pixels, or in metadata, does not concern the one and stops the other.
            (Ok(_), Err(whole)) => assert!(!whole.to_string().contains("panic"), "{whole}"),
            (Err(reduced), Ok(_)) => panic!("{reduced}"),
        }
    }
}

#[test]
fn odd_and_broken_files_reduced_are_images_or_named_errors() {
    if !Path::new(ROBUST).is_dir() {
        println!("skipped: {ROBUST} is not there");
        return;
    }
    let mut files = Vec::new();
    files_below(Path::new(ROBUST), &mut files);
    for path in &files {
        match (decode_at_least(path, 16, &DecodeLimits::default()), decode(path)) {
            (Ok(reduced), Ok(whole)) => {
                assert_eq!(reduced.original, whole.size, "{}", path.display());
                assert_eq!(reduced.image.pixels.len(), 3 * reduced.image.size.width * reduced.image.size.height);
            }
            (Err(error), _) => {
                let error = error.to_string();
                assert!(error.starts_with(&format!("{}: ", path.display())) && !error.contains("panic"), "{error}");
            }
            (Ok(_), Err(_)) => {}
        }
    }
}

#[test]
fn limits_come_before_the_memory_of_a_reduced_picture() {
    let folder = tempfile::tempdir().unwrap();
    let jpeg = encode(&colourful(64, 32).into(), ImageFormat::Jpeg);
    let path = write(folder.path(), "a.jpg", &jpeg);
    let limits = DecodeLimits { max_pixels: 64 * 32 - 1, ..DecodeLimits::default() };
    let error = decode_at_least(&path, 8, &limits).unwrap_err();
    assert!(error.to_string().contains("pixels: expected at most 2047, found 2048 (64x32)"), "{error}");
}
