//! Pictures on their way to the network: decoding, and resizing, normalising and padding in one pass.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use retinanet_anchors::ImageSize;
use retinanet_data::augmentation::{
    Border, ColorChange, Piece, RotatedBox, Window, adjust_colors, crop, flip_horizontal, flip_vertical, mixup, mosaic,
    paste, rotate, scale, turn,
};
use retinanet_data::{
    Dataset, DecodeLimits, GeneratedConfig, GeneratedDataset, Image, PreparationScratch, Preprocessing, Sample,
    decode_at_least, decode_file,
};
use std::hint::black_box;
use std::path::PathBuf;

/// A picture with structure at every scale, as photos have.
fn picture(width: usize, height: usize) -> Image {
    let value = |i: usize| {
        let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
        let wave = (x as f32 / 37.0 + c as f32).sin() * (y as f32 / 23.0).cos() + (x * y % 17) as f32 / 40.0;
        (110.0 + 90.0 * wave).clamp(0.0, 255.0) as u8
    };
    Image { size: ImageSize::new(width, height), pixels: (0..width * height * 3).map(value).collect() }
}

fn bench(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (width, height) in [(320, 240), (640, 480), (2048, 1365)] {
        let image = picture(width, height);
        let path: PathBuf = folder.path().join(format!("{width}x{height}.jpg"));
        let rgb = retinanet_draw::picture_from_rgb(image.size, image.pixels.clone()).expect("a picture");
        std::fs::write(&path, retinanet_draw::encode_jpeg(&rgb, 90).expect("a JPEG")).expect("a file");
        let mut group = c.benchmark_group("cpu/data");
        group.throughput(Throughput::Elements((width * height) as u64));
        group.bench_function(format!("decode_jpeg/{height}x{width}/u8"), |b| {
            b.iter(|| decode_file(black_box(&path), &DecodeLimits::default()).expect("a picture"))
        });
        for divisor in [2, 4, 8] {
            // Beside the whole picture, of which they are the means.
            group.bench_function(format!("decode_jpeg/{height}x{width}_by_{divisor}/u8"), |b| {
                let side = width.min(height).div_ceil(divisor);
                b.iter(|| decode_at_least(black_box(&path), side, &DecodeLimits::default()).expect("a picture"))
            });
        }
        let mut sample = Sample { image: image.clone(), boxes: Vec::new(), classes: Vec::new() };
        group.bench_function(format!("flip_horizontal/{height}x{width}/u8"), |b| {
            b.iter(|| flip_horizontal(black_box(&mut sample)))
        });
        group.bench_function(format!("flip_vertical/{height}x{width}/u8"), |b| {
            b.iter(|| flip_vertical(black_box(&mut sample)))
        });

        let small = Preprocessing { min_size: 240, max_size: 320, ..Preprocessing::default() };
        let padded = small.sizes(image.size).padded;
        let mut out = vec![0.0; padded.width * padded.height * 3];
        let mut scratch = PreparationScratch::default();
        group.bench_function(format!("prepare/{height}x{width}_to_{}x{}/f32", padded.height, padded.width), |b| {
            b.iter(|| small.prepare_into(&image.view(), &mut scratch, black_box(&mut out)).expect("a canvas"))
        });

        let preprocessing = Preprocessing::default();
        let padded = preprocessing.sizes(image.size).padded;
        let mut out = vec![0.0; padded.width * padded.height * 3];
        let mut scratch = PreparationScratch::default();
        group.throughput(Throughput::Elements(out.len() as u64 / 3));
        let shape = format!("{height}x{width}_to_{}x{}", padded.height, padded.width);
        group.bench_function(format!("prepare/{shape}/f32"), |b| {
            b.iter(|| preprocessing.prepare_into(&image.view(), &mut scratch, black_box(&mut out)).expect("a canvas"))
        });
        group.bench_function(format!("batch/{shape}/f32"), |b| {
            b.iter_batched(|| (), |()| preprocessing.batch(&[image.view()]).expect("a batch"), BatchSize::PerIteration)
        });
        group.finish();
    }
}

/// Each transform of a training sample, on pictures of 640 x 480 with about four boxes.
fn augment(c: &mut Criterion) {
    let config =
        GeneratedConfig { images: 4, size: ImageSize::new(640, 480), empty: 0.0, ..GeneratedConfig::default() };
    let set = GeneratedDataset::new(config).expect("a data set");
    let samples: Vec<Sample> = (0..4).map(|index| set.sample(index).expect("a sample")).collect();
    let (first, size) = (&samples[0], samples[0].image.size);
    let border = Border { min_visible: 0.3, fill: [124, 116, 104] };
    let mut group = c.benchmark_group("cpu/data");
    group.throughput(Throughput::Elements((size.width * size.height) as u64));
    let id = |name: &str| format!("augment_{name}/{}x{}/u8", size.height, size.width);

    for (name, flip) in [("flip_horizontal", flip_horizontal as fn(&mut Sample)), ("flip_vertical", flip_vertical)] {
        let mut sample = first.clone();
        group.bench_function(id(name), |b| b.iter(|| flip(black_box(&mut sample))));
    }
    let none = ColorChange::default();
    for (name, change) in [
        ("brightness", ColorChange { brightness: 1.1, ..none }),
        ("brightness_contrast", ColorChange { brightness: 1.1, contrast: 1.2, ..none }),
        ("saturation", ColorChange { saturation: 1.2, ..none }),
        ("hue", ColorChange { hue: 0.03, ..none }),
        ("colors", ColorChange { brightness: 1.1, contrast: 0.9, saturation: 1.2, hue: 0.03, is_gray: false }),
        ("grayscale", ColorChange { is_gray: true, ..none }),
    ] {
        let of = |b: &mut criterion::Bencher<'_>| {
            b.iter_batched_ref(|| first.image.clone(), |image| adjust_colors(image, &change), BatchSize::LargeInput)
        };
        group.bench_function(id(name), of);
    }
    let by_value = |b: &mut criterion::Bencher<'_>, change: &dyn Fn(Sample) -> Sample| {
        b.iter_batched(|| first.clone(), change, BatchSize::LargeInput)
    };
    group.bench_function(id("quarter_turn"), |b| by_value(b, &|sample| turn(sample, 1)));
    group.bench_function(id("rotation"), |b| b.iter(|| rotate(black_box(first), 7.0, RotatedBox::Ellipse, border)));
    let window = Window { left: 100, top: 80, size: ImageSize::new(400, 300) };
    group.bench_function(id("crop"), |b| b.iter(|| crop(black_box(first), window, border)));
    for factor in [0.5, 2.0] {
        let run = |b: &mut criterion::Bencher<'_>| b.iter(|| scale(black_box(first), factor, size, [0.3, 0.6], border));
        group.bench_function(id(&format!("scale_{factor}")), run);
    }
    let four = [&samples[0], &samples[1], &samples[2], &samples[3]];
    group
        .bench_function(id("mosaic"), |b| b.iter(|| mosaic(black_box(four), [0.5, 0.4], [0.6, 0.7, 0.8, 0.9], border)));
    group.bench_function(id("mixup"), |b| by_value(b, &|sample| mixup(sample, &samples[1], 0.5)));
    let other = &samples[1];
    let piece = |object| Piece::new(other, object, ImageSize::new(700, 525), size, [0.2, 0.7]);
    let pieces: Vec<Piece> = (0..other.boxes.len()).filter_map(piece).collect();
    group.bench_function(id("copy_paste"), |b| by_value(b, &|sample| paste(sample, other, &pieces, border)));
    group.finish();
}

criterion_group!(benches, bench, augment);
criterion_main!(benches);
