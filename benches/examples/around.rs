//! Times what stands around the network, for `cargo xtask bench --peers`: matching and the focal loss, as one line of JSON.

use candle_core::{Device, Result, Tensor};
use retinanet_anchors::{AnchorConfig, AnchorGenerator, BBox, ImageSize, Matcher, Pyramid, PyramidLevel};
use retinanet_focal::{BACKGROUND, ClassLoss};
use std::hint::black_box;
use std::time::Instant;

/// Levels that together have 201,600 anchors, 9 at each of 22,400 locations.
const GRIDS: [(usize, usize); 5] = [(168, 100), (84, 50), (42, 25), (21, 13), (11, 7)];
const ANCHORS: usize = 201_600;
const BOXES: usize = 100;
const CLASSES: usize = 80;

/// The fastest of so many runs, in milliseconds, after one that is not timed.
fn fastest(runs: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}

/// Numbers in [0, 1) from a counter.
fn uniform(i: usize) -> f32 {
    ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32
}

fn matching() -> Result<f64> {
    let sizes = GRIDS.iter().map(|&(width, height)| ImageSize::new(width, height)).collect();
    let grids = Pyramid::new(PyramidLevel::P3, sizes).map_err(candle_core::Error::wrap)?;
    let generator =
        AnchorGenerator::new(&AnchorConfig::default(), PyramidLevel::P3).map_err(candle_core::Error::wrap)?;
    let anchors = generator.generate(ImageSize::new(1344, 800), &grids).map_err(candle_core::Error::wrap)?;
    let mut anchors = anchors.into_values().concat();
    anchors.truncate(ANCHORS);
    let object = |i: usize| {
        let (x, y) = (uniform(4 * i) * 1200.0, uniform(4 * i + 1) * 700.0);
        BBox::new(x, y, x + 10.0 + uniform(4 * i + 2) * 140.0, y + 10.0 + uniform(4 * i + 3) * 140.0)
    };
    let ground_truth: Vec<BBox> = (0..BOXES).map(object).collect();
    let matcher = Matcher::default();
    assert_eq!(anchors.len(), ANCHORS, "the levels have at least so many anchors");
    fastest(50, || {
        black_box(matcher.assign(black_box(&anchors), black_box(&ground_truth)));
        Ok(())
    })
}

fn focal_loss() -> Result<f64> {
    let logits = Tensor::randn(-4.6f32, 1.0, (2, ANCHORS, CLASSES), &Device::Cpu)?;
    // One anchor in a thousand is foreground.
    let code = |i: usize| if i.is_multiple_of(1000) { 3 } else { BACKGROUND };
    let codes: Vec<i64> = (0..2 * ANCHORS).map(code).collect();
    let targets = Tensor::from_vec(codes, (2, ANCHORS), &Device::Cpu)?;
    let loss = ClassLoss::default();
    fastest(10, || {
        black_box(loss.sum_and_gradient(&logits, &targets, &[1.0, 1.0]).map_err(candle_core::Error::wrap)?);
        Ok(())
    })
}

fn main() -> Result<()> {
    println!("{{\"matching_ms\": {}, \"focal_loss_ms\": {}}}", matching()?, focal_loss()?);
    Ok(())
}
