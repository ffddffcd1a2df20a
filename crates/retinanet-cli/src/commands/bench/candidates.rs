//! Random weights that find as much as a trained detector would: the class bias moved so that a number of locations pass.

use anyhow::Context;
use candle_core::Tensor;
use retinanet::{DetectionPlan, Detector, InferenceOptions, Predictions};
use retinanet_data::Image;

/// The last bias of the class subnet.
const CLASS_BIAS: &str = "head.classification_head.cls_logits.bias";

/// Moves the class bias so that the logits of about `count` locations an image pass the score threshold; how many do.
///
/// A location is a position of a level's map; it passes when the best logit of its A anchors and K classes does. The best
/// logits of all locations of all images are ranked, and the bias moved so that the threshold lies below the `count * N`th.
pub(super) fn calibrate(
    detector: &Detector,
    options: &InferenceOptions,
    images: &[Image],
    count: usize,
) -> anyhow::Result<f64> {
    let threshold = detector.config.post_processing.score_threshold;
    anyhow::ensure!(threshold > 0.0, "--candidates: expected a score threshold above 0, found {threshold}");
    let plan = detector.plan(options)?;
    let mut best = Vec::new();
    for image in images {
        best.extend(best_logits(&predict(&plan, image)?)?);
    }
    let wanted = count.saturating_mul(images.len());
    anyhow::ensure!(
        (1..best.len()).contains(&wanted),
        "--candidates: expected 1 to {} locations an image, found {count}",
        best.len().saturating_sub(1) / images.len().max(1)
    );
    best.sort_unstable_by(|a, b| b.total_cmp(a));
    // Between the last that is to pass and the first that is not, where rounding moves neither over the edge.
    let middle = (best[wanted - 1] + best[wanted]) / 2.0;
    let bias = detector.model.parameters.variable(CLASS_BIAS)?;
    bias.set(&(bias.as_detached_tensor() + f64::from(logit(threshold) - middle))?)?;
    Ok(best.iter().filter(|&&best| best > middle).count() as f64 / images.len() as f64)
}

/// The network alone, of one image.
fn predict(plan: &DetectionPlan, image: &Image) -> anyhow::Result<Predictions> {
    let batch = plan.config().preprocessing.batch(&[image.view()])?;
    let shape = (1, batch.padded.height, batch.padded.width, 3);
    let input = Tensor::from_vec(batch.pixels, shape, &candle_core::Device::Cpu)?;
    Ok(plan.predict(&input)?)
}

/// The best logit of each location, level by level.
fn best_logits(predictions: &Predictions) -> anyhow::Result<Vec<f32>> {
    let mut best = Vec::new();
    for (logits, grid) in predictions.class_logits.values().iter().zip(predictions.grids.values()) {
        let locations = grid.width * grid.height;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        let size = logits.len().checked_div(locations).filter(|&size| size > 0).context("a level without locations")?;
        best.extend(logits.chunks_exact(size).map(|location| location.iter().copied().fold(f32::MIN, f32::max)));
    }
    Ok(best)
}

/// The logit of a score.
fn logit(score: f32) -> f32 {
    let score = f64::from(score);
    (score / (1.0 - score)).ln() as f32
}
