//! Pictures to bytes and back.

use retinanet_anchors::ImageSize;
use retinanet_draw::{encode_jpeg, encode_png, picture_from_rgb};

#[test]
fn png_keeps_every_byte() {
    let pixels: Vec<u8> = (0..7 * 5 * 3).map(|value| value as u8 * 2).collect();
    let picture = picture_from_rgb(ImageSize::new(7, 5), pixels.clone()).expect("105 bytes");
    let file = encode_png(&picture).expect("PNG");
    let read = image::load_from_memory(&file).expect("PNG").into_rgb8();
    assert_eq!(read.dimensions(), (7, 5));
    assert_eq!(read.into_raw(), pixels);
}

#[test]
fn jpeg_quality_is_size() {
    let pixels: Vec<u8> = (0..64 * 64 * 3u32).map(|value| (value.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let picture = picture_from_rgb(ImageSize::new(64, 64), pixels).expect("bytes");
    let sizes = [0, 1, 50, 100, 255].map(|quality| encode_jpeg(&picture, quality).expect("JPEG").len());
    assert!(sizes[0] == sizes[1] && sizes[1] < sizes[2] && sizes[2] < sizes[3] && sizes[3] == sizes[4], "{sizes:?}");
    let file = encode_jpeg(&picture, 90).expect("JPEG");
    assert_eq!(image::load_from_memory(&file).expect("JPEG").into_rgb8().dimensions(), (64, 64));
}

#[test]
fn errors_say_what_was_expected() {
    let error = picture_from_rgb(ImageSize::new(2, 2), vec![0; 11]).expect_err("one short");
    assert_eq!(error.to_string(), "picture 2x2: RGB bytes: expected 12, found 11");
    let error = picture_from_rgb(ImageSize::new(usize::MAX, usize::MAX), vec![]).expect_err("huge");
    assert!(error.to_string().ends_with("found 0"), "{error}");
    let empty = picture_from_rgb(ImageSize::new(0, 0), vec![]).expect("no bytes");
    assert!(encode_png(&empty).is_err());
    assert!(encode_jpeg(&empty, 90).is_err());
}
