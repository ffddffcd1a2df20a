//! torchvision's weights as a detector: what their files leave unsaid.

use crate::config::Config;
use crate::error::Result;
use crate::loss::BoxLoss;
use crate::weights::architecture::{Architecture, BackboneNorm};
use crate::weights::{WeightFile, architecture, is_torchvision_coco_v1, is_torchvision_v2_coco_v1, names, shapes};
use candle_core::Tensor;
use retinanet_annotations::Class;
use retinanet_ops::network::NormKind;
use std::collections::BTreeMap;

/// Tensors under today's names, with a configuration and classes to go with them.
pub(crate) struct Imported {
    pub(crate) config: Config,
    pub(crate) classes: Vec<Class>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// Infers the network from names and shapes; the rest (anchors, preprocessing, post-processing) is torchvision's. `sha256` is
/// that of the file.
pub(crate) fn import(file: WeightFile, sha256: &str) -> Result<Imported> {
    let is_coco_v1 = is_torchvision_coco_v1(sha256);
    let is_coco = is_coco_v1 || is_torchvision_v2_coco_v1(sha256);
    let tensors = names::canonical(file.tensors)?.tensors;
    let architecture = architecture::infer(&shapes(&tensors))?;
    let config = config(&architecture, if is_coco_v1 { 0.0 } else { 1e-5 })?;
    Ok(Imported { config, classes: classes(architecture.num_classes, is_coco), tensors })
}

/// The preset that is nearest, with what the shapes say put in.
fn config(architecture: &Architecture, epsilon: f64) -> Result<Config> {
    let is_v2 = architecture.head_group_norm.is_some();
    let mut config = Config::preset(if is_v2 { "torchvision_r50_v2" } else { "torchvision_r50_v1" })?;
    let Architecture { depth, width, groups, width_per_group, .. } = *architecture;
    (config.backbone.depth, config.backbone.width) = (depth, width);
    (config.backbone.groups, config.backbone.width_per_group) = (groups, width_per_group);
    config.backbone.norm = match (architecture.backbone_norm, is_v2) {
        (BackboneNorm::Batch, false) => NormKind::FrozenBatch { epsilon },
        (BackboneNorm::Batch, true) => NormKind::Batch { epsilon, momentum: 0.1 },
        (BackboneNorm::Group, _) => NormKind::Group { groups: architecture::ASSUMED_NORM_GROUPS, epsilon },
    };
    config.fpn.channels = architecture.fpn_channels;
    (config.fpn.finest, config.fpn.coarsest) = (architecture.finest, architecture.coarsest);
    config.fpn.p6_source = architecture.p6_source;
    (config.head.depth, config.head.channels) = (architecture.head_depth, architecture.head_channels);
    config.head.group_norm = architecture.head_group_norm;
    if is_v2 {
        config.loss.r#box = BoxLoss::Giou;
    }
    // torchvision's default anchors: four times the stride of each level.
    let strides = (architecture.finest.number()..=architecture.coarsest.number()).map(|level| (4 << level) as f32);
    config.anchors.sizes = strides.collect();
    Ok(config)
}

/// Output i is category i. Only torchvision's own COCO files are known to have names, and never use output 0.
fn classes(num_classes: usize, is_coco: bool) -> Vec<Class> {
    let name = |id: usize| match COCO.iter().find(|(category, _)| is_coco && *category == id) {
        Some((_, name)) => (*name).to_owned(),
        None => id.to_string(),
    };
    (0..num_classes).map(|id| Class { category_id: id as i64, name: name(id) }).collect()
}

/// COCO's category ids and names.
#[rustfmt::skip]
const COCO: [(usize, &str); 80] = [
    (1, "person"), (2, "bicycle"), (3, "car"), (4, "motorcycle"), (5, "airplane"), (6, "bus"), (7, "train"), (8, "truck"),
    (9, "boat"), (10, "traffic light"), (11, "fire hydrant"), (13, "stop sign"), (14, "parking meter"), (15, "bench"),
    (16, "bird"), (17, "cat"), (18, "dog"), (19, "horse"), (20, "sheep"), (21, "cow"), (22, "elephant"), (23, "bear"),
    (24, "zebra"), (25, "giraffe"), (27, "backpack"), (28, "umbrella"), (31, "handbag"), (32, "tie"), (33, "suitcase"),
    (34, "frisbee"), (35, "skis"), (36, "snowboard"), (37, "sports ball"), (38, "kite"), (39, "baseball bat"),
    (40, "baseball glove"), (41, "skateboard"), (42, "surfboard"), (43, "tennis racket"), (44, "bottle"),
    (46, "wine glass"), (47, "cup"), (48, "fork"), (49, "knife"), (50, "spoon"), (51, "bowl"), (52, "banana"),
    (53, "apple"), (54, "sandwich"), (55, "orange"), (56, "broccoli"), (57, "carrot"), (58, "hot dog"), (59, "pizza"),
    (60, "donut"), (61, "cake"), (62, "chair"), (63, "couch"), (64, "potted plant"), (65, "bed"), (67, "dining table"),
    (70, "toilet"), (72, "tv"), (73, "laptop"), (74, "mouse"), (75, "remote"), (76, "keyboard"), (77, "cell phone"),
    (78, "microwave"), (79, "oven"), (80, "toaster"), (81, "sink"), (82, "refrigerator"), (84, "book"), (85, "clock"),
    (86, "vase"), (87, "scissors"), (88, "teddy bear"), (89, "hair drier"), (90, "toothbrush"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use candle_core::{DType, Device};

    fn file(config: &Config, num_classes: usize) -> WeightFile {
        let shapes = Network::new(config, num_classes).expect("a network").expected_shapes();
        let tensor = |(name, shape): (String, Vec<usize>)| {
            (name, Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros"))
        };
        WeightFile { tensors: shapes.into_iter().map(tensor).collect(), quantization: None, metadata: BTreeMap::new() }
    }

    #[track_caller]
    fn check(preset: &str, assignments: &[&str], num_classes: usize) {
        let assignments: Vec<String> = assignments.iter().map(|&a| a.to_owned()).collect();
        let config =
            Config::parse(Config::preset_text(preset).expect("a preset"), &assignments).expect("a configuration");
        let imported = import(file(&config, num_classes), "").expect("a detector");
        assert_eq!((&imported.config, imported.classes.len()), (&config, num_classes));
    }

    #[test]
    fn networks_are_told_by_their_shapes() {
        check("torchvision_r50_v1", &[], 91);
        check("torchvision_r50_v2", &[], 91);
        check("torchvision_r50_v1", &["backbone.depth=r18"], 12);
        check("torchvision_r50_v1", &["backbone.depth=r34"], 1);
        check("torchvision_r50_v1", &["backbone.depth=r101", "fpn.p6_source=c5"], 21);
        check("torchvision_r50_v2", &["backbone.depth=r152"], 3);
        check("torchvision_r50_v1", &["backbone.groups=32", "backbone.width_per_group=4"], 8);
        check("torchvision_r50_v1", &["backbone.depth=r101", "backbone.groups=32", "backbone.width_per_group=8"], 8);
        check("torchvision_r50_v1", &["backbone.depth=r101", "backbone.groups=64", "backbone.width_per_group=4"], 8);
        check(
            "torchvision_r50_v1",
            &["fpn.finest=P2", "fpn.coarsest=P6", "anchors.sizes=[16.0, 32.0, 64.0, 128.0, 256.0]"],
            8,
        );
    }

    #[test]
    fn the_released_file_has_no_epsilon_and_cocos_names() {
        let config = Config::preset("torchvision_r50_v1").expect("a preset");
        let released = format!("eeacb38b{}", "0".repeat(56));
        let imported = import(file(&config, 91), &released).expect("a detector");
        assert_eq!(imported.config.backbone.norm, NormKind::FrozenBatch { epsilon: 0.0 });
        assert_eq!((imported.classes[1].name.as_str(), imported.classes[90].name.as_str()), ("person", "toothbrush"));
        assert_eq!((imported.classes[0].name.as_str(), imported.classes[12].name.as_str()), ("0", "12"));
    }
}
