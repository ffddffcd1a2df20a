//! Analytic gradients against central differences in f64, through candle.

mod reference;

use candle_core::{Device, Tensor, Var};
use retinanet_focal::{Alpha, AlphaBalanced, BACKGROUND, ClassLoss, Focal, FocalStar, HardExamples, Sampled};

fn losses() -> Vec<ClassLoss> {
    let mut losses: Vec<ClassLoss> = [0.0, 0.5, 1.0, 2.0, 5.0]
        .into_iter()
        .map(|gamma| ClassLoss::Focal(Focal { alpha: Alpha::Scalar(0.25), gamma }))
        .collect();
    losses.extend([
        ClassLoss::FocalStar(FocalStar::default()),
        ClassLoss::FocalStar(FocalStar { alpha: Alpha::Scalar(0.4), gamma: 4.0, beta: 0.0 }),
        ClassLoss::CrossEntropy,
        ClassLoss::AlphaBalanced(AlphaBalanced::default()),
        ClassLoss::HardExamples(HardExamples::default()),
        ClassLoss::Sampled(Sampled::default()),
    ]);
    losses
}

#[test]
fn one_logit_at_a_time() {
    // Alone, so that the difference of two tiny losses is not lost in a large one.
    for loss in losses() {
        for class in [0, BACKGROUND] {
            for x in [0.0, 0.7, -0.7, 3.0, -3.0, 20.0, -20.0, 80.0, -80.0] {
                let classes = Tensor::from_slice(&[class], (1, 1), &Device::Cpu).unwrap();
                let at = |x: f64| {
                    let logits = Tensor::from_slice(&[x], (1, 1, 1), &Device::Cpu).unwrap();
                    loss.sum(&logits, &classes).unwrap().to_vec1::<f64>().unwrap()[0]
                };
                let step = 1e-4;
                let numeric = (at(x + step) - at(x - step)) / (2.0 * step);

                let logits = Var::from_slice(&[x], (1, 1, 1), &Device::Cpu).unwrap();
                let gradients = loss.sum(&logits, &classes).unwrap().backward().unwrap();
                let gradient = gradients.get(&logits).unwrap();
                let analytic = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0];
                assert!(
                    (analytic - numeric).abs() <= 2e-7 * numeric.abs(),
                    "{loss:?}, class {class}, logit {x}: analytic {analytic:e}, numeric {numeric:e}"
                );
            }
        }
    }
}

#[test]
fn through_a_graph_with_one_weight_an_image() {
    let (images, anchors, num_classes) = (2, 3, 3);
    let count = images * anchors * num_classes;
    let values: Vec<f64> = reference::uniform(count, 5).iter().map(|u| 6.0 * u - 3.0).collect();
    let classes = Tensor::from_slice(&[2i64, -1, -2, 0, 1, -1], (images, anchors), &Device::Cpu).unwrap();
    let image_weights = Tensor::from_slice(&[0.3, -1.7], images, &Device::Cpu).unwrap();
    let alpha = Alpha::PerClass(vec![0.1, 0.5, 0.8]);
    let loss = ClassLoss::Focal(Focal { alpha, gamma: 2.0 });
    // The logits are doubled on the way, so that the operation is inside the graph, not at its edge.
    let total = |logits: &Tensor| {
        let sums = loss.sum(&(logits * 2.0).unwrap(), &classes).unwrap();
        (sums * &image_weights).unwrap().sum_all().unwrap()
    };
    let logits = Var::from_slice(&values, (images, anchors, num_classes), &Device::Cpu).unwrap();
    let gradients = total(&logits).backward().unwrap();
    let analytic: Vec<f64> = gradients.get(&logits).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let step = 1e-5;
    for idx in 0..count {
        let at = |offset: f64| {
            let mut values = values.clone();
            values[idx] += offset;
            let logits = Tensor::from_vec(values, (images, anchors, num_classes), &Device::Cpu).unwrap();
            total(&logits).to_scalar::<f64>().unwrap()
        };
        let numeric = (at(step) - at(-step)) / (2.0 * step);
        assert!((analytic[idx] - numeric).abs() < 1e-8, "logit {idx}: {} against {numeric}", analytic[idx]);
    }
}
