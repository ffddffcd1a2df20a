//! Every instruction set and element type against f64, on shapes that fill no vector; and the number of threads.

mod reference;

use half::bf16;
use reference::CURVES;
use retinanet_focal::kernels::cpu::{Element, InstructionSet, Real, per_anchor, sum, workspace_len};
use retinanet_focal::kernels::{Curve, LossShape, Weights};

struct Case {
    shape: LossShape,
    weights: Weights<f64>,
    logits: Vec<f64>,
    classes: Vec<i64>,
}

fn case(images: usize, anchors: usize, classes: usize, per_class: bool) -> Case {
    let shape = LossShape { images, anchors, classes };
    let alphas = if per_class { reference::uniform(classes, 3) } else { vec![0.25] };
    Case {
        shape,
        weights: Weights { negative: alphas.iter().map(|alpha| 1.0 - alpha).collect(), positive: alphas },
        logits: reference::logits(shape.logits(), 1),
        classes: reference::classes(shape.rows(), classes, 2),
    }
}

#[track_caller]
fn check_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    // Where the loss underflows in f32, it is 0.
    assert!((found - expected).abs() <= tolerance * expected.abs() + 1e-36, "{what}: {found:e}, expected {expected:e}");
}

/// Value and gradient, value alone, and anchor by anchor.
fn check<E: Element>(
    instructions: InstructionSet,
    curve: Curve,
    case: &Case,
    element: impl Fn(f64) -> E,
    tolerance: f64,
    gradient_tolerance: f64,
) {
    let Case { shape, weights, logits, classes } = case;
    let shape = *shape;
    let narrow = |values: &[f64]| values.iter().map(|&value| E::Compute::from_f64(value)).collect::<Vec<_>>();
    let kernel_weights = Weights { positive: narrow(&weights.positive), negative: narrow(&weights.negative) };
    let kernel_logits: Vec<E> = logits.iter().map(|&logit| element(logit)).collect();
    let (expected_sums, expected_rows, expected_gradient) = reference::evaluate(curve, weights, shape, logits, classes);

    // Outputs start as NaN: whatever is not written shows.
    let mut workspace = vec![f64::NAN; workspace_len(shape)];
    let mut sums = vec![f64::NAN; shape.images];
    let mut gradient = vec![element(f64::NAN); shape.logits()];
    sum(
        instructions,
        curve,
        &kernel_weights,
        shape,
        &kernel_logits,
        classes,
        Some(&mut gradient),
        &mut workspace,
        &mut sums,
    )
    .unwrap();
    let what = format!("{} {} {curve:?} {shape:?}", instructions.name(), std::any::type_name::<E>());
    for (found, expected) in sums.iter().zip(&expected_sums) {
        check_near(&what, *found, *expected, tolerance);
    }
    for (idx, (found, expected)) in gradient.iter().zip(&expected_gradient).enumerate() {
        let what = format!("{what}, gradient at logit {}", logits[idx]);
        check_near(&what, found.load().to_f64(), *expected, gradient_tolerance);
    }

    let mut value_alone = vec![f64::NAN; shape.images];
    sum(instructions, curve, &kernel_weights, shape, &kernel_logits, classes, None, &mut workspace, &mut value_alone)
        .unwrap();
    for (found, expected) in value_alone.iter().zip(&expected_sums) {
        check_near(&what, *found, *expected, tolerance);
    }

    let mut rows = vec![E::Compute::from_f64(f64::NAN); shape.rows()];
    per_anchor(instructions, curve, &kernel_weights, shape, &kernel_logits, classes, &mut rows).unwrap();
    for (found, expected) in rows.iter().zip(&expected_rows) {
        check_near(&what, found.to_f64(), *expected, 10.0 * tolerance);
    }
}

#[test]
fn every_instruction_set_and_element_type_agrees_with_f64() {
    let mut cases = vec![case(1, 1, 1, false), case(1, 1, 16, true)];
    for num_classes in [1, 3, 17, 80, 91] {
        for per_class in [false, true] {
            cases.push(case(2, 37, num_classes, per_class));
        }
    }
    // More than one chunk an image, the last one short.
    cases.push(case(2, 901, 80, false));
    for instructions in InstructionSet::available() {
        for curve in CURVES {
            for case in &cases {
                check::<f64>(instructions, curve, case, |x| x, 1e-13, 1e-12);
                check::<f32>(instructions, curve, case, |x| x as f32, 1e-6, 2e-5);
                // Eight significant bits: rounding moves a number by up to 2^-8 of itself.
                check::<bf16>(instructions, curve, case, bf16::from_f64, 1e-6, 4e-3);
            }
        }
    }
}

#[test]
fn bf16_is_f32_with_the_gradient_rounded() {
    let Case { shape, logits, classes, .. } = case(2, 37, 91, false);
    let weights = Weights { positive: vec![0.25f32], negative: vec![0.75] };
    let mut workspace = vec![0.0; workspace_len(shape)];
    for instructions in InstructionSet::available() {
        for curve in CURVES {
            let (mut sums, mut sums_bf16) = (vec![0.0; 2], vec![0.0; 2]);
            let mut gradient = vec![0f32; shape.logits()];
            let mut gradient_bf16 = vec![bf16::ZERO; shape.logits()];
            let wide: Vec<f32> = logits.iter().map(|&x| x as f32).collect();
            let narrow: Vec<bf16> = logits.iter().map(|&x| bf16::from_f64(x)).collect();
            let grad = Some(gradient.as_mut_slice());
            sum(instructions, curve, &weights, shape, &wide, &classes, grad, &mut workspace, &mut sums).unwrap();
            let grad = Some(gradient_bf16.as_mut_slice());
            sum(instructions, curve, &weights, shape, &narrow, &classes, grad, &mut workspace, &mut sums_bf16).unwrap();
            assert_eq!(sums, sums_bf16, "{curve:?}");
            let rounded: Vec<bf16> = gradient.iter().map(|&slope| bf16::from_f32(slope)).collect();
            assert_eq!(rounded, gradient_bf16, "{curve:?}");
        }
    }
}

#[test]
fn a_logit_that_is_not_a_number_is_not_hidden() {
    let shape = LossShape { images: 2, anchors: 5, classes: 3 };
    let weights = Weights { positive: vec![0.25f32], negative: vec![0.75] };
    let mut workspace = vec![0.0; workspace_len(shape)];
    for instructions in InstructionSet::available() {
        for curve in CURVES {
            for class in [1i64, -1] {
                let mut logits = vec![0f32; shape.logits()];
                logits[4] = f32::NAN; // Column 1 of anchor 1 of image 0.
                let mut classes = vec![-1i64; shape.rows()];
                classes[1] = class;
                let mut sums = vec![0.0; 2];
                let mut gradient = vec![0f32; shape.logits()];
                let grad = Some(gradient.as_mut_slice());
                sum(instructions, curve, &weights, shape, &logits, &classes, grad, &mut workspace, &mut sums).unwrap();
                assert!(sums[0].is_nan() && sums[1].is_finite(), "{curve:?}: {sums:?}");
                for (idx, slope) in gradient.iter().enumerate() {
                    assert_eq!(slope.is_nan(), idx == 4, "{curve:?}: {gradient:?}");
                }
            }
        }
    }
}

#[test]
fn every_finite_logit_has_a_finite_loss_and_slope() {
    let logits = [f32::MAX, f32::MIN, 1e30, -1e30, 88.8, -88.8, f32::MIN_POSITIVE, 1e-45];
    let shape = LossShape { images: logits.len(), anchors: 1, classes: 1 };
    let weights = Weights { positive: vec![0.25f32], negative: vec![0.75] };
    let mut workspace = vec![0.0; workspace_len(shape)];
    for instructions in InstructionSet::available() {
        for curve in CURVES {
            for class in [0i64, -1] {
                let classes = vec![class; logits.len()];
                let mut sums = vec![0.0; logits.len()];
                let mut gradient = vec![0f32; logits.len()];
                let grad = Some(gradient.as_mut_slice());
                sum(instructions, curve, &weights, shape, &logits, &classes, grad, &mut workspace, &mut sums).unwrap();
                assert!(sums.iter().all(|sum| sum.is_finite()), "{curve:?}: {sums:?}");
                assert!(gradient.iter().all(|slope| slope.is_finite()), "{curve:?}: {gradient:?}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let Case { shape, logits, classes, .. } = case(2, 4001, 80, false);
    let logits: Vec<f32> = logits.iter().map(|&x| x as f32 * 1.01).collect();
    let weights = Weights { positive: vec![0.25f32], negative: vec![0.75] };
    let curve = Curve::Focal { gamma: 2.0 };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut workspace = vec![0.0; workspace_len(shape)];
        let mut sums = vec![0.0; 2];
        let mut gradient = vec![0f32; shape.logits()];
        let grad = Some(gradient.as_mut_slice());
        pool.install(|| {
            sum(InstructionSet::widest(), curve, &weights, shape, &logits, &classes, grad, &mut workspace, &mut sums)
        })
        .unwrap();
        let sums: Vec<u64> = sums.into_iter().map(f64::to_bits).collect();
        (sums, gradient.into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    let one = run(1);
    assert!(one == run(2));
    assert!(one == run(4));
}
