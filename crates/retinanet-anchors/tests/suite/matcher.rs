//! The matcher on numbers worked by hand. Boxes of height 1 or 10 from 0 to x: the IoU is a ratio of widths.

use retinanet_anchors::Assignment::{Background, Ignore};
use retinanet_anchors::{Assignment, BBox, Matcher, best_ious};

const STRICT: Matcher = Matcher { foreground_iou: 0.5, background_iou: 0.4, allow_low_quality: false };
const LENIENT: Matcher = Matcher { allow_low_quality: true, ..STRICT };

fn fg(ground_truth_idx: usize) -> Assignment {
    Assignment::Foreground { ground_truth_idx }
}

/// From 0 to `width`, 1 high.
fn bar(width: f32) -> BBox {
    BBox::new(0.0, 0.0, width, 1.0)
}

#[track_caller]
fn check(matcher: Matcher, anchors: &[BBox], ground_truth: &[BBox], expected: &[Assignment]) {
    assert_eq!(matcher.assign(anchors, ground_truth), expected);
}

#[test]
fn thresholds_belong_to_the_class_above() {
    // IoU with the box of width 10: 0.5, 0.49, 0.4, 0.39, 1, 0.
    let outside = BBox::new(50.0, 50.0, 60.0, 51.0);
    let anchors = [bar(5.0), bar(4.9), bar(4.0), bar(3.9), bar(10.0), outside];
    check(STRICT, &anchors, &[bar(10.0)], &[fg(0), Ignore, Ignore, Background, fg(0), Background]);
}

#[test]
fn an_anchor_takes_its_best_box_and_of_equal_ones_the_first() {
    let boxes = [bar(20.0), bar(12.0), bar(12.0)];
    check(STRICT, &[bar(10.0), bar(20.0)], &boxes, &[fg(1), fg(0)]);
}

#[test]
fn every_best_anchor_of_a_box_is_kept_ties_too() {
    // IoU 0.1, 0.2, 0.2 with the only box.
    let anchors = [bar(1.0), bar(2.0), bar(2.0)];
    check(STRICT, &anchors, &[bar(10.0)], &[Background; 3]);
    check(LENIENT, &anchors, &[bar(10.0)], &[Background, fg(0), fg(0)]);
}

#[test]
fn a_kept_anchor_belongs_to_its_own_best_box() {
    // The only anchor is the best of both boxes (0.1 and 0.45): it is restored, toward the second.
    check(LENIENT, &[bar(1.0)], &[bar(10.0), bar(2.25)], &[fg(1)]);
    check(STRICT, &[bar(1.0)], &[bar(10.0), bar(2.25)], &[Ignore]);
}

#[test]
fn a_box_that_overlaps_no_anchor_takes_none() {
    let far = BBox::new(100.0, 100.0, 110.0, 110.0);
    check(LENIENT, &[bar(1.0), bar(10.0)], &[far], &[Background; 2]);
    check(LENIENT, &[bar(1.0), bar(10.0)], &[far, bar(10.0)], &[Background, fg(1)]);
    let everything = Matcher { foreground_iou: 0.0, background_iou: 0.0, allow_low_quality: true };
    check(everything, &[bar(1.0), bar(10.0)], &[far], &[Background; 2]);
}

#[test]
fn no_boxes_or_no_anchors() {
    check(LENIENT, &[bar(1.0), bar(2.0)], &[], &[Background; 2]);
    check(LENIENT, &[], &[bar(1.0)], &[]);
    check(LENIENT, &[], &[], &[]);
    assert_eq!(best_ious(&[], &[bar(1.0)]), [0.0]);
    assert!(best_ious(&[bar(1.0)], &[]).is_empty());
}

#[test]
fn boxes_that_are_empty_or_not_finite_match_nothing() {
    let mut bad = vec![BBox::default(), BBox::new(5.0, 1.0, 0.0, 0.0), BBox::new(-1e30, -1e30, 1e30, 1e30)];
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for idx in 0..4 {
            let mut corners = bar(10.0).to_array();
            corners[idx] = value;
            bad.push(corners.into());
        }
    }
    let everything = Matcher { foreground_iou: 0.0, background_iou: 0.0, allow_low_quality: true };
    check(everything, &[bar(10.0)], &bad, &[Background]);
    check(everything, &bad, &[bar(10.0)], &vec![Background; bad.len()]);
    assert_eq!(best_ious(&[bar(10.0)], &bad), vec![0.0; bad.len()]);
    // They do not disturb a good one among them.
    let mut boxes = bad.clone();
    boxes.push(bar(10.0));
    let mut anchors = bad.clone();
    anchors.push(bar(10.0));
    let mut expected = vec![Background; bad.len()];
    expected.push(fg(bad.len()));
    check(LENIENT, &anchors, &boxes, &expected);
}

/// The definition, with the whole matrix: what the blocks must agree with, bit for bit.
fn assign_plainly(matcher: Matcher, anchors: &[BBox], ground_truth: &[BBox]) -> (Vec<Assignment>, Vec<f32>) {
    let ious: Vec<Vec<f32>> = anchors.iter().map(|a| ground_truth.iter().map(|g| a.iou(g)).collect()).collect();
    let column_best = |idx: usize| ious.iter().map(|row| row[idx]).fold(0.0, f32::max);
    let best: Vec<f32> = (0..ground_truth.len()).map(column_best).collect();
    let assign = |row: &Vec<f32>| {
        let iou = row.iter().copied().fold(0.0, f32::max);
        let is_best = row.iter().zip(&best).any(|(iou, best)| *best > 0.0 && iou == best);
        if iou > 0.0 && (iou >= matcher.foreground_iou || (matcher.allow_low_quality && is_best)) {
            fg(row.iter().position(|other| *other == iou).unwrap())
        } else if iou == 0.0 || iou < matcher.background_iou {
            Background
        } else {
            Ignore
        }
    };
    (ious.iter().map(assign).collect(), best)
}

#[test]
fn many_anchors_agree_with_the_definition() {
    // More than one block and no multiple of one, with exact ties wherever a box sits between two anchors.
    let anchors: Vec<BBox> = (0..1700u16)
        .map(|idx| {
            let (x, y, half) =
                (f32::from(idx % 40) * 8.0, f32::from(idx / 120) * 8.0, 8.0 + f32::from(idx / 40 % 3) * 4.0);
            BBox::new(x - half, y - half, x + half, y + half)
        })
        .collect();
    let ground_truth: Vec<BBox> = (0..60u16)
        .map(|idx| {
            let (x, y, side) =
                (f32::from(idx * 37 % 330) - 10.0, f32::from(idx * 17 % 160) - 10.0, f32::from(idx % 9) * 5.0);
            BBox::new(x, y, x + side, y + side * 0.75)
        })
        .collect();
    for matcher in [STRICT, LENIENT] {
        let (assignments, best) = assign_plainly(matcher, &anchors, &ground_truth);
        check(matcher, &anchors, &ground_truth, &assignments);
        assert_eq!(best_ious(&anchors, &ground_truth), best);
        for kind in [Background, Ignore] {
            assert!(assignments.contains(&kind), "{kind:?} does not occur");
        }
    }
}
