//! torchvision's weights as a detector.

use super::coco::COCO;
use super::{Imported, Origin, Toolkit, set_architecture};
use crate::config::Config;
use crate::error::Result;
use crate::loss::BoxLoss;
use crate::weights::architecture::Architecture;
use crate::weights::{architecture, is_torchvision_coco_v1, is_torchvision_v2_coco_v1, shapes};
use candle_core::Tensor;
use retinanet_annotations::Class;
use retinanet_ops::network::NormKind;
use std::collections::BTreeMap;

/// Infers the network from names and shapes; the rest (anchors, preprocessing, post-processing) is torchvision's. `sha256` is
/// that of the file.
pub(super) fn import(tensors: BTreeMap<String, Tensor>, sha256: &str) -> Result<Imported> {
    let is_coco_v1 = is_torchvision_coco_v1(sha256);
    let is_coco = is_coco_v1 || is_torchvision_v2_coco_v1(sha256);
    let architecture = architecture::infer(&shapes(&tensors))?;
    let config = config(&architecture, if is_coco_v1 { 0.0 } else { 1e-5 })?;
    let mut origin = Origin::new(Toolkit::Torchvision);
    if architecture.is_p6_source_ambiguous {
        origin.notes.push("P6 is assumed to come from P5, which has as many channels as C5".to_owned());
    }
    Ok(Imported { config, classes: classes(architecture.num_classes, is_coco), tensors, origin })
}

/// The preset that is nearest, with what the shapes say put in.
fn config(architecture: &Architecture, epsilon: f64) -> Result<Config> {
    let is_v2 = architecture.head_group_norm.is_some();
    let mut config = Config::preset(if is_v2 { "torchvision_r50_v2" } else { "torchvision_r50_v1" })?;
    let norm = if is_v2 { NormKind::Batch { epsilon, momentum: 0.1 } } else { NormKind::FrozenBatch { epsilon } };
    set_architecture(&mut config, architecture, norm);
    if is_v2 {
        config.loss.r#box = BoxLoss::Giou;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use candle_core::{DType, Device};

    fn tensors(config: &Config, num_classes: usize) -> BTreeMap<String, Tensor> {
        let shapes = Network::new(config, num_classes).expect("a network").expected_shapes();
        let tensor = |(name, shape): (String, Vec<usize>)| {
            (name, Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros"))
        };
        shapes.into_iter().map(tensor).collect()
    }

    #[track_caller]
    fn check(preset: &str, assignments: &[&str], num_classes: usize) {
        let assignments: Vec<String> = assignments.iter().map(|&a| a.to_owned()).collect();
        let config =
            Config::parse(Config::preset_text(preset).expect("a preset"), &assignments).expect("a configuration");
        let imported = import(tensors(&config, num_classes), "").expect("a detector");
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
        let imported = import(tensors(&config, 91), &released).expect("a detector");
        assert_eq!(imported.config.backbone.norm, NormKind::FrozenBatch { epsilon: 0.0 });
        assert_eq!((imported.classes[1].name.as_str(), imported.classes[90].name.as_str()), ("person", "toothbrush"));
        assert_eq!((imported.classes[0].name.as_str(), imported.classes[12].name.as_str()), ("0", "12"));
    }
}
