//! What a timed run gave, as a file to compare with.

use candle_core::{Device, Tensor};
use retinanet::{Predictions, weights};
use retinanet_anchors::Detection;
use std::collections::BTreeMap;
use std::path::Path;

/// `images` `[N, H, W, 3]`, and of each level `class_logits.p3` `[N, R, K]` and `box_deltas.p3` `[N, R, 4]`.
pub(super) fn predictions(path: &Path, images: &Tensor, predictions: &Predictions) -> anyhow::Result<()> {
    let mut tensors = BTreeMap::from([("images".to_owned(), images.clone())]);
    for (name, pyramid) in [("class_logits", &predictions.class_logits), ("box_deltas", &predictions.box_deltas)] {
        tensors.extend(pyramid.iter().map(|(level, tensor)| (format!("{name}.p{}", level.number()), tensor.clone())));
    }
    Ok(weights::write(path, &tensors, &BTreeMap::new())?)
}

/// Of each image, counted from 0, `boxes.0` `[D, 4]`, `scores.0` `[D]` and `labels.0` `[D]`, all f32, best first.
pub(super) fn detections(path: &Path, images: &[Vec<Detection>]) -> anyhow::Result<()> {
    let mut tensors = BTreeMap::new();
    for (image_idx, detections) in images.iter().enumerate() {
        let count = detections.len();
        let boxes: Vec<f32> = detections.iter().flat_map(|detection| detection.bbox.to_array()).collect();
        let scores: Vec<f32> = detections.iter().map(|detection| detection.score).collect();
        let labels: Vec<f32> = detections.iter().map(|detection| detection.label as f32).collect();
        tensors.insert(format!("boxes.{image_idx}"), Tensor::from_vec(boxes, (count, 4), &Device::Cpu)?);
        tensors.insert(format!("scores.{image_idx}"), Tensor::from_vec(scores, count, &Device::Cpu)?);
        tensors.insert(format!("labels.{image_idx}"), Tensor::from_vec(labels, count, &Device::Cpu)?);
    }
    Ok(weights::write(path, &tensors, &BTreeMap::new())?)
}
