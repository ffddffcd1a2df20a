//! `retinanet demo`: train, score and draw on a generated data set.

use crate::args::DemoArgs;
use crate::commands::train::watch;
use crate::interrupt::Interrupt;
use crate::{Status, pictures, table};
use anyhow::Context;
use retinanet::{Config, InitialWeights, Training, evaluate, start};
use retinanet_anchors::ImageSize;
use retinanet_data::{Dataset, GeneratedConfig, GeneratedDataset};
use std::sync::Arc;
use std::time::Instant;

/// What makes `small_r18` small enough to learn the generated shapes in about a minute on two cores.
const ASSIGNMENTS: [&str; 9] = [
    "backbone.width=16",
    "fpn.channels=64",
    "head.channels=64",
    "preprocessing.min_size=192",
    "preprocessing.max_size=192",
    "train.epochs=6",
    "train.validate_every=6",
    "train.learning_rate=0.02",
    "train.augmentation={ horizontal_flip = 0.5 }",
];

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<Status> {
    args.engine.start()?;
    let begin = Instant::now();
    let interrupt = Interrupt::listen("interrupted: finishing this step and saving; once more to stop at once")?;
    let mut assignments: Vec<String> = ASSIGNMENTS.iter().map(|&a| a.to_owned()).collect();
    assignments.push(format!("train.seed={}", args.seed));
    let config = Config::parse(Config::preset_text("small_r18")?, &assignments)?;

    let generated = |images, seed| {
        GeneratedDataset::new(GeneratedConfig {
            images,
            size: ImageSize::new(192, 192),
            seed,
            ..GeneratedConfig::default()
        })
    };
    let train: Arc<dyn Dataset> = Arc::new(generated(240, args.seed.wrapping_mul(2))?);
    let test: Arc<dyn Dataset> = Arc::new(generated(60, args.seed.wrapping_mul(2).wrapping_add(1))?);
    let names: Vec<&str> = train.classes().iter().map(|class| class.name.as_str()).collect();
    println!(
        "A RetinaNet with a quarter of a ResNet-18, from random weights, learns {} on drawn images.",
        names.join(", ")
    );

    let model = start(&config, train.classes(), &InitialWeights::New)?.model;
    let training = Training { config, train, validation: None, output: args.output.clone(), workers: 1 };
    let outcome = watch(&training, model, &interrupt)?;
    let saved = args.output.join("last.safetensors");
    if outcome.interrupted {
        return Ok(Status::DoneWithFailures);
    }

    let evaluation = evaluate(&outcome.detector, &*test, &mut |_| ())?;
    println!("\nOn {} images that it has not seen:\n\n{}\n", test.len(), table::metrics(&evaluation.metrics));
    let sheet = args.output.join("detections.png");
    pictures::write(&sheet, &pictures::contact_sheet(&outcome.detector, &*test, 9, 0.3)?)?;
    let example = args.output.join("example.png");
    let sample = test.sample(0).context("a generated image cannot fail")?;
    pictures::write(&example, &pictures::annotate(&sample.image, &[], &outcome.detector, 0.3)?)?;

    println!("It took {:.0} s. Written:", begin.elapsed().as_secs_f64());
    println!("  {}  what it finds in nine of them", sheet.display());
    println!("  {}  the losses", args.output.join("curves.png").display());
    println!("  {}  the model, with its configuration and classes", saved.display());
    println!("Try next:");
    println!("  retinanet detect --model {} {}", saved.display(), example.display());
    println!("  retinanet train --data YOUR_DATA --val-split val --output runs/mine");
    Ok(Status::Done)
}
