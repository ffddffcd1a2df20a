//! Anchors, matching and suppression of an image of 800 x 1344 pixels: 201,600 anchors and a little more.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, criterion_group, criterion_main};
use retinanet_anchors::{
    AnchorConfig, AnchorGenerator, BBox, ImageSize, Matcher, Pyramid, PyramidLevel, class_wise_nms,
};
use std::hint::black_box;

const PADDED: ImageSize = ImageSize { width: 1344, height: 800 };

fn grids() -> Pyramid<ImageSize> {
    let grid = |level: u32| ImageSize::new(1344usize.div_ceil(1 << level), 800usize.div_ceil(1 << level));
    Pyramid::new(PyramidLevel::P3, (3..8).map(grid).collect()).expect("five levels")
}

/// Numbers in [0, 1) from a counter.
fn uniform(i: u64) -> f32 {
    (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32
}

fn boxes(count: u64) -> Vec<BBox> {
    let corner = |i: u64| {
        let (x, y) = (uniform(4 * i) * 1200.0, uniform(4 * i + 1) * 700.0);
        BBox::new(x, y, x + 10.0 + uniform(4 * i + 2) * 140.0, y + 10.0 + uniform(4 * i + 3) * 90.0)
    };
    (0..count).map(corner).collect()
}

fn bench(c: &mut Criterion) {
    let generator = AnchorGenerator::new(&AnchorConfig::default(), PyramidLevel::P3).expect("the paper's anchors");
    let grids = grids();
    let anchors = generator.generate(PADDED, &grids).expect("five levels").into_values().concat();
    c.bench_function("cpu/anchors/generate/800x1344/f32", |b| b.iter(|| generator.generate(black_box(PADDED), &grids)));

    let ground_truth = boxes(100);
    let matcher = Matcher::default();
    c.bench_function(&format!("cpu/anchors/match/{}x100/f32", anchors.len()), |b| {
        b.iter(|| matcher.assign(&anchors, black_box(&ground_truth)))
    });

    let boxes = boxes(5000);
    let scores: Vec<f32> = (0..5000).map(|i| uniform(i + 99_991)).collect();
    let labels: Vec<usize> = (0..5000).map(|i| i % 80).collect();
    c.bench_function("cpu/anchors/nms/5000x80/f32", |b| {
        b.iter(|| class_wise_nms(&boxes, &scores, black_box(&labels), 0.5))
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
