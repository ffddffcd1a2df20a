//! The configuration, and what is drawn from it.

use proptest::prelude::*;
use retinanet_data::{
    Augmentation, CopyPaste, Dataset, Image, MixUp, Mosaic, RandomCrop, RotatedBox, Rotation, Sample, ScaleJitter,
};

use crate::pictures::{Samples, apply, check_whole, extent, key, one_box, painted};

/// Everything that there is.
fn all() -> Augmentation {
    Augmentation {
        horizontal_flip: 0.5,
        vertical_flip: 0.5,
        quarter_turn: 0.5,
        min_sizes: vec![10, 20, 30],
        brightness: 0.125,
        contrast: 0.5,
        saturation: 0.5,
        hue: 0.05,
        color_probability: 0.5,
        grayscale: 0.1,
        scale_jitter: Some(ScaleJitter { probability: 0.5, ..ScaleJitter::default() }),
        crop: Some(RandomCrop::default()),
        rotation: Some(Rotation::default()),
        mosaic: Some(Mosaic::default()),
        mixup: Some(MixUp::default()),
        copy_paste: Some(CopyPaste::default()),
        ..Augmentation::default()
    }
}

proptest! {
    #[test]
    fn whatever_is_drawn_samples_stay_whole(
        boxes in prop::collection::vec(one_box(), 3), seed: u64, epoch in 0u64..9, index in 0usize..4,
    ) {
        let augmentation = all();
        let mut samples: Vec<_> = boxes.iter().map(|&(w, h, b)| Some(painted(w, h, &[b]))).collect();
        samples.push(Some(painted(7, 5, &[])));
        let set = Samples::new(samples);
        let changed = apply(&augmentation, &set, key(seed, epoch, index));
        check_whole(&changed);
        prop_assert_eq!(changed, apply(&augmentation, &set, key(seed, epoch, index)));
    }

    #[test]
    fn a_crop_keeps_an_object_in_sight(b in one_box(), seed: u64, ssd: bool) {
        let (w, h, b) = b;
        let min_iou = if ssd { vec![0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0] } else { Vec::new() };
        let crop = RandomCrop { probability: 1.0, min_iou, ..RandomCrop::default() };
        let augmentation = Augmentation { crop: Some(crop), ..Augmentation::default() };
        let set = Samples::new(vec![Some(painted(w, h, &[b]))]);
        let changed = apply(&augmentation, &set, key(seed, 0, 0));
        check_whole(&changed);
        prop_assert_eq!(changed.boxes.len(), 1);
        prop_assert_eq!(changed.boxes[0].to_array().map(|v| v as usize), extent(&changed.image, 1).unwrap());
    }
}

#[test]
fn by_default_nothing_happens() {
    let set = Samples::new(vec![Some(painted(9, 7, &[[1, 2, 5, 6], [0, 0, 1, 1]])); 5]);
    assert_eq!(apply(&Augmentation::default(), &set, key(1, 2, 3)), set.sample(3).unwrap());
    assert_eq!(Augmentation::default().min_size(800, 1, 2, 3), 800);
    // Neither does with pixels that are not there; the batch tells of them.
    let broken = Sample { image: Image { pixels: vec![0; 5], ..painted(9, 7, &[]).image }, ..painted(9, 7, &[]) };
    assert_eq!(all().apply(broken.clone(), &set, key(0, 0, 0), &mut Vec::new()), broken);
}

#[track_caller]
fn check_frequency(name: &str, augmentation: impl Fn(f64) -> Augmentation) {
    let mut sample = painted(24, 20, &[[1, 2, 9, 13], [12, 4, 20, 9]]);
    sample.image.pixels.iter_mut().for_each(|value| *value += 100);
    let mut samples = vec![Some(painted(20, 24, &[[3, 3, 15, 12]])); 4];
    samples[0] = Some(sample.clone());
    let set = Samples::new(samples);
    let changed = |probability| {
        let augmentation = augmentation(probability);
        augmentation.validate().unwrap();
        (0..400).filter(|&epoch| apply(&augmentation, &set, key(5, epoch, 0)) != sample).count()
    };
    let (never, often, always) = (changed(0.0), changed(0.5), changed(1.0));
    assert_eq!(never, 0, "{name}");
    // Some draws change nothing that is seen: a cut-out of the whole, an angle near 0.
    assert!(always > 340, "{name}: {always} of 400");
    assert!((150..250).contains(&often), "{name}: {often} of 400");
}

#[test]
fn draws_happen_as_often_as_asked() {
    let none = Augmentation::default;
    check_frequency("horizontal_flip", |horizontal_flip| Augmentation { horizontal_flip, ..none() });
    check_frequency("vertical_flip", |vertical_flip| Augmentation { vertical_flip, ..none() });
    check_frequency("quarter_turn", |quarter_turn| Augmentation { quarter_turn, ..none() });
    check_frequency("color", |color_probability| Augmentation { brightness: 1.0, color_probability, ..none() });
    let scale_jitter = ScaleJitter::default();
    check_frequency("scale_jitter", |probability| Augmentation {
        scale_jitter: Some(ScaleJitter { probability, ..scale_jitter }),
        ..none()
    });
    check_frequency("crop", |probability| Augmentation {
        crop: Some(RandomCrop { probability, ..RandomCrop::default() }),
        ..none()
    });
    let rotation = Rotation { degrees: [-90.0, 90.0], boxes: RotatedBox::Corners, ..Rotation::default() };
    check_frequency("rotation", |probability| Augmentation {
        rotation: Some(Rotation { probability, ..rotation }),
        ..none()
    });
    check_frequency("mosaic", |probability| Augmentation {
        mosaic: Some(Mosaic { probability, ..Mosaic::default() }),
        ..none()
    });
    check_frequency("mixup", |probability| Augmentation {
        mixup: Some(MixUp { probability, ..MixUp::default() }),
        ..none()
    });
    check_frequency("copy_paste", |probability| Augmentation {
        copy_paste: Some(CopyPaste { probability, ..CopyPaste::default() }),
        ..none()
    });

    let sizes: Vec<usize> = (0..300).map(|batch| all().min_size(0, 5, 0, batch)).collect();
    for size in [10, 20, 30] {
        let count = sizes.iter().filter(|&&s| s == size).count();
        assert!((60..140).contains(&count), "{size}: {count}");
    }
}

/// A transform that is added leaves the draws of those that are there: with all that can be told apart by boxes alone.
#[test]
fn one_setting_leaves_the_draws_of_another() {
    let set = Samples::new(vec![Some(painted(16, 16, &[[0, 0, 4, 3]])); 50]);
    let only_flips = Augmentation { horizontal_flip: 0.5, ..Augmentation::default() };
    let more = Augmentation {
        brightness: 0.5,
        hue: 0.1,
        grayscale: 0.5,
        crop: Some(RandomCrop { probability: 0.0, ..RandomCrop::default() }),
        mixup: Some(MixUp { probability: 0.0, ..MixUp::default() }),
        ..only_flips.clone()
    };
    let saturated = Augmentation { saturation: 0.0, contrast: 0.3, ..more.clone() };
    let mut flips = 0;
    for index in 0..50 {
        let [a, b, c] =
            [&only_flips, &more, &saturated].map(|augmentation| apply(augmentation, &set, key(3, 1, index)));
        assert_eq!(a.boxes, b.boxes);
        assert_eq!(a.boxes, c.boxes);
        flips += usize::from(a.boxes != set.sample(index).unwrap().boxes);
    }
    assert!((10..40).contains(&flips), "{flips}");
    // The angle is the same, whatever was put together before.
    let rotation = Rotation { probability: 1.0, ..Rotation::default() };
    let rotated = Augmentation { rotation: Some(rotation), ..Augmentation::default() };
    let mixed = Augmentation { mixup: Some(MixUp { probability: 1.0, ..MixUp::default() }), ..rotated.clone() };
    for index in 0..50 {
        let [a, b] = [&rotated, &mixed].map(|augmentation| apply(augmentation, &set, key(3, 1, index)).boxes[0]);
        assert_eq!(a, b);
    }
    // And so is the picture that is blended in: its box comes last, with its class.
    let classed = |index| Some(Sample { classes: vec![index], ..painted(16, 16, &[[0, 0, 4, 3]]) });
    let set = Samples::new((0..50).map(classed).collect());
    let mixed = Augmentation { mixup: Some(MixUp { probability: 1.0, ..MixUp::default() }), ..Augmentation::default() };
    let more =
        Augmentation { mosaic: Some(Mosaic::default()), copy_paste: Some(CopyPaste::default()), ..mixed.clone() };
    for index in 0..50 {
        let [a, b] = [&mixed, &more].map(|augmentation| apply(augmentation, &set, key(3, 1, index)).classes);
        assert_eq!(a.last(), b.last());
    }
}

#[test]
fn keys_differ_in_each_of_their_parts() {
    let set = Samples::new((0..3).map(|_| Some(painted(40, 40, &[[5, 5, 30, 20]]))).collect());
    let of = |seed, epoch, index| apply(&all(), &set, key(seed, epoch, index));
    let differs = |other: &dyn Fn(u64) -> Sample| (0..20).filter(|&i| other(i) != of(i, 4, 1)).count();
    assert!(differs(&|i| of(i + 100, 4, 1)) > 15);
    assert!(differs(&|i| of(i, 5, 1)) > 15);
    assert!(differs(&|i| of(i, 4, 2)) > 15);
}

#[test]
fn settings_out_of_range_are_named() {
    let set = |text: &str| serde_json::from_str::<Augmentation>(text).unwrap().validate();
    for (field, text) in [
        ("augmentation.horizontal_flip", r#"{"horizontal_flip": 1.5}"#),
        ("augmentation.quarter_turn", r#"{"quarter_turn": -0.1}"#),
        ("augmentation.contrast", r#"{"contrast": 2}"#),
        ("augmentation.hue", r#"{"hue": 0.6}"#),
        ("augmentation.color_probability", r#"{"color_probability": 7}"#),
        ("augmentation.min_visible", r#"{"min_visible": -1}"#),
        ("augmentation.min_sizes", r#"{"min_sizes": [0]}"#),
        ("augmentation.scale_jitter.range", r#"{"scale_jitter": {"range": [2.0, 1.0]}}"#),
        ("augmentation.scale_jitter.range", r#"{"scale_jitter": {"range": [0.0, 1.0]}}"#),
        ("augmentation.scale_jitter.probability", r#"{"scale_jitter": {"probability": 2}}"#),
        ("augmentation.crop.scale", r#"{"crop": {"scale": [0.5, 1.5]}}"#),
        ("augmentation.crop.aspect", r#"{"crop": {"aspect": [0.0, 1.5]}}"#),
        ("augmentation.crop.min_iou", r#"{"crop": {"min_iou": [0.5, 1.5]}}"#),
        ("augmentation.rotation.degrees", r#"{"rotation": {"degrees": [-181, 0]}}"#),
        ("augmentation.mosaic.center", r#"{"mosaic": {"center": [0.5, 1.5]}}"#),
        ("augmentation.mosaic.scale", r#"{"mosaic": {"scale": [0.5, 5]}}"#),
        ("augmentation.mixup.share", r#"{"mixup": {"share": [-0.5, 0.5]}}"#),
        ("augmentation.copy_paste.max_objects", r#"{"copy_paste": {"max_objects": 0}}"#),
        ("augmentation.copy_paste.scale", r#"{"copy_paste": {"scale": [0, 1]}}"#),
    ] {
        assert_eq!(set(text).expect_err(text).field, field, "{text}");
    }
    let no_number = Augmentation { contrast: f64::NAN, ..all() };
    assert_eq!(no_number.validate().unwrap_err().to_string(), "augmentation.contrast: expected 0..=1, found NaN");
    all().validate().unwrap();
    let text = serde_json::to_string(&all()).unwrap();
    assert_eq!(serde_json::from_str::<Augmentation>(&text).unwrap(), all());
    for unknown in
        [r#"{"horizontal_flop": 0.5}"#, r#"{"mosaic": {"scales": [1, 2]}}"#, r#"{"rotation": {"boxes": "hull"}}"#]
    {
        let message = serde_json::from_str::<Augmentation>(unknown).unwrap_err().to_string();
        assert!(message.contains("unknown"), "{message}");
    }
}
