//! The names of Caffe2's ResNets, which Detectron and Detectron2 start from: `conv1_w`, `res_conv1_bn_s`,
//! `res2_0_branch2a_w`, `res2_0_branch1_bn_b`.
//!
//! Source: Detectron2, `checkpoint/c2_model_loading.py`.

use super::{BODY, Fate};

/// Whether only Caffe2 has such a name.
pub(super) fn is_telling(name: &str) -> bool {
    name == "res2_0_branch2a_w"
}

/// Today's name; what no ResNet has keeps its own, to be reported.
pub(super) fn renamed(name: &str) -> Fate {
    // The stem's bias, which Detectron2 leaves out too, the classifier, and an optimiser's momenta.
    let is_dropped = name == "conv1_b"
        || ["fc", "pred", "linear"].iter().any(|prefix| name.starts_with(prefix))
        || name.ends_with("_momentum");
    if is_dropped {
        return Fate::Dropped;
    }
    Fate::Named(layer(name).unwrap_or_else(|| name.to_owned()))
}

fn layer(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('_').collect();
    let (place, leaf) = match parts[..] {
        ["conv1", leaf] => (None, &[leaf][..]),
        ["res", "conv1", "bn", _] => (None, &parts[2..]),
        [stage, block, branch, ..] => {
            let stage = stage.strip_prefix("res")?.parse::<usize>().ok()?.checked_sub(1)?;
            (Some((stage, block.parse::<usize>().ok()?, branch)), &parts[3..])
        }
        _ => return None,
    };
    let is_norm = match leaf {
        ["w"] => false,
        ["bn", "s" | "b" | "rm" | "riv"] => true,
        _ => return None,
    };
    let leaf = match leaf.last() {
        Some(&"b") => "bias",
        Some(&"rm") => "running_mean",
        Some(&"riv") => "running_var",
        _ => "weight",
    };
    let Some((stage, block, branch)) = place else {
        return Some(format!("{BODY}.{}.{leaf}", if is_norm { "bn1" } else { "conv1" }));
    };
    let module = match (branch, is_norm) {
        ("branch1", false) => "downsample.0".to_owned(),
        ("branch1", true) => "downsample.1".to_owned(),
        (branch, is_norm) => {
            let number = match branch {
                "branch2a" => 1,
                "branch2b" => 2,
                "branch2c" => 3,
                _ => return None,
            };
            format!("{}{number}", if is_norm { "bn" } else { "conv" })
        }
    };
    Some(format!("{BODY}.layer{stage}.{block}.{module}.{leaf}"))
}
