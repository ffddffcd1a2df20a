//! `retinanet demo`: train, score and draw on a generated data set.

use crate::args::DemoArgs;
use crate::interrupt::Interrupt;
use crate::training::Beginning;
use crate::{Status, pictures, summary, training};
use anyhow::Context;
use retinanet::run::{DataSource, Run, RunDescription, RunFolder};
use retinanet::{Config, InitialWeights, Training, start};
use retinanet_anchors::ImageSize;
use retinanet_data::{CachedDataset, Dataset, GeneratedConfig, GeneratedDataset};
use std::sync::Arc;

/// What makes `small_r18` small enough to learn the generated shapes in a minute or two on two cores.
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
    let folder = RunFolder::new(&args.output);
    let mut run_args = args.run.clone();
    // The demo may be run again and again, but replaces nothing but itself.
    run_args.overwrite |=
        folder.read_record().is_ok_and(|record| record.command_line.get(1).is_some_and(|name| name == "demo"));
    run_args.check(&folder)?;
    let device = args.engine.place.open()?;
    let interrupt = Interrupt::listen("interrupted: finishing this step and saving; once more to stop at once")?;
    let mut assignments: Vec<String> = ASSIGNMENTS.iter().map(|&a| a.to_owned()).collect();
    assignments.push(format!("train.seed={}", args.seed));
    assignments.extend_from_slice(&args.set);
    let config = Config::parse(Config::preset_text("small_r18")?, &assignments)?;

    let size = ImageSize::new(SIDE, SIDE);
    let set =
        GeneratedConfig { size, classes: 4, max_objects: 4, object_size: [24.0, 110.0], ..GeneratedConfig::default() };
    // Even seeds are learned from and odd ones scored on, so that no image is both.
    let train_seed = args.seed.wrapping_mul(2);
    let test_seed = train_seed.wrapping_add(1);
    let train = GeneratedDataset::new(GeneratedConfig { images: TRAIN_IMAGES, seed: train_seed, ..set })?;
    let test = GeneratedDataset::new(GeneratedConfig { images: TEST_IMAGES, seed: test_seed, ..set })?;
    let cached = |set| -> Arc<dyn Dataset> { Arc::new(CachedDataset::new(Arc::new(set), MOST_BYTES)) };
    let (train, test) = (cached(train), cached(test));
    let names: Vec<&str> = train.classes().iter().map(|class| class.name.as_str()).collect();
    crate::out!(
        "A RetinaNet with a thin ResNet-18, from random weights, learns {} on drawn images.",
        names.join(", ")
    )?;

    let start = start(&config, train.classes(), &InitialWeights::New)?;
    let drawn = |seed: u64| DataSource { paths: Vec::new(), split: format!("drawn shapes, seed {seed}") };
    let description = RunDescription {
        command_line: crate::command_line(),
        train: drawn(train_seed),
        validation: drawn(test_seed),
        notes: start.notes,
    };
    let (validation, checkpoint_every) = (Some(Arc::clone(&test)), run_args.checkpoint_every);
    let training =
        Training { config, train, validation, output: args.output.clone(), workers: 1, checkpoint_every, device };
    let beginning = Beginning::New(Box::new(start.model), description);
    let outcome = training::run(&training, beginning, &interrupt, &run_args)?;
    if outcome.interrupted {
        return Ok(Status::DoneWithFailures);
    }
    let example = args.output.join("example.png");
    let sample = test.sample(0).context("a generated image cannot fail")?;
    pictures::write(&example, &pictures::annotate(&sample.image, &[], &outcome.detector.classes, 0.3)?)?;

    crate::out!("\nScores are of {} images that it has not learned from.", test.len())?;
    crate::out!("{}", summary::summary(&Run::read(&args.output)?))?;
    crate::out!("and {}, one of the images.\n", example.display())?;
    crate::out!("Try next:")?;
    let program = crate::program();
    crate::out!("  {program} detect --model {} {}", folder.last().display(), example.display())?;
    crate::out!("  {program} train --data YOUR_DATA --val-split val --output runs/mine")?;
    Ok(Status::Done)
}
