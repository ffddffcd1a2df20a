//! Pictures on their way to the network: decoding, and resizing, normalising and padding in one pass.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use retinanet_anchors::ImageSize;
use retinanet_data::augmentation::{flip_horizontal, flip_vertical};
use retinanet_data::{DecodeLimits, Image, PreparationScratch, Preprocessing, Sample, decode_at_least, decode_file};
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

criterion_group!(benches, bench);
criterion_main!(benches);
