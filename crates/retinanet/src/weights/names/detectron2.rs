//! Detectron2's names: `backbone.bottom_up.res2.0.conv1.norm.weight`, `backbone.fpn_lateral3.weight`,
//! `head.cls_subnet.0.weight`.
//!
//! Source: Detectron2, `modeling/backbone/{resnet,fpn}.py` and `modeling/meta_arch/retinanet.py`.

use super::{BODY, BOX_SUBNET, CLASS_SUBNET, FPN, Fate};

/// Where the residual network is: in a pyramid, by itself, or in a file of nothing else.
const BODY_PREFIXES: [&str; 3] = ["backbone.bottom_up.", "backbone.", ""];

/// Whether only Detectron2 has such a name.
pub(super) fn is_telling(name: &str) -> bool {
    let stem = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("stem.conv1."));
    name.starts_with("head.cls_subnet.") || BODY_PREFIXES.into_iter().any(stem)
}

/// What the names of a file say of each other.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// The finest level of the pyramid.
    finest: usize,
    /// Modules from one convolution of a subnet to the next: a ReLU lies between, and a norm where there is one.
    subnet_step: usize,
}

impl Layout {
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Self {
        let level = |name: &str| name.strip_prefix("backbone.fpn_lateral")?.strip_suffix(".weight")?.parse().ok();
        let finest = names.clone().filter_map(level).min().unwrap_or(3);
        let has_norm = names.clone().any(|name| name == "head.cls_subnet.1.weight");
        Self { finest, subnet_step: if has_norm { 3 } else { 2 } }
    }
}

/// Today's name; what no RetinaNet of ours has keeps its own, to be reported.
pub(super) fn renamed(name: &str, layout: Layout) -> Fate {
    let pyramid = |name: &str| pyramid(name, layout.finest).or_else(|| subnet(name, layout.subnet_step));
    match body(name) {
        Some(fate) => fate,
        None => Fate::Named(pyramid(name).unwrap_or_else(|| name.to_owned())),
    }
}

fn body(name: &str) -> Option<Fate> {
    let is_body = |rest: &&str| rest.starts_with("stem.") || rest.starts_with("res");
    let rest = BODY_PREFIXES.into_iter().filter_map(|prefix| name.strip_prefix(prefix)).find(is_body)?;
    let parts: Vec<&str> = rest.split('.').collect();
    let layer = |stage: &str| stage.strip_prefix("res")?.parse::<usize>().ok()?.checked_sub(1);
    Some(Fate::Named(match parts[..] {
        ["stem", "fc", _] => return Some(Fate::Dropped),
        ["stem", "conv1", "weight"] => format!("{BODY}.conv1.weight"),
        ["stem", "conv1", "norm", leaf] => format!("{BODY}.bn1.{leaf}"),
        [stage, block, "shortcut", "weight"] => format!("{BODY}.layer{}.{block}.downsample.0.weight", layer(stage)?),
        [stage, block, "shortcut", "norm", leaf] => {
            format!("{BODY}.layer{}.{block}.downsample.1.{leaf}", layer(stage)?)
        }
        [stage, block, conv, "weight"] => format!("{BODY}.layer{}.{block}.{conv}.weight", layer(stage)?),
        [stage, block, conv, "norm", leaf] => {
            format!("{BODY}.layer{}.{block}.bn{}.{leaf}", layer(stage)?, conv.strip_prefix("conv")?)
        }
        _ => return None,
    }))
}

fn pyramid(name: &str, finest: usize) -> Option<String> {
    let rest = name.strip_prefix("backbone.")?;
    let (module, leaf) = rest.rsplit_once('.')?;
    if let Some(level) = module.strip_prefix("top_block.") {
        return Some(format!("{FPN}.extra_blocks.{level}.{leaf}"));
    }
    let index = |level: &str| level.parse::<usize>().ok()?.checked_sub(finest);
    match (module.strip_prefix("fpn_lateral"), module.strip_prefix("fpn_output")) {
        (Some(level), _) => Some(format!("{FPN}.inner_blocks.{}.0.{leaf}", index(level)?)),
        (_, Some(level)) => Some(format!("{FPN}.layer_blocks.{}.0.{leaf}", index(level)?)),
        _ => None,
    }
}

fn subnet(name: &str, step: usize) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["head", "cls_score", leaf] => Some(format!("{CLASS_SUBNET}.cls_logits.{leaf}")),
        ["head", "bbox_pred", leaf] => Some(format!("{BOX_SUBNET}.bbox_reg.{leaf}")),
        ["head", subnet @ ("cls_subnet" | "bbox_subnet"), module, leaf] => {
            let module: usize = module.parse().ok()?;
            let prefix = if subnet == "cls_subnet" { CLASS_SUBNET } else { BOX_SUBNET };
            // The ReLU comes last and has no parameters.
            let is_parametric = module % step < step - 1;
            is_parametric.then(|| format!("{prefix}.conv.{}.{}.{leaf}", module / step, module % step))
        }
        _ => None,
    }
}
