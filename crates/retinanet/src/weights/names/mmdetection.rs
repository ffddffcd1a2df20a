//! MMDetection's names: torchvision's for the residual network, `neck.lateral_convs.0.conv.weight`,
//! `bbox_head.cls_convs.0.conv.weight`, `bbox_head.retina_cls.weight`.
//!
//! Source: MMDetection, `models/backbones/resnet.py`, `models/necks/fpn.py`, `models/dense_heads/retina_head.py`.

use super::{BODY, BOX_SUBNET, CLASS_SUBNET, FPN, Fate};

/// Whether MMDetection has such a name, and torchvision not.
pub(super) fn is_telling(name: &str) -> bool {
    name.starts_with("bbox_head.") || name.starts_with("neck.") || name == "backbone.conv1.weight"
}

/// How many levels of the pyramid come from the backbone; the convolutions of the others follow theirs in one list.
pub(super) fn num_laterals<'n>(names: impl Iterator<Item = &'n str>) -> usize {
    names.filter(|name| name.starts_with("neck.lateral_convs.") && name.ends_with(".conv.weight")).count()
}

/// Today's name; what no RetinaNet of ours has keeps its own, to be reported.
pub(super) fn renamed(name: &str, num_laterals: usize) -> Fate {
    let parts: Vec<&str> = name.split('.').collect();
    let new = match parts[..] {
        // An ImageNet classifier of MMPretrain.
        ["head", "fc", _] => return Fate::Dropped,
        ["backbone", ..] => name.strip_prefix("backbone").map(|rest| format!("{BODY}{rest}")),
        ["neck", "lateral_convs", index, "conv", leaf] => Some(format!("{FPN}.inner_blocks.{index}.0.{leaf}")),
        ["neck", "fpn_convs", index, "conv", leaf] => index.parse::<usize>().ok().map(|index| {
            match index.checked_sub(num_laterals) {
                // P5 is the last that comes from the backbone.
                Some(extra) => format!("{FPN}.extra_blocks.p{}.{leaf}", extra + 6),
                None => format!("{FPN}.layer_blocks.{index}.0.{leaf}"),
            }
        }),
        ["bbox_head", subnet @ ("cls_convs" | "reg_convs"), index, module @ ("conv" | "gn"), leaf] => {
            let prefix = if subnet == "cls_convs" { CLASS_SUBNET } else { BOX_SUBNET };
            Some(format!("{prefix}.conv.{index}.{}.{leaf}", if module == "conv" { 0 } else { 1 }))
        }
        ["bbox_head", "retina_cls", leaf] => Some(format!("{CLASS_SUBNET}.cls_logits.{leaf}")),
        ["bbox_head", "retina_reg", leaf] => Some(format!("{BOX_SUBNET}.bbox_reg.{leaf}")),
        _ => None,
    };
    Fate::Named(new.unwrap_or_else(|| name.to_owned()))
}
