//! Which anchors of an image count: hard example mining and sampling, as a rewrite of the classes.

use std::cmp::Ordering;

use candle_core::{DType, Device, Tensor};
use rayon::slice::ParallelSliceMut;

use crate::kernels::{Curve, LossShape};
use crate::{Alpha, HardExamples, IGNORE, LossError, Sampled, op};

mod draw;

/// An anchor that may be selected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example {
    /// Index of its level among those given.
    pub level_idx: usize,
    /// Index among the anchors of its level, in [0, R).
    pub anchor_idx: usize,
    /// Its class, or `None` for background.
    pub class: Option<usize>,
    /// Its cross entropy, summed over the classes; 0 where the selection does not look at losses.
    pub loss: f64,
}

/// Whether a candidate may join the examples accepted so far: `filter(image_idx, accepted, candidate)`.
///
/// Candidates come from the hardest to the easiest, so refusing those whose IoU with any accepted one is above the
/// threshold is exactly greedy non-maximum suppression, with no more comparisons than examples are asked for. The
/// caller knows the boxes: `accepted` and `candidate` say level and anchor.
pub type ExampleFilter<'a> = dyn Fn(usize, &[Example], &Example) -> bool + 'a;

/// The classes of a level on the host, and what becomes of them.
struct Level<'a> {
    shape: LossShape,
    classes: Vec<i64>,
    selected: Vec<i64>,
    device: &'a Device,
}

/// The hardest examples of each image; see [`HardExamples`].
pub(crate) fn hard(
    loss: &HardExamples,
    levels: &[(&Tensor, &Tensor)],
    filter: Option<&ExampleFilter>,
) -> Result<Vec<Tensor>, LossError> {
    if loss.nms_iou_threshold < 1.0 && filter.is_none() {
        return Err(LossError::Parameter {
            name: "hard_examples.nms_iou_threshold",
            expected: "1 where there is no filter to apply it".into(),
            found: loss.nms_iou_threshold.to_string(),
        });
    }
    let losses = levels
        .iter()
        .map(|(class_logits, classes)| {
            let curve = Curve::Focal { gamma: 0.0 };
            let losses = op::per_anchor(curve, &Alpha::None, class_logits, classes)?;
            Ok(losses.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
        })
        .collect::<Result<Vec<Vec<f64>>, LossError>>()?;
    rewrite(levels, |image_idx, levels| {
        let mut candidates = candidates(levels, image_idx);
        for example in &mut candidates {
            let row = image_idx * levels[example.level_idx].shape.anchors + example.anchor_idx;
            example.loss = losses[example.level_idx][row];
        }
        hardest(loss, image_idx, candidates, filter)
    })
}

fn hardest(
    loss: &HardExamples,
    image_idx: usize,
    mut candidates: Vec<Example>,
    filter: Option<&ExampleFilter>,
) -> Vec<Example> {
    let mut accepted = Vec::new();
    let Some(ratio) = loss.negatives_per_positive else {
        take(&mut accepted, &mut candidates, loss.examples, image_idx, filter);
        return accepted;
    };
    let (mut positives, mut negatives): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|example| example.class.is_some());
    let share = (loss.examples / ratio.saturating_add(1)).max(1);
    take(&mut accepted, &mut positives, share, image_idx, filter);
    let wanted = ratio.saturating_mul(accepted.len().max(1));
    let room = loss.examples - accepted.len();
    take(&mut accepted, &mut negatives, wanted.min(room), image_idx, filter);
    accepted
}

/// Appends the `count` hardest of the candidates that the filter lets through.
fn take(
    accepted: &mut Vec<Example>,
    candidates: &mut Vec<Example>,
    count: usize,
    image_idx: usize,
    filter: Option<&ExampleFilter>,
) {
    let goal = accepted.len() + count.min(candidates.len());
    if filter.is_none() && count > 0 && count < candidates.len() {
        // Nobody is turned away, so nothing past `count` needs an order.
        candidates.select_nth_unstable_by(count - 1, harder_first);
        candidates.truncate(count);
    }
    candidates.par_sort_unstable_by(harder_first);
    for candidate in candidates.iter() {
        if accepted.len() == goal {
            break;
        }
        if filter.is_none_or(|accepts| accepts(image_idx, accepted, candidate)) {
            accepted.push(*candidate);
        }
    }
}

/// By descending loss, NaN first so that it is seen, ties by level and anchor.
fn harder_first(a: &Example, b: &Example) -> Ordering {
    let nan_first = b.loss.is_nan().cmp(&a.loss.is_nan());
    nan_first.then(b.loss.total_cmp(&a.loss)).then(a.level_idx.cmp(&b.level_idx)).then(a.anchor_idx.cmp(&b.anchor_idx))
}

/// A sample of each image's anchors; see [`Sampled`].
pub(crate) fn sampled(loss: &Sampled, levels: &[(&Tensor, &Tensor)], seed: u64) -> Result<Vec<Tensor>, LossError> {
    let share = (loss.examples as f64 * loss.positive_fraction) as usize;
    rewrite(levels, |image_idx, levels| {
        let (mut positives, mut negatives): (Vec<_>, Vec<_>) =
            candidates(levels, image_idx).into_iter().partition(|example| example.class.is_some());
        let mut generator = draw::Generator::new(seed, image_idx);
        generator.keep_some(&mut positives, share);
        generator.keep_some(&mut negatives, loss.examples - positives.len());
        positives.append(&mut negatives);
        positives
    })
}

/// Every anchor of an image that is not ignored, in order.
fn candidates(levels: &[Level], image_idx: usize) -> Vec<Example> {
    let mut candidates = Vec::new();
    for (level_idx, level) in levels.iter().enumerate() {
        let anchors = level.shape.anchors;
        let classes = &level.classes[image_idx * anchors..(image_idx + 1) * anchors];
        candidates.extend(classes.iter().enumerate().filter(|(_, class)| **class != IGNORE).map(
            |(anchor_idx, &class)| Example { level_idx, anchor_idx, class: usize::try_from(class).ok(), loss: 0.0 },
        ));
    }
    candidates
}

/// The classes with all but the selected anchors ignored.
fn rewrite(
    levels: &[(&Tensor, &Tensor)],
    mut select: impl FnMut(usize, &[Level]) -> Vec<Example>,
) -> Result<Vec<Tensor>, LossError> {
    let mut read = Vec::with_capacity(levels.len());
    for (class_logits, classes) in levels {
        read.push(Level::read(class_logits, classes)?);
    }
    let num_images = read.first().map_or(0, |level| level.shape.images);
    for level in &read {
        if level.shape.images != num_images {
            return Err(LossError::Shape {
                argument: "levels",
                expected: format!("{num_images} images in each"),
                found: format!("{} images", level.shape.images),
            });
        }
    }
    for image_idx in 0..num_images {
        for example in select(image_idx, &read) {
            let level = &mut read[example.level_idx];
            let row = image_idx * level.shape.anchors + example.anchor_idx;
            level.selected[row] = level.classes[row];
        }
    }
    read.into_iter()
        .map(|level| {
            let shape = (level.shape.images, level.shape.anchors);
            Ok(Tensor::from_vec(level.selected, shape, level.device)?)
        })
        .collect()
}

impl<'a> Level<'a> {
    fn read(class_logits: &Tensor, classes: &'a Tensor) -> Result<Self, LossError> {
        let shape = op::loss_shape(class_logits, classes)?;
        let device = classes.device();
        let classes = classes.flatten_all()?.to_vec1()?;
        crate::kernels::cpu::check_classes(shape, &classes)?;
        Ok(Self { shape, selected: vec![IGNORE; classes.len()], classes, device })
    }
}
