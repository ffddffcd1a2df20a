//! Suppression on numbers worked by hand. Boxes from 0 to x, 1 high: the IoU is a ratio of widths.

use retinanet_anchors::{BBox, class_wise_nms};

fn bar(width: f32) -> BBox {
    BBox::new(0.0, 0.0, width, 1.0)
}

#[track_caller]
fn check(boxes: &[BBox], scores: &[f32], labels: &[usize], iou_threshold: f32, expected: &[usize]) {
    assert_eq!(class_wise_nms(boxes, scores, labels, iou_threshold), expected);
}

#[test]
fn only_more_than_the_threshold_suppresses() {
    check(&[bar(10.0), bar(5.0)], &[0.9, 0.8], &[0, 0], 0.5, &[0, 1]);
    check(&[bar(10.0), bar(5.1)], &[0.9, 0.8], &[0, 0], 0.5, &[0]);
    check(&[bar(10.0), bar(10.0)], &[0.9, 0.8], &[0, 0], 1.0, &[0, 1]);
}

#[test]
fn greedy_from_the_best_score() {
    // 10 suppresses 8 (0.8), so that 5 (0.625 with 8, 0.5 with 10) stays.
    check(&[bar(5.0), bar(8.0), bar(10.0)], &[0.1, 0.2, 0.3], &[7, 7, 7], 0.55, &[2, 0]);
    // With the scores the other way round 8 goes first and takes both.
    check(&[bar(5.0), bar(8.0), bar(10.0)], &[0.1, 0.3, 0.2], &[7, 7, 7], 0.55, &[1]);
}

#[test]
fn classes_do_not_suppress_each_other() {
    check(&[bar(10.0); 4], &[0.1, 0.4, 0.3, 0.2], &[0, 1, 0, usize::MAX], 0.5, &[1, 2, 3]);
}

#[test]
fn equal_scores_keep_their_order() {
    let apart = [0.0f32, 20.0, 40.0, 60.0].map(|x| BBox::new(x, 0.0, x + 10.0, 1.0));
    check(&apart, &[0.5, 0.7, 0.5, 0.7], &[0; 4], 0.5, &[1, 3, 0, 2]);
    check(&[bar(10.0); 3], &[0.5; 3], &[0; 3], 0.5, &[0]);
    check(&apart, &[0.0, -0.0, 0.0, -0.0], &[0; 4], 0.5, &[0, 1, 2, 3]);
}

#[test]
fn what_is_not_a_number_is_dropped() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    check(&[bar(10.0), bar(10.0), bar(10.0)], &[nan, 0.2, nan], &[0; 3], 0.5, &[1]);
    check(&[bar(inf), bar(nan), bar(10.0)], &[0.9, 0.8, 0.7], &[0; 3], 0.5, &[2]);
    check(&[bar(10.0), bar(30.0)], &[-inf, inf], &[0; 2], 0.5, &[1, 0]);
    check(&[bar(10.0); 2], &[0.2, 0.1], &[0; 2], nan, &[0, 1]);
}

#[test]
fn empty_boxes_and_no_boxes() {
    check(&[], &[], &[], 0.5, &[]);
    check(&[bar(0.0), bar(0.0), bar(-1.0)], &[0.3, 0.2, 0.1], &[0; 3], 0.0, &[0, 1, 2]);
    check(&[bar(1.0), BBox::new(5.0, 0.0, 6.0, 1.0)], &[0.3, 0.2], &[0; 2], -1.0, &[0, 1]);
}

#[test]
#[should_panic(expected = "one score a box")]
fn slices_of_different_lengths() {
    let _ = class_wise_nms(&[bar(1.0)], &[], &[0], 0.5);
}
