//! One step of a training, with random targets.

use super::core::images;
use super::random::uniform;
use super::subject::Subject;
use super::{Measured, clock};
use crate::args::BenchArgs;
use retinanet::{DetectionLoss, GroundTruth, Optimizer, Targets, clip_gradients};
use retinanet_anchors::{BBox, ImageSize};

/// Objects of each image: about as many as an image of COCO has.
const OBJECTS: usize = 8;

pub(super) fn measure(subject: &Subject, args: &BenchArgs) -> anyhow::Result<Measured> {
    let padded = subject.padded();
    let images = images(args.batch, padded)?;
    let (config, model) = (&subject.detector.config, &subject.detector.model);
    let num_classes = model.network.num_classes();
    let ground_truth: Vec<GroundTruth> =
        (0..args.batch).map(|image_idx| objects(image_idx, padded, num_classes)).collect();
    let mut optimizer = Optimizer::new(config.train.optimizer, &model.network.parameters());
    let mut loss = DetectionLoss::new(config.loss.clone(), config.box_coder);
    let (runs, ()) = clock::repeat(args.repeat, |clock| {
        let (predictions, engine) = model.predict_for_training(&images)?;
        clock.lap("forward");
        let anchors = model.network.anchors(padded, &predictions.grids)?;
        let targets = Targets::new(&config.matcher, &anchors, model.network.anchors_per_location(), &ground_truth)?;
        clock.lap("targets");
        let losses = loss.forward(&predictions, &targets, &anchors, 0)?;
        clock.lap("loss");
        let mut gradients = losses.total.backward()?;
        clock.lap("backward");
        if let Some(limit) = config.train.clip_norm {
            clip_gradients(&model.parameters, &mut gradients, limit)?;
        }
        // Rate 0: every run does the same work on the same weights.
        optimizer.step(&model.parameters, &gradients, 0.0)?;
        engine.update_running_statistics()?;
        clock.lap("optimizer");
        Ok(())
    })?;
    let details = serde_json::Map::new();
    Ok(Measured { runs, images_per_run: args.batch, size: Some(padded), details, failures: Vec::new() })
}

/// Boxes between a sixteenth and a half of the sides.
fn objects(image_idx: usize, size: ImageSize, num_classes: usize) -> GroundTruth {
    let (width, height) = (size.width as f32, size.height as f32);
    let object = |object_idx: usize| {
        let number = |i: u64| uniform(image_idx as u64 + 2, 5 * object_idx as u64 + i);
        let side = |i: u64, limit: f32| limit * (0.0625 + 0.4375 * number(i));
        let (w, h) = (side(0, width), side(1, height));
        let (x, y) = (number(2) * (width - w), number(3) * (height - h));
        (BBox::new(x, y, x + w, y + h), (number(4) * num_classes as f32) as usize)
    };
    let (boxes, classes) = (0..OBJECTS).map(object).unzip();
    GroundTruth { boxes, classes }
}
