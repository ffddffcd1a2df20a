//! Detections against ground truth: COCO's twelve numbers and per-class average precision, for any detector.
//!
//! ```
//! use retinanet_annotations::{AnnotatedImage, Annotation, AnnotationSet, Class, DetectionRecord};
//!
//! let dog = Annotation::new(0, [10.0, 10.0, 50.0, 40.0]);
//! let image = AnnotatedImage { id: 7, file_name: "7.jpg".into(), annotations: vec![dog], ..Default::default() };
//! let classes = vec![Class { category_id: 18, name: "dog".into() }];
//! let ground_truth = AnnotationSet { classes, images: vec![image], ..Default::default() };
//! // Half as high: an IoU of .5, found at the first of the ten thresholds .5, .55, ... .95 only.
//! let found = DetectionRecord { image_id: 7, category_id: 18, xywh: [10.0, 10.0, 50.0, 20.0], score: 0.9 };
//! let metrics = retinanet_eval::coco::evaluate(&ground_truth, &[found])?;
//! assert!((metrics.summary.ap50 - 1.0).abs() < 1e-12 && (metrics.summary.ap - 0.1).abs() < 1e-12);
//! # Ok::<(), retinanet_eval::EvalError>(())
//! ```

pub mod coco;
mod error;

pub use coco::metrics::{ClassMetrics, CocoMetrics, CocoSummary};
pub use error::EvalError;
