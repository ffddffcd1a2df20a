//! Boxes and pictures change together.

use proptest::prelude::*;
use retinanet_anchors::{BBox, ImageSize};
use retinanet_data::{Augmentation, Image, Sample, Window, Zoom, crop, flip_horizontal, flip_vertical};

/// A picture in which each box is filled with a value of its own, on 0.
fn painted(width: usize, height: usize, boxes: &[[usize; 4]]) -> Sample {
    let mut pixels = vec![0; width * height * 3];
    for (value, &[x0, y0, x1, y1]) in boxes.iter().enumerate() {
        for y in y0..y1 {
            pixels[(y * width + x0) * 3..(y * width + x1) * 3].fill(value as u8 + 1);
        }
    }
    Sample {
        image: Image { size: ImageSize::new(width, height), pixels },
        boxes: boxes.iter().map(|b| BBox::from(b.map(|v| v as f32))).collect(),
        classes: (0..boxes.len()).collect(),
    }
}

/// Where a value is seen in a picture.
fn extent(image: &Image, value: u8) -> Option<[usize; 4]> {
    let mut found: Option<[usize; 4]> = None;
    for (idx, rgb) in image.pixels.as_chunks::<3>().0.iter().enumerate() {
        if rgb[0] == value {
            let (x, y) = (idx % image.size.width, idx / image.size.width);
            let [x0, y0, x1, y1] = found.unwrap_or([x, y, x, y]);
            found = Some([x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1)]);
        }
    }
    found
}

fn one_box() -> impl Strategy<Value = (usize, usize, [usize; 4])> {
    (2usize..20, 2usize..20)
        .prop_flat_map(|(w, h)| (Just(w), Just(h), 0..w, 0..h))
        .prop_flat_map(|(w, h, x, y)| (Just(w), Just(h), Just(x), Just(y), x + 1..=w, y + 1..=h))
        .prop_map(|(w, h, x0, y0, x1, y1)| (w, h, [x0, y0, x1, y1]))
}

proptest! {
    #[test]
    fn flips_move_pixels_and_boxes_alike_and_twice_is_nothing((w, h, b) in one_box()) {
        let sample = painted(w, h, &[b]);
        for flip in [flip_horizontal, flip_vertical] {
            let mut flipped = sample.clone();
            flip(&mut flipped);
            let seen = extent(&flipped.image, 1).unwrap().map(|v| v as f32);
            prop_assert_eq!(flipped.boxes[0], BBox::from(seen));
            prop_assert_eq!(flipped.boxes[0].area(), sample.boxes[0].area());
            flip(&mut flipped);
            prop_assert_eq!(&flipped, &sample);
        }
    }

    #[test]
    fn a_window_shows_what_its_boxes_say(
        (w, h, b) in one_box(),
        left in -8isize..20, top in -8isize..20, width in 1usize..24, height in 1usize..24,
        min_visible in 0.0f64..1.0,
    ) {
        let sample = painted(w, h, &[b]);
        let window = Window { left, top, size: ImageSize::new(width, height) };
        let cropped = crop(&sample, window, min_visible, [200; 3]);
        prop_assert_eq!(cropped.image.pixels.len(), width * height * 3);
        let seen = extent(&cropped.image, 1);
        let area = seen.map_or(0, |[x0, y0, x1, y1]| (x1 - x0) * (y1 - y0));
        let kept = area > 0 && area as f64 >= min_visible * f64::from(sample.boxes[0].area());
        prop_assert_eq!(cropped.boxes.len(), usize::from(kept));
        prop_assert_eq!(cropped.classes.len(), usize::from(kept));
        if kept {
            prop_assert_eq!(cropped.boxes[0], BBox::from(seen.unwrap().map(|v| v as f32)));
        }
        // What is neither ground nor object lies outside the picture.
        let inside = |x: isize, y: isize| (0..w as isize).contains(&(x + left)) && (0..h as isize).contains(&(y + top));
        for (idx, rgb) in cropped.image.pixels.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = ((idx % width) as isize, (idx / width) as isize);
            prop_assert_eq!(*rgb == [200; 3], !inside(x, y));
        }
    }

    #[test]
    fn whatever_is_drawn_boxes_stay_in_the_picture((w, h, b) in one_box(), seed: u64, epoch in 0u64..9, index in 0u64..9) {
        let augmentation = all();
        let sample = painted(w, h, &[b]);
        let changed = augmentation.apply(sample.clone(), seed, epoch, index);
        prop_assert_eq!(&changed, &augmentation.apply(sample, seed, epoch, index));
        let size = changed.image.size;
        prop_assert_eq!(changed.image.pixels.len(), size.width * size.height * 3);
        for bbox in &changed.boxes {
            prop_assert_eq!(*bbox, bbox.clip(size));
            prop_assert!(bbox.area() > 0.0);
        }
    }
}

fn all() -> Augmentation {
    Augmentation {
        horizontal_flip: 0.5,
        vertical_flip: 0.5,
        min_sizes: vec![10, 20, 30],
        zoom: Some(Zoom { range: [0.5, 2.0], ..Zoom::default() }),
        brightness: 0.3,
        contrast: 0.3,
    }
}

#[test]
fn by_default_nothing_happens() {
    let sample = painted(9, 7, &[[1, 2, 5, 6], [0, 0, 1, 1]]);
    let changed = Augmentation::default().apply(sample.clone(), 1, 2, 3);
    assert_eq!(changed, sample);
    assert_eq!(Augmentation::default().min_size(800, 1, 2, 3), 800);
}

#[test]
fn draws_happen_as_often_as_asked() {
    let sample = painted(8, 8, &[[0, 0, 2, 3]]);
    let flips = |probability| {
        let augmentation = Augmentation { horizontal_flip: probability, ..Augmentation::default() };
        let flipped = |&index: &u64| augmentation.apply(sample.clone(), 5, 0, index).boxes != sample.boxes;
        (0..1000).filter(flipped).count()
    };
    assert_eq!((flips(0.0), flips(1.0)), (0, 1000));
    assert!((430..570).contains(&flips(0.5)), "{}", flips(0.5));

    let sizes: Vec<usize> = (0..300).map(|batch| all().min_size(0, 5, 0, batch)).collect();
    for size in [10, 20, 30] {
        let count = sizes.iter().filter(|&&s| s == size).count();
        assert!((60..140).contains(&count), "{size}: {count}");
    }
}

#[test]
fn one_setting_leaves_the_draws_of_another() {
    let sample = painted(16, 16, &[[0, 0, 4, 3]]);
    let only_flips = Augmentation { horizontal_flip: 0.5, ..Augmentation::default() };
    let with_colour = Augmentation { brightness: 0.5, vertical_flip: 0.0, ..only_flips.clone() };
    for index in 0..50 {
        let a = only_flips.apply(sample.clone(), 3, 1, index);
        let b = with_colour.apply(sample.clone(), 3, 1, index);
        assert_eq!(a.boxes, b.boxes);
    }
}

#[test]
fn zoom_makes_objects_larger_and_smaller() {
    let sample = painted(100, 60, &[[40, 20, 60, 40]]);
    for (factor, size) in [(2.0, (50, 30)), (0.5, (200, 120)), (1.0, (100, 60))] {
        let augmentation = Augmentation {
            zoom: Some(Zoom { probability: 1.0, range: [factor; 2], ..Zoom::default() }),
            ..Augmentation::default()
        };
        augmentation.validate().unwrap();
        let zoomed = augmentation.apply(sample.clone(), 0, 0, 0);
        assert_eq!(zoomed.image.size, ImageSize::new(size.0, size.1));
    }
}

#[test]
fn contrast_and_brightness_by_hand() {
    // 100 and 200, mean 150: far from the mean by 50.
    let mut sample = painted(2, 1, &[]);
    sample.image.pixels = vec![100, 100, 100, 200, 200, 200];
    let spread = |augmentation: &Augmentation, index| {
        let pixels = augmentation.apply(sample.clone(), 0, 0, index).image.pixels;
        (f64::from(pixels[0]), f64::from(pixels[3]))
    };
    let contrast = Augmentation { contrast: 1.0, ..Augmentation::default() };
    let brightness = Augmentation { brightness: 0.2, ..Augmentation::default() };
    let mut different = 0;
    for index in 0..40 {
        let (low, high) = spread(&contrast, index);
        assert!((low + high - 300.0).abs() <= 1.0, "the mean stays: {low} {high}");
        different += usize::from(low != 100.0);
        let (low, high) = spread(&brightness, index);
        assert!((high - 2.0 * low).abs() <= 1.5 && (80.0..=120.0).contains(&low), "{low} {high}");
    }
    assert!(different > 30);
}

#[test]
fn settings_out_of_range_are_named() {
    for (field, augmentation) in [
        ("augmentation.horizontal_flip", Augmentation { horizontal_flip: 1.5, ..all() }),
        ("augmentation.contrast", Augmentation { contrast: f64::NAN, ..all() }),
        ("augmentation.min_sizes", Augmentation { min_sizes: vec![0], ..all() }),
        (
            "augmentation.zoom.range",
            Augmentation { zoom: Some(Zoom { range: [2.0, 1.0], ..Zoom::default() }), ..all() },
        ),
        (
            "augmentation.zoom.range",
            Augmentation { zoom: Some(Zoom { range: [f64::NAN, 1.0], ..Zoom::default() }), ..all() },
        ),
    ] {
        let error = augmentation.validate().unwrap_err();
        assert_eq!(error.field, field);
    }
    all().validate().unwrap();
    let unknown = serde_json::from_str::<Augmentation>(r#"{"horizontal_flop": 0.5}"#);
    assert!(unknown.unwrap_err().to_string().contains("horizontal_flop"));
}
