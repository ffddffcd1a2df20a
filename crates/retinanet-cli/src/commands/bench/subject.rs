//! The detector that is timed, and the size of its images.

use crate::args::BenchArgs;
use crate::interrupt::Interrupt;
use crate::zoo::{self, Wanted};
use anyhow::Context;
use retinanet::{Config, Detector, Model};
use retinanet_anchors::ImageSize;
use retinanet_annotations::Class;

/// Start of the random weights.
const SEED: u64 = 0;

/// A detector to time.
pub(super) struct Subject {
    pub(super) detector: Detector,
    /// The preset, or the model's file.
    pub(super) name: String,
    /// The size of the images, as they come out of the resize.
    pub(super) size: ImageSize,
}

impl Subject {
    pub(super) fn new(args: &BenchArgs) -> anyhow::Result<Self> {
        let (mut detector, name) = match &args.model {
            Some(model) => {
                let path = zoo::resolve(model, Wanted::Detector, &args.zoo, &Interrupt::ignored())?;
                (Detector::load(path.context("interrupted")?)?, model.display().to_string())
            }
            None => {
                let config = Config::parse(Config::preset_text(&args.preset)?, &args.set)?;
                let model = Model::new(&config, args.num_classes, SEED)?;
                let class = |i: usize| Class { category_id: i as i64, name: i.to_string() };
                let classes = (0..args.num_classes).map(class).collect();
                (Detector::new(config, classes, model), args.preset.clone())
            }
        };
        let preprocessing = &mut detector.config.preprocessing;
        if let Some(size) = args.size {
            preprocessing.min_size = size.width.min(size.height);
            preprocessing.max_size = size.width.max(size.height);
        }
        let size = args.size.unwrap_or(ImageSize::new(preprocessing.max_size, preprocessing.min_size));
        detector.config.validate()?;
        Ok(Self { detector, name, size })
    }

    /// The size of the network's input for images of [`Self::size`].
    pub(super) fn padded(&self) -> ImageSize {
        self.detector.config.preprocessing.padded_size(&[self.size])
    }
}
