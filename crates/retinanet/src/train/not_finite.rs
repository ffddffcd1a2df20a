//! A loss that stopped being a number: where, on what, and why that usually happens.

use crate::config::TrainConfig;
use retinanet_data::Batch;
use std::fmt;

/// How many gradients are named.
const GRADIENTS: usize = 5;

/// Sides below this, in pixels of the network's input, are no object's.
const SMALLEST_SIDE: f32 = 1.0;

/// A step whose loss or gradients are not finite. It changed nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct NotFinite {
    /// Step of the optimiser, from 0.
    pub step: usize,
    /// Class loss.
    pub class_loss: f32,
    /// Box loss.
    pub box_loss: f32,
    /// Names of the batch's images.
    pub images: Vec<String>,
    /// The parameters with the largest gradients and the norms of these, largest first; what is not finite is largest.
    pub gradients: Vec<(String, f64)>,
    /// What usually causes it, with what was found of each.
    pub causes: Vec<String>,
}

impl NotFinite {
    /// `gradients` are the norms of all parameters' gradients, by name; `images` what the batch's images are called.
    pub(super) fn new(
        step: usize,
        [class_loss, box_loss]: [f32; 2],
        mut gradients: Vec<(String, f64)>,
        learning_rate: f64,
        config: &TrainConfig,
        (batch, images): (&Batch, Vec<String>),
    ) -> Self {
        let size = |norm: f64| if norm.is_finite() { norm } else { f64::INFINITY };
        gradients.sort_by(|a, b| size(b.1).total_cmp(&size(a.1)));
        gradients.truncate(GRADIENTS);
        Self { step, class_loss, box_loss, images, gradients, causes: causes(learning_rate, config, batch) }
    }
}

/// What usually makes a loss grow beyond measure, the most usual first; what is not so here is left out.
pub(super) fn causes(learning_rate: f64, config: &TrainConfig, seen: &Batch) -> Vec<String> {
    let TrainConfig { learning_rate: reference, batch, reference_batch, schedule, clip_norm, .. } = config;
    let mut found = vec![format!(
        "a learning rate too high: {learning_rate} here, of train.learning_rate={reference} at batch {reference_batch}, scaled to \
         batch {batch}; try a tenth of it"
    )];
    if schedule.warmup.steps == 0 {
        found.push("no warm-up: train.schedule.warmup.steps=0".to_owned());
    }
    if clip_norm.is_none() {
        found.push("no limit on the gradients: train.clip_norm is not set; 10.0 is a usual one".to_owned());
    }
    let boxes = seen.images.iter().flat_map(|image| &image.boxes);
    let smallest = boxes.map(|bbox| bbox.width().min(bbox.height())).min_by(f32::total_cmp);
    if let Some(side) = smallest.filter(|side| *side < SMALLEST_SIDE) {
        found.push(format!("boxes of absurd sizes: one of this batch has a side of {side} pixels as resized"));
    }
    found
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, class_loss, box_loss, .. } = self;
        write!(f, "step {step}: loss: expected a finite number, found class {class_loss} box {box_loss}")?;
        write!(f, "; images {}", self.images.join(", "))?;
        let gradients = self.gradients.iter().map(|(name, norm)| format!("{name} {norm:.3e}"));
        write!(f, "; largest gradients {}", gradients.collect::<Vec<_>>().join(", "))?;
        write!(f, "; usual causes: {}", self.causes.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use retinanet_anchors::{BBox, ImageSize};
    use retinanet_data::BatchImage;

    #[test]
    fn it_says_where_on_what_and_why() -> Result<(), crate::ConfigError> {
        let mut config = Config::preset("small_r18")?.train;
        (config.learning_rate, config.batch, config.reference_batch) = (0.5, 4, 2);
        config.schedule.warmup.steps = 0;
        config.clip_norm = None;
        let gradients = [("a", 3.0), ("b", f64::NAN), ("c", 5.0), ("d", f64::INFINITY), ("e", 1.0), ("f", 2.0)];
        let gradients = gradients.map(|(name, norm)| (name.to_owned(), norm)).to_vec();
        let batch = Batch { pixels: Vec::new(), padded: ImageSize::new(64, 64), images: Vec::new() };
        let seen = (&batch, vec!["x.jpg".to_owned(), "y.jpg".to_owned()]);
        let message = NotFinite::new(7, [f32::NAN, 2.0], gradients, 1.0, &config, seen).to_string();
        for part in [
            "step 7: loss: expected a finite number, found class NaN box 2;",
            "images x.jpg, y.jpg;",
            "largest gradients b NaN, d inf, c 5.000e0, a 3.000e0, f 2.000e0;",
            "too high: 1 here, of train.learning_rate=0.5 at batch 2, scaled to batch 4;",
            "train.schedule.warmup.steps=0",
            "train.clip_norm",
        ] {
            assert!(message.contains(part), "{part:?} in {message:?}");
        }
        assert!(!message.contains("absurd"), "{message}");
        Ok(())
    }

    #[test]
    fn only_what_is_so_is_named() -> Result<(), crate::ConfigError> {
        let mut config = Config::preset("small_r18")?.train;
        config.schedule.warmup.steps = 10;
        config.clip_norm = Some(1.0);
        let batch = |boxes: &[BBox]| {
            let (pixels, padded) = (Vec::new(), ImageSize::new(64, 64));
            let (boxes, classes) = (boxes.to_vec(), vec![0; boxes.len()]);
            let image = BatchImage { index: 0, original: padded, resized: padded, boxes, classes };
            Batch { pixels, padded, images: vec![image] }
        };
        let boxes = [BBox::new(0.0, 0.0, 20.0, 30.0), BBox::new(5.0, 5.0, 5.25, 30.0)];
        assert_eq!(causes(0.1, &config, &batch(&boxes[..1])).len(), 1);
        let found = causes(0.1, &config, &batch(&boxes));
        assert!(found.len() == 2 && found[1].contains("a side of 0.25 pixels"), "{found:?}");
        Ok(())
    }
}
