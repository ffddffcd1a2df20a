//! Hard example mining and sampling: which anchors are left.

use candle_core::{Device, Tensor};
use retinanet_focal::{ClassLoss, Example, ExampleFilter, HardExamples, IGNORE, Sampled};

const CPU: &Device = &Device::Cpu;

/// One class; a level is its logits and classes, `[N, R]` each.
type Level = (Vec<Vec<f32>>, Vec<Vec<i64>>);

fn select(loss: &ClassLoss, levels: &[Level], seed: u64, filter: Option<&ExampleFilter>) -> Vec<Vec<Vec<i64>>> {
    let tensors: Vec<(Tensor, Tensor)> = levels
        .iter()
        .map(|(logits, classes)| {
            let logits = Tensor::new(logits.clone(), CPU).unwrap().unsqueeze(2).unwrap();
            (logits, Tensor::new(classes.clone(), CPU).unwrap())
        })
        .collect();
    let levels: Vec<(&Tensor, &Tensor)> = tensors.iter().map(|(logits, classes)| (logits, classes)).collect();
    let selected = loss.select(&levels, seed, filter).unwrap();
    selected.iter().map(|classes| classes.to_vec2().unwrap()).collect()
}

fn hard(examples: usize, negatives_per_positive: Option<usize>) -> ClassLoss {
    ClassLoss::HardExamples(HardExamples { examples, nms_iou_threshold: 1.0, negatives_per_positive })
}

/// Cross entropies, softplus(x) for background and softplus(-x) for foreground:
/// level 0: 2.127 background, .049 background, .693 foreground, an ignored one of 9;
/// level 1: 1.313 background, 1.313 foreground.
fn two_levels() -> Vec<Level> {
    vec![(vec![vec![2.0, -3.0, 0.0, 9.0]], vec![vec![-1, -1, 0, -2]]), (vec![vec![1.0, -1.0]], vec![vec![-1, 0]])]
}

#[track_caller]
fn check(loss: &ClassLoss, filter: Option<&ExampleFilter>, level_0: [i64; 4], level_1: [i64; 2]) {
    let selected = select(loss, &two_levels(), 0, filter);
    assert_eq!(selected, [vec![level_0.to_vec()], vec![level_1.to_vec()]]);
}

#[test]
fn the_hardest_examples_over_all_levels_stay() {
    check(&hard(1, None), None, [-1, -2, -2, -2], [-2, -2]);
    // The two 1.313 are equal: the lower index first.
    check(&hard(2, None), None, [-1, -2, -2, -2], [-1, -2]);
    check(&hard(3, None), None, [-1, -2, -2, -2], [-1, 0]);
    check(&hard(4, None), None, [-1, -2, 0, -2], [-1, 0]);
    // Fewer anchors than asked for; the ignored one stays ignored.
    check(&hard(128, None), None, [-1, -1, 0, -2], [-1, 0]);
}

#[test]
fn a_ratio_takes_positives_first_and_negatives_for_each() {
    // 1:1 of two: the harder positive, then the hardest negative.
    check(&hard(2, Some(1)), None, [-1, -2, -2, -2], [-2, 0]);
    // 1:3 of four: one positive, three negatives.
    check(&hard(4, Some(3)), None, [-1, -1, -2, -2], [-1, 0]);
    // 1:1 of a hundred: both positives, so two negatives.
    check(&hard(100, Some(1)), None, [-1, -2, 0, -2], [-1, 0]);
    // Never more than asked for.
    check(&hard(1, Some(3)), None, [-2, -2, -2, -2], [-2, 0]);
}

#[test]
fn without_foreground_a_ratio_keeps_some_background() {
    let levels = [(vec![vec![0.0, 3.0, 1.0, 2.0]], vec![vec![-1, -1, -1, -1]])];
    assert_eq!(select(&hard(128, Some(2)), &levels, 0, None), [[[-2, -1, -2, -1]]]);
    let levels = [(vec![vec![0.0, 3.0]], vec![vec![-2, -2]])];
    assert_eq!(select(&hard(128, None), &levels, 0, None), [[[-2, -2]]]);
}

#[test]
fn the_filter_sees_candidates_from_the_hardest_on_and_can_refuse_them() {
    // At most one example a level: a stand-in for overlap.
    let one_a_level = |_: usize, accepted: &[Example], candidate: &Example| {
        accepted.iter().all(|example| {
            assert!(example.loss >= candidate.loss);
            example.level_idx != candidate.level_idx
        })
    };
    let loss =
        ClassLoss::HardExamples(HardExamples { examples: 3, nms_iou_threshold: 0.5, negatives_per_positive: None });
    check(&loss, Some(&one_a_level), [-1, -2, -2, -2], [-1, -2]);
    // A filter that refuses what is refused is passed over, and the next in order takes the place.
    let not_the_hardest = |_: usize, _: &[Example], candidate: &Example| candidate.anchor_idx != 0;
    check(&loss, Some(&not_the_hardest), [-2, -1, 0, -2], [-2, 0]);
}

#[test]
fn suppression_without_a_filter_is_an_error() {
    let loss = ClassLoss::HardExamples(HardExamples::default());
    let logits = Tensor::zeros((1, 2, 1), candle_core::DType::F32, CPU).unwrap();
    let classes = Tensor::full(-1i64, (1, 2), CPU).unwrap();
    assert_eq!(
        loss.select(&[(&logits, &classes)], 0, None).unwrap_err().to_string(),
        "class loss: hard_examples.nms_iou_threshold: expected 1 where there is no filter to apply it, found 0.5"
    );
}

#[test]
fn images_are_selected_one_by_one() {
    let levels = [(vec![vec![0.0, 1.0], vec![3.0, 2.0]], vec![vec![-1, -1], vec![-1, -1]])];
    assert_eq!(select(&hard(1, None), &levels, 0, None), [[[-2, -1], [-1, -2]]]);
}

#[test]
fn a_loss_that_is_not_a_number_is_selected_so_that_it_shows() {
    let levels = [(vec![vec![9.0, f32::NAN, -f32::NAN]], vec![vec![-1, -1, -1]])];
    assert_eq!(select(&hard(2, None), &levels, 0, None), [[[-2, -1, -1]]]);
}

/// 40 foreground anchors in front, 960 of background, over two levels.
fn many() -> Vec<Level> {
    let classes = |count: usize, foreground: usize| {
        vec![(0..count).map(|idx| if idx < foreground { 0 } else { -1 }).collect::<Vec<i64>>()]
    };
    vec![(vec![vec![0.0; 700]], classes(700, 30)), (vec![vec![0.0; 300]], classes(300, 10))]
}

fn counts(selected: &[Vec<Vec<i64>>]) -> (usize, usize) {
    let all = || selected.iter().flatten().flatten();
    (all().filter(|class| **class >= 0).count(), all().filter(|class| **class == -1).count())
}

#[test]
fn a_sample_keeps_the_share_of_foreground() {
    let sampled = |examples, positive_fraction| ClassLoss::Sampled(Sampled { examples, positive_fraction });
    assert_eq!(counts(&select(&sampled(100, 0.25), &many(), 7, None)), (25, 75));
    // Foreground is short of 64: background fills up.
    assert_eq!(counts(&select(&sampled(256, 0.25), &many(), 7, None)), (40, 216));
    // More examples than anchors.
    assert_eq!(counts(&select(&sampled(5_000, 0.25), &many(), 7, None)), (40, 960));
    assert_eq!(counts(&select(&sampled(100, 0.0), &many(), 7, None)), (0, 100));
    // No foreground.
    let empty = [(vec![vec![0.0; 50]], vec![vec![-1; 50]])];
    assert_eq!(counts(&select(&sampled(8, 0.25), &empty, 7, None)), (0, 8));
}

#[test]
fn a_sample_depends_on_the_seed_and_on_nothing_else() {
    let loss = ClassLoss::Sampled(Sampled::default());
    let first = select(&loss, &many(), 1, None);
    assert_eq!(first, select(&loss, &many(), 1, None));
    assert_ne!(first, select(&loss, &many(), 2, None));
    // What is left has its own class, on both levels.
    for (selected, (_, classes)) in first.iter().zip(many()) {
        assert!(selected[0].iter().any(|class| *class != IGNORE));
        for (found, class) in selected[0].iter().zip(&classes[0]) {
            assert!(*found == IGNORE || found == class);
        }
    }
}

#[test]
fn losses_over_all_anchors_leave_the_classes_as_they_are() {
    for loss in [ClassLoss::default(), ClassLoss::CrossEntropy] {
        assert!(!loss.selects_examples());
        check(&loss, None, [-1, -1, 0, -2], [-1, 0]);
    }
    assert!(hard(1, None).selects_examples());
}

#[test]
fn levels_of_different_batches_are_refused() {
    let level = |images| {
        let logits = Tensor::zeros((images, 2, 1), candle_core::DType::F32, CPU).unwrap();
        (logits, Tensor::full(-1i64, (images, 2), CPU).unwrap())
    };
    let (one, two) = (level(1), level(2));
    let levels = [(&one.0, &one.1), (&two.0, &two.1)];
    let error = hard(1, None).select(&levels, 0, None).unwrap_err();
    assert_eq!(error.to_string(), "class loss: shape of levels: expected 1 images in each, found 2 images");
    // A class out of range is found here too.
    let classes = Tensor::full(5i64, (1, 2), CPU).unwrap();
    let sampled = ClassLoss::Sampled(Sampled::default());
    assert!(sampled.select(&[(&one.0, &classes)], 0, None).is_err());
}
