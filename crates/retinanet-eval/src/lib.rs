//! Detections against ground truth: COCO's twelve numbers and per-class average precision, for any detector.
