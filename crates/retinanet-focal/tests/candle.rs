//! The losses as candle operations: graphs, element types, layouts and what is refused.

mod reference;

use candle_core::{DType, Device, Tensor, Var};
use retinanet_focal::{Alpha, ClassLoss, Focal, FocalStar, LossError, Sampled};

const CPU: &Device = &Device::Cpu;

fn batch(images: usize, anchors: usize, num_classes: usize) -> (Tensor, Tensor) {
    let logits = reference::logits(images * anchors * num_classes, 1);
    let logits = Tensor::from_vec(logits, (images, anchors, num_classes), CPU).unwrap();
    let classes = reference::classes(images * anchors, num_classes, 2);
    let classes = Tensor::from_vec(classes, (images, anchors), CPU).unwrap();
    (logits.to_dtype(DType::F32).unwrap(), classes)
}

fn read(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_gradient_is_scaled_by_what_comes_from_above() {
    let (logits, classes) = batch(2, 50, 7);
    let loss = ClassLoss::default();
    let gradient = |factors: [f32; 2]| {
        let logits = Var::from_tensor(&logits).unwrap();
        let factors = Tensor::from_slice(&factors, 2, CPU).unwrap();
        let total = (loss.sum(&logits, &classes).unwrap() * factors).unwrap();
        read(total.sum_all().unwrap().backward().unwrap().get(&logits).unwrap())
    };
    let plain = gradient([1.0, 1.0]);
    let scaled = gradient([0.5, -4.0]);
    assert!(plain.iter().any(|slope| *slope != 0.0));
    for (idx, (plain, scaled)) in plain.iter().zip(&scaled).enumerate() {
        let factor = if idx < 350 { 0.5 } else { -4.0 };
        assert_eq!(plain * factor, *scaled, "logit {idx}");
    }
}

#[test]
fn without_a_graph_all_is_the_same() {
    let (logits, classes) = batch(2, 50, 7);
    let loss = ClassLoss::default();
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let logits = Var::from_tensor(&logits.to_dtype(dtype).unwrap()).unwrap();
        let sums = loss.sum(&logits, &classes).unwrap();
        let weights = Tensor::new(&[0.5f64, -4.0], CPU).unwrap().to_dtype(sums.dtype()).unwrap();
        let graph = (&sums * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let (found, gradient) = loss.sum_and_gradient(&logits, &classes, &[0.5, -4.0]).unwrap();
        assert_eq!(read(&found), read(&sums), "{dtype:?}");
        assert_eq!(gradient.dtype(), dtype);
        assert_eq!(read(&gradient), read(graph.get(&logits).unwrap()), "{dtype:?}");
    }
    let error = loss.sum_and_gradient(&logits, &classes, &[1.0]).unwrap_err();
    assert!(matches!(error, LossError::Shape { argument: "image_weights", .. }), "{error}");
}

#[test]
fn a_second_backward_pass_gives_the_same_gradient() {
    let (logits, classes) = batch(2, 50, 7);
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let logits = Var::from_tensor(&logits.to_dtype(dtype).unwrap()).unwrap();
        let sums = ClassLoss::default().sum(&(logits.as_tensor() * 0.5).unwrap(), &classes).unwrap();
        let total = (sums * 3.0).unwrap().sum_all().unwrap();
        let first = read(total.backward().unwrap().get(&logits).unwrap());
        let second = read(total.backward().unwrap().get(&logits).unwrap());
        assert!(first.iter().any(|slope| *slope != 0.0));
        assert_eq!(first, second, "{dtype:?}");
    }
}

#[test]
fn two_losses_of_one_tensor_add_up() {
    let (logits, classes) = batch(1, 20, 3);
    let logits = Var::from_tensor(&logits).unwrap();
    let once = ClassLoss::default().sum(&logits, &classes).unwrap();
    let single = read(once.backward().unwrap().get(&logits).unwrap());
    let again = ClassLoss::default().sum(&logits, &classes).unwrap();
    let both = read((once + again).unwrap().backward().unwrap().get(&logits).unwrap());
    for (single, both) in single.iter().zip(&both) {
        assert_eq!(2.0 * single, *both);
    }
}

#[test]
fn the_value_is_the_same_with_and_without_a_gradient() {
    let (logits, classes) = batch(2, 50, 7);
    let tracked = ClassLoss::default().sum(&Var::from_tensor(&logits).unwrap(), &classes).unwrap();
    let plain = ClassLoss::default().sum(&logits, &classes).unwrap();
    assert!(tracked.track_op() && !plain.track_op());
    for (tracked, plain) in read(&tracked).iter().zip(read(&plain)) {
        assert!((tracked - plain).abs() <= 1e-6 * plain);
    }
}

#[test]
fn element_types_of_the_result() {
    let (logits, classes) = batch(2, 5, 3);
    for (dtype, result) in [(DType::F32, DType::F32), (DType::BF16, DType::F32), (DType::F64, DType::F64)] {
        let logits = Var::from_tensor(&logits.to_dtype(dtype).unwrap()).unwrap();
        let sums = ClassLoss::default().sum(&logits, &classes).unwrap();
        assert_eq!((sums.dtype(), sums.dims()), (result, [2].as_slice()));
        let gradients = sums.backward().unwrap();
        let gradient = gradients.get(&logits).unwrap();
        assert_eq!((gradient.dtype(), gradient.dims()), (dtype, [2, 5, 3].as_slice()));
        let losses = ClassLoss::default().per_anchor(&logits, &classes).unwrap();
        assert_eq!((losses.dtype(), losses.dims()), (result, [2, 5].as_slice()));
        for (by_anchor, sum) in read(&losses.sum(1).unwrap()).iter().zip(read(&sums)) {
            assert!((by_anchor - sum).abs() <= 1e-5 * sum, "{by_anchor} against {sum}");
        }
    }
}

#[test]
fn levels_of_a_view_and_of_another_order_are_read_as_they_lie() {
    let (logits, classes) = batch(2, 6, 4);
    let loss = ClassLoss::default();
    let all = read(&loss.per_anchor(&logits, &classes).unwrap());
    // Anchors 2..5 of both images, an offset and a stride.
    let logits = Var::from_tensor(&logits).unwrap();
    let sums = loss.sum(&logits.narrow(1, 2, 3).unwrap(), &classes.narrow(1, 2, 3).unwrap()).unwrap();
    for (image, sum) in read(&sums).iter().enumerate() {
        let expected: f64 = all[image * 6 + 2..image * 6 + 5].iter().sum();
        assert!((sum - expected).abs() <= 1e-6 * expected);
    }
    let gradients = sums.backward().unwrap();
    let gradient = read(gradients.get(&logits).unwrap());
    for (idx, slope) in gradient.iter().enumerate() {
        if !(2..5).contains(&(idx / 4 % 6)) {
            assert_eq!(*slope, 0.0);
        }
    }
    assert!(gradient.iter().any(|slope| *slope != 0.0));
}

#[test]
fn nothing_to_find_and_nothing_at_all() {
    // No anchors.
    let logits = Var::zeros((2, 0, 5), DType::F32, CPU).unwrap();
    let classes = Tensor::zeros((2, 0), DType::I64, CPU).unwrap();
    assert_eq!(read(&ClassLoss::default().sum(&logits, &classes).unwrap()), [0.0, 0.0]);
    assert_eq!(ClassLoss::default().per_anchor(&logits, &classes).unwrap().dims(), [2, 0]);
    // No images.
    let logits = Tensor::zeros((0, 4, 5), DType::F32, CPU).unwrap();
    let classes = Tensor::zeros((0, 4), DType::I64, CPU).unwrap();
    assert_eq!(ClassLoss::default().sum(&logits, &classes).unwrap().dims(), [0]);
    // An image that is all background trains: 4 * 5 * .75 / 4 * ln 2.
    let logits = Var::zeros((1, 4, 5), DType::F32, CPU).unwrap();
    let classes = Tensor::full(-1i64, (1, 4), CPU).unwrap();
    let sums = ClassLoss::default().sum(&logits, &classes).unwrap();
    assert!((read(&sums)[0] - 15.0 / 4.0 * 2f64.ln()).abs() < 1e-5);
    let gradient = read(sums.backward().unwrap().get(&logits).unwrap());
    assert!(gradient.iter().all(|slope| *slope > 0.0));
    // One that is all ignored does nothing.
    let classes = Tensor::full(-2i64, (1, 4), CPU).unwrap();
    let sums = ClassLoss::default().sum(&logits, &classes).unwrap();
    assert_eq!(read(&sums), [0.0]);
    let gradient = read(sums.backward().unwrap().get(&logits).unwrap());
    assert!(gradient.iter().all(|slope| *slope == 0.0));
}

#[track_caller]
fn check_refused(loss: &ClassLoss, logits: &Tensor, classes: &Tensor, expected: &str) {
    for result in [loss.sum(logits, classes), loss.per_anchor(logits, classes)] {
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_both_values() {
    let (logits, classes) = batch(2, 5, 3);
    let loss = ClassLoss::default();
    check_refused(
        &loss,
        &logits.flatten(0, 1).unwrap(),
        &classes,
        "class loss: shape of class_logits: expected [N, R, K], found [10, 3]",
    );
    check_refused(
        &loss,
        &logits,
        &classes.narrow(1, 0, 4).unwrap(),
        "class loss: shape of classes: expected [2, 5], found [2, 4]",
    );
    check_refused(
        &loss,
        &logits.to_dtype(DType::F16).unwrap(),
        &classes,
        "class loss: dtype of class_logits: expected f32, bf16 or f64, found f16",
    );
    check_refused(
        &loss,
        &logits,
        &classes.to_dtype(DType::U32).unwrap(),
        "class loss: dtype of classes: expected i64, found u32",
    );
    for wrong in [3i64, -3, i64::MAX, i64::MIN] {
        let mut values = vec![-1i64; 10];
        values[6] = wrong;
        check_refused(
            &loss,
            &logits,
            &Tensor::from_vec(values, (2, 5), CPU).unwrap(),
            &format!(
                "class loss: class of anchor 1 of image 1: expected -2 (ignore), -1 (background) or 0..3, found {wrong}"
            ),
        );
    }
}

#[test]
fn hyper_parameters_out_of_range_are_refused() {
    let (logits, classes) = batch(1, 5, 3);
    let focal = |alpha, gamma| ClassLoss::Focal(Focal { alpha, gamma });
    for (loss, expected) in [
        (focal(Alpha::Scalar(1.5), 2.0), "class loss: alpha: expected a number in [0, 1], found 1.5"),
        (
            focal(Alpha::PerClass(vec![0.5; 2]), 2.0),
            "class loss: alpha: expected one number for each of 3 classes, found 2 numbers",
        ),
        (focal(Alpha::None, -1.0), "class loss: focal.gamma: expected a finite number of at least 0, found -1"),
        (
            ClassLoss::FocalStar(FocalStar { gamma: 0.0, ..FocalStar::default() }),
            "class loss: focal_star.gamma: expected a finite number above 0, found 0",
        ),
        (
            ClassLoss::Sampled(Sampled { examples: 0, ..Sampled::default() }),
            "class loss: sampled.examples: expected at least 1, found 0",
        ),
    ] {
        check_refused(&loss, &logits, &classes, expected);
    }
    assert!(matches!(focal(Alpha::Scalar(f64::NAN), 2.0).validate(), Err(LossError::Parameter { name: "alpha", .. })));
}

#[test]
fn errors_pass_through_functions_that_return_candles_result() {
    let error = candle_core::Error::from(ClassLoss::default().sum(&batch(1, 2, 3).0, &batch(1, 3, 3).1).unwrap_err());
    assert!(error.to_string().contains("expected [1, 2], found [1, 3]"), "{error}");
}
