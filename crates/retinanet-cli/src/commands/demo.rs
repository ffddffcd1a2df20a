//! `retinanet demo`: train, score and draw on a generated data set.

use crate::args::DemoArgs;
use crate::commands::train::watch;
use crate::interrupt::Interrupt;
use crate::{Status, pictures, table};
use anyhow::Context;
use retinanet::{Config, InferenceOptions, InitialWeights, Training, evaluate, start};
use retinanet_anchors::ImageSize;
use retinanet_data::{CachedDataset, Dataset, GeneratedConfig, GeneratedDataset};
use std::sync::Arc;
use std::time::Instant;

/// What makes `small_r18` small enough to learn the generated shapes in about a minute on two cores.
const ASSIGNMENTS: [&str; 9] = [
    "backbone.width=24",
    "fpn.channels=48",
    "head.channels=48",
    "head.depth=1",
    "preprocessing.min_size=160",
    "preprocessing.max_size=160",
    "train.epochs=11",
    "train.optimizer={ adamw = { weight_decay = 0.01, norm_weight_decay = 0.0 } }",
    "train.learning_rate=0.002",
];

/// Side of the drawn images in pixels, and how many of them are learned from and scored on.
const SIDE: usize = 160;
const TRAIN_IMAGES: usize = 400;
const TEST_IMAGES: usize = 60;

/// Of pixels kept of each set, which is more than all of them.
const MOST_BYTES: usize = 1 << 30;

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<Status> {
    let begin = Instant::now();
    let interrupt = Interrupt::listen("interrupted: finishing this step and saving; once more to stop at once")?;
    let mut assignments: Vec<String> = ASSIGNMENTS.iter().map(|&a| a.to_owned()).collect();
    assignments.push(format!("train.seed={}", args.seed));
    assignments.extend_from_slice(&args.set);
    let config = Config::parse(Config::preset_text("small_r18")?, &assignments)?;

    let size = ImageSize::new(SIDE, SIDE);
    let set =
        GeneratedConfig { size, classes: 4, max_objects: 4, object_size: [24.0, 110.0], ..GeneratedConfig::default() };
    // Even seeds are learned from and odd ones scored on, so that no image is both.
    let train =
        GeneratedDataset::new(GeneratedConfig { images: TRAIN_IMAGES, seed: args.seed.wrapping_mul(2), ..set })?;
    let test = GeneratedDataset::new(GeneratedConfig {
        images: TEST_IMAGES,
        seed: args.seed.wrapping_mul(2).wrapping_add(1),
        ..set
    })?;
    let [train, test] = [train, test].map(|set| Arc::new(CachedDataset::new(Arc::new(set), MOST_BYTES)));
    let names: Vec<&str> = train.classes().iter().map(|class| class.name.as_str()).collect();
    crate::out!(
        "A RetinaNet with a thin ResNet-18, from random weights, learns {} on drawn images.",
        names.join(", ")
    )?;

    let model = start(&config, train.classes(), &InitialWeights::New)?.model;
    let training = Training { config, train, validation: None, output: args.output.clone(), workers: 1 };
    let outcome = watch(&training, model, &interrupt)?;
    let saved = args.output.join("last.safetensors");
    if outcome.interrupted {
        return Ok(Status::DoneWithFailures);
    }

    let plan = outcome.detector.into_plan(&InferenceOptions::default())?;
    let Some(evaluation) = evaluate(&plan, &*test, &mut |_| interrupt.flow())? else {
        return Ok(Status::DoneWithFailures);
    };
    crate::out!("\nOn {} images that it has not seen:\n\n{}\n", test.len(), table::metrics(&evaluation.metrics))?;
    let sheet = args.output.join("detections.png");
    pictures::write(&sheet, &pictures::contact_sheet(&plan, &*test, 9, 0.3)?)?;
    let example = args.output.join("example.png");
    let sample = test.sample(0).context("a generated image cannot fail")?;
    pictures::write(&example, &pictures::annotate(&sample.image, &[], plan.classes(), 0.3)?)?;

    crate::out!("It took {:.0} s. Written:", begin.elapsed().as_secs_f64())?;
    crate::out!("  {}  what it finds in nine of them", sheet.display())?;
    crate::out!("  {}  the losses", args.output.join("curves.png").display())?;
    crate::out!("  {}  the model, with its configuration and classes", saved.display())?;
    crate::out!("Try next:")?;
    let program = crate::program();
    crate::out!("  {program} detect --model {} {}", saved.display(), example.display())?;
    crate::out!("  {program} train --data YOUR_DATA --val-split val --output runs/mine")?;
    Ok(Status::Done)
}
