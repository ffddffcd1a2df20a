//! Logits and deltas of an image of 800 x 1344 pixels and 91 classes to detections: what reads all the logits apart from what
//! follows, and that for few and for many candidates.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use retinanet::{Candidate, PostProcessing};
use retinanet_anchors::{AnchorConfig, AnchorGenerator, BoxCoder, ImageSize, LevelAnchors, Pyramid, PyramidLevel};
use std::hint::black_box;

const PADDED: ImageSize = ImageSize { width: 1344, height: 800 };
const NUM_CLASSES: usize = 91;

/// Numbers in [0, 1) from a counter.
fn uniform(i: u64) -> f32 {
    (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32
}

fn bench(c: &mut Criterion) {
    let generator = AnchorGenerator::new(&AnchorConfig::default(), PyramidLevel::P3).expect("the paper's anchors");
    let grid = |level: u32| ImageSize::new(1344usize.div_ceil(1 << level), 800usize.div_ceil(1 << level));
    let grids = Pyramid::new(PyramidLevel::P3, (3..8).map(grid).collect()).expect("five levels");
    let anchors = generator.on_grids(PADDED, &grids).expect("five levels");
    let (coder, post) = (BoxCoder::default(), PostProcessing::default());
    let rows: usize = anchors.values().iter().map(LevelAnchors::len).sum();

    let mut group = c.benchmark_group("cpu/detector");
    group.sample_size(20);
    for wanted in [30, 300, 3000] {
        // Logits of an untrained background, and `wanted` pairs above the threshold spread over the levels, close to each
        // other as those of one object are.
        let level = |(level_idx, anchors): (usize, &LevelAnchors<'_>)| -> Vec<f32> {
            let mut logits: Vec<f32> =
                (0..anchors.len() * NUM_CLASSES).map(|i| -5.0 - 4.0 * uniform(i as u64)).collect();
            let count = wanted * anchors.len() / rows + 1;
            for i in 0..count {
                let object = uniform((level_idx * 100_000 + i / 20) as u64);
                let anchor = ((object * anchors.len() as f32) as usize + i % 20).min(anchors.len() - 1);
                let class = (object * 1000.0) as usize % NUM_CLASSES;
                logits[anchor * NUM_CLASSES + class] = 4.0 * uniform(i as u64 + 7) - 2.0;
            }
            logits
        };
        let logits: Vec<Vec<f32>> = anchors.values().iter().enumerate().map(level).collect();
        let candidates = || -> Vec<Vec<Candidate>> {
            black_box(&logits).iter().map(|logits| post.candidates(logits, NUM_CLASSES)).collect()
        };
        let found = candidates();
        let pairs: usize = found.iter().map(Vec::len).sum();
        let deltas = |level: usize, anchor: usize| {
            [0, 1, 2, 3].map(|k| 0.4 * uniform((level * 1_000_000 + 4 * anchor + k) as u64) - 0.2)
        };
        let finish = |found: &[Vec<Candidate>]| {
            let bbox_of = |level: usize, anchor: usize| {
                let anchor_box = anchors.values()[level].get(anchor).expect("an anchor of the level");
                coder.decode(deltas(level, anchor), &anchor_box)
            };
            post.finish(found, bbox_of, ImageSize::new(1333, 800))
        };
        let kept = finish(&found).len();
        println!("{wanted}: {pairs} candidates, {kept} detections");
        group.throughput(Throughput::Bytes((rows * NUM_CLASSES * 4) as u64));
        group.bench_function(format!("candidates_{wanted}/{rows}x{NUM_CLASSES}/f32"), |b| b.iter(candidates));
        group.throughput(Throughput::Elements(pairs as u64));
        group.bench_function(format!("finish_{wanted}/{rows}x{NUM_CLASSES}/f32"), |b| {
            b.iter(|| finish(black_box(&found)))
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
