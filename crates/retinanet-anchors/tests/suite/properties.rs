//! What holds for all boxes.

use proptest::collection::vec;
use proptest::prelude::*;
use retinanet_anchors::{Assignment, Atss, BBox, BoxCoder, Matcher, Pyramid, PyramidLevel, best_ious, class_wise_nms};

/// A box with sides, about where images are.
fn a_box() -> impl Strategy<Value = BBox> {
    (-100.0f32..1500.0, -100.0f32..1500.0, 1.0f32..600.0, 1.0f32..600.0)
        .prop_map(|(x, y, width, height)| BBox::new(x, y, x + width, y + height))
}

/// Boxes on a coarse grid, where overlaps are many and ties exact.
fn crowded_box() -> impl Strategy<Value = BBox> {
    (0u8..8, 0u8..8, 1u8..5, 1u8..5).prop_map(|(x, y, width, height)| {
        let [x, y, width, height] = [x, y, width, height].map(f32::from);
        BBox::new(x, y, x + width, y + height)
    })
}

/// Any four numbers, NaN and infinity included.
fn any_numbers() -> impl Strategy<Value = BBox> {
    let number = prop_oneof![any::<f32>(), -10.0f32..10.0, Just(f32::NAN), Just(f32::INFINITY), Just(0.0)];
    [number.clone(), number.clone(), number.clone(), number].prop_map(BBox::from)
}

proptest! {
    #[test]
    fn iou_is_symmetric_and_at_most_one(a in prop_oneof![a_box(), any_numbers()], b in prop_oneof![a_box(), any_numbers()]) {
        prop_assert_eq!(a.iou(&b).to_bits(), b.iou(&a).to_bits());
        prop_assert!((0.0..=1.0).contains(&a.iou(&b)), "{}", a.iou(&b));
    }

    #[test]
    fn a_box_overlaps_itself_wholly(a in a_box()) {
        prop_assert_eq!(a.iou(&a), 1.0);
    }

    #[test]
    fn decoding_undoes_encoding(bbox in a_box(), anchor in a_box(), weight in 0.5f32..20.0) {
        let coder = BoxCoder { weights: [weight; 4], ..BoxCoder::default() };
        prop_assume!(bbox.width() < 62.0 * anchor.width() && bbox.height() < 62.0 * anchor.height());
        let decoded = coder.decode(coder.encode(&bbox, &anchor), &anchor);
        for (found, expected) in decoded.to_array().into_iter().zip(bbox.to_array()) {
            // A few units in the last place of coordinates up to 2100.
            prop_assert!((found - expected).abs() < 2e-3, "{decoded:?} is not {bbox:?}");
        }
    }

    #[test]
    fn every_overlapped_ground_truth_keeps_its_best_anchors(
        anchors in vec(crowded_box(), 1..40),
        ground_truth in vec(crowded_box(), 1..8),
    ) {
        let assignments = Matcher::default().assign(&anchors, &ground_truth);
        for (ground_truth, best) in ground_truth.iter().zip(best_ious(&anchors, &ground_truth)) {
            for (anchor, assignment) in anchors.iter().zip(&assignments) {
                prop_assert!(anchor.iou(ground_truth) <= best);
                if best > 0.0 && anchor.iou(ground_truth) == best {
                    let is_foreground = matches!(assignment, Assignment::Foreground { .. });
                    prop_assert!(is_foreground, "{:?} of {:?} is {:?}", anchor, ground_truth, assignment);
                }
            }
        }
    }

    #[test]
    fn foreground_is_the_anchors_own_best(anchors in vec(crowded_box(), 1..40), ground_truth in vec(crowded_box(), 1..8)) {
        for (anchor, assignment) in anchors.iter().zip(Matcher::default().assign(&anchors, &ground_truth)) {
            let best = ground_truth.iter().map(|g| anchor.iou(g)).fold(0.0, f32::max);
            match assignment {
                Assignment::Foreground { ground_truth_idx } => {
                    prop_assert_eq!(anchor.iou(&ground_truth[ground_truth_idx]), best);
                    prop_assert!(best > 0.0);
                    prop_assert!(ground_truth[..ground_truth_idx].iter().all(|g| anchor.iou(g) < best));
                }
                Assignment::Background => prop_assert!(best < 0.4),
                Assignment::Ignore => prop_assert!((0.4..0.5).contains(&best)),
            }
        }
    }

    #[test]
    fn matching_survives_any_numbers(anchors in vec(any_numbers(), 0..40), ground_truth in vec(any_numbers(), 0..8)) {
        let assignments = Matcher::default().assign(&anchors, &ground_truth);
        prop_assert_eq!(assignments.len(), anchors.len());
        for (anchor, assignment) in anchors.iter().zip(assignments) {
            if let Assignment::Foreground { ground_truth_idx } = assignment {
                prop_assert!(anchor.iou(&ground_truth[ground_truth_idx]) > 0.0);
            }
        }
    }

    #[test]
    fn adaptive_thresholds_choose_overlapping_anchors_centred_in_their_object(
        levels in vec(vec(crowded_box(), 0..30), 1..4),
        ground_truth in vec(crowded_box(), 0..8),
        candidates in 1usize..12,
    ) {
        let levels = Pyramid::new(PyramidLevel::P3, levels).expect("up to three levels");
        let anchors = levels.values().concat();
        let assignments = Atss { candidates }.assign(&levels, 1, &ground_truth);
        prop_assert_eq!(assignments.len(), anchors.len());
        let mut taken = vec![0; ground_truth.len()];
        for (anchor, assignment) in anchors.iter().zip(assignments) {
            prop_assert_ne!(assignment, Assignment::Ignore);
            if let Assignment::Foreground { ground_truth_idx } = assignment {
                let bbox = ground_truth[ground_truth_idx];
                let (x, y) = anchor.center();
                prop_assert!(anchor.iou(&bbox) > 0.0 && bbox.x0 < x && x < bbox.x1 && bbox.y0 < y && y < bbox.y1);
                taken[ground_truth_idx] += 1;
            }
        }
        // No object has more anchors than candidates.
        let most = candidates * levels.len();
        prop_assert!(taken.iter().all(|&taken| taken <= most), "{taken:?} of {most}");
    }

    #[test]
    fn adaptive_thresholds_survive_any_numbers(
        anchors in vec(any_numbers(), 0..40),
        ground_truth in vec(any_numbers(), 0..8),
        per_location in 0usize..4,
    ) {
        let levels = Pyramid::new(PyramidLevel::P3, vec![anchors.clone(), anchors]).expect("two levels");
        let assignments = Atss { candidates: 5 }.assign(&levels, per_location, &ground_truth);
        prop_assert_eq!(assignments.len(), levels.values().concat().len());
    }

    #[test]
    fn suppression_is_sorted_separated_and_idempotent(
        found in vec((crowded_box(), 0u8..20, 0usize..3), 0..60),
        threshold in 0.0f32..1.0,
    ) {
        let boxes: Vec<BBox> = found.iter().map(|f| f.0).collect();
        let scores: Vec<f32> = found.iter().map(|f| f32::from(f.1) / 20.0).collect();
        let labels: Vec<usize> = found.iter().map(|f| f.2).collect();
        let kept = class_wise_nms(&boxes, &scores, &labels, threshold);
        let before = |a: usize, b: usize| scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
        let suppresses = |a: usize, b: usize| labels[a] == labels[b] && boxes[a].iou(&boxes[b]) > threshold;

        prop_assert!(kept.is_sorted_by(|&a, &b| before(a, b)));
        for idx in 0..boxes.len() {
            // Kept exactly where no better kept one suppresses it.
            let suppressed = kept.iter().any(|&other| before(other, idx) && suppresses(other, idx));
            prop_assert_eq!(kept.contains(&idx), !suppressed);
        }

        let again = class_wise_nms(
            &kept.iter().map(|&idx| boxes[idx]).collect::<Vec<_>>(),
            &kept.iter().map(|&idx| scores[idx]).collect::<Vec<_>>(),
            &kept.iter().map(|&idx| labels[idx]).collect::<Vec<_>>(),
            threshold,
        );
        prop_assert_eq!(again, (0..kept.len()).collect::<Vec<_>>());
    }

    #[test]
    fn the_box_pipeline_survives_any_numbers(deltas in vec((any_numbers(), a_box(), any::<f32>()), 0..30)) {
        let boxes: Vec<BBox> = deltas.iter().map(|(d, anchor, _)| BoxCoder::default().decode(d.to_array(), anchor)).collect();
        let scores: Vec<f32> = deltas.iter().map(|(.., score)| *score).collect();
        let kept = class_wise_nms(&boxes, &scores, &vec![0; boxes.len()], 0.5);
        prop_assert!(kept.iter().all(|&idx| boxes[idx].is_finite() && !scores[idx].is_nan()));
    }
}
