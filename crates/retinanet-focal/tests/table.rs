//! Every loss against numbers worked by hand.

use candle_core::{Device, Tensor, Var};
use retinanet_focal::{Alpha, AlphaBalanced, BACKGROUND, ClassLoss, Focal, FocalStar, HardExamples, IGNORE, Sampled};

const LN_3: f64 = 1.098_612_288_668_109_8; // sigmoid(ln 3) = 3/4.

/// One image; checks the sum and the gradient of every logit, in f64 and in f32.
#[track_caller]
fn check<const K: usize>(loss: &ClassLoss, anchors: &[([f64; K], i64)], expected_sum: f64, expected_gradient: &[f64]) {
    let logits: Vec<f64> = anchors.iter().flat_map(|(logits, _)| *logits).collect();
    let classes: Vec<i64> = anchors.iter().map(|(_, class)| *class).collect();
    let logits = Tensor::from_vec(logits, (1, anchors.len(), K), &Device::Cpu).unwrap();
    let classes = Tensor::from_vec(classes, (1, anchors.len()), &Device::Cpu).unwrap();
    for (dtype, tolerance) in [(candle_core::DType::F64, 1e-6), (candle_core::DType::F32, 2e-6)] {
        let logits = Var::from_tensor(&logits.to_dtype(dtype).unwrap()).unwrap();
        let sums = loss.sum(&logits, &classes).unwrap();
        let gradient = sums.backward().unwrap().get(&logits).unwrap().clone();
        let read = |tensor: Tensor| -> Vec<f64> {
            let tensor = tensor.to_dtype(candle_core::DType::F64).unwrap();
            tensor.flatten_all().unwrap().to_vec1().unwrap()
        };
        let near = |found: f64, expected: f64| (found - expected).abs() <= tolerance * expected.abs().max(0.1);
        let sum = read(sums)[0];
        assert!(near(sum, expected_sum), "{dtype:?}: sum {sum}, expected {expected_sum}");
        let gradient = read(gradient);
        assert_eq!(gradient.len(), expected_gradient.len());
        for (found, expected) in gradient.iter().zip(expected_gradient) {
            assert!(near(*found, *expected), "{dtype:?}: gradient {gradient:?}, expected {expected_gradient:?}");
        }
    }
}

fn focal(alpha: Alpha, gamma: f64) -> ClassLoss {
    ClassLoss::Focal(Focal { alpha, gamma })
}

#[test]
fn focal_loss_at_one_half() {
    // p = 1/2, so (1 - p_t)^2 = 1/4 and -ln p_t = .6931472 on both sides.
    // Sum: .25 * .25 * .6931472 + .75 * .25 * .6931472 = .1732868.
    // Slope: y alpha_t / 4 * (2 * .5 * -.6931472 + .5 - 1) = y alpha_t * -.2982868.
    check(&ClassLoss::default(), &[([0.0, 0.0], 0)], 0.1732868, &[-0.0745717, 0.2237151]);
}

#[test]
fn focal_loss_at_three_quarters() {
    // Positive, p_t = 3/4: .25 * (1/4)^2 * .2876821 = .0044950.
    //   Slope .25 / 16 * (2 * .75 * -.2876821 + .75 - 1) = -.0106488.
    // Negative, p_t = 1/4: .75 * (3/4)^2 * 1.3862944 = .5848429.
    //   Slope -.75 * .5625 * (2 * .25 * -1.3862944 + .25 - 1) = .6088277.
    check(&ClassLoss::default(), &[([LN_3, LN_3], 0)], 0.5893380, &[-0.0106488, 0.6088277]);
}

#[test]
fn focal_loss_with_other_gammas() {
    // gamma 1: .25 * .2876821 = .0719205 and .75 * 1.3862944 = 1.0397208.
    //   Slopes -.25 * (.75 * .2876821 + .25) = -.1164404 and .75 * (.25 * 1.3862944 + .75) = .8224302.
    check(&focal(Alpha::None, 1.0), &[([LN_3, LN_3], 0)], 1.1116413, &[-0.1164404, 0.8224302]);
    // gamma 1/2: sqrt(1/4) * .2876821 = .1438410 and sqrt(3/4) * 1.3862944 = 1.2005662.
    //   Slopes -.5 * (.5 * .75 * .2876821 + .25) = -.1789404 and .8660254 * (.5 * .25 * 1.3862944 + .75) = .7995898.
    check(&focal(Alpha::None, 0.5), &[([LN_3, LN_3], 0)], 1.3444073, &[-0.1789404, 0.7995898]);
}

#[test]
fn alpha_per_class_belongs_to_the_logit() {
    let alpha = || Alpha::PerClass(vec![0.25, 0.75]);
    // At p = 1/2 a logit loses alpha_t * .1732868. Class 1: positive .75, and for class 0 as a negative 1 - .25.
    check(&focal(alpha(), 2.0), &[([0.0, 0.0], 1)], 0.2599302, &[0.2237151, -0.2237151]);
    // Class 0: positive .25, and for class 1 as a negative 1 - .75.
    check(&focal(alpha(), 2.0), &[([0.0, 0.0], 0)], 0.0866434, &[-0.0745717, 0.0745717]);
    // Background: 1 - .25 and 1 - .75.
    check(&focal(alpha(), 2.0), &[([0.0, 0.0], BACKGROUND)], 0.1732868, &[0.2237151, 0.0745717]);
}

#[test]
fn cross_entropy() {
    // -ln(3/4) - ln(1/4) = .2876821 + 1.3862944; slopes p - 1 and p.
    check(&ClassLoss::CrossEntropy, &[([LN_3, LN_3], 0)], 1.6739764, &[-0.25, 0.75]);
    // Background: both negative, 2 * .6931472.
    check(&ClassLoss::CrossEntropy, &[([0.0, 0.0], BACKGROUND)], 1.3862944, &[0.5, 0.5]);
}

#[test]
fn alpha_balanced_cross_entropy() {
    // .75 * .2876821 + .25 * 1.3862944; slopes .75 * -.25 and .25 * .75.
    let loss = ClassLoss::AlphaBalanced(AlphaBalanced::default());
    check(&loss, &[([LN_3, LN_3], 0)], 0.5623352, &[-0.1875, 0.1875]);
    // Focal loss with gamma 0 is the same.
    check(&focal(Alpha::Scalar(0.75), 0.0), &[([LN_3, LN_3], 0)], 0.5623352, &[-0.1875, 0.1875]);
}

#[test]
fn focal_star() {
    // x_t = 0 on both sides: p_t* = sigmoid(1) = .7310586, -ln(.7310586) / 2 = .1566308; slope -(1 - .7310586).
    let loss = ClassLoss::FocalStar(FocalStar::default());
    check(&loss, &[([0.0, 0.0], 0)], 0.3132617, &[-0.2689414, 0.2689414]);
    // gamma 4, beta 0: p* = sigmoid(4 ln 3) = 81/82. Positive ln(82/81) / 4 = .0030675, negative ln(82) / 4 = 1.1016798.
    let steep = FocalStar { alpha: Alpha::None, gamma: 4.0, beta: 0.0 };
    check(&ClassLoss::FocalStar(steep.clone()), &[([LN_3, LN_3], 0)], 1.1047473, &[-1.0 / 82.0, 81.0 / 82.0]);
    // With alpha .25: .25 * .0030675 + .75 * 1.1016798.
    let balanced = FocalStar { alpha: Alpha::Scalar(0.25), ..steep };
    check(&ClassLoss::FocalStar(balanced), &[([LN_3, LN_3], 0)], 0.8270267, &[-0.25 / 82.0, 0.75 * 81.0 / 82.0]);
}

#[test]
fn selecting_losses_are_cross_entropy_of_what_is_left() {
    // The second anchor was not selected.
    let anchors = [([LN_3, LN_3], 0), ([5.0, -5.0], IGNORE)];
    for loss in [ClassLoss::HardExamples(HardExamples::default()), ClassLoss::Sampled(Sampled::default())] {
        check(&loss, &anchors, 1.6739764, &[-0.25, 0.75, 0.0, 0.0]);
    }
}

#[test]
fn saturated_logits() {
    let none = || focal(Alpha::None, 2.0);
    for magnitude in [80.0, 1e4] {
        // Wrong by far: the modulation is 1, the loss |x|, the slope 1.
        let (worst, best) = (-magnitude, magnitude);
        check(&none(), &[([worst, best], 0)], 2.0 * magnitude, &[-1.0, 1.0]);
        check(&ClassLoss::CrossEntropy, &[([worst, best], 0)], 2.0 * magnitude, &[-1.0, 1.0]);
        // Right by far: nothing.
        check(&none(), &[([best, worst], 0)], 0.0, &[0.0, 0.0]);
        check(&ClassLoss::CrossEntropy, &[([best, worst], 0)], 0.0, &[0.0, 0.0]);
        // alpha .25: .25 |x| + .75 |x|; a general gamma takes another path.
        check(&ClassLoss::default(), &[([worst, best], 0)], magnitude, &[-0.25, 0.75]);
        check(&focal(Alpha::None, 1.5), &[([worst, best], 0)], 2.0 * magnitude, &[-1.0, 1.0]);
        check(&focal(Alpha::None, 1.5), &[([best, worst], 0)], 0.0, &[0.0, 0.0]);
        let balanced = ClassLoss::AlphaBalanced(AlphaBalanced::default());
        check(&balanced, &[([worst, best], 0)], magnitude, &[-0.75, 0.25]);
        // FL*: (2 |x| - 1) / 2 for each.
        let star = ClassLoss::FocalStar(FocalStar::default());
        check(&star, &[([worst, best], 0)], 2.0 * magnitude - 1.0, &[-1.0, 1.0]);
        check(&star, &[([best, worst], 0)], 0.0, &[0.0, 0.0]);
    }
}

#[test]
fn ignored_anchors_add_nothing_even_where_their_logits_are_not_numbers() {
    let anchors = [([f64::NAN, 1e4], IGNORE), ([0.0, 0.0], 0)];
    check(&ClassLoss::default(), &anchors, 0.1732868, &[0.0, 0.0, -0.0745717, 0.2237151]);
    check(&ClassLoss::CrossEntropy, &[([0.0, 0.0], IGNORE)], 0.0, &[0.0, 0.0]);
}
