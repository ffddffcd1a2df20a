//! One step of a training, with random targets.

use super::random::uniform;
use super::report::rounded;
use super::subject::Subject;
use super::{Measured, clock, core};
use crate::args::BenchArgs;
use retinanet::{
    ComputeDevice, Config, DetectionLoss, GroundTruth, Model, Optimizer, Targets, TrainingOptions, TrainingStep,
    clip_gradients,
};
use retinanet_anchors::{BBox, ImageSize};

/// Objects of each image: about as many as an image of COCO has.
const OBJECTS: usize = 10;

/// Times forward pass, losses, reverse pass and optimiser. Every parameter is trained, and batch norms take the statistics of
/// the batch, whatever the preset says, so that the step is the same one for all presets and beside other frameworks.
pub(super) fn measure(subject: &Subject, args: &BenchArgs) -> anyhow::Result<Measured> {
    let padded = subject.padded();
    let pixels = core::pixels(args.batch, padded);
    let (config, model) = all_trained(subject)?;
    let num_classes = model.network.num_classes();
    let ground_truth: Vec<GroundTruth> =
        (0..args.batch).map(|image_idx| objects(image_idx, padded, num_classes)).collect();
    let mut optimizer = Optimizer::new(config.train.optimizer, &model.network.parameters());
    let mut loss = DetectionLoss::new(config.loss.clone(), config.box_coder);
    let configured = model.network.training_options(&config.train);
    let options = TrainingOptions {
        isa: args.isa.map_or(configured.isa, |isa| isa.isa()),
        precision: args.inference.precision(&subject.detector, &ComputeDevice::Cpu),
        ..configured
    };
    let mut step = TrainingStep::new(&model.network, &options)?;
    let (runs, ()) = clock::repeat(args.repeat, |clock| {
        step.begin();
        let predictions = step.forward(&model, &pixels, args.batch, padded)?;
        clock.lap("forward");
        let anchors = model.network.anchors(padded, &predictions.grids)?;
        let targets = Targets::new(&config.matcher, &anchors, model.network.anchors_per_location(), &ground_truth)?;
        clock.lap("targets");
        let losses = loss.forward(&predictions, &targets, &anchors, 0)?;
        clock.lap("loss");
        step.backward(&model, predictions, losses)?;
        clock.lap("backward");
        if let Some(limit) = config.train.clip_norm {
            clip_gradients(&model.parameters, step.gradients_mut(), limit)?;
        }
        // Rate 0: every run does the same work on the same weights.
        optimizer.step(&model.parameters, step.gradients(), 0.0)?;
        step.update_running_statistics(&model)?;
        clock.lap("optimizer");
        Ok(())
    })?;
    let activations = rounded(step.memory_len() as f64 / f64::from(1 << 20));
    let details = serde_json::Map::from_iter([("activations_mib".to_owned(), activations.into())]);
    Ok(Measured { runs, images_per_run: args.batch, size: Some(padded), details, failures: Vec::new() })
}

/// The model with nothing frozen.
pub(super) fn all_trained(subject: &Subject) -> anyhow::Result<(Config, Model)> {
    let (mut config, model) = (subject.detector.config.clone(), &subject.detector.model);
    config.unfreeze();
    let tensors = model.parameters.iter().map(|(name, variable)| (name.to_owned(), variable.as_detached_tensor()));
    let model = Model::with_tensors(&config, model.network.num_classes(), tensors.collect())?;
    Ok((config, model))
}

/// Boxes between a sixteenth and a half of the sides.
pub(super) fn objects(image_idx: usize, size: ImageSize, num_classes: usize) -> GroundTruth {
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
