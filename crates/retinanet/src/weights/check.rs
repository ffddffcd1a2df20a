//! All differences between the tensors a network needs and those a file has, at once.

use super::error::{WeightsError, shown};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::fmt;

/// How many names of a kind a message lists.
const SHOWN: usize = 20;

/// A tensor whose shape is not the network's.
#[derive(Clone, Debug, PartialEq)]
pub struct MisshapedTensor {
    /// The tensor's name.
    pub name: String,
    /// The network's shape.
    pub expected: Vec<usize>,
    /// The file's shape.
    pub found: Vec<usize>,
}

/// How a file's tensors differ from a network's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mismatch {
    /// Number of tensors the network has.
    pub expected_count: usize,
    /// Number of tensors the file has.
    pub found_count: usize,
    /// Tensors of the network alone, in order.
    pub missing: Vec<String>,
    /// Tensors of the file alone, in order.
    pub unexpected: Vec<String>,
    /// Tensors of both with different shapes, in order.
    pub misshaped: Vec<MisshapedTensor>,
    /// What the differences most likely come from, each a sentence part such as
    /// `the file has 91 classes, the configuration 80`.
    pub hints: Vec<String>,
}

/// Compares the tensors of a file with the shapes a network needs, both under today's names.
///
/// # Errors
/// [`WeightsError::Mismatch`] with every missing, unexpected and mis-shaped tensor.
pub fn check(expected: &BTreeMap<String, Vec<usize>>, found: &BTreeMap<String, Tensor>) -> Result<(), WeightsError> {
    let missing: Vec<_> = expected.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
    let unexpected: Vec<_> = found.keys().filter(|name| !expected.contains_key(*name)).cloned().collect();
    let misshaped: Vec<_> = expected
        .iter()
        .filter_map(|(name, expected)| {
            let found = found.get(name)?.dims();
            (expected[..] != *found).then(|| MisshapedTensor {
                name: name.clone(),
                expected: expected.clone(),
                found: found.to_vec(),
            })
        })
        .collect();
    if missing.is_empty() && unexpected.is_empty() && misshaped.is_empty() {
        return Ok(());
    }
    let mut mismatch = Mismatch {
        expected_count: expected.len(),
        found_count: found.len(),
        missing,
        unexpected,
        misshaped,
        hints: Vec::new(),
    };
    mismatch.hints = hints(&mismatch, expected, found);
    Err(WeightsError::Mismatch(Box::new(mismatch)))
}

const CLASS_LAYER: &str = "head.classification_head.cls_logits.weight";
const BOX_LAYER: &str = "head.regression_head.bbox_reg.weight";
const P6_LAYER: &str = "backbone.fpn.extra_blocks.p6.weight";
const BLOCK_LAYER: &str = "backbone.body.layer1.0.conv3.weight";
const HEAD_NORM: &str = "head.classification_head.conv.0.1.weight";

fn hints(
    mismatch: &Mismatch,
    expected: &BTreeMap<String, Vec<usize>>,
    found: &BTreeMap<String, Tensor>,
) -> Vec<String> {
    let expected_at = |name: &str, axis: usize| expected.get(name).and_then(|shape| shape.get(axis)).copied();
    let found_at = |name: &str, axis: usize| found.get(name).and_then(|tensor| tensor.dims().get(axis)).copied();
    let is_missing = |name: &str| mismatch.missing.binary_search_by(|other| other.as_str().cmp(name)).is_ok();
    let is_unexpected = |name: &str| mismatch.unexpected.binary_search_by(|other| other.as_str().cmp(name)).is_ok();
    let mut hints = Vec::new();

    if let (Some(expected_anchors), Some(found_anchors)) =
        (expected_at(BOX_LAYER, 0).map(|n| n / 4), found_at(BOX_LAYER, 0).map(|n| n / 4))
    {
        if expected_anchors != found_anchors {
            hints
                .push(format!("the file has {found_anchors} anchors a location, the configuration {expected_anchors}"));
        }
        let expected_classes = expected_at(CLASS_LAYER, 0).and_then(|outputs| outputs.checked_div(expected_anchors));
        let found_classes = found_at(CLASS_LAYER, 0).and_then(|outputs| outputs.checked_div(found_anchors));
        if let (Some(expected_classes), Some(found_classes)) = (expected_classes, found_classes)
            && expected_classes != found_classes
        {
            hints.push(format!("the file has {found_classes} classes, the configuration {expected_classes}"));
        }
    }
    if let (Some(expected_inputs), Some(found_inputs)) = (expected_at(P6_LAYER, 1), found_at(P6_LAYER, 1))
        && expected_inputs != found_inputs
    {
        hints.push(format!(
            "the file computes P6 from {found_inputs} channels, the configuration from {expected_inputs}: \
             one from C5, the other from P5"
        ));
    }
    if is_unexpected(HEAD_NORM) {
        hints.push("the file has a norm in its head (torchvision v2), the configuration none".to_owned());
    }
    if is_missing(HEAD_NORM) {
        hints.push("the configuration has a norm in its head (torchvision v2), the file none".to_owned());
    }
    if is_unexpected(BLOCK_LAYER) {
        hints.push("the file has bottleneck blocks (ResNet-50 and deeper), the configuration basic ones".to_owned());
    }
    if is_missing(BLOCK_LAYER) && found.contains_key("backbone.body.layer1.0.conv2.weight") {
        hints.push("the file has basic blocks (ResNet-18 or 34), the configuration bottlenecks".to_owned());
    }
    let heads = |names: &[String]| names.iter().filter(|name| name.starts_with("head.")).count();
    if heads(&mismatch.missing) > 0 && !found.keys().any(|name| name.starts_with("head.")) {
        hints.push("the file has no head: it holds a backbone, not a detector".to_owned());
    }
    hints
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "tensors: expected {}, found {}: {} missing, {} unexpected, {} of another shape",
            self.expected_count,
            self.found_count,
            self.missing.len(),
            self.unexpected.len(),
            self.misshaped.len()
        )?;
        for hint in &self.hints {
            write!(f, "\n  likely: {hint}")?;
        }
        list(f, "missing", &self.missing, |name| shown(name))?;
        list(f, "unexpected", &self.unexpected, |name| shown(name))?;
        list(f, "of another shape", &self.misshaped, |tensor| {
            format!("{}: expected {:?}, found {:?}", shown(&tensor.name), tensor.expected, tensor.found)
        })
    }
}

fn list<T>(f: &mut fmt::Formatter, title: &str, items: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n  {title}:")?;
    for item in items.iter().take(SHOWN) {
        write!(f, "\n    {}", show(item))?;
    }
    if items.len() > SHOWN {
        write!(f, "\n    and {} more", items.len() - SHOWN)?;
    }
    Ok(())
}
