//! Adaptive training sample selection: each object sets the IoU that its anchors need.

use serde::{Deserialize, Serialize};

use crate::{Assignment, BBox, Pyramid};

/// Assigns ground truth to anchors by a threshold of each object's own: the mean plus the standard deviation of the IoUs
/// that the object has with the anchors around its centre.
///
/// Source: Zhang et al. 2020, "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training
/// Sample Selection", section 3.2, algorithm 1. As in the authors' program, the deviation is the unbiased one and an
/// object's candidates are counted by location. A centre counts as inside wherever it is not on the border; there it has
/// to be .01 pixels from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Atss {
    /// k: locations of each level, the nearest to an object's centre, whose anchors are candidates; at least 1.
    pub candidates: usize,
}

impl Default for Atss {
    fn default() -> Self {
        Self { candidates: 9 }
    }
}

/// The anchor's best object so far.
#[derive(Clone, Copy, Default)]
struct Best {
    /// 0 where there is none.
    iou: f32,
    ground_truth_idx: usize,
}

impl Atss {
    /// The assignment of each anchor, level after level; nothing is ignored.
    ///
    /// Each level gives the anchors of its `candidates` nearest locations, of equally near ones the first. Foreground are
    /// those whose IoU with the object is at least mean + deviation over the candidates of all levels and whose own centre
    /// is inside the object; one that is foreground to several belongs to that of its best IoU, of equal ones the first.
    /// An object that lies between all centres gets no anchor.
    ///
    /// `anchors_per_location` consecutive anchors share a centre, that of their first.
    ///
    /// # Numerics
    /// Distances, mean and deviation are f64. An IoU of 0 never matches, so boxes that are empty or not finite match nothing.
    ///
    /// ```
    /// use retinanet_anchors::{Assignment, Atss, BBox, Pyramid, PyramidLevel};
    ///
    /// let square = |side: f32| BBox::new(8.0 - side / 2.0, 8.0 - side / 2.0, 8.0 + side / 2.0, 8.0 + side / 2.0);
    /// // IoU 1/4, 1 and 1/4 with an object of side 8: mean 1/2, deviation .433.
    /// let levels = Pyramid::new(PyramidLevel::P3, vec![vec![square(4.0)], vec![square(8.0)], vec![square(16.0)]])?;
    /// let (background, foreground) = (Assignment::Background, Assignment::Foreground { ground_truth_idx: 0 });
    /// assert_eq!(Atss::default().assign(&levels, 1, &[square(8.0)]), [background, foreground, background]);
    /// # Ok::<(), retinanet_anchors::PyramidError>(())
    /// ```
    #[must_use]
    pub fn assign(
        &self,
        anchors: &Pyramid<Vec<BBox>>,
        anchors_per_location: usize,
        ground_truth: &[BBox],
    ) -> Vec<Assignment> {
        let per_location = anchors_per_location.max(1);
        let num_anchors = anchors.values().iter().map(Vec::len).sum();
        let mut best = vec![Best::default(); num_anchors];
        let center = |location: &[BBox]| location.first().map_or((f32::NAN, f32::NAN), BBox::center);
        let centers = anchors.map(|_, level| level.chunks(per_location).map(center).collect::<Vec<_>>());

        let mut candidates: Vec<(usize, &BBox, f32)> = Vec::new();
        for (ground_truth_idx, bbox) in ground_truth.iter().enumerate() {
            candidates.clear();
            let mut first = 0;
            for (level, centers) in anchors.values().iter().zip(centers.values()) {
                for location_idx in nearest(centers, bbox.center(), self.candidates) {
                    let start = location_idx * per_location;
                    let at_location = level.iter().enumerate().skip(start).take(per_location);
                    candidates.extend(at_location.map(|(idx, anchor)| (first + idx, anchor, anchor.iou(bbox))));
                }
                first += level.len();
            }
            let threshold = mean_plus_deviation(candidates.iter().map(|(_, _, iou)| f64::from(*iou)));
            for &(anchor_idx, anchor, iou) in &candidates {
                let best = &mut best[anchor_idx];
                if iou > best.iou && f64::from(iou) >= threshold && is_inside(anchor.center(), bbox) {
                    *best = Best { iou, ground_truth_idx };
                }
            }
        }
        let assignment = |best: Best| match best {
            Best { iou: 0.0, .. } => Assignment::Background,
            Best { ground_truth_idx, .. } => Assignment::Foreground { ground_truth_idx },
        };
        best.into_iter().map(assignment).collect()
    }
}

/// The indices of the `count` centres nearest to a point, ascending; of equally near ones the first.
fn nearest(centers: &[(f32, f32)], (x, y): (f32, f32), count: usize) -> Vec<usize> {
    let distance = |&(cx, cy): &(f32, f32)| {
        let squared = (f64::from(cx) - f64::from(x)).powi(2) + (f64::from(cy) - f64::from(y)).powi(2);
        // A centre that is nowhere is the last to be taken.
        if squared.is_nan() { f64::INFINITY } else { squared }
    };
    let mut order: Vec<(f64, usize)> = centers.iter().map(distance).zip(0..).collect();
    if count > 0 && count < order.len() {
        order.select_nth_unstable_by(count - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }
    order.truncate(count);
    // In the order of the anchors, so that sums over them are the same however they were selected.
    let mut indices: Vec<usize> = order.into_iter().map(|(_, idx)| idx).collect();
    indices.sort_unstable();
    indices
}

/// Mean plus unbiased standard deviation; of a single value the value itself.
fn mean_plus_deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let Some(first) = values.clone().next() else { return 0.0 };
    // Around the first value, so that equal ones have a deviation of exactly 0 and all reach the threshold.
    let offset = values.clone().map(|value| value - first).sum::<f64>() / count;
    let squares = values.map(|value| (value - first - offset).powi(2)).sum::<f64>();
    first + offset + (squares / (count - 1.0).max(1.0)).sqrt()
}

fn is_inside((x, y): (f32, f32), bbox: &BBox) -> bool {
    bbox.x0 < x && x < bbox.x1 && bbox.y0 < y && y < bbox.y1
}
