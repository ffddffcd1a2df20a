//! The numbers of a plan are those of the inference engine.

use super::network::{Network, noise};
use candle_core::{Device, Tensor};
use retinanet_ops::network::InferenceEngine;
use retinanet_ops::network::plan::{Plan, PlanOptions, Recorder};

#[track_caller]
fn check(what: &str, found: &[f32], expected: &[f32], limit: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let difference: f64 = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    let norm: f64 = expected.iter().map(|&b| f64::from(b).powi(2)).sum();
    let error = (difference / norm).sqrt();
    assert!(error <= limit, "{what}: expected a relative error of at most {limit}, found {error:.2e}");
}

#[test]
fn a_dense_f32_plan_gives_what_the_layers_give() {
    for group_norm in [false, true] {
        let network = Network::new(group_norm);
        let parameters = network.parameters();
        let (mut recorder, image) = Recorder::new(3);
        let [class, boxes] = network.forward(&mut recorder, &image).expect("a network");
        let plan = Plan::new(&recorder, &class, &boxes, &parameters, &PlanOptions::default()).expect("a plan");
        let mut session = plan.session();
        // Sizes of odd places, one of them again after another.
        for sizes in [&[(45, 70)][..], &[(64, 33), (21, 40)], &[(45, 70)]] {
            session.resize(sizes).expect("a layout");
            let images: Vec<Vec<f32>> =
                sizes.iter().enumerate().map(|(k, (height, width))| noise(height * width * 3, k as u64)).collect();
            for (k, image) in images.iter().enumerate() {
                session.input_mut(k).copy_from_slice(image);
            }
            session.run_first();
            session.run_rest();
            for (k, (pixels, &(height, width))) in images.iter().zip(sizes).enumerate() {
                let image = Tensor::from_slice(pixels, (1, height, width, 3), &Device::Cpu).expect("an image");
                let expected = network.forward(&mut InferenceEngine::new(&parameters), &image).expect("outputs");
                for level in 0..3 {
                    for (name, found, expected) in [
                        ("class", session.first_output(level, k), &expected[0][level]),
                        ("box", session.rest_output(level, k), &expected[1][level]),
                    ] {
                        let (_, height, width, _) = expected.dims4().expect("a feature map");
                        assert_eq!((found.height, found.width), (height, width));
                        let expected = expected.flatten_all().and_then(|t| t.to_vec1()).expect("numbers");
                        check(&format!("{name} level {level} image {k}"), found.values, &expected, 2e-6);
                    }
                }
            }
        }
    }
}
