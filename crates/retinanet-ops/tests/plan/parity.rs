//! The numbers of a plan are those of the inference engine.

use super::network::{Network, image, relative_error, run_first, run_rest};
use candle_core::{Device, Tensor};
use retinanet_ops::kernels::cpu::inference::Precision;
use retinanet_ops::network::InferenceEngine;

#[test]
fn a_dense_f32_plan_gives_what_the_layers_give() {
    for group_norm in [false, true] {
        let network = Network::new(group_norm);
        let parameters = network.parameters();
        let mut session = network.plan(Precision::F32, None).session();
        // Odd sizes, images that differ in size, and sizes that come again.
        for sizes in [&[(45, 70)][..], &[(64, 33), (21, 40)], &[(45, 70)]] {
            let class = run_first(&mut session, sizes, 0);
            let boxes = run_rest(&mut session, sizes.len());
            for (image_idx, &(height, width)) in sizes.iter().enumerate() {
                let pixels = image((height, width), image_idx as u64);
                let pixels = Tensor::from_vec(pixels, (1, height, width, 3), &Device::Cpu).expect("an image");
                let expected = network.forward(&mut InferenceEngine::new(&parameters), &pixels).expect("outputs");
                for level in 0..3 {
                    let place = level * sizes.len() + image_idx;
                    for (name, found, expected) in
                        [("class", &class[place], &expected[0][level]), ("box", &boxes[place], &expected[1][level])]
                    {
                        let (_, height, width, _) = expected.dims4().expect("a feature map");
                        let output = session.first_output(level, image_idx);
                        assert_eq!((output.height, output.width), (height, width));
                        let expected: Vec<f32> = expected.flatten_all().and_then(|t| t.to_vec1()).expect("numbers");
                        let error = relative_error(found, &expected);
                        assert!(error < 3e-6, "{name} level {level} image {image_idx}: relative error {error:.2e}");
                    }
                }
            }
        }
    }
}

#[test]
fn parameters_that_are_given_up_give_the_same_plan() {
    use retinanet_ops::network::plan::{Plan, PlanOptions, Recorder};
    let network = Network::new(true);
    let (mut recorder, input) = Recorder::new(3);
    let [class, boxes] = network.forward(&mut recorder, &input).expect("a network");
    let parameters = network.parameters();
    let plan = Plan::consume(&recorder, &class, &boxes, parameters, &PlanOptions::default()).expect("a plan");
    let sizes = [(40, 40)];
    let found = run_first(&mut plan.session(), &sizes, 0);
    assert_eq!(found, run_first(&mut network.plan(Precision::F32, None).session(), &sizes, 0));
}

#[test]
fn what_cannot_be_planned_is_named() {
    use retinanet_ops::network::plan::{Plan, PlanOptions, Recorder};
    let network = Network::new(false);
    let (mut recorder, input) = Recorder::new(3);
    let [class, boxes] = network.forward(&mut recorder, &input).expect("a network");
    let mut parameters = network.parameters();
    parameters.remove("class.1.weight");
    let error = Plan::new(&recorder, &class, &boxes, &parameters, &PlanOptions::default()).expect_err("a weight less");
    assert!(error.to_string().contains("class.1.weight"), "{error}");

    let mut session = network.plan(Precision::F32, None).session();
    let error = session.resize(&[(20, 20), (0, 20)]).expect_err("an empty image").to_string();
    assert!(error.contains("image") && error.contains("[1, 0, 20, 3]"), "{error}");
    session.resize(&[(20, 20)]).expect("as before");

    let (mut recorder, _) = Recorder::new(4);
    let error = network.forward(&mut recorder, &input).expect_err("four channels").to_string();
    assert!(error.contains("stem: input channels: expected 3, found 4"), "{error}");
}
