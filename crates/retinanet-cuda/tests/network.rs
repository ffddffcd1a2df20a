//! Networks on every device that is found against the processor's engine.

#[allow(dead_code, reason = "the tests of plans use the rest")]
#[path = "../../retinanet-ops/tests/plan/network.rs"]
mod network;
mod support;

use network::{Network, image, noise, relative_error};
use retinanet_cuda::network::{Inference, Training, TrainingOptions};
use retinanet_cuda::{Device, Element, Result};
use retinanet_ops::kernels::cpu::inference::Precision;
use retinanet_ops::network::plan::{Recorder, Value};
use retinanet_ops::network::training::{self, TrainingSession};
use retinanet_ops::network::{NormKind, Parameters};
use std::collections::BTreeMap;
use std::sync::Arc;
use support::devices;

const BATCH: NormKind = NormKind::Batch { epsilon: 1e-5, momentum: 0.1 };
const FROZEN: NormKind = NormKind::FrozenBatch { epsilon: 1e-5 };
const GROUP: NormKind = NormKind::Group { groups: 2, epsilon: 1e-5 };

/// Two subnets on three levels.
const OUTPUTS: usize = 6;

/// Two images of 43 x 58 pixels, which no stride divides.
const IMAGES: (usize, usize, usize) = (2, 43, 58);

type Named = BTreeMap<String, Vec<f32>>;

fn pixels((batch, height, width): (usize, usize, usize)) -> Vec<f32> {
    (0..batch).flat_map(|seed| image((height, width), seed as u64)).collect()
}

fn record(network: &Network) -> (Recorder, Vec<Value>) {
    let (mut recorder, image) = Recorder::new(3);
    let outputs = network.forward(&mut recorder, &image).expect("a network").concat();
    (recorder, outputs)
}

fn values(parameters: &Parameters, name: &str) -> Vec<f32> {
    let tensor = parameters.detached(name).expect("a parameter");
    tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("f32 on the processor")
}

/// What a step gives: outputs, gradients, running statistics.
struct Step {
    outputs: Vec<Vec<f32>>,
    gradients: Named,
    running: Named,
}

/// A step of several passes whose loss is the sum of outputs times noise.
fn on_processor(network: &Network, passes: &[(usize, usize, usize)], recompute: &[String]) -> Step {
    let (recorder, outputs) = record(network);
    let parameters = network.parameters();
    let options = training::TrainingOptions { recompute: recompute.to_vec(), ..Default::default() };
    let mut session = TrainingSession::new(&recorder, &outputs, &options).expect("a session");
    session.begin();
    let mut last = Vec::new();
    for &images in passes {
        session.forward(&parameters, &pixels(images), images).expect("outputs");
        last = (0..OUTPUTS).map(|idx| session.output(idx).1.to_vec()).collect();
        for (idx, output) in last.iter().enumerate() {
            session.set_output_gradient(idx, &noise(output.len(), 90 + idx as u64));
        }
        session.backward(&parameters).expect("gradients");
    }
    session.update_running_statistics(&parameters).expect("running statistics");
    let gradients = session.gradients().iter().map(|(name, values)| (name.to_owned(), values.to_vec())).collect();
    let names = parameters.iter().map(|(name, _)| name.to_owned()).filter(|name| name.contains("running_"));
    Step { outputs: last, gradients, running: names.map(|name| (name.clone(), values(&parameters, &name))).collect() }
}

fn training(device: &Arc<dyn Device>, network: &Network, element: Element, recompute: &[String]) -> Result<Training> {
    let (recorder, outputs) = record(network);
    let options = TrainingOptions { element, recompute: recompute.to_vec() };
    let mut training = Training::new(device, &recorder, &outputs, &options)?;
    let parameters = network.parameters();
    let names: Vec<String> = training.parameters().iter().map(|(name, _)| name.to_owned()).collect();
    names.iter().try_for_each(|name| training.write(name, &values(&parameters, name)))?;
    Ok(training)
}

/// The same on a device.
fn on_device(training: &mut Training, passes: &[(usize, usize, usize)]) -> Result<Step> {
    training.begin()?;
    let mut last = Vec::new();
    for &images in passes {
        training.forward(&pixels(images), images)?;
        last = (0..OUTPUTS).map(|idx| training.output(idx).read()).collect::<Result<_>>()?;
        for idx in 0..OUTPUTS {
            if let Some(gradient) = training.output_gradient(idx) {
                gradient.write(&noise(gradient.shape.len(), 90 + idx as u64))?;
            }
        }
        training.backward()?;
    }
    training.update_running_statistics(None)?;
    let named = |name: &str, training: &Training| Ok((name.to_owned(), training.parameters().read(name)?));
    let gradients =
        training.gradients().iter().map(|(name, _)| Ok((name.to_owned(), training.gradients().read(name)?)));
    let names = training.parameters().iter().map(|(name, _)| name).filter(|name| name.contains("running_"));
    Ok(Step {
        outputs: last,
        gradients: gradients.collect::<Result<_>>()?,
        running: names.map(|name| named(name, training)).collect::<Result<_>>()?,
    })
}

#[track_caller]
fn compare(what: &str, found: &Named, expected: &Named, tolerance: f64) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (name, expected) in expected {
        let error = relative_error(&found[name], expected);
        assert!(error <= tolerance, "{what} of {name}: relative error {error:.2e}");
    }
}

/// Outputs, gradients and running statistics of a step in f32.
#[track_caller]
fn check(network: &Network, passes: &[(usize, usize, usize)], recompute: &[String]) {
    let expected = on_processor(network, passes, recompute);
    for device in devices() {
        let mut training = training(&device, network, Element::F32, recompute).expect("a network");
        let found = on_device(&mut training, passes).expect("a step");
        for (idx, (found, expected)) in found.outputs.iter().zip(&expected.outputs).enumerate() {
            let error = relative_error(found, expected);
            assert!(error < 1e-5, "output {idx}: relative error {error:.2e}");
        }
        compare("gradient", &found.gradients, &expected.gradients, 1e-4);
        compare("running statistic", &found.running, &expected.running, 1e-5);
    }
}

#[test]
fn steps_through_norms_of_the_batch() {
    check(&Network::with_norms(BATCH, false), &[IMAGES], &[]);
}

#[test]
fn steps_through_stored_statistics() {
    check(&Network::with_norms(FROZEN, false), &[IMAGES], &[]);
}

#[test]
fn steps_through_group_norms() {
    check(&Network::with_norms(GROUP, true), &[IMAGES], &[]);
}

#[test]
fn small_batches_add_up_to_a_large_one() {
    check(&Network::with_norms(BATCH, true), &[IMAGES, (1, 43, 58), (1, 64, 50)], &[]);
}

#[test]
fn layers_that_are_not_trained_stay_as_they_are() {
    let mut network = Network::with_norms(BATCH, true);
    network.layers_mut().take(2).for_each(|layer| layer.trainable = false);
    check(&network, &[IMAGES], &[]);
}

#[test]
fn what_runs_again_gives_the_same_bits() {
    let (network, recompute) = (Network::with_norms(BATCH, true), ["block.".to_owned()]);
    check(&network, &[IMAGES], &recompute);
    for device in devices() {
        let step = |recompute: &[String]| {
            let mut training = training(&device, &network, Element::F32, recompute).expect("a network");
            let step = on_device(&mut training, &[IMAGES]).expect("a step");
            (step.gradients, step.running)
        };
        assert!(step(&[]) == step(&recompute), "{}", device.description());
    }
}

/// Cosine of the angle between two vectors.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn steps_in_bfloat16_are_near_those_in_f32() {
    for network in [Network::with_norms(BATCH, true), Network::with_norms(FROZEN, false)] {
        let expected = on_processor(&network, &[IMAGES], &[]);
        for device in devices() {
            let mut training = training(&device, &network, Element::Bf16, &[]).expect("a network");
            let found = on_device(&mut training, &[IMAGES]).expect("a step");
            for (found, expected) in found.outputs.iter().zip(&expected.outputs) {
                let error = relative_error(found, expected);
                assert!(error > 1e-5 && error < 0.05, "relative error {error:.2e}");
            }
            for (name, expected) in &expected.gradients {
                let cosine = cosine(&found.gradients[name], expected);
                assert!(cosine > 0.97, "gradient of {name}: cosine {cosine}");
            }
        }
    }
}

#[test]
fn equal_steps_give_equal_bits() {
    let network = Network::with_norms(BATCH, true);
    for device in devices() {
        for element in Element::ALL {
            let step = |training: &mut Training| {
                let Step { outputs, gradients, running } = on_device(training, &[IMAGES]).expect("a step");
                (outputs, gradients, running)
            };
            let mut one = training(&device, &network, element, &[]).expect("a network");
            let first = step(&mut one);
            let mut other = training(&device, &network, element, &[]).expect("a network");
            // Another size in between moves all to other places.
            on_device(&mut other, &[(1, 90, 70)]).expect("a step");
            let parameters = network.parameters();
            for name in first.2.keys() {
                other.write(name, &values(&parameters, name)).expect("a parameter");
            }
            assert!(step(&mut other) == first, "{element:?} on {}", device.description());
        }
    }
}

#[test]
fn a_step_whose_loss_is_no_number_moves_no_statistics() {
    let network = Network::with_norms(BATCH, false);
    for device in devices() {
        let mut training = training(&device, &network, Element::F32, &[]).expect("a network");
        training.begin().expect("a step");
        training.forward(&pixels(IMAGES), IMAGES).expect("outputs");
        let before = training.parameters().read("stem.bn.running_mean").expect("a statistic");
        let go = |go: i32| retinanet_cuda::Memory::of(&device, &go.to_ne_bytes()).expect("memory");
        training.update_running_statistics(Some(go(0).span())).expect("an update");
        assert_eq!(training.parameters().read("stem.bn.running_mean").expect("a statistic"), before);
        training.update_running_statistics(Some(go(1).span())).expect("an update");
        assert_ne!(training.parameters().read("stem.bn.running_mean").expect("a statistic"), before);
    }
}

fn inference(device: &Arc<dyn Device>, network: &Network, element: Element) -> Inference {
    let ((recorder, outputs), parameters) = (record(network), network.parameters());
    Inference::new(device, &recorder, &outputs, element, &|name| Ok(values(&parameters, name))).expect("a network")
}

fn outputs(inference: &mut Inference, images: (usize, usize, usize)) -> Vec<Vec<f32>> {
    inference.run(&pixels(images), images).expect("outputs");
    (0..OUTPUTS).map(|idx| inference.output(idx).read().expect("an output")).collect()
}

#[test]
fn inference_gives_what_the_processor_gives() {
    for network in [Network::with_norms(BATCH, false), Network::with_norms(GROUP, true), Network::new(true)] {
        let (plan, size) = (network.plan(Precision::F32, None), (IMAGES.1, IMAGES.2));
        let mut session = plan.session();
        session.resize(&[size; 2]).expect("a layout");
        for image_idx in 0..2 {
            session.input_mut(image_idx).copy_from_slice(&image(size, image_idx as u64));
        }
        session.run_first();
        session.run_rest();
        let expected = |idx: usize| -> Vec<f32> {
            let output =
                |image| if idx < 3 { session.first_output(idx, image) } else { session.rest_output(idx - 3, image) };
            [output(0).values, output(1).values].concat()
        };
        for device in devices() {
            for (element, tolerance) in [(Element::F32, 1e-5), (Element::Bf16, 0.03), (Element::F16, 0.004)] {
                let found = outputs(&mut inference(&device, &network, element), IMAGES);
                for (idx, found) in found.iter().enumerate() {
                    let error = relative_error(found, &expected(idx));
                    assert!(error < tolerance, "{element:?}: output {idx}: relative error {error:.2e}");
                }
            }
        }
    }
}

#[test]
fn replayed_runs_give_the_same_bits() {
    let network = Network::with_norms(BATCH, true);
    for device in devices() {
        for element in Element::ALL {
            let mut inference = inference(&device, &network, element);
            let first = outputs(&mut inference, IMAGES);
            assert!(outputs(&mut inference, IMAGES) == first, "a replay");
            // A larger size moves the memory, a smaller one does not.
            let larger = outputs(&mut inference, (3, 60, 70));
            let smaller = outputs(&mut inference, (1, 43, 58));
            assert!(outputs(&mut inference, IMAGES) == first && outputs(&mut inference, (3, 60, 70)) == larger);
            for (smaller, first) in smaller.iter().zip(&first) {
                // Another batch may be convolved by another algorithm, in another order of its sums.
                let error = relative_error(smaller, &first[..smaller.len()]);
                assert!(error < if element == Element::F32 { 1e-5 } else { 0.03 }, "relative error {error:.2e}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let network = Network::with_norms(BATCH, false);
    for device in devices() {
        let mut training = training(&device, &network, Element::F32, &[]).expect("a network");
        let message = |error: retinanet_cuda::Error| error.to_string();
        assert_eq!(
            message(training.forward(&[0.0; 5], IMAGES).expect_err("too few")),
            "images: expected 14964 numbers, found 5"
        );
        assert!(message(training.forward(&[], (0, 9, 9)).expect_err("no image")).contains("no empty dimension"));
        assert_eq!(
            message(training.write("stem.weight", &[1.0]).expect_err("one value")),
            "stem.weight: expected 1176 values, found 1"
        );
        assert!(
            message(training.write("trunk.weight", &[1.0]).expect_err("none")).contains("a tensor named trunk.weight")
        );
    }
}
