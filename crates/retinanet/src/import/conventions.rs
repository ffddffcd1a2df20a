//! What Detectron2 and MMDetection have in common, and where a network of theirs differs from another.

use super::{Foundation, Imported, Origin, Toolkit, Trained, reorder_anchors, set_architecture, swap_colors};
use crate::config::Config;
use crate::error::Result;
use crate::loss::{BoxLoss, Normalizer};
use crate::postprocess::Borders;
use crate::weights::{WeightsError, architecture, shapes};
use candle_core::Tensor;
use retinanet_anchors::AnchorConfig;
use retinanet_backbone::P6Source;
use retinanet_data::ResizeMethod;
use retinanet_ops::network::NormKind;
use std::collections::BTreeMap;

/// The order of a picture's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColorOrder {
    Rgb,
    Bgr,
}

/// The order of the anchors at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnchorOrder {
    /// By aspect ratio, then octave scale: ours, torchvision's and MMDetection's.
    ByRatio,
    /// By octave scale, then aspect ratio: Detectron2's.
    ByScale,
}

/// How a network of another toolkit wants its pictures, and what its layers do beyond their shapes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conventions {
    pub(super) toolkit: Toolkit,
    pub(super) color_order: ColorOrder,
    /// Of pixels in 0..=255, in the order of the colours.
    pub(super) mean: [f64; 3],
    pub(super) std: [f64; 3],
    pub(super) stride_in_1x1: bool,
    pub(super) relu_before_p7: bool,
    /// What P6 is computed from, if the shapes leave it open.
    pub(super) p6_source: P6Source,
    pub(super) anchor_order: AnchorOrder,
    pub(super) min_size: usize,
    pub(super) max_size: usize,
    /// What was assumed.
    pub(super) notes: Vec<String>,
}

impl Conventions {
    /// Mean and standard deviation of red, green and blue, of pixels in 0..=1.
    fn normalisation(&self) -> ([f32; 3], [f32; 3]) {
        let ours = |mut values: [f64; 3]| {
            if self.color_order == ColorOrder::Bgr {
                values.reverse();
            }
            values.map(|value| (value / 255.0) as f32)
        };
        (ours(self.mean), ours(self.std))
    }

    /// Puts colours and anchors into our order.
    fn reorder(&self, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
        if self.color_order == ColorOrder::Bgr {
            swap_colors(tensors)?;
        }
        if self.anchor_order == AnchorOrder::ByScale {
            let AnchorConfig { octave_scales, aspect_ratios, .. } = AnchorConfig::default();
            reorder_anchors(tensors, octave_scales.len(), aspect_ratios.len())?;
        }
        Ok(())
    }

    /// Tensors that keep their meaning under our names.
    pub(super) fn foundation(self, mut tensors: BTreeMap<String, Tensor>) -> Result<Foundation> {
        self.reorder(&mut tensors)?;
        let (mean, std) = self.normalisation();
        let Self { toolkit, stride_in_1x1, relu_before_p7, .. } = self;
        Ok(Foundation { tensors, trained: Some(Trained { toolkit, mean, std, stride_in_1x1, relu_before_p7 }) })
    }

    /// A detector; its classes are still to be named.
    pub(super) fn detector(self, mut tensors: BTreeMap<String, Tensor>) -> Result<Imported> {
        let found = shapes(&tensors);
        // Where C5 and P5 have as many channels, the shapes say nothing; elsewhere they decide.
        let mut architecture = architecture::infer(&found)?;
        if architecture.is_p6_source_ambiguous {
            architecture = architecture::infer_with(&found, Some(self.p6_source))?;
        }
        // Before the anchors are put in another order, which has to be that of the paper's nine.
        let anchors = AnchorConfig::default();
        let expected = anchors.octave_scales.len() * anchors.aspect_ratios.len();
        if self.anchor_order == AnchorOrder::ByScale && architecture.anchors_per_location != expected {
            return Err(WeightsError::Layout {
                what: "head.regression_head.bbox_reg.weight".to_owned(),
                expected: format!("{expected} anchors a location, three scales of three aspect ratios"),
                found: architecture.anchors_per_location.to_string(),
            }
            .into());
        }
        self.reorder(&mut tensors)?;

        let mut config = Config::preset("paper_r50")?;
        set_architecture(&mut config, &architecture, NormKind::FrozenBatch { epsilon: 1e-5 });
        config.backbone.stride_in_1x1 = self.stride_in_1x1 && architecture.depth.is_bottleneck();
        config.fpn.relu_before_p7 = self.relu_before_p7;
        config.loss.r#box = BoxLoss::L1;
        let preprocessing = &mut config.preprocessing;
        (preprocessing.mean, preprocessing.std) = self.normalisation();
        (preprocessing.min_size, preprocessing.max_size) = (self.min_size, self.max_size);
        (preprocessing.resize, config.post_processing.borders, config.loss.normalizer) = match self.toolkit {
            Toolkit::Detectron2 => {
                let normalizer = Normalizer::MovingAverage { start: 100.0, momentum: 0.9 };
                (ResizeMethod::Detectron2, Borders::Detectron2, normalizer)
            }
            Toolkit::Mmdetection => (ResizeMethod::Mmdetection, Borders::Mmdetection, Normalizer::Batch),
            Toolkit::Torchvision | Toolkit::Retinanet => {
                (ResizeMethod::Torchvision, Borders::Torchvision, Normalizer::PerImage)
            }
        };
        let origin = Origin { toolkit: self.toolkit, notes: self.notes };
        let classes = super::coco::contiguous(architecture.num_classes, None);
        Ok(Imported { config, classes, tensors, origin })
    }
}
