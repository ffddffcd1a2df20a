//! Other toolkits' weights as a detector: what their files leave unsaid.
//!
//! Names become ours in [`names`](crate::weights::names). Here are the conventions behind them: where the stride is, how
//! pictures are prepared, the order of colour channels and of anchors, and what the classes are called.

mod coco;
mod conventions;
mod detectron2;
mod mmdetection;
mod origin;
mod torchvision;

pub use origin::{Origin, Toolkit};

use crate::config::Config;
use crate::error::Result;
use crate::weights::architecture::{self, Architecture, BackboneNorm};
use crate::weights::names::{self, Naming};
use crate::weights::{WeightFile, WeightsError};
use candle_core::{D, Tensor};
use retinanet_annotations::Class;
use retinanet_ops::network::NormKind;
use std::collections::BTreeMap;

/// Tensors under our names and in our order, with a configuration and classes to go with them.
pub(crate) struct Imported {
    pub(crate) config: Config,
    pub(crate) classes: Vec<Class>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
    pub(crate) origin: Origin,
}

/// Infers the network from names and shapes; the rest (anchors, preprocessing, post-processing) is the toolkit's that the
/// names show. `sha256` is that of the file.
pub(crate) fn import(file: WeightFile, sha256: &str) -> Result<Imported> {
    let renamed = names::canonical(file.tensors)?;
    match renamed.naming {
        Naming::Torchvision => torchvision::import(renamed.tensors, sha256),
        Naming::Detectron2 | Naming::Caffe2 => detectron2::import(renamed.tensors),
        Naming::Mmdetection => mmdetection::import(renamed.tensors, &file.metadata),
    }
}

/// Tensors of a detector or a backbone under our names and in our order, to go on training from.
pub(crate) struct Foundation {
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// How they were trained, where that is known; torchvision's are as our configurations have it.
    pub(crate) trained: Option<Trained>,
}

/// What a training that goes on from another toolkit's weights has to keep, and cannot be seen in the tensors.
pub(crate) struct Trained {
    pub(crate) toolkit: Toolkit,
    /// Mean and standard deviation of red, green and blue, of pixels in 0..=1.
    pub(crate) mean: [f32; 3],
    pub(crate) std: [f32; 3],
    pub(crate) stride_in_1x1: bool,
    pub(crate) relu_before_p7: bool,
}

/// As [`import`], of files that need not hold a whole detector.
pub(crate) fn foundation(file: WeightFile) -> Result<Foundation> {
    let renamed = names::canonical(file.tensors)?;
    match renamed.naming {
        Naming::Torchvision => {
            // A checkpoint of ours, which may have been made of another toolkit's, says it itself.
            let config = file.metadata.get(crate::detector::CONFIG).and_then(|text| Config::parse(text, &[]).ok());
            let trained = config.map(|Config { preprocessing, backbone, fpn, .. }| Trained {
                toolkit: Toolkit::Retinanet,
                mean: preprocessing.mean,
                std: preprocessing.std,
                stride_in_1x1: backbone.stride_in_1x1,
                relu_before_p7: fpn.relu_before_p7,
            });
            Ok(Foundation { tensors: renamed.tensors, trained })
        }
        Naming::Detectron2 | Naming::Caffe2 => detectron2::foundation(renamed.tensors, renamed.naming),
        Naming::Mmdetection => mmdetection::foundation(renamed.tensors, &file.metadata),
    }
}

/// Puts what names and shapes say into a configuration. P6 is that of the architecture.
fn set_architecture(config: &mut Config, architecture: &Architecture, norm: NormKind) {
    let Architecture { depth, width, groups, width_per_group, .. } = *architecture;
    (config.backbone.depth, config.backbone.width) = (depth, width);
    (config.backbone.groups, config.backbone.width_per_group) = (groups, width_per_group);
    config.backbone.norm = match (architecture.backbone_norm, norm) {
        (BackboneNorm::Batch, norm) => norm,
        (BackboneNorm::Group, NormKind::FrozenBatch { epsilon } | NormKind::Batch { epsilon, .. })
        | (BackboneNorm::Group, NormKind::Group { epsilon, .. }) => {
            NormKind::Group { groups: architecture::ASSUMED_NORM_GROUPS, epsilon }
        }
    };
    config.fpn.channels = architecture.fpn_channels;
    (config.fpn.finest, config.fpn.coarsest) = (architecture.finest, architecture.coarsest);
    config.fpn.p6_source = architecture.p6_source;
    (config.head.depth, config.head.channels) = (architecture.head_depth, architecture.head_channels);
    config.head.group_norm = architecture.head_group_norm;
    // Four times the stride of each level, in all toolkits.
    let levels = architecture.finest.number()..=architecture.coarsest.number();
    config.anchors.sizes = levels.map(|level| (4 << level) as f32).collect();
}

/// The stem for pictures of red, green and blue, of one that was trained on blue, green and red.
fn swap_colors(tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    if let Some(stem) = tensors.get_mut(STEM) {
        let channels = stem.dims().get(1).copied().unwrap_or(0);
        if channels == 3 {
            *stem = stem.flip(&[1])?.contiguous()?;
        }
    }
    Ok(())
}

/// The last layers of both subnets with their anchors by aspect ratio, then octave scale, of ones by scale, then ratio.
fn reorder_anchors(tensors: &mut BTreeMap<String, Tensor>, num_scales: usize, num_ratios: usize) -> Result<()> {
    for name in LAST_LAYERS.iter().flat_map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")]) {
        let Some(tensor) = tensors.get_mut(&name) else { continue };
        let shape = tensor.dims().to_vec();
        let outputs = shape.first().copied().unwrap_or(0);
        if outputs == 0 || outputs % (num_scales * num_ratios) != 0 {
            let expected = format!("a multiple of {num_scales} scales x {num_ratios} aspect ratios as outputs");
            return Err(WeightsError::Layout { what: name, expected, found: outputs.to_string() }.into());
        }
        let by_scale = tensor.reshape((num_scales, num_ratios, outputs / (num_scales * num_ratios), ()))?;
        *tensor = by_scale.transpose(0, 1)?.contiguous()?.reshape(shape)?;
    }
    Ok(())
}

/// Whether the stem's norm has the statistics of nothing: those of a network whose norms were folded into a scale and a shift,
/// as Caffe had them.
fn has_folded_norms(tensors: &BTreeMap<String, Tensor>) -> Result<bool> {
    match tensors.get(STEM_MEAN) {
        Some(mean) => Ok(mean.abs()?.max(D::Minus1)?.to_scalar::<f32>()? == 0.0),
        None => Ok(true),
    }
}

const STEM: &str = "backbone.body.conv1.weight";
const STEM_MEAN: &str = "backbone.body.bn1.running_mean";
const LAST_LAYERS: [&str; 2] = ["head.classification_head.cls_logits", "head.regression_head.bbox_reg"];
