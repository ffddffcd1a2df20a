//! Why a score is 0.

use retinanet_annotations::{AnnotationSet, DetectionRecord};
use std::collections::HashMap;

/// A score below this reads as 0.
const NOTHING: f64 = 0.0005;

/// From this overlap on COCO's most lenient score counts an object as found.
const IOU: f64 = 0.5;

/// What usually makes a score 0, by what was found; none for any other score.
pub(crate) fn why(ap50: f64, set: &AnnotationSet, found: &[DetectionRecord], threshold: f32) -> Option<String> {
    // Negative where there is nothing to find.
    if !(0.0..NOTHING).contains(&ap50) {
        return None;
    }
    let best = found.iter().map(|detection| detection.score).max_by(f64::total_cmp);
    let Some(best) = best else {
        return Some(format!(
            "AP is 0 as nothing was found with a score of {threshold} or more (post_processing.score_threshold): too few steps \
             yet, a learning rate too high, or images of another kind"
        ));
    };
    let mut by_image: HashMap<i64, Vec<&DetectionRecord>> = HashMap::new();
    found.iter().for_each(|detection| by_image.entry(detection.image_id).or_default().push(detection));
    let is_found = |image_id: i64, xywh: [f64; 4]| {
        let detections = by_image.get(&image_id).map_or(&[][..], Vec::as_slice);
        detections.iter().any(|detection| iou(detection.xywh, xywh) >= IOU)
    };
    let objects = set.images.iter().flat_map(|image| image.annotations.iter().map(|object| (image.id, object.xywh)));
    let num_found = objects.filter(|&(image_id, xywh)| is_found(image_id, xywh)).count();
    let (all, count) = (set.num_annotations(), found.len());
    Some(match num_found {
        0 => format!(
            "AP is 0 as none of {count} detections (best score {best:.3}) overlaps an object by IoU {IOU}: too few steps yet, a \
             learning rate too high, or anchors of other sizes than the objects"
        ),
        _ => format!(
            "AP is 0 though detections overlap {num_found} of {all} objects by IoU {IOU}: as other classes, or below too many \
             that overlap none; are the classes in the same order as in training?"
        ),
    })
}

fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let side = |i: usize| ((a[i] + a[i + 2]).min(b[i] + b[i + 2]) - a[i].max(b[i])).max(0.0);
    let intersection = side(0) * side(1);
    let union = a[2] * a[3] + b[2] * b[3] - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retinanet_annotations::{AnnotatedImage, Annotation};

    #[test]
    fn what_was_found_says_why() {
        let annotations = vec![Annotation::new(0, [0.0, 0.0, 10.0, 10.0])];
        let image = AnnotatedImage { id: 7, annotations, ..AnnotatedImage::default() };
        let set = AnnotationSet { images: vec![image], ..AnnotationSet::default() };
        let detection =
            |image_id, x| DetectionRecord { image_id, category_id: 1, xywh: [x, 0.0, 10.0, 10.0], score: 0.25 };
        let of = |ap50: f64, found: &[DetectionRecord]| why(ap50, &set, found, 0.05);
        assert_eq!([of(0.2, &[]), of(-1.0, &[])], [None, None]);
        assert!(of(0.0, &[]).is_some_and(|text| text.contains("nothing was found with a score of 0.05")));
        let elsewhere = of(0.0, &[detection(7, 9.0), detection(8, 0.0)]);
        assert!(elsewhere.is_some_and(|text| text.contains("none of 2 detections (best score 0.250)")));
        assert!(of(0.0, &[detection(7, 1.0)]).is_some_and(|text| text.contains("overlap 1 of 1 objects")));
    }
}
