//! Detections of one class in one image, matched with its objects at every threshold and area range.

use super::{AREA_RANGES, NUM_AREAS, NUM_THRESHOLDS};

/// One object to find.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub(super) xywh: [f64; 4],
    pub(super) area: f64,
    pub(super) is_crowd: bool,
}

/// What became of a detection at one threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It found an object.
    True,
    /// It found nothing.
    #[default]
    False,
    /// It found a crowd or an object of another size, or found nothing and is of another size: it does not count.
    Ignored,
}

/// Outcomes of one detection for each area range and threshold.
pub(super) type Outcomes = [[Outcome; NUM_THRESHOLDS]; NUM_AREAS];

/// Matches greedily, best score first, each detection with the free object of highest IoU, the last of equals.
///
/// `detections` are boxes in descending order of score. Ignored objects (crowds, or of another area) are looked at only
/// where no other one fits. Adds to `counts` the objects of each area range that are to be found.
///
/// Source: `evaluateImg` of pycocotools; differs in that an object is known by its position, not its id, so that id 0 is
/// as good as any.
pub(super) fn match_detections(
    detections: &[[f64; 4]],
    objects: &[Object],
    thresholds: &[f64; NUM_THRESHOLDS],
    counts: &mut [usize; NUM_AREAS],
) -> Vec<Outcomes> {
    let mut outcomes = vec![Outcomes::default(); detections.len()];
    let ious: Vec<f64> =
        detections.iter().flat_map(|detection| objects.iter().map(|object| iou(*detection, object))).collect();
    for (area_idx, range) in AREA_RANGES.iter().enumerate() {
        let is_out = |area: f64| area < range[0] || area > range[1];
        let is_ignored: Vec<bool> = objects.iter().map(|object| object.is_crowd || is_out(object.area)).collect();
        let mut order: Vec<usize> = (0..objects.len()).collect();
        order.sort_by_key(|&idx| is_ignored[idx]);
        counts[area_idx] += is_ignored.iter().filter(|&&ignored| !ignored).count();
        let mut is_taken = vec![false; objects.len()];
        for (threshold_idx, &threshold) in thresholds.iter().enumerate() {
            is_taken.fill(false);
            for (detection_idx, detection) in detections.iter().enumerate() {
                let row = &ious[detection_idx * objects.len()..][..objects.len()];
                let mut best_iou = threshold;
                let mut best: Option<usize> = None;
                for &object_idx in &order {
                    if is_taken[object_idx] && !objects[object_idx].is_crowd {
                        continue;
                    }
                    // All objects that count come first: one of them is better than any that does not.
                    if best.is_some_and(|idx| !is_ignored[idx]) && is_ignored[object_idx] {
                        break;
                    }
                    if row[object_idx] < best_iou {
                        continue;
                    }
                    best_iou = row[object_idx];
                    best = Some(object_idx);
                }
                outcomes[detection_idx][area_idx][threshold_idx] = match best {
                    Some(object_idx) => {
                        is_taken[object_idx] = true;
                        if is_ignored[object_idx] { Outcome::Ignored } else { Outcome::True }
                    }
                    None if is_out(detection[2] * detection[3]) => Outcome::Ignored,
                    None => Outcome::False,
                };
            }
        }
    }
    outcomes
}

/// Intersection over union; over the detection's own area for a crowd, of which a detection need be part only.
///
/// Source: `bbIou` of COCO's mask API.
fn iou(detection: [f64; 4], object: &Object) -> f64 {
    let [dx, dy, dw, dh] = detection;
    let [gx, gy, gw, gh] = object.xywh;
    let width = (dw + dx).min(gw + gx) - dx.max(gx);
    let height = (dh + dy).min(gh + gy) - dy.max(gy);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let intersection = width * height;
    let detection_area = dw * dh;
    let union = if object.is_crowd { detection_area } else { detection_area + gw * gh - intersection };
    intersection / union
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coco::iou_thresholds;

    fn object(xywh: [f64; 4], is_crowd: bool) -> Object {
        Object { xywh, area: xywh[2] * xywh[3], is_crowd }
    }

    #[test]
    fn iou_by_hand() {
        let plain = object([0.0, 0.0, 10.0, 10.0], false);
        assert_eq!(iou([5.0, 0.0, 10.0, 10.0], &plain), 50.0 / 150.0);
        assert_eq!(iou([10.0, 0.0, 10.0, 10.0], &plain), 0.0);
        assert_eq!(iou([0.0, 0.0, 0.0, 10.0], &plain), 0.0);
        // Half of the detection is in the crowd.
        assert_eq!(iou([5.0, 0.0, 10.0, 10.0], &object([0.0, 0.0, 10.0, 10.0], true)), 0.5);
    }

    /// Outcomes of the detections at IoU .5, all areas.
    #[track_caller]
    fn check(detections: &[[f64; 4]], objects: &[Object], expected: &[Outcome]) {
        let mut counts = [0; NUM_AREAS];
        let outcomes = match_detections(detections, objects, &iou_thresholds(), &mut counts);
        assert_eq!(outcomes.iter().map(|outcome| outcome[0][0]).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_object_is_found_once_and_a_crowd_again_and_again() {
        use Outcome::{False, Ignored, True};
        let at = |x: f64| [x, 0.0, 10.0, 10.0];
        check(&[at(0.0), at(0.0)], &[object(at(0.0), false)], &[True, False]);
        check(&[at(0.0), at(0.0)], &[object(at(0.0), true)], &[Ignored, Ignored]);
        // The better fit is taken, so that the second detection is left with the other one.
        let two = [object(at(0.0), false), object(at(2.0), false)];
        check(&[at(2.0), at(1.0)], &two, &[True, True]);
        // An object is preferred to a crowd that fits better.
        let crowd = [object([0.0, 0.0, 100.0, 10.0], true), object(at(2.0), false)];
        check(&[at(0.0), at(0.0)], &crowd, &[True, Ignored]);
        check(&[at(0.0)], &[], &[False]);
    }

    #[test]
    fn a_threshold_met_exactly_is_met() {
        let object = object([0.0, 0.0, 10.0, 10.0], false);
        let mut counts = [0; NUM_AREAS];
        let outcomes = match_detections(&[[0.0, 0.0, 10.0, 7.5]], &[object], &iou_thresholds(), &mut counts);
        let found = outcomes[0][0].iter().filter(|&&outcome| outcome == Outcome::True).count();
        // .5, .55, .6, .65, .7, .75
        assert_eq!(found, 6);
        assert_eq!(counts, [1, 1, 0, 0]);
    }
}
