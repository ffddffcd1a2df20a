//! The boxes of one image: where they lie, how large the network sees them, which coincide.

use retinanet_anchors::{BBox, ImageSize};

use super::CheckOptions;
use super::anchor_fit::{AnchorFit, is_trained};
use super::finding::{Example, ExampleBox, FindingKind, Tally};
use super::look::Subject;
use crate::Preprocessing;

/// How far a box may reach beyond its image, in pixels: less is rounding, or corners counted from 1.
const OVERHANG: f64 = 1.0;

/// Checks the boxes of images, one image after the other.
pub(super) struct BoxCheck<'a> {
    pub(super) options: &'a CheckOptions,
    pub(super) fit: AnchorFit,
}

/// A box to check.
#[derive(Clone, Copy)]
struct Candidate {
    /// Position among the annotations of the image.
    idx: usize,
    class_idx: usize,
    xywh: [f64; 4],
}

impl BoxCheck<'_> {
    /// Counts what is wrong with the boxes; returns for each annotation the IoU with its best anchor, none where a network
    /// is not trained on it.
    pub(super) fn check(
        &self,
        subject: &Subject,
        size: ImageSize,
        limit: usize,
        tally: &mut Tally,
    ) -> Vec<Option<f32>> {
        let annotations = &subject.image.annotations;
        let candidates: Vec<Candidate> = annotations
            .iter()
            .enumerate()
            .filter(|(_, annotation)| is_trained(annotation))
            .map(|(idx, annotation)| Candidate { idx, class_idx: annotation.class_idx, xywh: annotation.xywh })
            .collect();
        // With no boxes there is nothing to do, and anchors take time.
        if candidates.is_empty() {
            return vec![None; annotations.len()];
        }
        let is_size_stated = subject.image.size.is_some();
        for candidate in &candidates {
            let [beyond, share] = overhang(candidate.xywh, size);
            if share >= 1.0 && !is_size_stated {
                // Where a size is stated, the reader has told.
                tally.add(limit, FindingKind::BoxOutside, share, || {
                    example(subject, &[*candidate], format!("outside of the image of {size}"))
                });
            } else if share < 1.0 && beyond > OVERHANG {
                tally.add(limit, FindingKind::BoxPartlyOutside, share, || {
                    let what =
                        format!("{beyond:.1} pixels beyond the image of {size}, {:.0} % of its area", 100.0 * share);
                    example(subject, &[*candidate], what)
                });
            }
        }
        coinciding(&candidates, self.options, |first, second, iou| {
            let (kind, badness) = if first.class_idx == second.class_idx {
                (FindingKind::BoxDuplicate, iou)
            } else {
                (FindingKind::BoxClassConflict, iou)
            };
            tally.add(limit, kind, badness, || example(subject, &[first, second], format!("IoU {iou:.3}")));
        });

        let boxes: Vec<BBox> = candidates.iter().map(|candidate| annotations[candidate.idx].bbox()).collect();
        let resized = self.fit.resized(size, &boxes);
        for (candidate, bbox) in candidates.iter().zip(&resized) {
            let side = f64::from(bbox.area()).sqrt();
            if side > 0.0 && side < self.options.tiny_side {
                tally.add(limit, FindingKind::BoxTiny, -side, || {
                    example(subject, &[*candidate], format!("{side:.1} pixels a side once the image is resized"))
                });
            }
        }
        let mut ious = vec![None; annotations.len()];
        for ((candidate, bbox), iou) in candidates.iter().zip(&resized).zip(self.fit.best_ious(size, &resized)) {
            if bbox.area() <= 0.0 {
                continue;
            }
            ious[candidate.idx] = Some(iou);
            if iou < self.options.foreground_iou {
                tally.add(limit, FindingKind::BoxUnmatched, -f64::from(iou), || {
                    let (width, height) = (bbox.width(), bbox.height());
                    let what = format!("best anchor at IoU {iou:.2}, {width:.0}x{height:.0} once the image is resized");
                    example(subject, &[*candidate], what)
                });
            }
        }
        ious
    }
}

/// Resized over original, across and down.
pub(super) fn ratios(preprocessing: &Preprocessing, size: ImageSize) -> (f64, f64) {
    let resized = preprocessing.resized_size(size);
    (resized.width as f64 / size.width.max(1) as f64, resized.height as f64 / size.height.max(1) as f64)
}

/// How many pixels a box reaches beyond its image at most, and the share of its area that is there.
fn overhang([x, y, width, height]: [f64; 4], size: ImageSize) -> [f64; 2] {
    let beyond = |low: f64, length: f64, side: usize| (-low).max(low + length - side as f64).max(0.0);
    let inside = |low: f64, length: f64, side: usize| ((low + length).min(side as f64) - low.max(0.0)).max(0.0);
    let (across, down) = (beyond(x, width, size.width), beyond(y, height, size.height));
    let kept = inside(x, width, size.width) * inside(y, height, size.height);
    [across.max(down), 1.0 - kept / (width * height)]
}

/// Calls `f` with a box and another that coincides with it, which is told at most once a kind.
fn coinciding(candidates: &[Candidate], options: &CheckOptions, mut f: impl FnMut(Candidate, Candidate, f64)) {
    let mut sorted = candidates.to_vec();
    sorted.sort_by(|a, b| a.xywh[0].total_cmp(&b.xywh[0]).then(a.idx.cmp(&b.idx)));
    let lowest = options.duplicate_iou.min(options.conflict_iou);
    let mut is_duplicate = vec![false; sorted.len()];
    let mut is_conflict = vec![false; sorted.len()];
    for first in 0..sorted.len() {
        // A box that repeats another has been told; the other stands for both.
        if is_duplicate[first] {
            continue;
        }
        let [left, _, width, _] = sorted[first].xywh;
        for second in first + 1..sorted.len() {
            // A box that begins further right overlaps too little, however it goes on.
            if sorted[second].xywh[0] - left > (1.0 - lowest) * width {
                break;
            }
            if is_duplicate[second] {
                continue;
            }
            let is_same_class = sorted[first].class_idx == sorted[second].class_idx;
            let (threshold, told) = if is_same_class {
                (options.duplicate_iou, &mut is_duplicate)
            } else {
                (options.conflict_iou, &mut is_conflict)
            };
            let iou = iou(sorted[first].xywh, sorted[second].xywh);
            if iou > threshold && !std::mem::replace(&mut told[second], true) {
                let (a, b) = (sorted[first], sorted[second]);
                if a.idx < b.idx { f(a, b, iou) } else { f(b, a, iou) }
            }
        }
    }
}

/// In f64, with the boxes as read.
fn iou([ax, ay, aw, ah]: [f64; 4], [bx, by, bw, bh]: [f64; 4]) -> f64 {
    let width = ((ax + aw).min(bx + bw) - ax.max(bx)).max(0.0);
    let height = ((ay + ah).min(by + bh) - ay.max(by)).max(0.0);
    let intersection = width * height;
    intersection / (aw * ah + bw * bh - intersection)
}

fn example(subject: &Subject, candidates: &[Candidate], remark: String) -> Example {
    let count = subject.image.annotations.len();
    let boxes: Vec<ExampleBox> = candidates
        .iter()
        .map(|candidate| ExampleBox {
            number: candidate.idx + 1,
            class: subject.class_name(candidate.class_idx).to_owned(),
            xywh: candidate.xywh,
        })
        .collect();
    let named: Vec<String> = boxes
        .iter()
        .map(|ExampleBox { number, class, xywh: [x, y, width, height] }| {
            format!("box {number} ({class}, {width:.0}x{height:.0} at {x:.0}, {y:.0})")
        })
        .collect();
    let what = format!("{} of {count}: {remark}", named.join(" and "));
    Example { boxes, ..subject.example(what) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(boxes: &[(usize, [f64; 4])]) -> Vec<(usize, usize)> {
        let candidate = |(idx, (class_idx, xywh)): (usize, &(usize, [f64; 4]))| Candidate {
            idx,
            class_idx: *class_idx,
            xywh: *xywh,
        };
        let candidates: Vec<Candidate> = boxes.iter().enumerate().map(candidate).collect();
        let mut pairs = Vec::new();
        coinciding(&candidates, &CheckOptions::default(), |a, b, _| pairs.push((a.idx, b.idx)));
        pairs
    }

    #[test]
    fn boxes_that_coincide() {
        let a = [10.0, 10.0, 100.0, 100.0];
        // IoU 90 / 110 = .82, and of both with the third less.
        let b = [20.0, 10.0, 100.0, 100.0];
        assert_eq!(pairs(&[(0, a), (0, b)]), [(0, 1)]);
        assert_eq!(pairs(&[(0, b), (0, a)]), [(0, 1)]);
        // Of different classes they must be as good as equal.
        assert_eq!(pairs(&[(0, a), (1, b)]), []);
        assert_eq!(pairs(&[(0, a), (1, a)]), [(0, 1)]);
        assert_eq!(pairs(&[(0, a), (0, [30.0, 10.0, 100.0, 100.0])]), []);
        // Three that are equal are one with two repeats.
        assert_eq!(pairs(&[(0, a), (0, a), (0, a)]), [(0, 1), (0, 2)]);
        assert_eq!(pairs(&[(0, a), (1, a), (0, a)]), [(0, 1), (0, 2)]);
    }

    #[test]
    fn a_hundred_thousand_equal_boxes_take_no_time() {
        let boxes: Vec<_> = (0..100_000).map(|idx| (idx % 2, [5.0, 5.0, 9.0, 9.0])).collect();
        let found = pairs(&boxes);
        assert!(found.len() >= 99_999, "{}", found.len());
    }

    #[test]
    fn overhangs() {
        let size = ImageSize::new(100, 50);
        assert_eq!(overhang([0.0, 0.0, 100.0, 50.0], size), [0.0, 0.0]);
        assert_eq!(overhang([-10.0, 0.0, 20.0, 20.0], size), [10.0, 0.5]);
        assert_eq!(overhang([90.0, 45.0, 20.0, 10.0], size), [10.0, 0.75]);
        assert_eq!(overhang([200.0, 0.0, 5.0, 5.0], size)[1], 1.0);
    }
}
