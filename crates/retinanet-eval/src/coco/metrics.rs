//! The numbers that a set of detections gets.

use serde::{Deserialize, Serialize};

/// COCO's twelve numbers, each in 0..=1, or -1 where there is nothing to find.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoSummary {
    /// Average precision, the mean over the IoU thresholds .5, .55, ... .95 and the classes; at most 100 detections an
    /// image and class.
    #[serde(rename = "AP")]
    pub ap: f64,
    /// Average precision at IoU .5.
    #[serde(rename = "AP50")]
    pub ap50: f64,
    /// Average precision at IoU .75.
    #[serde(rename = "AP75")]
    pub ap75: f64,
    /// Average precision of objects of at most 32 x 32 pixels.
    #[serde(rename = "APs")]
    pub ap_small: f64,
    /// Average precision of objects of 32 x 32 to 96 x 96 pixels.
    #[serde(rename = "APm")]
    pub ap_medium: f64,
    /// Average precision of objects of at least 96 x 96 pixels.
    #[serde(rename = "APl")]
    pub ap_large: f64,
    /// Average recall with the best detection of each image and class.
    #[serde(rename = "AR1")]
    pub ar1: f64,
    /// Average recall with the best 10.
    #[serde(rename = "AR10")]
    pub ar10: f64,
    /// Average recall with the best 100.
    #[serde(rename = "AR100")]
    pub ar100: f64,
    /// Average recall of small objects, with the best 100.
    #[serde(rename = "ARs")]
    pub ar_small: f64,
    /// Average recall of medium objects, with the best 100.
    #[serde(rename = "ARm")]
    pub ar_medium: f64,
    /// Average recall of large objects, with the best 100.
    #[serde(rename = "ARl")]
    pub ar_large: f64,
}

impl CocoSummary {
    /// The numbers with the names under which they are written, in the usual order.
    #[must_use]
    pub const fn entries(&self) -> [(&'static str, f64); 12] {
        [
            ("AP", self.ap),
            ("AP50", self.ap50),
            ("AP75", self.ap75),
            ("APs", self.ap_small),
            ("APm", self.ap_medium),
            ("APl", self.ap_large),
            ("AR1", self.ar1),
            ("AR10", self.ar10),
            ("AR100", self.ar100),
            ("ARs", self.ar_small),
            ("ARm", self.ar_medium),
            ("ARl", self.ar_large),
        ]
    }
}

/// The numbers of one class; -1 where the ground truth has no object of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Position in the ground truth's classes.
    pub class_idx: usize,
    /// The id that files use.
    pub category_id: i64,
    /// The name.
    pub name: String,
    /// Objects to find, crowds not counted.
    pub num_ground_truth: usize,
    /// Average precision, the mean over the ten IoU thresholds.
    pub ap: f64,
    /// Average precision at IoU .5.
    pub ap50: f64,
    /// Average recall with the best 100 detections an image.
    pub ar100: f64,
}

/// What [`evaluate`](super::evaluate) gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoMetrics {
    /// The twelve numbers.
    pub summary: CocoSummary,
    /// Each class in the order of the ground truth's.
    pub per_class: Vec<ClassMetrics>,
}
