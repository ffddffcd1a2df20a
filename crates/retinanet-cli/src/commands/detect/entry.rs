//! What is said of an image: the objects of the JSON forms, and the lines that a person reads.

use crate::inputs::ErrorEntry;
use retinanet_anchors::{Detection, ImageSize};
use retinanet_annotations::Class;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// An image and what was found in it, or why nothing could be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    Image(ImageEntry),
    Error(ErrorEntry),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageEntry {
    pub(crate) path: String,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) detections: Vec<DetectionEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetectionEntry {
    /// Corners in pixels of the displayed image, half-open.
    pub(crate) r#box: [f32; 4],
    pub(crate) category_id: i64,
    pub(crate) name: String,
    pub(crate) score: f32,
}

impl ImageEntry {
    pub(crate) fn new(path: &Path, size: ImageSize, detections: &[Detection], classes: &[Class]) -> Self {
        let detection = |detection: &Detection| {
            let class = &classes[detection.label];
            DetectionEntry {
                r#box: detection.bbox.to_array(),
                category_id: class.category_id,
                name: class.name.clone(),
                score: detection.score,
            }
        };
        Self {
            path: path.display().to_string(),
            width: size.width,
            height: size.height,
            detections: detections.iter().map(detection).collect(),
        }
    }

    /// What a person reads: how many of each class have at least this score.
    pub(crate) fn line(&self, threshold: f32) -> String {
        let mut counts: BTreeMap<(i64, &str), usize> = BTreeMap::new();
        for detection in self.detections.iter().filter(|detection| detection.score >= threshold) {
            *counts.entry((detection.category_id, &detection.name)).or_default() += 1;
        }
        let counts: Vec<String> = counts.iter().map(|((_, name), count)| format!("{count} {name}")).collect();
        let found = if counts.is_empty() { format!("nothing above {threshold}") } else { counts.join(", ") };
        format!("{} ({}): {found}", self.path, ImageSize::new(self.width, self.height))
    }
}
