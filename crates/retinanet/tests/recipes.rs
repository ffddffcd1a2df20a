//! What each option of a recipe does to a training: a tiny network on two images of squares.

mod squares;

use retinanet::{
    CheckpointInterval, Config, Detector, InferenceOptions, InitialWeights, Outcome, Training, evaluate, start,
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

fn train(config: &Config, folder: &Path) -> Result<Outcome> {
    let train = Arc::new(two_images());
    let model = start(config, train.classes(), &InitialWeights::New)?.model;
    let output = folder.to_owned();
    let checkpoint_every = CheckpointInterval::Epoch;
    let training = Training { config: config.clone(), train, validation: None, output, workers: 1, checkpoint_every };
    Ok(training.run(model, &mut |_| ControlFlow::Continue(()))?)
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
    let run = || -> Result<f64> {
        let config = tiny(&[assignments, &["train.epochs=100"]].concat());
        let folder = tempfile::tempdir()?;
        let detector = train(&config, folder.path())?.detector;
        // The file carries the whole recipe.
        assert_eq!(Detector::load(folder.path().join("last.safetensors"))?.config, config);
        let plan = detector.plan(&InferenceOptions::default())?;
        let evaluation = evaluate(&plan, &two_images(), &mut |_| ControlFlow::Continue(()))?;
        Ok(evaluation.expect("not interrupted").metrics.summary.ap50)
    };
    let ap50 = run().expect("a training");
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
fn an_alpha_for_other_classes_is_refused_before_training() {
    let config = tiny(&["loss.class.focal.alpha=[0.25, 0.25, 0.25]"]);
    let error = start(&config, two_images().classes(), &InitialWeights::New).expect_err("three for two classes");
    let message = error.to_string();
    assert!(message.contains("one number for each of 2 classes") && message.contains("3 numbers"), "{message}");
}
