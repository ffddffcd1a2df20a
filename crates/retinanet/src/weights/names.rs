//! The names of tensors: what torchvision, Detectron2, MMDetection, Caffe2 and plain training scripts called them, to what
//! torchvision calls them today.

mod caffe2;
mod detectron2;
mod mmdetection;

use super::error::{WeightsError, shown};
use std::collections::BTreeMap;

/// Tensors under today's names.
#[derive(Clone, Debug, PartialEq)]
pub struct CanonicalNames<T> {
    /// The tensors, by names such as `backbone.body.conv1.weight` and `head.classification_head.conv.0.0.weight`.
    pub tensors: BTreeMap<String, T>,
    /// What a detector has no use for, by the names in the file: the classifier of an ImageNet network (`fc.weight`).
    pub dropped: Vec<String>,
    /// Whose names they were.
    pub naming: Naming,
}

/// Whose names a file's tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// torchvision's of any age, a plain ImageNet network's, or ours.
    Torchvision,
    /// Detectron2's, of a detector (`backbone.bottom_up.res2.0.conv1.weight`) or a backbone (`res2.0.conv1.weight`).
    Detectron2,
    /// MMDetection's (`backbone.layer1.0.conv1.weight`, `neck.fpn_convs.0.conv.weight`).
    Mmdetection,
    /// Those of a backbone of Caffe2 and Detectron (`res2_0_branch2a_w`).
    Caffe2,
}

impl Naming {
    /// Tells by the names alone, without the prefixes of wrapped models.
    fn of<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Self {
        let any = |is: fn(&str) -> bool| names.clone().any(is);
        if any(detectron2::is_telling) {
            Self::Detectron2
        } else if any(caffe2::is_telling) {
            Self::Caffe2
        } else if any(mmdetection::is_telling) {
            Self::Mmdetection
        } else {
            Self::Torchvision
        }
    }
}

/// What becomes of a tensor.
enum Fate {
    /// It gets this name.
    Named(String),
    /// No detector has a use for it.
    Dropped,
}

/// Renames tensors to what torchvision calls them today; whose names they are is told by the names.
///
/// - the prefixes `module.` and `_orig_mod.` of wrapped models go;
/// - `conv.0.weight`, `conv.2.weight`, ... of the head's subnets become `conv.0.0.weight`, `conv.1.0.weight`, ...;
/// - `inner_blocks.0.weight` and `layer_blocks.0.weight` of the pyramid become `inner_blocks.0.0.weight` and so on;
/// - an ImageNet network's names (`conv1.weight`, `layer1.0.conv1.weight`, ...) get `backbone.body.` before them, and
///   its classifier is dropped;
/// - `num_batches_tracked` is left out;
/// - Detectron2's and MMDetection's names become those of the same layers, and so do those of Caffe2's ResNets.
///
/// Other names stay as they are. The values do too: what else differs between these toolkits (the order of anchors, of colour
/// channels) is the business of [`Detector::load`](crate::Detector::load).
///
/// Source: torchvision, `_v1_to_v2_weights` in `models/detection/retinanet.py` and `_load_from_state_dict` in
/// `ops/feature_pyramid_network.py`. Differs in that the number of layers is not fixed.
///
/// # Errors
/// Two tensors end with the same name.
///
/// ```
/// use retinanet::weights::names::canonical;
///
/// let old = [("head.regression_head.conv.6.bias".to_owned(), 1)].into();
/// assert_eq!(canonical(old)?.tensors["head.regression_head.conv.3.0.bias"], 1);
/// # Ok::<(), retinanet::weights::WeightsError>(())
/// ```
pub fn canonical<T>(tensors: BTreeMap<String, T>) -> Result<CanonicalNames<T>, WeightsError> {
    let names = || tensors.keys().map(|name| unwrapped(name));
    let naming = Naming::of(names());
    let is_classifier =
        names().any(|name| name == "conv1.weight") && !names().any(|name| name.starts_with("backbone."));
    let layout = detectron2::Layout::of(names());
    let num_laterals = mmdetection::num_laterals(names());

    let mut renamed = BTreeMap::new();
    let mut dropped = Vec::new();
    for (original, tensor) in tensors {
        let name = unwrapped(&original);
        if name.ends_with(".num_batches_tracked") {
            continue;
        }
        let fate = match naming {
            Naming::Torchvision => torchvision(name, is_classifier),
            Naming::Detectron2 => detectron2::renamed(name, layout),
            Naming::Mmdetection => mmdetection::renamed(name, num_laterals),
            Naming::Caffe2 => caffe2::renamed(name),
        };
        let name = match fate {
            Fate::Named(name) => name,
            Fate::Dropped => {
                dropped.push(original);
                continue;
            }
        };
        if renamed.contains_key(&name) {
            return Err(WeightsError::Layout {
                what: shown(&name),
                expected: "one tensor of this name".to_owned(),
                found: format!("another one, named {} in the file", shown(&original)),
            });
        }
        renamed.insert(name, tensor);
    }
    Ok(CanonicalNames { tensors: renamed, dropped, naming })
}

/// torchvision's older names, and an ImageNet network's.
fn torchvision(name: &str, is_classifier: bool) -> Fate {
    if !is_classifier {
        Fate::Named(renamed_subnet(name).or_else(|| renamed_pyramid(name)).unwrap_or_else(|| name.to_owned()))
    } else if name.starts_with("fc.") {
        Fate::Dropped
    } else {
        Fate::Named(format!("{BODY}.{name}"))
    }
}

/// The prefixes of today's names.
const BODY: &str = "backbone.body";
const FPN: &str = "backbone.fpn";
const CLASS_SUBNET: &str = "head.classification_head";
const BOX_SUBNET: &str = "head.regression_head";

/// The name without what data-parallel training and compilation put before it.
fn unwrapped(mut name: &str) -> &str {
    while let Some(rest) = name.strip_prefix("module.").or_else(|| name.strip_prefix("_orig_mod.")) {
        name = rest;
    }
    name
}

/// `head.*.conv.{2 i}.weight`, where convolutions and ReLUs were counted together, to `head.*.conv.{i}.0.weight`.
fn renamed_subnet(name: &str) -> Option<String> {
    let (path, index, leaf) = indexed_leaf(name)?;
    let is_subnet = path.starts_with("head.") && path.ends_with(".conv");
    (is_subnet && index % 2 == 0).then(|| format!("{path}.{}.0.{leaf}", index / 2))
}

/// `*.inner_blocks.{i}.weight` to `*.inner_blocks.{i}.0.weight`, the same for `layer_blocks`.
fn renamed_pyramid(name: &str) -> Option<String> {
    let (path, index, leaf) = indexed_leaf(name)?;
    let is_block = path.ends_with(".inner_blocks") || path.ends_with(".layer_blocks");
    is_block.then(|| format!("{path}.{index}.0.{leaf}"))
}

/// `path.{index}.{weight or bias}`, where the path does not end with an index itself.
fn indexed_leaf(name: &str) -> Option<(&str, usize, &str)> {
    let (rest, leaf) = name.rsplit_once('.')?;
    let (path, index) = rest.rsplit_once('.')?;
    let is_leaf = leaf == "weight" || leaf == "bias";
    is_leaf.then_some((path, index.parse().ok()?, leaf))
}
