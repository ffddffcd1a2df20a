//! Passes whose losses the device computes too, so that nothing of the maps leaves it.

use super::super::event::Event;
use super::super::passes::{parts, targets};
use crate::config::Config;
use crate::error::Result;
use crate::loss::{BoxLoss, Normalizer};
use crate::model::Model;
use retinanet_anchors::{ImageSize, Matching, Pyramid};
use retinanet_cuda::Device;
use retinanet_cuda::kernels::{self, StepJudge};
use retinanet_cuda::network::{LossOptions, Losses, Objects, Training};
use retinanet_data::{Batch, BatchImage};
use retinanet_focal::ClassLoss;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The losses of a configuration on a device; none where it has no kernel for how examples or anchors are chosen.
pub(super) fn losses(device: &Arc<dyn Device>, config: &Config, num_classes: usize) -> Result<Option<Losses>> {
    let is_chosen = matches!(config.loss.class, ClassLoss::HardExamples(_) | ClassLoss::Sampled(_));
    let Matching::Iou(matcher) = config.matcher else { return Ok(None) };
    if is_chosen {
        return Ok(None);
    }
    let options = LossOptions {
        class: config.loss.class.clone(),
        r#box: match config.loss.r#box {
            BoxLoss::L1 => kernels::BoxLoss::L1,
            BoxLoss::SmoothL1 { beta } => kernels::BoxLoss::SmoothL1 { beta },
            BoxLoss::Giou => kernels::BoxLoss::Giou,
            BoxLoss::Diou => kernels::BoxLoss::Diou,
            BoxLoss::Ciou => kernels::BoxLoss::Ciou,
        },
        box_weight: config.loss.box_weight,
        normalizer: match config.loss.normalizer {
            Normalizer::PerImage => kernels::Normalizer::PerImage,
            Normalizer::Batch => kernels::Normalizer::Batch,
            Normalizer::MovingAverage { momentum, .. } => kernels::Normalizer::MovingAverage { momentum },
        },
        matcher,
        coder: config.box_coder,
        num_classes,
    };
    Ok(Some(Losses::new(device, options)?))
}

/// Runs a batch forward and back without waiting for the device; what comes of it is in `judge`.
pub(super) fn run(
    (training, losses, judge): (&mut Training, &mut Losses, &StepJudge),
    (config, model): (&Config, &Model),
    batch: &Batch,
    step: usize,
    on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let ImageSize { width, height } = batch.padded;
    training.begin()?;
    for (images, pixels) in parts(config, batch) {
        let size = (images.len(), height, width);
        if images.start == 0 {
            training.prepare(size)?;
            if step == 0 || !losses.has_anchors(batch.padded) {
                let anchors = model.network.anchors(batch.padded, &grids(model, training))?;
                losses.set_anchors(batch.padded, anchors.values())?;
                if step == 0 {
                    let targets = &targets(config, model, &anchors, batch)?;
                    // Whoever breaks here is asked again after the step.
                    let _ = on_event(Event::FirstBatch { batch, anchors: &anchors, targets });
                }
            }
            let objects: Vec<Objects<'_>> = batch.images.iter().map(objects).collect();
            losses.begin(batch.padded, &objects, judge)?;
        }
        training.forward(&batch.pixels[pixels], size)?;
        losses.add(training, images, judge)?;
        training.backward()?;
    }
    Ok(())
}

fn objects(image: &BatchImage) -> Objects<'_> {
    Objects { boxes: &image.boxes, classes: &image.classes }
}

/// The sizes of the levels, which the images' alone decides.
fn grids(model: &Model, training: &Training) -> Pyramid<ImageSize> {
    let sizes = (0..model.network.levels().len()).map(|level_idx| {
        let shape = training.output(level_idx).shape;
        ImageSize::new(shape.width, shape.height)
    });
    model.network.grids(sizes)
}
