//! Adaptive thresholds on numbers worked by hand. Boxes of height 1 from 0 to x: the IoU is a ratio of widths.

use retinanet_anchors::Assignment::{Background, Foreground};
use retinanet_anchors::{Assignment, Atss, BBox, Pyramid, PyramidLevel};

fn fg(ground_truth_idx: usize) -> Assignment {
    Foreground { ground_truth_idx }
}

/// A square around a point on the middle line.
fn square(x: f32, side: f32) -> BBox {
    BBox::new(x - side / 2.0, -side / 2.0, x + side / 2.0, side / 2.0)
}

/// 2 high, around the middle line.
fn bar(x0: f32, x1: f32) -> BBox {
    BBox::new(x0, -1.0, x1, 1.0)
}

#[track_caller]
fn check(candidates: usize, levels: &[&[BBox]], ground_truth: &[BBox], expected: &[Assignment]) {
    let levels = levels.iter().map(|level| level.to_vec()).collect();
    let levels = Pyramid::new(PyramidLevel::P3, levels).expect("some levels");
    assert_eq!(Atss { candidates }.assign(&levels, 1, ground_truth), expected);
}

#[test]
fn the_threshold_is_mean_plus_deviation_of_the_candidates_of_all_levels() {
    // The object's width is 8. IoU 1/8, 4/8, 1 and 4/8 with the first level's, 1/2 with the second's: mean .525, deviation
    // .3112, threshold .8362.
    let anchors = [bar(3.5, 4.5), bar(2.0, 6.0), bar(0.0, 8.0), bar(2.0, 6.0)];
    let coarse = [bar(-4.0, 12.0)];
    check(9, &[&anchors, &coarse], &[bar(0.0, 8.0)], &[Background, Background, fg(0), Background, Background]);
    // 1/2 and 3/4 alone: mean .625, deviation .1768, threshold .8018: nothing reaches it.
    check(9, &[&[bar(2.0, 6.0), bar(1.0, 7.0)]], &[bar(0.0, 8.0)], &[Background; 2]);
}

#[test]
fn equal_candidates_all_reach_the_threshold_and_so_does_a_single_one() {
    let third = bar(1.0, 2.0);
    check(9, &[&[third; 7]], &[bar(0.0, 3.0)], &[fg(0); 7]);
    check(9, &[&[third]], &[bar(0.0, 3.0)], &[fg(0)]);
}

#[test]
fn the_nearest_locations_are_candidates_and_of_equally_near_ones_the_first() {
    // All have the object's size, at 1, 1, 3 and 5 from its centre.
    let level = [square(5.0, 16.0), square(1.0, 16.0), square(-1.0, 16.0), square(3.0, 16.0)];
    let object = [square(0.0, 16.0)];
    check(1, &[&level], &object, &[Background, fg(0), Background, Background]);
    check(2, &[&level], &object, &[Background, fg(0), fg(0), Background]);
    // IoU .882 twice and .684: mean .816, deviation .114, threshold .930.
    check(3, &[&level], &object, &[Background; 4]);
}

#[test]
fn a_location_brings_all_its_anchors() {
    let at = |x: f32| [square(x, 4.0), square(x, 8.0), square(x, 16.0)];
    let level = [at(40.0), at(8.0), at(20.0)].concat();
    let levels = Pyramid::new(PyramidLevel::P3, vec![level]).expect("a level");
    let assign = |per_location| Atss { candidates: 1 }.assign(&levels, per_location, &[square(8.0, 8.0)]);
    // 1/4, 1 and 1/4.
    let mut expected = [Background; 9];
    expected[4] = fg(0);
    assert_eq!(assign(3), expected);
    // One by one, the nearest is the smallest alone, whose IoU is its own mean.
    let mut expected = [Background; 9];
    expected[3] = fg(0);
    assert_eq!(assign(1), expected);
}

#[test]
fn centres_are_strictly_inside() {
    let object = [bar(0.0, 4.0)];
    // IoU 1/3 each, which both reach; their centres are on the border.
    check(9, &[&[bar(-2.0, 2.0), bar(2.0, 6.0)]], &object, &[Background; 2]);
    // 2/5 each, centres half a pixel from it.
    check(9, &[&[bar(-1.0, 2.0), bar(2.0, 5.0)]], &object, &[fg(0); 2]);
}

#[test]
fn an_anchor_of_several_objects_takes_the_best_and_of_equal_ones_the_first() {
    let anchor = bar(0.0, 4.0);
    check(9, &[&[anchor]], &[bar(0.0, 8.0), bar(0.0, 5.0), bar(0.0, 5.0)], &[fg(1)]);
    // The two objects mirror each other.
    check(9, &[&[bar(1.0, 3.0)]], &[bar(0.0, 3.5), bar(0.5, 4.0)], &[fg(0)]);
}

#[test]
fn no_objects_no_anchors_and_objects_that_are_nowhere() {
    check(9, &[&[bar(0.0, 1.0)], &[bar(0.0, 2.0)]], &[], &[Background; 2]);
    check(9, &[&[], &[]], &[bar(0.0, 1.0)], &[]);
    check(9, &[&[], &[bar(0.0, 1.0)]], &[bar(0.0, 1.0)], &[fg(0)]);
    let nowhere = [BBox::default(), bar(4.0, 0.0), bar(f32::NAN, 4.0), bar(f32::NEG_INFINITY, f32::INFINITY)];
    check(9, &[&[bar(0.0, 1.0), bar(f32::NAN, 1.0)]], &nowhere, &[Background; 2]);
    // Far away, all IoUs and the threshold are 0.
    check(9, &[&[bar(0.0, 1.0)]], &[bar(100.0, 101.0)], &[Background]);
}

/// The algorithm as the paper writes it, object by object over sorted lists.
fn assign_plainly(candidates: usize, levels: &[Vec<BBox>], ground_truth: &[BBox]) -> Vec<Assignment> {
    let joined = levels.concat();
    let mut best: Vec<Option<(f32, usize)>> = vec![None; joined.len()];
    for (object_idx, object) in ground_truth.iter().enumerate() {
        let mut chosen = Vec::new();
        let mut first = 0;
        for level in levels {
            let distance = |idx: &usize| {
                let ((ax, ay), (x, y)) = (level[*idx].center(), object.center());
                (f64::from(ax) - f64::from(x)).powi(2) + (f64::from(ay) - f64::from(y)).powi(2)
            };
            let mut order: Vec<usize> = (0..level.len()).collect();
            order.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
            chosen.extend(order.iter().take(candidates).map(|idx| first + idx));
            first += level.len();
        }
        let ious: Vec<f64> = chosen.iter().map(|&idx| f64::from(joined[idx].iou(object))).collect();
        let mean = ious.iter().sum::<f64>() / ious.len() as f64;
        let variance = ious.iter().map(|iou| (iou - mean).powi(2)).sum::<f64>() / (ious.len() as f64 - 1.0).max(1.0);
        for (&idx, &iou) in chosen.iter().zip(&ious) {
            let (x, y) = joined[idx].center();
            let inside = object.x0 < x && x < object.x1 && object.y0 < y && y < object.y1;
            // Within rounding of the sums.
            if iou > 0.0
                && iou >= mean + variance.sqrt() - 1e-12
                && inside
                && best[idx].is_none_or(|(old, _)| iou as f32 > old)
            {
                best[idx] = Some((iou as f32, object_idx));
            }
        }
    }
    best.into_iter().map(|best| best.map_or(Background, |(_, idx)| fg(idx))).collect()
}

#[test]
fn many_anchors_agree_with_the_definition() {
    let level = |stride: f32, cells: u16| -> Vec<BBox> {
        let cell = |idx: u16| (f32::from(idx % cells) * stride, f32::from(idx / cells) * stride);
        (0..cells * cells)
            .map(cell)
            .map(|(x, y)| BBox::new(x - 2.0 * stride, y - 2.0 * stride, x + 2.0 * stride, y + 2.0 * stride))
            .collect()
    };
    let levels = vec![level(8.0, 24), level(16.0, 12), level(32.0, 6)];
    let ground_truth: Vec<BBox> = (0..40u16)
        .map(|idx| {
            let (x, y, side) = (f32::from(idx * 37 % 170), f32::from(idx * 53 % 170), 6.0 + f32::from(idx % 9) * 7.0);
            BBox::new(x, y, x + side, y + side * 0.75)
        })
        .collect();
    for candidates in [1, 4, 9, 1000] {
        let expected = assign_plainly(candidates, &levels, &ground_truth);
        let slices: Vec<&[BBox]> = levels.iter().map(Vec::as_slice).collect();
        check(candidates, &slices, &ground_truth, &expected);
        let taken = (0..40).filter(|idx| expected.contains(&fg(*idx))).count();
        assert!(taken > 20, "{candidates} candidates: {taken} objects have an anchor");
    }
}
