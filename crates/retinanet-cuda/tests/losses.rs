//! Class losses, box losses and targets against what they are on the processor.

mod support;

use proptest::prelude::*;
use retinanet_anchors::{Assignment, BBox, BoxCoder, Matcher};
use retinanet_cuda::kernels::{
    AnchorTable, BoxLoss, GroundTruth, Normalizer, PreparedClassLoss, assign_targets, assign_targets_workspace_bytes,
    box_loss, box_loss_workspace_bytes, class_loss_workspace_bytes, image_weights,
};
use retinanet_cuda::{Device, Element, Memory};
use retinanet_focal::kernels::cpu::{self, InstructionSet};
use retinanet_focal::kernels::{Curve, LossShape, Weights};
use retinanet_focal::{Alpha, AlphaBalanced, BACKGROUND, ClassLoss, Focal, FocalStar, IGNORE};
use std::sync::Arc;
use support::{
    check_close, devices, download, download_f64, download_i32, empty, numbers, rounded, upload, upload_i32,
};

fn f64_on(device: &Arc<dyn Device>, value: f64) -> Memory {
    Memory::of(device, &value.to_ne_bytes()).expect("memory")
}

/// Losses with their curves.
fn losses(num_classes: usize) -> Vec<(ClassLoss, Curve, Alpha)> {
    let per_class = Alpha::PerClass((0..num_classes).map(|k| 0.1 + 0.8 * k as f64 / num_classes as f64).collect());
    let focal = |alpha: &Alpha, gamma: f64| {
        (ClassLoss::Focal(Focal { alpha: alpha.clone(), gamma }), Curve::Focal { gamma }, alpha.clone())
    };
    let star = |gamma: f64, beta: f64| {
        let loss = FocalStar { alpha: Alpha::Scalar(0.75), gamma, beta };
        (ClassLoss::FocalStar(loss), Curve::FocalStar { gamma, beta }, Alpha::Scalar(0.75))
    };
    let cross_entropy = Curve::Focal { gamma: 0.0 };
    let balanced = AlphaBalanced { alpha: per_class.clone() };
    let mut all: Vec<_> =
        [0.0, 0.5, 1.0, 2.0, 1.5, 5.0].iter().map(|&gamma| focal(&Alpha::Scalar(0.25), gamma)).collect();
    all.extend([focal(&per_class, 2.0), star(2.0, 1.0), star(4.0, 0.0)]);
    all.extend([(ClassLoss::CrossEntropy, cross_entropy, Alpha::None)]);
    all.extend([(ClassLoss::AlphaBalanced(balanced), cross_entropy, per_class)]);
    all
}

#[test]
fn class_losses_are_those_of_the_processor() {
    for device in devices() {
        for element in Element::ALL {
            for (images, anchors, num_classes) in
                [(1, 1, 1), (2, 37, 3), (3, 40, 8), (1, 24, 91), (2, 9, 80), (2, 5, 7)]
            {
                let shape = LossShape { images, anchors, classes: num_classes };
                let scale = |(i, x): (usize, &f32)| if i % 17 == 5 { 60.0 * x } else { 6.0 * x - 2.0 };
                let logits: Vec<f32> = numbers(1, shape.logits()).iter().enumerate().map(scale).collect();
                let mut logits = rounded(element, &logits);
                let classes: Vec<i64> = numbers(2, shape.rows())
                    .iter()
                    .map(|x| ((x + 1.0) * (num_classes + 2) as f32 / 2.0) as i64 - 2)
                    .collect();
                if let Some(row) = classes.iter().position(|&class| class == IGNORE) {
                    // What is ignored may be anything.
                    logits[row * num_classes] = f32::NAN;
                }
                let narrow: Vec<i32> = classes.iter().map(|&class| class as i32).collect();
                let weights: Vec<f32> = (0..images).map(|i| 0.5 + i as f32).collect();
                for (loss, curve, alpha) in losses(num_classes) {
                    let what = format!("{element:?} {shape:?} {loss:?}");
                    let is_any_power =
                        matches!(curve, Curve::Focal { gamma } if ![0.0, 0.5, 1.0, 2.0].contains(&gamma));
                    let (mut sums, mut gradient) = (vec![0.0; images], vec![0.0f32; shape.logits()]);
                    let of_class: Weights<f32> = alpha.weights(num_classes).expect("weights");
                    let mut workspace = vec![0.0; cpu::workspace_len(shape)];
                    cpu::sum::<f32>(
                        InstructionSet::widest(),
                        curve,
                        &of_class,
                        shape,
                        &logits,
                        &classes,
                        Some(&mut gradient),
                        &mut workspace,
                        &mut sums,
                    )
                    .expect("a loss");
                    let weighted: f64 = sums.iter().zip(&weights).map(|(sum, &weight)| sum * f64::from(weight)).sum();
                    let row = anchors * num_classes;
                    gradient.iter_mut().enumerate().for_each(|(i, gradient)| *gradient *= weights[i / row]);

                    let prepared = PreparedClassLoss::new(&device, &loss, num_classes).expect("a loss");
                    let (logits_on, classes_on) = (upload(&device, element, &logits), upload_i32(&device, &narrow));
                    let weights_on = upload(&device, Element::F32, &weights);
                    let bytes = class_loss_workspace_bytes(element, images, anchors, num_classes);
                    let (workspace, gradient_on) =
                        (empty(&device, bytes), empty(&device, logits.len() * element.size()));
                    let run = || {
                        let sum = f64_on(&device, 10.0);
                        prepared
                            .run(
                                element,
                                (images, anchors),
                                logits_on.span(),
                                classes_on.span(),
                                weights_on.span(),
                                sum.span(),
                                gradient_on.span(),
                                workspace.span(),
                            )
                            .expect("a loss");
                        download_f64(&sum, 1)[0]
                    };
                    let found = run();
                    assert!((found - 10.0 - weighted).abs() <= 1e-6 * weighted, "{what}: {weighted}, {}", found - 10.0);
                    assert_eq!(found.to_bits(), run().to_bits(), "{what}");
                    let found = download(&gradient_on, element, logits.len());
                    // Half precision has no smaller steps than 2^-24.
                    let (rounding, least) = match element {
                        Element::F32 => (0.0, 1e-37),
                        Element::Bf16 => (1.0 / 256.0, 1e-37),
                        Element::F16 => (1.0 / 2048.0, 3e-8),
                    };
                    // Number by number, not against the largest.
                    for (i, (&found, &expected)) in found.iter().zip(&gradient).enumerate() {
                        // A power by way of a logarithm a has the rounding of a, on both sides.
                        let of_power =
                            if is_any_power { 2.4e-7 * expected.abs().max(f32::MIN_POSITIVE).ln().abs() } else { 0.0 };
                        let tolerance = (2e-6 + rounding + of_power) * expected.abs() + least;
                        assert!((found - expected).abs() <= tolerance, "{what}: {i}: {expected}, {found}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_class_loss_is_finite_at_the_ends_and_no_number_where_a_logit_is_none() {
    for device in devices() {
        let prepared = PreparedClassLoss::new(&device, &ClassLoss::default(), 4).expect("a loss");
        let run = |logits: [f32; 4]| {
            let (logits, classes) = (upload(&device, Element::F32, &logits), upload_i32(&device, &[1]));
            let (weights, sum) = (upload(&device, Element::F32, &[1.0]), f64_on(&device, 0.0));
            let (gradient, workspace) =
                (empty(&device, 16), empty(&device, class_loss_workspace_bytes(Element::F32, 1, 1, 4)));
            let [logits, classes, weights] = [&logits, &classes, &weights].map(Memory::span);
            let (element, workspace) = (Element::F32, workspace.span());
            prepared
                .run(element, (1, 1), logits, classes, weights, sum.span(), gradient.span(), workspace)
                .expect("it");
            (download_f64(&sum, 1)[0], download(&gradient, Element::F32, 4))
        };
        for logits in [[0.0; 4], [1e36; 4], [-1e36; 4], [100.0, -100.0, 100.0, -100.0], [1e-30; 4]] {
            let (sum, gradient) = run(logits);
            assert!(sum.is_finite() && gradient.iter().all(|gradient| gradient.is_finite()), "{logits:?}");
        }
        let (sum, gradient) = run([0.0, f32::NAN, 0.0, 0.0]);
        assert!(sum.is_nan() && gradient[1].is_nan() && gradient[0].is_finite());
        // 2 x .75 / 4 ln 2 for each of three negatives, .25 / 4 ln 2 for the positive one.
        let expected = (3.0 * 0.75 + 0.25) / 4.0 * 2f64.ln();
        assert!((run([0.0; 4]).0 - expected).abs() < 1e-7);
    }
    let refused = devices().first().map(|device| {
        let loss = ClassLoss::Focal(Focal { alpha: Alpha::Scalar(0.25), gamma: -1.0 });
        PreparedClassLoss::new(device, &loss, 4).expect_err("a negative gamma").to_string()
    });
    assert!(refused.is_none_or(|refused| refused.contains("gamma")));
}

/// Loss and gradient of one anchor by the device.
fn box_loss_of(device: &Arc<dyn Device>, loss: BoxLoss, deltas: [f32; 4]) -> (f64, Vec<f32>) {
    let anchors = upload(device, Element::F32, &[0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 10.0, 10.0]);
    let boxes = upload(device, Element::F32, &[0.0, 0.0, 1.0, 1.0, 5.0, 0.0, 15.0, 10.0]);
    let matched = upload_i32(device, &[-1, 1]);
    let all: Vec<f32> = [[f32::NAN; 4], deltas].concat();
    let (deltas, weights) = (upload(device, Element::F32, &all), upload(device, Element::F32, &[2.0]));
    let (sum, gradient) = (f64_on(device, 1.0), empty(device, 32));
    let workspace = empty(device, box_loss_workspace_bytes(1, 2));
    let matched = (matched.span(), boxes.span());
    let gradients = (4.0, gradient.span());
    let (coder, element, workspace) = (BoxCoder::default(), Element::F32, workspace.span());
    let (anchors, weights, sum_on) = (anchors.span(), weights.span(), sum.span());
    box_loss(loss, &coder, element, (1, 2), deltas.span(), anchors, matched, weights, sum_on, gradients, workspace)
        .expect("a loss");
    let gradient = download(&gradient, Element::F32, 8);
    assert_eq!(gradient[..4], [0.0; 4], "an anchor without a box learns nothing");
    let own = gradient[4..].iter().map(|gradient| gradient / 8.0).collect();
    ((download_f64(&sum, 1)[0] - 1.0) / 2.0, own)
}

#[test]
fn box_losses_worked_by_hand() {
    let v = 4.0 / std::f64::consts::PI.powi(2) * (2f64.atan() - 1f64.atan()).powi(2);
    let twice = [0.5, 0.0, 2f32.ln(), 0.0];
    for device in devices() {
        // The ground truth is the anchor moved by half its width: the target is (.5, 0, 0, 0).
        for (loss, deltas, expected) in [
            (BoxLoss::L1, [0.0; 4], 0.5),
            (BoxLoss::L1, [0.5, 0.25, 0.0, -1.0], 1.25),
            (BoxLoss::SmoothL1 { beta: 1.0 }, [0.0; 4], 0.125),
            (BoxLoss::SmoothL1 { beta: 0.25 }, [0.0; 4], 0.375),
            (BoxLoss::Giou, [0.0; 4], 2.0 / 3.0),
            (BoxLoss::Giou, [0.5, 0.0, 0.0, 0.0], 0.0),
            (BoxLoss::Giou, [-9.0, 0.0, 0.0, 0.0], 1.0 + 850.0 / 1050.0),
            (BoxLoss::Diou, [0.0; 4], 2.0 / 3.0 + 25.0 / 325.0),
            (BoxLoss::Diou, [-9.0, 0.0, 0.0, 0.0], 1.0 + 9025.0 / 11125.0),
            (BoxLoss::Ciou, [0.0; 4], 2.0 / 3.0 + 25.0 / 325.0),
            (BoxLoss::Ciou, twice, 0.5 + v * v / (0.5 + v)),
        ] {
            let (found, _) = box_loss_of(&device, loss, deltas);
            assert!((found - expected).abs() < 1e-6, "{loss:?} {deltas:?}: expected {expected}, found {found}");
        }
    }
}

#[test]
fn gradients_of_box_losses_agree_with_central_differences() {
    const STEP: f32 = 1.0 / 1024.0;
    for device in devices() {
        for loss in [BoxLoss::L1, BoxLoss::SmoothL1 { beta: 0.25 }, BoxLoss::Giou, BoxLoss::Diou] {
            for deltas in [[0.375, -0.125, 0.125, 0.375], [0.5, 0.3125, -0.75, -0.5], [-9.0, 3.0, 1.0, -1.0]] {
                let (_, gradient) = box_loss_of(&device, loss, deltas);
                for (i, &found) in gradient.iter().enumerate() {
                    let at = |offset: f32| {
                        let mut moved = deltas;
                        moved[i] += offset;
                        box_loss_of(&device, loss, moved).0
                    };
                    let expected = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
                    let difference = (expected - f64::from(found)).abs();
                    // An absolute value is not smooth where it is 0.
                    let is_corner = matches!(loss, BoxLoss::L1) && at(STEP) == at(-STEP);
                    assert!(
                        difference < 1e-4 * (1.0 + expected.abs()) || is_corner,
                        "{loss:?} {i}: {expected}, {found}"
                    );
                }
            }
        }
    }
}

/// What the matcher says, level by level, with the index of the box in the batch.
fn expected_targets(
    matcher: &Matcher,
    levels: &[Vec<BBox>],
    images: &[Vec<(BBox, i32)>],
) -> (Vec<i32>, Vec<i32>, Vec<i32>) {
    let all: Vec<BBox> = levels.concat();
    let mut first = 0;
    let of_images: Vec<Vec<(i32, i32)>> = images
        .iter()
        .map(|objects| {
            let boxes: Vec<BBox> = objects.iter().map(|(bbox, _)| *bbox).collect();
            let target = |assignment: Assignment| match assignment {
                Assignment::Foreground { ground_truth_idx: idx } => (objects[idx].1, (first + idx) as i32),
                Assignment::Background => (BACKGROUND as i32, -1),
                Assignment::Ignore => (IGNORE as i32, -1),
            };
            let targets = matcher.assign(&all, &boxes).into_iter().map(target).collect();
            first += objects.len();
            targets
        })
        .collect();
    let (mut classes, mut matched, mut start) = (Vec::new(), Vec::new(), 0);
    for level in levels {
        for targets in &of_images {
            let targets = &targets[start..start + level.len()];
            classes.extend(targets.iter().map(|(class, _)| *class));
            matched.extend(targets.iter().map(|(_, idx)| *idx));
        }
        start += level.len();
    }
    let count = |targets: &Vec<(i32, i32)>| targets.iter().filter(|(class, _)| *class >= 0).count() as i32;
    (classes, matched, of_images.iter().map(count).collect())
}

fn check_targets(matcher: &Matcher, levels: &[Vec<BBox>], images: &[Vec<(BBox, i32)>]) {
    let objects: Vec<(BBox, i32)> = images.concat();
    let mut first = vec![0];
    images.iter().for_each(|objects| first.push(first.last().unwrap_or(&0) + objects.len() as i32));
    for device in devices() {
        let table = AnchorTable::new(&device, levels.iter().map(Vec::as_slice)).expect("anchors");
        let coordinates: Vec<f32> = objects.iter().flat_map(|(bbox, _)| bbox.to_array()).collect();
        let boxes = upload(&device, Element::F32, &coordinates);
        let labels = upload_i32(&device, &objects.iter().map(|(_, label)| *label).collect::<Vec<_>>());
        let first = upload_i32(&device, &first);
        let count = images.len() * table.num_anchors();
        let [classes, matched] = [(); 2].map(|()| empty(&device, count * 4));
        let num_foreground = empty(&device, images.len() * 4);
        let workspace = empty(&device, assign_targets_workspace_bytes(objects.len()));
        let ground_truth =
            GroundTruth { count: objects.len(), boxes: boxes.span(), labels: labels.span(), first: first.span() };
        let results = (classes.span(), matched.span());
        let (num_foreground_on, workspace) = (num_foreground.span(), workspace.span());
        assign_targets(matcher, &table, images.len(), &ground_truth, results, num_foreground_on, workspace)
            .expect("it");
        let expected = expected_targets(matcher, levels, images);
        assert_eq!(download_i32(&classes, count), expected.0, "classes, {matcher:?}");
        assert_eq!(download_i32(&matched, count), expected.1, "matches, {matcher:?}");
        assert_eq!(download_i32(&num_foreground, images.len()), expected.2, "foreground, {matcher:?}");
    }
}

fn bbox() -> impl Strategy<Value = BBox> {
    // On a coarse grid, so that IoUs are equal; some empty or the wrong way round, some not finite.
    let side =
        prop_oneof![8 => (0u8..12).prop_map(|x| 4.0 * f32::from(x)), 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)];
    [side.clone(), side.clone(), side.clone(), side].prop_map(BBox::from)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn targets_are_those_of_the_matcher(
        levels in prop::collection::vec(prop::collection::vec(bbox(), 0..300), 1..4),
        images in prop::collection::vec(prop::collection::vec((bbox(), 0i32..5), 0..9), 1..4),
        thresholds in (0.0f32..1.0, 0.0f32..1.0),
        allow_low_quality: bool,
    ) {
        let (a, b) = thresholds;
        let matcher = Matcher { foreground_iou: a.max(b), background_iou: a.min(b), allow_low_quality };
        check_targets(&matcher, &levels, &images);
        check_targets(&Matcher { allow_low_quality, ..Matcher::default() }, &levels, &images);
    }
}

#[test]
fn images_weigh_what_the_normalizer_says() {
    for device in devices() {
        let (counts, average) = (upload_i32(&device, &[4, 0, 12]), f64_on(&device, 100.0));
        let (weights, total) = (empty(&device, 12), empty(&device, 8));
        let run = |normalizer| {
            image_weights(normalizer, 3, counts.span(), average.span(), weights.span(), total.span()).expect("weights");
            download(&weights, Element::F32, 3)
        };
        check_close("per image", &run(Normalizer::PerImage), &[1.0 / 12.0, 1.0 / 3.0, 1.0 / 36.0], 1e-7);
        assert_eq!(run(Normalizer::Batch), [1.0 / 16.0; 3]);
        // .75 * 100 + .25 * 16 = 79, then .75 * 79 + 4.
        assert_eq!(run(Normalizer::MovingAverage { momentum: 0.75 }), [(1.0 / 79.0) as f32; 3]);
        run(Normalizer::MovingAverage { momentum: 0.75 });
        assert_eq!(download_f64(&average, 1), [63.25]);
        // The bits of an integer.
        assert_eq!(download_f64(&total, 1)[0].to_bits(), 16);
    }
}
