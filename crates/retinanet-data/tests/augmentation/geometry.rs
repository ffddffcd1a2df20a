//! Flips, turns, cut-outs, scales and small angles.

use proptest::prelude::*;
use retinanet_data::augmentation::{
    Border, RotatedBox, Window, crop, flip_horizontal, flip_vertical, resize, rotate, scale, turn,
};
use retinanet_data::retinanet_anchors::{BBox, ImageSize};

use crate::pictures::{BORDER, as_box, check_whole, extent, one_box, painted};

proptest! {
    #[test]
    fn flips_move_pixels_and_boxes_alike_and_twice_is_nothing((w, h, b) in one_box()) {
        let sample = painted(w, h, &[b]);
        for flip in [flip_horizontal, flip_vertical] {
            let mut flipped = sample.clone();
            flip(&mut flipped);
            prop_assert_eq!(flipped.boxes[0], as_box(extent(&flipped.image, 1).unwrap()));
            prop_assert_eq!(flipped.boxes[0].area(), sample.boxes[0].area());
            flip(&mut flipped);
            prop_assert_eq!(&flipped, &sample);
        }
    }

    #[test]
    fn turns_move_pixels_and_boxes_alike_and_four_are_nothing((w, h, b) in one_box(), quarters in 0usize..9) {
        let sample = painted(w, h, &[b]);
        let turned = turn(sample.clone(), quarters);
        prop_assert_eq!(turned.boxes[0], as_box(extent(&turned.image, 1).unwrap()));
        prop_assert_eq!(turned.boxes[0].area(), sample.boxes[0].area());
        let one_by_one = (0..quarters).fold(sample.clone(), |sample, _| turn(sample, 1));
        prop_assert_eq!(&turned, &one_by_one);
        prop_assert_eq!(turn(turned, 8 * 3 - quarters), turn(sample, 8));
    }

    #[test]
    fn a_window_shows_what_its_boxes_say(
        (w, h, b) in one_box(),
        left in -8isize..20, top in -8isize..20, width in 1usize..24, height in 1usize..24,
        min_visible in 0.0f64..1.0,
    ) {
        let sample = painted(w, h, &[b]);
        let window = Window { left, top, size: ImageSize::new(width, height) };
        let cropped = crop(&sample, window, Border { min_visible, ..BORDER });
        check_whole(&cropped);
        let seen = extent(&cropped.image, 1);
        let area = seen.map_or(0, |[x0, y0, x1, y1]| (x1 - x0) * (y1 - y0));
        let kept = area > 0 && area as f64 >= min_visible * f64::from(sample.boxes[0].area());
        prop_assert_eq!(cropped.boxes.len(), usize::from(kept));
        if kept {
            prop_assert_eq!(cropped.boxes[0], as_box(seen.unwrap()));
        }
        // What is neither ground nor object lies outside the picture.
        let inside = |x: isize, y: isize| (0..w as isize).contains(&(x + left)) && (0..h as isize).contains(&(y + top));
        for (idx, rgb) in cropped.image.pixels.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = ((idx % width) as isize, (idx / width) as isize);
            prop_assert_eq!(*rgb == [200; 3], !inside(x, y));
        }
    }

    #[test]
    fn a_window_around_the_picture_is_undone((w, h, b) in one_box(), left in 0isize..9, top in 0isize..9) {
        let sample = painted(w, h, &[b]);
        let size = ImageSize::new(w + 9, h + 9);
        let wider = crop(&sample, Window { left: -left, top: -top, size }, BORDER);
        let back = crop(&wider, Window { left, top, size: sample.image.size }, BORDER);
        prop_assert_eq!(back, sample);
    }

    #[test]
    fn whole_factors_of_size_keep_boxes_exact((w, h, b) in one_box(), across in 1usize..4, down in 1usize..4) {
        let sample = painted(w, h, &[b]);
        let larger = resize(&sample, ImageSize::new(w * across, h * down));
        check_whole(&larger);
        let (sx, sy) = (across as f32, down as f32);
        prop_assert_eq!(larger.boxes[0], sample.boxes[0].scale(sx, sy));
        // Values between 0 and 1 are rounded, so the half of each mixture is seen where the box is.
        let seen = as_box(extent(&larger.image, 1).unwrap());
        for (seen, exact) in seen.to_array().into_iter().zip(larger.boxes[0].to_array()) {
            prop_assert!((seen - exact).abs() <= sx.max(sy) / 2.0, "{} for {}", seen, exact);
        }
    }

    #[test]
    fn no_angle_loses_a_picture((w, h, b) in one_box(), degrees in -180.0f64..180.0) {
        let sample = painted(w, h, &[b]);
        for boxes in [RotatedBox::Ellipse, RotatedBox::Corners] {
            let turned = rotate(&sample, degrees, boxes, BORDER);
            check_whole(&turned);
            prop_assert_eq!(turned.image.size, sample.image.size);
        }
        let [ellipse, corners] = [RotatedBox::Ellipse, RotatedBox::Corners]
            .map(|boxes| rotate(&sample, degrees, boxes, Border { min_visible: 0.0, ..BORDER }));
        // The ellipse lies in the box; what it keeps, the box keeps.
        if let (Some(small), Some(large)) = (ellipse.boxes.first(), corners.boxes.first()) {
            prop_assert!(small.area() <= large.area() * 1.0001);
        }
    }

    #[test]
    fn every_scale_gives_a_picture(
        (w, h, b) in one_box(), factor in 0.05f64..16.0, x in 0.0f64..1.0, y in 0.0f64..1.0, is_square: bool,
    ) {
        let sample = painted(w, h, &[b]);
        let longer = w.max(h);
        let base = if is_square { ImageSize::new(longer, longer) } else { sample.image.size };
        let scaled = scale(&sample, factor, base, [x, y], BORDER);
        check_whole(&scaled);
        let side = |side: usize| if factor > 1.0 { ((side as f64 * (1.0 / factor)).round() as usize).max(1) } else { side };
        prop_assert_eq!(scaled.image.size, ImageSize::new(side(base.width), side(base.height)));
    }
}

#[test]
fn right_angles_by_rotation_are_turns() {
    let sample = painted(8, 8, &[[1, 2, 4, 7]]);
    for (degrees, quarters) in [(0.0, 0), (90.0, 1), (180.0, 2), (-90.0, 3), (-180.0, 2)] {
        for boxes in [RotatedBox::Ellipse, RotatedBox::Corners] {
            let rotated = rotate(&sample, degrees, boxes, BORDER);
            let turned = turn(sample.clone(), quarters);
            assert_eq!(rotated.image, turned.image, "{degrees}");
            let far = |(a, b): (f32, f32)| (a - b).abs() < 1e-4;
            assert!(rotated.boxes[0].to_array().into_iter().zip(turned.boxes[0].to_array()).all(far), "{degrees}");
        }
    }
}

#[test]
fn angles_by_hand() {
    // A box of 4 x 2 in the middle of 20 x 20, turned by 30 degrees.
    let sample = painted(20, 20, &[[8, 9, 12, 11]]);
    let (cos, sin) = (3.0_f32.sqrt() / 2.0, 0.5_f32);
    for (boxes, (across, down)) in [
        (RotatedBox::Corners, (2.0 * cos + sin, 2.0 * sin + cos)),
        (RotatedBox::Ellipse, ((2.0 * cos).hypot(sin), (2.0 * sin).hypot(cos))),
    ] {
        let bbox = rotate(&sample, 30.0, boxes, BORDER).boxes[0];
        let expected = BBox::new(10.0 - across, 10.0 - down, 10.0 + across, 10.0 + down);
        assert!(bbox.iou(&expected) > 0.9999, "{bbox:?} for {expected:?}");
    }
    // A corner that leaves the picture goes, and clockwise is down on the right.
    let sample = painted(21, 21, &[[0, 0, 2, 2], [18, 9, 20, 11]]);
    let turned = rotate(&sample, 20.0, RotatedBox::Corners, BORDER);
    assert_eq!(turned.classes, [1]);
    assert!(turned.boxes[0].center().1 > 12.0);
}

#[test]
fn zooming_cuts_out_or_shrinks() {
    let sample = painted(100, 60, &[[40, 20, 60, 40]]);
    let larger = scale(&sample, 2.0, sample.image.size, [0.5, 0.5], BORDER);
    assert_eq!(larger.image.size, ImageSize::new(50, 30));
    assert_eq!(larger.boxes[0], BBox::new(15.0, 5.0, 35.0, 25.0));
    let smaller = scale(&sample, 0.5, sample.image.size, [1.0, 0.0], BORDER);
    assert_eq!(smaller.image.size, sample.image.size);
    assert_eq!(smaller.boxes[0], BBox::new(70.0, 10.0, 80.0, 20.0));
    assert_eq!(extent(&smaller.image, 1), Some([70, 10, 80, 20]));
    assert_eq!(extent(&smaller.image, 0), Some([50, 0, 100, 30]), "the rest is ground");
    // Detectron2's large scale jitter: at factor 1 the longer side fills the square.
    let square = scale(&sample, 1.0, ImageSize::new(100, 100), [0.5, 1.0], BORDER);
    assert_eq!(square.boxes[0], BBox::new(40.0, 60.0, 60.0, 80.0));
}
