//! Boxes and tags by their pixels, and boxes of every kind on pictures of every size.

use proptest::prelude::*;
use retinanet_anchors::{BBox, Detection};
use retinanet_draw::{Color, LabelledBox, RgbImage, class_color, draw_detections, label_detections};

fn plain(width: u32, height: u32, gray: u8) -> RgbImage {
    RgbImage::from_pixel(width, height, image::Rgb([gray; 3]))
}

fn labelled(bbox: [f32; 4], text: &str, color: Color) -> LabelledBox {
    LabelledBox { bbox: bbox.into(), text: text.to_string(), color }
}

fn drawn(mut picture: RgbImage, boxes: &[LabelledBox]) -> RgbImage {
    draw_detections(&mut picture, boxes);
    picture
}

const TEAL: Color = Color::new(0, 150, 140);

#[test]
fn the_line_is_on_the_edge_between_hairlines() {
    let picture = drawn(plain(300, 300, 128), &[labelled([50.0, 60.0, 250.0, 260.0], "", TEAL)]);
    // One pixel of line at this size; x1 and y1 are the first position outside.
    for edge in [(50, 150), (249, 150), (150, 60), (150, 259)] {
        assert_eq!(picture.get_pixel(edge.0, edge.1).0, TEAL.to_array(), "{edge:?}");
    }
    // Black or white at 0.7 over gray 128.
    let hairline = match TEAL.legible() {
        Color::BLACK => 38,
        _ => 217,
    };
    for beside in [(49, 150), (51, 150), (250, 150), (248, 150), (150, 59), (150, 61)] {
        assert_eq!(picture.get_pixel(beside.0, beside.1).0, [hairline; 3], "{beside:?}");
    }
    for untouched in [(48, 150), (52, 150), (150, 150), (0, 0)] {
        assert_eq!(picture.get_pixel(untouched.0, untouched.1).0, [128; 3], "{untouched:?}");
    }
}

#[test]
fn a_box_over_everything_is_seen() {
    for bbox in [[0.0, 0.0, 120.0, 90.0], [-1e30, f32::NEG_INFINITY, f32::INFINITY, f32::MAX]] {
        let picture = drawn(plain(120, 90, 255), &[labelled(bbox, "", TEAL)]);
        for corner in [(0, 0), (119, 0), (0, 89), (119, 89), (60, 0), (60, 89), (0, 45), (119, 45)] {
            assert_eq!(picture.get_pixel(corner.0, corner.1).0, TEAL.to_array(), "{bbox:?} {corner:?}");
        }
    }
}

#[test]
fn lines_grow_with_the_picture() {
    let width_of_line = |side: u32| {
        let bbox = [0.25, 0.25, 0.75, 0.75].map(|share: f32| share * side as f32);
        let picture = drawn(plain(side, side, 90), &[labelled(bbox, "", TEAL)]);
        (0..side / 2).filter(|x| picture.get_pixel(*x, side / 2).0 == TEAL.to_array()).count()
    };
    assert_eq!([100, 600, 2800].map(width_of_line), [1, 2, 10]);
}

#[test]
fn what_has_no_place_is_left_out() {
    let nan = f32::NAN;
    let boxes = [
        [nan, 1.0, 20.0, 20.0],
        [1.0, 1.0, 20.0, nan],
        [20.0, 1.0, 10.0, 20.0],
        [5.0, 5.0, 5.0, 20.0],
        [40.0, 5.0, 60.0, 20.0],
        [-9.0, 5.0, 0.0, 20.0],
        [f32::INFINITY, 1.0, f32::INFINITY, 9.0],
    ];
    for bbox in boxes {
        let before = plain(40, 40, 77);
        assert_eq!(drawn(before.clone(), &[labelled(bbox, "x", TEAL)]), before, "{bbox:?}");
    }
    let before = plain(40, 40, 77);
    assert_eq!(drawn(before.clone(), &[]), before);
}

#[test]
fn tags_hold_readable_text() {
    for class_idx in 0..12 {
        let color = class_color(class_idx);
        let boxes = [labelled([100.0, 100.0, 300.0, 250.0], "MMMMMM", color)];
        let picture = drawn(plain(640, 480, 128), &boxes);
        let is_ground = |pixel: &&image::Rgb<u8>| pixel.0 == color.to_array();
        // More ground than the line of the box alone, two pixels wide.
        assert!(picture.pixels().filter(is_ground).count() > 2 * 2 * (200 + 150) + 300, "class {class_idx}");
        let is_readable = |pixel: &&image::Rgb<u8>| {
            let [red, green, blue] = pixel.0;
            color.contrast(Color::new(red, green, blue)) >= 4.5
        };
        let in_tag = image::imageops::crop_imm(&picture, 102, 82, 50, 14).to_image();
        assert!(in_tag.pixels().filter(is_readable).count() > 60, "class {class_idx}");
    }
}

#[test]
fn the_first_box_is_on_top() {
    let (red, blue) = (Color::new(230, 40, 40), Color::new(40, 80, 230));
    let bbox = [20.0, 20.0, 200.0, 200.0];
    let picture = drawn(plain(256, 256, 128), &[labelled(bbox, "", red), labelled(bbox, "", blue)]);
    assert_eq!(picture.get_pixel(20, 100).0, red.to_array());
}

#[test]
fn detections_are_labelled_strongest_first() {
    let bbox = BBox::new(0.0, 0.0, 4.0, 4.0);
    let detection = |label, score| Detection { bbox, label, score };
    let detections = [detection(1, 0.25), detection(2, f32::NAN), detection(0, 0.999), detection(1, 0.5)];
    let boxes = label_detections(&detections, &["cat", "dog"]);
    let texts: Vec<&str> = boxes.iter().map(|labelled| labelled.text.as_str()).collect();
    assert_eq!(texts, ["cat 1.00", "dog 0.50", "dog 0.25", "class 2 NaN"]);
    assert_eq!(boxes[1].color, class_color(1));
}

fn any_coordinate() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -50.0f32..300.0,
        1 => any::<f32>(),
        1 => prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(0.0)],
    ]
}

proptest! {
    #[test]
    fn any_box_on_any_picture(
        width in 0u32..150,
        height in 0u32..150,
        boxes in prop::collection::vec((prop::array::uniform4(any_coordinate()), ".{0,30}", any::<usize>()), 0..12),
    ) {
        let boxes: Vec<LabelledBox> = boxes
            .into_iter()
            .map(|(bbox, text, class_idx)| labelled(bbox, &text, class_color(class_idx)))
            .collect();
        let picture = drawn(plain(width, height, 100), &boxes);
        prop_assert_eq!(picture.dimensions(), (width, height));
        // Drawing again over a copy gives the same: nothing depends on anything else.
        prop_assert_eq!(drawn(plain(width, height, 100), &boxes), picture);
    }
}
