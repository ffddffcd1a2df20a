//! What becomes of boxes that are moved, cut at a border, or hidden by something in front of them.

use retinanet_anchors::BBox;

use crate::Sample;

/// What happens where a picture ends: which boxes stay, and what is seen beyond it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Border {
    /// A box stays when at least this share of its area remains in sight, 0..=1, and more than nothing.
    pub min_visible: f64,
    /// The colour of pixels that no picture covers.
    pub fill: [u8; 3],
}

/// The part of a box inside a region; none where the share that remains is too small.
pub(super) fn visible(bbox: BBox, region: &BBox, min_visible: f64) -> Option<BBox> {
    let cut = BBox::new(bbox.x0.max(region.x0), bbox.y0.max(region.y0), bbox.x1.min(region.x1), bbox.y1.min(region.y1));
    let area = f64::from(cut.area());
    (area > 0.0 && area >= min_visible * f64::from(bbox.area())).then_some(cut)
}

/// The boxes of a sample after `map`, cut at the border of `region`, with the classes of those that stay.
pub(super) fn carry(
    sample: &Sample,
    region: &BBox,
    min_visible: f64,
    map: impl Fn(&BBox) -> BBox,
) -> (Vec<BBox>, Vec<usize>) {
    let boxes = sample.boxes.iter().zip(&sample.classes);
    boxes.filter_map(|(bbox, &class)| Some((visible(map(bbox), region, min_visible)?, class))).unzip()
}

/// The smallest box around what none of `covers` hides of a box; none where the share that remains is too small.
pub(super) fn uncovered(bbox: &BBox, covers: &[BBox], min_visible: f64) -> Option<BBox> {
    let hides = |cover: &&BBox| bbox.intersection(cover) > 0.0;
    let covers: Vec<&BBox> = covers.iter().filter(hides).collect();
    // The edges of all covers cut the box into cells, each of which is hidden whole or not at all.
    let cuts = |low: f32, high: f32, edges: fn(&BBox) -> [f32; 2]| {
        let mut cuts: Vec<f32> = covers.iter().flat_map(|cover| edges(cover)).collect();
        cuts.retain(|cut| low < *cut && *cut < high);
        cuts.extend([low, high]);
        cuts.sort_by(f32::total_cmp);
        cuts
    };
    let columns = cuts(bbox.x0, bbox.x1, |cover| [cover.x0, cover.x1]);
    let rows = cuts(bbox.y0, bbox.y1, |cover| [cover.y0, cover.y1]);
    let mut seen: Option<BBox> = None;
    let mut area = 0.0;
    for y in rows.windows(2) {
        for x in columns.windows(2) {
            let cell = BBox::new(x[0], y[0], x[1], y[1]);
            let is_hidden = |cover: &&BBox| {
                cover.x0 <= cell.x0 && cell.x1 <= cover.x1 && cover.y0 <= cell.y0 && cell.y1 <= cover.y1
            };
            if covers.iter().any(is_hidden) {
                continue;
            }
            area += f64::from(cell.area());
            seen = Some(seen.map_or(cell, |seen| around(&seen, &cell)));
        }
    }
    seen.filter(|seen| seen.area() > 0.0 && area >= min_visible * f64::from(bbox.area()))
}

/// The smallest box around two.
fn around(a: &BBox, b: &BBox) -> BBox {
    BBox::new(a.x0.min(b.x0), a.y0.min(b.y0), a.x1.max(b.x1), a.y1.max(b.y1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(covers: &[[f32; 4]], min_visible: f64, expected: Option<[f32; 4]>) {
        let covers: Vec<BBox> = covers.iter().map(|&cover| BBox::from(cover)).collect();
        let found = uncovered(&BBox::new(10.0, 20.0, 20.0, 40.0), &covers, min_visible);
        assert_eq!(found.map(|bbox| bbox.to_array()), expected);
    }

    #[test]
    fn what_is_left_in_sight_by_hand() {
        let whole = Some([10.0, 20.0, 20.0, 40.0]);
        check(&[], 1.0, whole);
        check(&[[0.0, 0.0, 10.0, 50.0], [20.0, 0.0, 30.0, 50.0]], 1.0, whole);
        // A hole in the middle and a corner gone leave the ends in sight.
        check(&[[12.0, 25.0, 18.0, 35.0]], 0.5, whole);
        check(&[[5.0, 15.0, 15.0, 30.0]], 0.5, whole);
        check(&[[12.0, 25.0, 18.0, 35.0]], 0.8, None);
        // The upper half is hidden: 1/2 remains.
        check(&[[0.0, 0.0, 50.0, 30.0]], 0.5, Some([10.0, 30.0, 20.0, 40.0]));
        check(&[[0.0, 0.0, 50.0, 30.0]], 0.51, None);
        // Two covers that overlap count once: 3/4 hidden.
        check(&[[0.0, 0.0, 50.0, 30.0], [0.0, 25.0, 50.0, 35.0]], 0.25, Some([10.0, 35.0, 20.0, 40.0]));
        check(&[[0.0, 0.0, 50.0, 50.0]], 0.0, None);
    }
}
