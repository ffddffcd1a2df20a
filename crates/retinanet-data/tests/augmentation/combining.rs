//! Mosaics, blends and pasted objects, and the partners they take.

use proptest::prelude::*;
use retinanet_data::augmentation::{Border, Piece, mixup, mosaic, paste};
use retinanet_data::retinanet_anchors::{BBox, ImageSize};
use retinanet_data::{Augmentation, CopyPaste, Dataset, MixUp, Mosaic, Sample};

use crate::pictures::{BORDER, Samples, apply, as_box, check_whole, extent, key, one_box, painted};

/// A picture of one colour, with a box over all of it.
fn plain(width: usize, height: usize, value: u8) -> Sample {
    let mut sample = painted(width, height, &[[0, 0, width, height]]);
    sample.image.pixels.fill(value);
    sample.classes = vec![usize::from(value)];
    sample
}

proptest! {
    #[test]
    fn a_mosaic_shows_each_picture_in_its_corner(
        sizes in prop::array::uniform4((1usize..50, 1usize..50)),
        center in prop::array::uniform2(0.0f64..1.0),
        scales in prop::array::uniform4(0.1f64..4.0),
    ) {
        let samples: Vec<Sample> = sizes.iter().zip(1..).map(|(&(w, h), value)| plain(w, h, value)).collect();
        let border = Border { min_visible: 0.0, ..BORDER };
        let made = mosaic([&samples[0], &samples[1], &samples[2], &samples[3]], center, scales, border);
        check_whole(&made);
        prop_assert_eq!(made.image.size, samples[0].image.size);
        // A picture of one colour is exactly where its box says.
        for (bbox, &class) in made.boxes.iter().zip(&made.classes) {
            prop_assert_eq!(Some(*bbox), extent(&made.image, class as u8).map(as_box));
        }
        // And one without a box is not seen.
        for value in 1..=4 {
            prop_assert_eq!(made.classes.contains(&value), extent(&made.image, value as u8).is_some());
        }
    }

    #[test]
    fn a_blend_keeps_all_boxes((w, h, b) in one_box(), (w2, h2, b2) in one_box(), share in 0.0f64..1.0) {
        let (sample, other) = (painted(w, h, &[b]), painted(w2, h2, &[b2]));
        let mixed = mixup(sample.clone(), &other, share);
        check_whole(&mixed);
        prop_assert_eq!(mixed.image.size, sample.image.size);
        prop_assert_eq!(mixed.boxes.len(), 2);
        prop_assert_eq!(mixed.boxes[0], sample.boxes[0]);
        let unmixed = mixup(sample.clone(), &other, 0.0);
        prop_assert_eq!(unmixed.image, sample.image);
    }

    #[test]
    fn what_is_pasted_is_where_its_box_says(
        (w, h, b) in one_box(), (w2, h2, b2) in one_box(), place in prop::array::uniform2(0.0f64..1.0),
    ) {
        let (sample, other) = (painted(w, h, &[b]), plain(w2, h2, 77));
        let other = Sample { boxes: vec![as_box(b2)], ..other };
        let piece = Piece::new(&other, 0, other.image.size, sample.image.size, place);
        let fits = b2[2] - b2[0] <= w && b2[3] - b2[1] <= h;
        prop_assert_eq!(piece.is_some(), fits);
        let Some(piece) = piece else { return Ok(()) };
        let made = paste(sample.clone(), &other, &[piece], BORDER);
        check_whole(&made);
        let at = made.classes.iter().position(|&class| class == 77);
        prop_assert_eq!(at.map(|at| made.boxes[at]), extent(&made.image, 77).map(as_box));
        // The object below: what is left of it in sight, where that is enough.
        let left = made.image.pixels.as_chunks::<3>().0.iter().filter(|rgb| rgb[0] == 1).count() as f64;
        let below = made.classes.iter().position(|&class| class == 0);
        let stays = left > 0.0 && left >= BORDER.min_visible * f64::from(sample.boxes[0].area());
        prop_assert_eq!(below.is_some(), stays);
        if let Some(below) = below {
            prop_assert_eq!(Some(made.boxes[below]), extent(&made.image, 1).map(as_box));
        }
    }
}

#[test]
fn a_blend_by_hand() {
    let mixed = mixup(plain(4, 2, 100), &plain(2, 4, 200), 0.25);
    // The other is fitted into the middle: 1 x 2 of 4 x 2.
    let row: Vec<u8> = mixed.image.pixels[..12].iter().step_by(3).copied().collect();
    assert_eq!(row, [100, 125, 100, 100]);
    assert_eq!(mixed.boxes, [BBox::new(0.0, 0.0, 4.0, 2.0), BBox::new(1.0, 0.0, 2.0, 2.0)]);
    assert_eq!(mixed.classes, [100, 200]);
}

#[test]
fn neighbours_in_a_pasted_rectangle_come_with_it() {
    let other = painted(40, 40, &[[10, 10, 30, 30], [12, 12, 18, 20], [28, 28, 40, 40]]);
    let sample = painted(100, 50, &[]);
    let piece = Piece::new(&other, 0, other.image.size, sample.image.size, [1.0, 0.0]).unwrap();
    let made = paste(sample, &other, &[piece], BORDER);
    // The second lies in the first; of the third only 4 of 144 pixels do.
    assert_eq!(made.classes, [0, 1]);
    assert_eq!(made.boxes, [BBox::new(80.0, 0.0, 100.0, 20.0), BBox::new(82.0, 2.0, 88.0, 10.0)]);
}

#[test]
fn later_pieces_hide_earlier_ones() {
    let other = painted(20, 20, &[[0, 0, 10, 10], [10, 10, 20, 20]]);
    let sample = painted(10, 20, &[]);
    let piece = |object, y| Piece::new(&other, object, other.image.size, sample.image.size, [0.0, y]).unwrap();
    let half_hidden = paste(sample.clone(), &other, &[piece(0, 0.0), piece(1, 0.5)], BORDER);
    assert_eq!(half_hidden.classes, [0, 1]);
    assert_eq!(half_hidden.boxes, [BBox::new(0.0, 0.0, 10.0, 5.0), BBox::new(0.0, 5.0, 10.0, 15.0)]);
    let all_hidden = paste(sample.clone(), &other, &[piece(0, 0.5), piece(1, 0.5)], BORDER);
    assert_eq!(all_hidden.classes, [1]);
}

fn all_combined() -> [Augmentation; 3] {
    let none = Augmentation::default();
    [
        Augmentation { mosaic: Some(Mosaic { probability: 1.0, ..Mosaic::default() }), ..none.clone() },
        Augmentation { mixup: Some(MixUp { probability: 1.0, ..MixUp::default() }), ..none.clone() },
        Augmentation { copy_paste: Some(CopyPaste { probability: 1.0, ..CopyPaste::default() }), ..none },
    ]
}

#[test]
fn partners_that_cannot_be_read_are_told_and_passed_over() {
    let broken = [2, 3, 5, 7];
    let sample = |index: usize| (!broken.contains(&index)).then(|| painted(24, 24, &[[2, 3, 9, 9]]));
    let set = Samples::new((0..9).map(sample).collect());
    let mut told = 0;
    for augmentation in all_combined() {
        for epoch in 0..20 {
            let mut failures = Vec::new();
            let changed = augmentation.apply(set.sample(0).unwrap(), &set, key(1, epoch, 0), &mut failures);
            check_whole(&changed);
            let mut again = Vec::new();
            assert_eq!(changed, augmentation.apply(set.sample(0).unwrap(), &set, key(1, epoch, 0), &mut again));
            assert_eq!(failures, again);
            assert!(failures.iter().all(|failure| broken.contains(&failure.index)));
            assert_ne!(changed.boxes.len(), 0);
            told += failures.len();
        }
    }
    assert!(told > 20, "{told}");
}

#[test]
fn without_partners_a_sample_stays() {
    let alone = Samples::new(vec![Some(painted(24, 24, &[[2, 3, 9, 9]]))]);
    let lonely = Samples::new(vec![Some(painted(24, 24, &[[2, 3, 9, 9]])), None, None]);
    for augmentation in all_combined() {
        for set in [&alone, &lonely] {
            assert_eq!(apply(&augmentation, set, key(0, 0, 0)), set.sample(0).unwrap());
        }
    }
}

#[test]
fn a_sample_is_no_partner_of_itself_and_any_other_is() {
    let set = Samples::new((0..5).map(|index| Some(plain(24, 24, index as u8 + 1))).collect());
    let [.., copy_paste] = all_combined();
    let mut seen = [0; 6];
    for epoch in 0..200 {
        let changed = apply(&copy_paste, &set, key(0, epoch, 3));
        changed.classes.iter().for_each(|&class| seen[class] += 1);
    }
    // Class 4 is its own box, hidden at times.
    assert!(seen[4] <= 200 && [1, 2, 3, 5].iter().all(|&class| seen[class] > 15), "{seen:?}");
}

#[test]
fn a_training_ends_on_pictures_as_they_are() {
    let set = Samples::new((0..5).map(|index| Some(plain(24, 24, index as u8 + 1))).collect());
    for augmentation in all_combined() {
        let augmentation = Augmentation { combine_until: Some(3), ..augmentation };
        let changes = |epoch| apply(&augmentation, &set, key(0, epoch, 1)) != set.sample(1).unwrap();
        assert!((0..3).any(changes));
        assert!(!(3..9).any(changes));
    }
}

#[test]
fn pictures_of_other_sizes_are_fitted() {
    let set = Samples::new(vec![
        Some(plain(10, 10, 1)),
        Some(plain(1000, 500, 2)),
        Some(plain(1, 1, 3)),
        Some(plain(1, 300, 4)),
    ]);
    for augmentation in all_combined() {
        for epoch in 0..30 {
            let changed = apply(&augmentation, &set, key(0, epoch, 0));
            check_whole(&changed);
            assert_eq!(changed.image.size, ImageSize::new(10, 10));
        }
    }
}
