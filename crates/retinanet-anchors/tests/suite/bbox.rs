//! Box geometry on numbers worked by hand.

use retinanet_anchors::{BBox, ImageSize};

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

#[track_caller]
fn check_overlap(a: [f32; 4], b: [f32; 4], intersection: f32, iou: f32) {
    let (a, b) = (BBox::from(a), BBox::from(b));
    assert_eq!(a.intersection(&b), intersection, "intersection of {a:?} and {b:?}");
    assert_eq!(b.intersection(&a), intersection, "intersection of {b:?} and {a:?}");
    assert_eq!(a.iou(&b), iou, "iou of {a:?} and {b:?}");
    assert_eq!(b.iou(&a), iou, "iou of {b:?} and {a:?}");
}

#[test]
fn overlaps() {
    check_overlap([0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0], 16.0, 1.0);
    check_overlap([0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 6.0, 6.0], 4.0, 4.0 / 28.0);
    check_overlap([0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 3.0, 2.0], 2.0, 2.0 / 16.0);
    check_overlap([-4.0, -4.0, 0.5, 4.0], [0.0, 0.0, 1.0, 1.0], 0.5, 0.5 / 36.5);
}

#[test]
fn touching_is_not_overlap() {
    check_overlap([0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0], 0.0, 0.0);
    check_overlap([0.0, 0.0, 4.0, 4.0], [0.0, 4.0, 4.0, 8.0], 0.0, 0.0);
    check_overlap([0.0, 0.0, 4.0, 4.0], [9.0, 9.0, 10.0, 10.0], 0.0, 0.0);
}

#[test]
fn empty_boxes_overlap_nothing() {
    check_overlap([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], 0.0, 0.0);
    check_overlap([0.0, 0.0, 4.0, 4.0], [3.0, 3.0, 1.0, 1.0], 0.0, 0.0);
    check_overlap([3.0, 3.0, 1.0, 1.0], [3.0, 3.0, 1.0, 1.0], 0.0, 0.0);
    assert_eq!(BBox::new(3.0, 3.0, 1.0, 1.0).area(), 0.0);
    assert_eq!(BBox::new(3.0, 0.0, 1.0, 1.0).area(), 0.0);
}

#[test]
fn numbers_that_are_not_finite_overlap_nothing() {
    for bad in [NAN, INF, -INF] {
        for idx in 0..4 {
            let mut corners = [0.0, 0.0, 4.0, 4.0];
            corners[idx] = bad;
            assert!(!BBox::from(corners).is_finite());
            check_overlap(corners, [1.0, 1.0, 3.0, 3.0], 0.0, 0.0);
            assert_eq!(BBox::from(corners).iou(&BBox::from(corners)), 0.0);
        }
    }
    // Finite corners, an area out of range.
    let huge = BBox::new(-1e30, -1e30, 1e30, 1e30);
    assert_eq!(huge.area(), INF);
    assert_eq!(huge.iou(&huge), 0.0);
    assert_eq!(huge.iou(&BBox::new(0.0, 0.0, 1.0, 1.0)), 0.0);
}

#[test]
fn measures() {
    let bbox = BBox::new(1.0, 2.0, 4.0, 8.0);
    assert_eq!((bbox.width(), bbox.height(), bbox.area(), bbox.center()), (3.0, 6.0, 18.0, (2.5, 5.0)));
    assert_eq!(bbox.to_array(), [1.0, 2.0, 4.0, 8.0]);
    assert_eq!(BBox::from(bbox.to_array()), bbox);
}

#[test]
fn frames() {
    let bbox = BBox::new(1.0, 2.0, 4.0, 8.0);
    assert_eq!(bbox.scale(2.0, 0.5), BBox::new(2.0, 1.0, 8.0, 4.0));
    assert_eq!(bbox.flip_horizontal(10.0), BBox::new(6.0, 2.0, 9.0, 8.0));
    assert_eq!(bbox.flip_vertical(12.0), BBox::new(1.0, 4.0, 4.0, 10.0));
}

#[test]
fn clipping() {
    let image = ImageSize::new(640, 480);
    assert_eq!(BBox::new(-5.0, 10.0, 700.0, 481.0).clip(image), BBox::new(0.0, 10.0, 640.0, 480.0));
    assert_eq!(BBox::new(700.0, -9.0, 800.0, -1.0).clip(image), BBox::new(640.0, 0.0, 640.0, 0.0));
    assert_eq!(BBox::new(-INF, -INF, INF, INF).clip(image), BBox::new(0.0, 0.0, 640.0, 480.0));
    assert!(BBox::new(NAN, 0.0, 1.0, 1.0).clip(image).x0.is_nan());
    assert_eq!(BBox::new(1.0, 1.0, 2.0, 2.0).clip(ImageSize::new(0, 0)).area(), 0.0);
}
