//! Sizes by table, and torchvision's own input tensors.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use retinanet_anchors::{BBox, ImageSize};
use retinanet_data::{BatchError, BatchImage, FloatImage, Image, PreparationScratch, Preprocessing, Sample};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/torchvision");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/input_samples.txt");

struct Case {
    name: &'static str,
    min_size: usize,
    max_size: usize,
    /// Width and height of image 0, 1, ...
    sizes: [(usize, usize); 2],
    resized: [(usize, usize); 2],
    padded: (usize, usize),
}

const CASES: [Case; 2] = [
    Case {
        name: "r18_v1",
        min_size: 256,
        max_size: 320,
        sizes: [(320, 240), (150, 200)],
        resized: [(320, 240), (240, 320)],
        padded: (320, 320),
    },
    Case {
        name: "r50_v1",
        min_size: 320,
        max_size: 512,
        sizes: [(320, 240), (217, 333)],
        resized: [(426, 320), (320, 491)],
        padded: (448, 512),
    },
];

#[track_caller]
fn check_size(min_size: usize, max_size: usize, original: (usize, usize), expected: (usize, usize)) {
    let preprocessing = Preprocessing { min_size, max_size, ..Preprocessing::default() };
    let resized = preprocessing.resized_size(ImageSize::new(original.0, original.1));
    assert_eq!((resized.width, resized.height), expected, "{original:?}");
}

#[test]
fn sizes_after_resizing() {
    for case in &CASES {
        for (original, resized) in case.sizes.into_iter().zip(case.resized) {
            check_size(case.min_size, case.max_size, original, resized);
        }
    }
    check_size(800, 1333, (640, 480), (1066, 800));
    check_size(800, 1333, (3000, 500), (1333, 222));
    // Some sides end one short, as the product with the rounded quotient is not quite whole.
    let short = |side: usize| {
        let preprocessing = Preprocessing::default();
        preprocessing.resized_size(ImageSize::new(side, side)).width == 799
    };
    assert!((1..2000).any(short));
    // Where torchvision fails: a side stays at least 1.
    check_size(800, 1333, (10_000, 1), (1333, 1));
    check_size(800, 1333, (0, 7), (0, 7));
}

/// FNV-1a of the name, then splitmix64, 24 bits: numbers in 0..1 that any language can rebuild.
fn uniform(name: &str, index: u64) -> f64 {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / f64::from(1 << 24)
}

fn image(number: usize, (width, height): (usize, usize)) -> FloatImage {
    let name = format!("image{number}");
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let u = uniform(&name, ((c * height + y) * width + x) as u64);
                let (xf, yf, cf) = (x as f64, y as f64, c as f64);
                let wave = 0.3 * (xf / 17.0 + cf).sin() * (yf / 23.0 - cf).cos();
                pixels.push((0.5 + wave + 0.2 * (2.0 * u - 1.0)) as f32);
            }
        }
    }
    FloatImage { size: ImageSize::new(width, height), pixels }
}

/// The value at a flat `[N, 3, H, W]` index of a batch that is `[N, H, W, 3]`.
fn channels_first(pixels: &[f32], padded: ImageSize, flat: usize) -> f32 {
    let plane = padded.width * padded.height;
    let (n, c, at) = (flat / (3 * plane), flat / plane % 3, flat % plane);
    pixels[(n * plane + at) * 3 + c]
}

/// torchvision's samples of its input tensor: every `step`-th value of `[N, 3, H, W]`.
fn fixture(name: &str, total: usize) -> Option<Vec<(usize, f32)>> {
    let bytes = std::fs::read(Path::new(FIXTURES).join(format!("{name}.safetensors"))).ok()?;
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(header_len);
    let header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let offsets = &header["input_samples"]["data_offsets"];
    let [start, end] = [0, 1].map(|i| offsets[i].as_u64().unwrap() as usize);
    let values = data[start..end].as_chunks::<4>().0;
    let step = total / 4096;
    let value = |(i, bytes): (usize, &[u8; 4])| (i * step, f32::from_le_bytes(*bytes));
    Some(values.iter().enumerate().map(value).collect())
}

/// The committed part of them: one line each, `case flat-index value`.
fn table() -> BTreeMap<String, Vec<(usize, f32)>> {
    let mut cases: BTreeMap<String, Vec<(usize, f32)>> = BTreeMap::new();
    let text = std::fs::read_to_string(TABLE).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let sample = (fields[1].parse().unwrap(), fields[2].parse().unwrap());
        cases.entry(fields[0].to_owned()).or_default().push(sample);
    }
    cases
}

#[track_caller]
fn compare(name: &str, pixels: &[f32], padded: ImageSize, expected: &[(usize, f32)]) {
    let (mut difference, mut norm) = (0.0, 0.0);
    for &(flat, expected) in expected {
        let (found, expected) = (f64::from(channels_first(pixels, padded, flat)), f64::from(expected));
        let error = (found - expected).abs();
        assert!(error <= 1e-6 * expected.abs().max(1.0), "{name}[{flat}]: {expected} {found}");
        difference += error * error;
        norm += expected * expected;
    }
    assert!(norm > 100.0, "{name}: the samples say little");
    assert!((difference / norm).sqrt() <= 1e-6, "{name}");
}

/// `REWRITE_GOLDENS=1 cargo test -p retinanet-data` writes the table anew from the fixtures, which
/// `make_golden.py` beside them made with torchvision in f64.
#[test]
fn batches_are_torchvisions() {
    let mut rewritten =
        "# Every 7th of torchvision's samples of its input tensor: case, flat index in [N, 3, H, W], value.\n"
            .to_owned();
    let rewrite = std::env::var_os("REWRITE_GOLDENS").is_some();
    let table = if rewrite { BTreeMap::new() } else { table() };
    for case in &CASES {
        let preprocessing =
            Preprocessing { min_size: case.min_size, max_size: case.max_size, ..Preprocessing::default() };
        let images = [image(0, case.sizes[0]), image(1, case.sizes[1])];
        let batch = preprocessing.batch(&[images[0].view(), images[1].view()]).unwrap();
        assert_eq!(batch.padded, ImageSize::new(case.padded.0, case.padded.1));
        if let Some(expected) = fixture(case.name, batch.pixels.len()) {
            compare(case.name, &batch.pixels, batch.padded, &expected);
            for (flat, value) in expected.iter().step_by(7) {
                writeln!(rewritten, "{} {flat} {value:?}", case.name).unwrap();
            }
        } else {
            println!("skipped: {}: {FIXTURES} is not there", case.name);
        }
        if !rewrite {
            compare(case.name, &batch.pixels, batch.padded, &table[case.name]);
        }
    }
    if rewrite {
        std::fs::write(TABLE, rewritten).unwrap();
    }
}

#[test]
fn bytes_and_floats_agree() {
    let size = ImageSize::new(13, 9);
    let bytes: Vec<u8> = (0..351).map(|i| (i * 7 % 256) as u8).collect();
    let floats = FloatImage { size, pixels: bytes.iter().map(|&b| f32::from(b) / 255.0).collect() };
    let bytes = Image { size, pixels: bytes };
    let preprocessing = Preprocessing { min_size: 21, max_size: 40, pad_to: 8, ..Preprocessing::default() };
    let a = preprocessing.batch(&[bytes.view()]).unwrap();
    let b = preprocessing.batch(&[floats.view()]).unwrap();
    assert_eq!((a.padded, &a.images, a.pixels.len()), (b.padded, &b.images, b.pixels.len()));
    // A byte is not rounded before it is mixed, a 255th of it is.
    let differ = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-6;
    assert!(!a.pixels.iter().zip(&b.pixels).any(differ));
    // The threads of the loader and the one pool of detection give the same bits.
    let sample = Sample { image: bytes, boxes: vec![BBox::new(1.0, 2.0, 13.0, 9.0)], classes: vec![4] };
    let b = preprocessing.batch_of_samples(&[(17, sample)]).unwrap();
    assert_eq!(a.pixels, b.pixels);
    let image = &b.images[0];
    assert_eq!((image.index, &image.classes[..]), (17, &[4][..]));
    let (sx, sy) = (30.0 / 13.0, 21.0 / 9.0);
    assert_eq!(image.resized, ImageSize::new(30, 21));
    assert_eq!(image.scale(), (sx, sy));
    assert_eq!(image.boxes[0], BBox::new(sx, 2.0 * sy, 13.0 * sx, 9.0 * sy));
    let back = image.to_original(&image.boxes[0]);
    assert!((back.x0 - 1.0).abs() < 1e-6 && (back.y1 - 9.0).abs() < 1e-5);
}

#[test]
fn one_picture_into_the_callers_memory_is_a_batch_of_it() {
    let mut scratch = PreparationScratch::default();
    let preprocessing = Preprocessing { min_size: 50, max_size: 120, pad_to: 32, ..Preprocessing::default() };
    for (width, height) in [(13, 9), (90, 50), (50, 100), (1, 200), (3, 3)] {
        let pixels = (0..width * height * 3).map(|i| (i * 7 % 256) as u8).collect();
        let image = Image { size: ImageSize::new(width, height), pixels };
        let batch = preprocessing.batch(&[image.view()]).unwrap();
        let sizes = preprocessing.sizes(image.size);
        assert_eq!((sizes.resized, sizes.padded), (batch.images[0].resized, batch.padded));
        let mut out = vec![f32::NAN; batch.pixels.len()];
        assert_eq!(preprocessing.prepare_into(&image.view(), &mut scratch, &mut out).unwrap(), batch.images[0]);
        assert_eq!(out, batch.pixels);
        let error = preprocessing.prepare_into(&image.view(), &mut scratch, &mut out[1..]).unwrap_err();
        let (padded, expected) = (batch.padded, batch.pixels.len());
        let expected =
            format!("prepared image: number of values: expected {expected} ({padded}, 3 each), found {}", expected - 1);
        assert_eq!(error.to_string(), expected);
    }
    let wrong = Image { size: ImageSize::new(2, 2), pixels: vec![0; 11] };
    assert!(preprocessing.prepare_into(&wrong.view(), &mut scratch, &mut []).is_err());
}

#[test]
fn a_box_at_the_edge_stays_in_the_picture() {
    let original = ImageSize::new(97, 30);
    for side in 1..400 {
        let resized = ImageSize::new(side, side);
        let image = BatchImage { index: 0, original, resized, boxes: Vec::new(), classes: Vec::new() };
        let back = image.to_original(&BBox::new(0.0, 0.0, side as f32, side as f32));
        assert!(back.x1 <= 97.0 && back.y1 <= 30.0, "{side}: {back:?}");
        assert!(back.x1 > 96.999 && back.y1 > 29.999, "{side}: {back:?}");
    }
}

#[test]
fn what_makes_no_batch_is_said() {
    let preprocessing = Preprocessing::default();
    assert_eq!(preprocessing.batch(&[]), Err(BatchError::Empty));
    let image = |width, height, values| Image { size: ImageSize::new(width, height), pixels: vec![0; values] };
    for (wrong, expected) in [
        (image(2, 2, 11), "expected 12 (width x height x 3, above 0), found 11"),
        (image(0, 5, 0), "expected 0 (width x height x 3, above 0), found 0"),
    ] {
        let good = image(1, 1, 3);
        let error = preprocessing.batch(&[good.view(), wrong.view()]).unwrap_err();
        assert_eq!(error.to_string(), format!("image 1: number of values: {expected}"));
    }
    for (field, preprocessing) in [
        ("preprocessing.std", Preprocessing { std: [1.0, 0.0, 1.0], ..preprocessing }),
        ("preprocessing.mean", Preprocessing { mean: [f32::NAN; 3], ..preprocessing }),
        ("preprocessing.pad_to", Preprocessing { pad_to: 0, ..preprocessing }),
        ("preprocessing.min_size", Preprocessing { min_size: 1 << 20, ..preprocessing }),
    ] {
        let error = preprocessing.batch(&[image(1, 1, 3).view()]).unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    }
}
