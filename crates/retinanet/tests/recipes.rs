//! What each option of a recipe does to a training: a tiny network on two images of squares.

mod squares;

use retinanet::{
    Checkpoint, CheckpointInterval, ComputeDevice, Config, Detector, Event, InferenceOptions, InitialWeights, Outcome,
    Training, evaluate, start,
};
use retinanet_data::Dataset;
use squares::{Squares, tiny};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Two images, three objects of two classes.
fn two_images() -> Squares {
    Squares::new(&[&[(8, 8, 24, 0), (36, 34, 20, 1)], &[(30, 4, 28, 1)]])
}

fn training(config: &Config, folder: &Path) -> Training {
    Training {
        config: config.clone(),
        train: Arc::new(two_images()),
        validation: None,
        output: folder.to_owned(),
        workers: 1,
        checkpoint_every: CheckpointInterval::Epoch,
        device: ComputeDevice::Cpu,
    }
}

fn run(training: &Training, on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Outcome> {
    let model = start(&training.config, training.train.classes(), &InitialWeights::New)?.model;
    Ok(training.run(model, on_event)?)
}

fn train(config: &Config, folder: &Path) -> Result<Outcome> {
    run(&training(config, folder), &mut |_| ControlFlow::Continue(()))
}

/// Every weight by name.
fn weights(detector: &Detector) -> Result<BTreeMap<String, Vec<f32>>> {
    let parameters = detector.model.parameters.iter();
    parameters.map(|(name, variable)| Ok((name.to_owned(), variable.flatten_all()?.to_vec1()?))).collect()
}

fn new_weights(config: &Config) -> Result<BTreeMap<String, Vec<f32>>> {
    let classes = two_images().classes().to_vec();
    let model = start(config, &classes, &InitialWeights::New)?.model;
    weights(&Detector::new(config.clone(), classes, model))
}

#[track_caller]
fn learns(assignments: &[&str]) {
    let ap50 = || -> Result<f64> {
        let config = tiny(&[assignments, &["train.epochs=60"]].concat());
        let folder = tempfile::tempdir()?;
        let detector = train(&config, folder.path())?.detector;
        // The file carries the whole recipe.
        assert_eq!(Detector::load(folder.path().join("last.safetensors"))?.config, config);
        let plan = detector.plan(&InferenceOptions::default())?;
        let evaluation = evaluate(&plan, &two_images(), &mut |_| ControlFlow::Continue(()))?;
        Ok(evaluation.expect("not interrupted").metrics.summary.ap50)
    };
    let ap50 = ap50().expect("a training");
    assert!(ap50 > 0.99, "{assignments:?}: AP50 {ap50}");
}

#[test]
fn every_class_loss_learns() {
    learns(&["loss.class={ focal = { alpha = [0.5, 0.25], gamma = 1.0 } }"]);
    learns(&["loss.class=focal_star"]);
    learns(&["loss.class=cross_entropy"]);
    learns(&["loss.class=alpha_balanced"]);
    learns(&["loss.class=ohem"]);
    learns(&["loss.class=sampled"]);
}

#[test]
fn every_box_loss_learns() {
    learns(&["loss.box=l1"]);
    learns(&["loss.box={ smooth_l1 = { beta = 0.11 } }"]);
    learns(&["loss.box=diou"]);
    learns(&["loss.box=ciou"]);
}

#[test]
fn adaptive_matching_learns() {
    learns(&["matcher={ atss = {} }"]);
    learns(&["matcher={ atss = {} }", "anchors.octave_scales=[1.0]", "anchors.aspect_ratios=[1.0]"]);
}

#[test]
fn both_optimisers_and_all_schedules_learn() {
    learns(&[
        "train.optimizer={ adamw = { weight_decay = 0.05, norm_weight_decay = 0.0 } }",
        "train.learning_rate=0.003",
    ]);
    learns(&["train.schedule.decay={ step = { milestones = [0.6, 0.8], factor = 0.1 } }"]);
    learns(&["train.schedule.decay=constant", "train.rates.layer_decay=0.9"]);
}

#[test]
fn frozen_stages_stay_as_they_are_batch_norms_too() -> Result<()> {
    let config = tiny(&[
        "backbone.norm={ batch = { epsilon = 1e-5, momentum = 0.1 } }",
        "backbone.frozen_stages=3",
        "train.epochs=3",
    ]);
    let folder = tempfile::tempdir()?;
    let (before, after) = (new_weights(&config)?, weights(&train(&config, folder.path())?.detector)?);
    let frozen = ["conv1.", "bn1.", "layer1.", "layer2."].map(|part| format!("backbone.body.{part}"));
    let mut changed = 0;
    for (name, values) in &before {
        if frozen.iter().any(|part| name.starts_with(part)) {
            assert_eq!(values, &after[name], "{name}");
        } else if name.starts_with("backbone.body.") {
            assert_ne!(values, &after[name], "{name}");
            changed += usize::from(name.ends_with("running_mean"));
        }
    }
    assert!(changed > 4, "{changed} running means moved");
    Ok(())
}

#[test]
fn a_backbone_with_rate_0_stays_and_the_rest_learns() -> Result<()> {
    let config = tiny(&["train.rates.backbone=0", "train.epochs=2"]);
    let folder = tempfile::tempdir()?;
    let (before, after) = (new_weights(&config)?, weights(&train(&config, folder.path())?.detector)?);
    for (name, values) in &before {
        assert_eq!(name.starts_with("backbone.body."), values == &after[name], "{name}");
    }
    Ok(())
}

#[test]
fn the_average_of_the_weights_is_what_is_kept() -> Result<()> {
    let batch_norm = "backbone.norm={ batch = { epsilon = 1e-5, momentum = 0.1 } }";
    let after = |assignments: &[&str]| -> Result<BTreeMap<String, Vec<f32>>> {
        // One step.
        let config = tiny(&[assignments, &[batch_norm, "train.epochs=1"]].concat());
        let folder = tempfile::tempdir()?;
        let result = weights(&train(&config, folder.path())?.detector)?;
        assert_eq!(weights(&Detector::load(folder.path().join("last.safetensors"))?)?, result);
        Ok(result)
    };
    let before = new_weights(&tiny(&[batch_norm]))?;
    let (last, average) = (after(&[])?, after(&["train.ema={ decay = 0.75, warmup = 0 }"])?);
    for (name, average) in average {
        for ((average, before), last) in average.iter().zip(&before[&name]).zip(&last[&name]) {
            let expected = 0.75 * before + 0.25 * last;
            assert!((average - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{name}: {average} is not {expected}");
        }
    }
    // All parts move, the running statistics too.
    for name in ["backbone.body.bn1.running_var", "backbone.body.conv1.weight", "head.regression_head.bbox_reg.bias"] {
        assert_ne!(before[name], last[name], "{name}");
    }
    Ok(())
}

#[test]
fn an_average_learns_and_is_scored() {
    learns(&["train.ema={}"]);
}

#[test]
fn a_training_that_gets_no_better_ends_early() -> Result<()> {
    let early = ["train.early_stopping.patience=2", "train.validate_every=1", "train.epochs=9"];
    let folder = tempfile::tempdir()?;
    let config = tiny(&[&early[..], &["train.learning_rate=1e-9"]].concat());
    let error = train(&config, folder.path()).expect_err("nothing to score").to_string();
    assert!(error.contains("train.early_stopping: expected a validation split"), "{error}");

    // Nothing is found, the first score of 0 is the best, and two more are no better.
    let training = Training { validation: Some(Arc::new(two_images())), ..training(&config, folder.path()) };
    let outcome = run(&training, &mut |_| ControlFlow::Continue(()))?;
    assert_eq!((outcome.stopped_early, outcome.interrupted, outcome.best), (Some(3), false, Some((0.0, 1))));
    // There is nothing left to do.
    let mut steps = 0;
    let resumed = training.resume(Checkpoint::read(folder.path().join("state.safetensors"))?, &mut |event| {
        steps += usize::from(matches!(event, Event::Step(_)));
        ControlFlow::Continue(())
    })?;
    assert_eq!((resumed.stopped_early, steps), (Some(3), 0));

    let patient = Training { config: tiny(&early[1..]), ..training };
    assert_eq!(run(&patient, &mut |_| ControlFlow::Continue(()))?.stopped_early, None);
    Ok(())
}

#[test]
fn rare_classes_are_seen_more_often() -> Result<()> {
    let four = || Squares::new(&[&[(8, 8, 24, 0)], &[(8, 8, 24, 0)], &[(8, 8, 24, 0)], &[(8, 8, 24, 1)]]);
    let images = |assignments: &[&str]| -> Result<Vec<usize>> {
        let folder = tempfile::tempdir()?;
        let config = tiny(&[assignments, &["train.epochs=2"]].concat());
        let training = Training { train: Arc::new(four()), ..training(&config, folder.path()) };
        let mut images = Vec::new();
        run(&training, &mut |event| {
            if let Event::Epoch(summary) = event {
                images.push(summary.images);
            }
            ControlFlow::Continue(())
        })?;
        Ok(images)
    };
    assert_eq!(images(&[])?, [4, 4]);
    // sqrt(.5 / (1/4)) = 1.41 of one image, and once each of the others; then sqrt(1 / (1/4)) = 2 and three times 1.15.
    assert_eq!(images(&["train.class_balance.threshold=0.5"])?, [4, 4]);
    assert_eq!(images(&["train.class_balance.threshold=1"])?, [5, 5]);
    Ok(())
}

#[test]
fn an_interrupted_recipe_goes_on_to_the_same_bits() -> Result<()> {
    let config = tiny(&[
        "train.ema={}",
        "train.class_balance.threshold=1",
        "train.early_stopping={}",
        "train.validate_every=1",
        "train.rates={ backbone = 0.5, layer_decay = 0.9 }",
        "train.augmentation.horizontal_flip=0.5",
        "loss.class=sampled",
        "loss.normalizer={ moving_average = { start = 10.0, momentum = 0.9 } }",
        "train.batch=1",
        "train.epochs=4",
    ]);
    let (whole, parts) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let of = |folder: &Path| Training { validation: Some(Arc::new(two_images())), ..training(&config, folder) };
    let expected = weights(&run(&of(whole.path()), &mut |_| ControlFlow::Continue(()))?.detector)?;
    let mut steps = 0;
    let outcome = run(&of(parts.path()), &mut |event| {
        steps += usize::from(matches!(event, Event::Step(_)));
        if steps == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    assert!(outcome.interrupted);
    let checkpoint = Checkpoint::read(parts.path().join("state.safetensors"))?;
    let outcome = of(parts.path()).resume(checkpoint, &mut |_| ControlFlow::Continue(()))?;
    assert_eq!(weights(&outcome.detector)?, expected);
    assert_eq!(
        std::fs::read(parts.path().join("last.safetensors"))?,
        std::fs::read(whole.path().join("last.safetensors"))?
    );
    Ok(())
}

#[test]
fn an_alpha_for_other_classes_is_refused_before_training() {
    let config = tiny(&["loss.class.focal.alpha=[0.25, 0.25, 0.25]"]);
    let error = start(&config, two_images().classes(), &InitialWeights::New).expect_err("three for two classes");
    let message = error.to_string();
    assert!(message.contains("one number for each of 2 classes") && message.contains("3 numbers"), "{message}");
}
