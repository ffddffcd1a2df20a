//! A detector on a device, the kernels' twin and whatever GPU there is, against the same on the processor.
#![cfg(feature = "cuda")]

mod squares;

use retinanet::{
    Checkpoint, CheckpointInterval, ComputeDevice, Config, Detector, Error, Event, InferenceOptions, InitialWeights,
    Model, Outcome, Precision, Result, Training, start,
};
use retinanet_anchors::{Detection, ImageSize};
use retinanet_annotations::Class;
use retinanet_cuda::{Device, Twin};
use retinanet_data::Image;
use squares::{Squares, tiny};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// None, with a printed line, where there is no C++ compiler.
fn devices() -> Vec<ComputeDevice> {
    static TWIN: OnceLock<Option<Arc<dyn Device>>> = OnceLock::new();
    let twin = TWIN.get_or_init(|| match Twin::new() {
        Ok(twin) => Some(Arc::new(twin)),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    });
    twin.iter().map(|twin| ComputeDevice::Cuda(Arc::clone(twin))).collect()
}

/// Noise of this size on a gradient.
fn image(width: usize, height: usize, seed: u32) -> Image {
    let mut state = seed.wrapping_add(1);
    let pixels = (0..width * height * 3).map(|i| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (((state >> 25) as usize + i / 3 % width) % 256) as u8
    });
    Image { size: ImageSize::new(width, height), pixels: pixels.collect() }
}

/// Random weights whose scores are spread, so that some pass.
fn detector(assignments: &[&str]) -> Detector {
    let small = ["preprocessing.min_size=96", "preprocessing.max_size=128", "post_processing.score_threshold=0.3"];
    let config = tiny(&[&small, assignments].concat());
    let classes: Vec<Class> = (0..3).map(|id| Class { category_id: id, name: id.to_string() }).collect();
    let detector = Detector::new(config.clone(), classes, Model::new(&config, 3, 3).expect("a model"));
    let parameters = &detector.model.parameters;
    for (name, factor) in [("classification_head.cls_logits", 60.0), ("regression_head.bbox_reg", 20.0)] {
        let weight = parameters.variable(&format!("head.{name}.weight")).expect("a weight");
        weight.set(&(weight.as_detached_tensor() * factor).expect("a product")).expect("the same shape");
    }
    let bias = parameters.variable("head.classification_head.cls_logits.bias").expect("a bias");
    bias.set(&(bias.as_detached_tensor() * 0.3).expect("a product")).expect("the same shape");
    detector
}

/// The same detections but for rounding: each has one of the other list that is nearly it.
#[track_caller]
fn check_alike(found: &[Detection], expected: &[Detection], tolerance: f32) {
    assert!(!expected.is_empty(), "nothing is found, so nothing is compared");
    assert_eq!(found.len(), expected.len());
    for detection in expected {
        let is_like = |other: &&Detection| {
            let corners = |d: &Detection| [d.bbox.x0, d.bbox.y0, d.bbox.x1, d.bbox.y1];
            let apart = corners(detection).iter().zip(corners(other)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            other.label == detection.label
                && (other.score - detection.score).abs() < tolerance
                && apart < 50.0 * tolerance
        };
        assert!(found.iter().any(|other| is_like(&other)), "{detection:?}");
    }
}

#[test]
fn detections_are_those_of_the_processor() -> Result<()> {
    for assignments in [&[][..], &["backbone.norm={ batch = { epsilon = 1e-5, momentum = 0.1 } }", "head.group_norm=4"]]
    {
        let detector = detector(assignments);
        // The first two are padded alike and run together, the others apart.
        let images = [(120, 90), (118, 88), (90, 120), (64, 200)];
        let images: Vec<Image> = (1..).zip(images).map(|(seed, (width, height))| image(width, height, seed)).collect();
        let images: Vec<&Image> = images.iter().collect();
        let on_processor = detector.plan(&InferenceOptions::default())?.detect_batch(&images)?;
        for device in devices() {
            let plan = detector.plan(&InferenceOptions { device, ..InferenceOptions::default() })?;
            let together = plan.detect_batch(&images)?;
            for ((image, found), expected) in images.iter().zip(&together).zip(&on_processor) {
                check_alike(found, expected, 1e-4);
                check_alike(&plan.detect(image)?, expected, 1e-4);
            }
            assert_eq!(plan.detect_batch(&images)?, together, "equal runs give equal bits");
            assert!(plan.last_run().box_head_share == 1.0 && plan.layers().count() > 20);
        }
    }
    Ok(())
}

#[test]
fn predictions_in_bfloat16_are_near_those_in_f32() -> Result<()> {
    let detector = detector(&[]);
    let batch = detector.config.preprocessing.batch(&[image(96, 96, 1).view()])?;
    let shape = (1, batch.padded.height, batch.padded.width, 3);
    let pixels = candle_core::Tensor::from_slice(&batch.pixels, shape, &candle_core::Device::Cpu)?;
    let expected = detector.plan(&InferenceOptions::default())?.predict(&pixels)?;
    for device in devices() {
        for (precision, least, most) in
            [(Precision::F32, 0.0, 1e-5), (Precision::Bf16, 1e-5, 0.05), (Precision::F16, 1e-6, 0.01)]
        {
            let options = InferenceOptions { device: device.clone(), precision, ..InferenceOptions::default() };
            let found = detector.plan(&options)?.predict(&pixels)?;
            for (found, expected) in found.class_logits.values().iter().zip(expected.class_logits.values()) {
                let norm = |tensor: candle_core::Tensor| tensor.sqr()?.sum_all()?.to_scalar::<f32>();
                let error = (norm((found - expected)?)? / norm(expected.clone())?).sqrt();
                assert!(error >= least && error < most, "{precision:?}: relative error {error:.2e}");
            }
        }
        let options = InferenceOptions { device, precision: Precision::Int8, ..InferenceOptions::default() };
        let message = detector.plan(&options).expect_err("no 8 bits").to_string();
        assert!(message.starts_with("precision int8: expected f32, bf16 or f16"), "{message}");
    }
    Ok(())
}

fn squares() -> Squares {
    Squares::new(&[&[(8, 8, 24, 0), (36, 34, 20, 1)], &[(30, 4, 28, 1)], &[], &[(4, 20, 36, 0)]])
}

fn training(config: Config, device: ComputeDevice, output: &Path) -> Training {
    Training {
        config,
        train: Arc::new(squares()),
        validation: None,
        output: output.to_owned(),
        device,
        workers: 1,
        checkpoint_every: CheckpointInterval::Epoch,
    }
}

/// Losses and gradient norm of each step.
type Course = Vec<[f64; 3]>;

fn run(training: &Training, stop_after: usize) -> Result<(Outcome, Course)> {
    let start = start(&training.config, training.train.classes(), &InitialWeights::New)?;
    let mut course = Course::new();
    let outcome = training.run(start.model, &mut |event| observe(&event, &mut course, stop_after))?;
    Ok((outcome, course))
}

fn resume(training: &Training) -> Result<(Outcome, Course)> {
    let checkpoint = Checkpoint::read(training.output.join("state.safetensors"))?;
    let mut course = Course::new();
    let outcome = training.resume(checkpoint, &mut |event| observe(&event, &mut course, usize::MAX))?;
    Ok((outcome, course))
}

fn observe(event: &Event<'_>, course: &mut Course, stop_after: usize) -> ControlFlow<()> {
    if let Event::Step(step) = event {
        course.push([step.class_loss.into(), step.box_loss.into(), step.gradient_norm]);
        if course.len() == stop_after {
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}

/// All values of all tensors by name.
fn weights(outcome: &Outcome) -> Vec<(String, Vec<f32>)> {
    let values = |tensor: candle_core::Tensor| tensor.flatten_all().and_then(|t| t.to_vec1()).expect("f32");
    let parameters = outcome.detector.model.parameters.iter();
    parameters.map(|(name, variable)| (name.to_owned(), values(variable.as_detached_tensor()))).collect()
}

/// Recipes that between them have all that a step knows.
const RECIPES: [&[&str]; 3] = [
    &["train.epochs=2", "train.optimizer={ sgd = { momentum = 0.9, weight_decay = 1e-4, norm_weight_decay = 0.0 } }"],
    &[
        "train.epochs=2",
        "train.optimizer={ adamw = { weight_decay = 0.05, norm_weight_decay = 0.0 } }",
        // Adam moves by the sign of a gradient that is nothing but rounding: in small steps, so that this stays small.
        "train.learning_rate=0.0002",
        "train.ema={}",
        "train.clip_norm=0.5",
        "backbone.norm={ batch = { epsilon = 1e-5, momentum = 0.1 } }",
        "loss.box=giou",
        "loss.normalizer={ moving_average = { start = 100.0, momentum = 0.9 } }",
    ],
    &[
        "train.epochs=2",
        "train.batch=4",
        "train.micro_batch=3",
        "train.rates={ backbone = 0.1 }",
        "train.recompute_stages=4",
        "backbone.frozen_stages=1",
        "loss.class={ ohem = {} }",
        "matcher={ atss = {} }",
        "loss.normalizer=batch",
    ],
];

#[test]
fn trainings_are_those_of_the_processor() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    for (idx, recipe) in RECIPES.into_iter().enumerate() {
        let output = |name: &str| folder.path().join(format!("{name}-{idx}"));
        let (expected, expected_course) = run(&training(tiny(recipe), ComputeDevice::Cpu, &output("cpu")), usize::MAX)?;
        for device in devices() {
            let (found, course) = run(&training(tiny(recipe), device.clone(), &output("device")), usize::MAX)?;
            assert_eq!(course.len(), expected_course.len());
            for (step, (found, expected)) in course.iter().zip(&expected_course).enumerate() {
                for (found, expected) in found.iter().zip(expected) {
                    let error = (found - expected).abs() / expected.abs().max(1e-3);
                    assert!(error < 1e-3, "recipe {idx}, step {step}: expected {expected}, found {found}");
                }
            }
            for ((name, found), (_, expected)) in weights(&found).iter().zip(weights(&expected)) {
                let norm =
                    |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                let difference = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
                // Adam divides by the gradient's size: where that is nothing, rounding decides.
                let error = difference / (norm(&mut expected.iter().copied()) + 1e-2 * (expected.len() as f64).sqrt());
                assert!(error < 1e-2, "recipe {idx}, {name}: relative error {error:.2e}");
            }
            let (again, other_course) = run(&training(tiny(recipe), device, &output("again")), usize::MAX)?;
            assert!(other_course == course && weights(&again) == weights(&found), "equal seeds give equal bits");
        }
    }
    Ok(())
}

#[test]
fn a_training_goes_on_as_if_nothing_had_happened() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    for device in devices() {
        let recipe = RECIPES[1];
        let output = |name: &str| folder.path().join(name);
        let (whole, course) = run(&training(tiny(recipe), device.clone(), &output("whole")), usize::MAX)?;
        let stopped = training(tiny(recipe), device, &output("stopped"));
        let (outcome, first) = run(&stopped, 3)?;
        assert!(outcome.interrupted);
        let (resumed, rest) = resume(&stopped)?;
        assert!([first.clone(), rest].concat() == course, "the course of a training that was stopped");
        assert!(weights(&resumed) == weights(&whole), "its weights");

        // The processor goes on with what a device has begun.
        let (_, again) = run(&training(tiny(recipe), stopped.device.clone(), &output("moved")), 3)?;
        assert!(again == first);
        let course = &course[first.len()..];
        let (_, rest) = resume(&training(tiny(recipe), ComputeDevice::Cpu, &output("moved")))?;
        assert_eq!(rest.len(), course.len());
        for (found, expected) in rest.iter().zip(course) {
            assert!((found[0] - expected[0]).abs() < 1e-3 * expected[0], "expected {expected:?}, found {found:?}");
        }
    }
    Ok(())
}

#[test]
fn a_loss_that_is_no_number_ends_a_training() {
    let folder = tempfile::tempdir().expect("a folder");
    for device in devices() {
        let config = tiny(&["train.epochs=40", "train.learning_rate=1e30", "train.schedule.warmup.steps=0"]);
        let error = run(&training(config, device, folder.path()), usize::MAX).expect_err("no number");
        let Error::LossNotFinite(found) = error else { panic!("expected a loss that is not finite, found {error}") };
        assert!(found.step > 0 && found.gradients.len() == 5 && !found.images.is_empty(), "{found:?}");
    }
}

#[test]
fn training_in_bfloat16_learns() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    for device in devices() {
        let config = tiny(&["train.epochs=30", "train.dtype=bf16"]);
        let (_, course) = run(&training(config, device, folder.path()), usize::MAX)?;
        let total = |step: &[f64; 3]| step[0] + step[1];
        let (first, last) = (&course[..4], &course[course.len() - 4..]);
        let mean = |steps: &[[f64; 3]]| steps.iter().map(total).sum::<f64>() / steps.len() as f64;
        assert!(mean(last) < 0.7 * mean(first), "loss went from {} to {}", mean(first), mean(last));
    }
    Ok(())
}
