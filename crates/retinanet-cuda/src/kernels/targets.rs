//! What each anchor is trained toward, and what its image's losses are divided by.

use super::AnchorTable;
use super::launch::{NONE, THREADS, double, flag, int, launch, operand};
use super::source;
use crate::device::{Argument, Source, Span};
use crate::error::Result;
use retinanet_anchors::Matcher;

pub(super) const SOURCE: Source = source!("targets.cu", "boxes.cuh");

/// The objects of a batch, one image's behind the other's.
#[derive(Clone, Copy, Debug)]
pub struct GroundTruth<'a> {
    /// How many boxes there are in all.
    pub count: usize,
    /// `[G, 4]` in f32.
    pub boxes: Span<'a>,
    /// `[G]` in i32, 0..K.
    pub labels: Span<'a>,
    /// `[N + 1]` in i32: the first box of each image, and G.
    pub first: Span<'a>,
}

/// Bytes of workspace of [`assign_targets`] for so many boxes in all.
pub fn assign_targets_workspace_bytes(boxes: usize) -> usize {
    boxes * 4
}

/// The class and the box of each anchor, as [`Matcher::assign`] has them to the bit.
///
/// # Shapes
/// - `classes`, `matched`: `[N, R]` of a level behind the other, in i32, see [`AnchorTable::level_part`]: a class is 0..K, -1 for
///   background, -2 for ignored; a match is a box of the batch, or -1
/// - `num_foreground`: `[N]` in i32
///
/// # Errors
/// A span is shorter than its shape, or a launch fails.
pub fn assign_targets(
    matcher: &Matcher,
    anchors: &AnchorTable,
    images: usize,
    ground_truth: &GroundTruth<'_>,
    (classes, matched): (Span<'_>, Span<'_>),
    num_foreground: Span<'_>,
    workspace: Span<'_>,
) -> Result<()> {
    let (num_anchors, count) = (anchors.num_anchors(), ground_truth.count);
    let best = operand("targets: workspace", workspace, count, 4)?;
    let boxes = operand("targets: boxes", ground_truth.boxes, 4 * count, 4)?;
    let first = operand("targets: first boxes", ground_truth.first, images + 1, 4)?;
    let anchors_on = operand("targets: anchors", anchors.span(), 4 * num_anchors, 4)?;
    let num_anchors_argument = int("targets: anchors", num_anchors)?;
    let counts = operand("targets: number of foreground anchors", num_foreground, images, 4)?;
    let arguments = [
        anchors_on,
        num_anchors_argument,
        boxes,
        operand("targets: labels", ground_truth.labels, count, 4)?,
        first,
        best,
        operand("targets: levels", anchors.first_on_device(), anchors.num_levels() + 1, 4)?,
        int("targets: levels", anchors.num_levels())?,
        Argument::F32(matcher.foreground_iou),
        Argument::F32(matcher.background_iou),
        flag(matcher.allow_low_quality),
        operand("targets: classes", classes, images * num_anchors, 4)?,
        operand("targets: matches", matched, images * num_anchors, 4)?,
        counts,
    ];
    num_foreground.part(0, 4 * images).zero()?;
    if images * num_anchors == 0 {
        return Ok(());
    }
    let grid = [num_anchors.div_ceil(THREADS as usize) as u32, images as u32, 1];
    if count > 0 && matcher.allow_low_quality {
        workspace.part(0, 4 * count).zero()?;
        let arguments = [anchors_on, num_anchors_argument, boxes, first, best];
        // SAFETY: the sizes were checked; the first boxes are of as many images as the grid has.
        unsafe { launch(classes, &SOURCE, "best_overlaps", grid, &arguments)? };
    }
    // SAFETY: as above.
    unsafe { launch(classes, &SOURCE, "assign", grid, &arguments) }
}

/// What both losses are divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Normalizer {
    /// max(1, foreground anchors) of each image, then the mean over the images.
    PerImage,
    /// max(1, foreground anchors) of the batch.
    Batch,
    /// A moving average of the batch's foreground anchors.
    MovingAverage {
        /// Share of the old average in the new one.
        momentum: f64,
    },
}

/// What the losses of each image are multiplied by, from the number of its foreground anchors; a moving average moves.
///
/// # Shapes
/// - `num_foreground`: `[N]` in i32
/// - `average`: one f64, the state of [`Normalizer::MovingAverage`], which the others do without
/// - `weights`: `[N]` in f32
/// - `total`: one i64, the sum of `num_foreground`
///
/// # Errors
/// A span is shorter than its shape, or the launch fails.
pub fn image_weights(
    normalizer: Normalizer,
    images: usize,
    num_foreground: Span<'_>,
    average: Span<'_>,
    weights: Span<'_>,
    total: Span<'_>,
) -> Result<()> {
    let (kind, momentum, average) = match normalizer {
        Normalizer::PerImage => (0, 0.0, NONE),
        Normalizer::Batch => (1, 0.0, NONE),
        Normalizer::MovingAverage { momentum } => (2, momentum, operand("image weights: average", average, 1, 8)?),
    };
    let arguments = [
        operand("image weights: number of foreground anchors", num_foreground, images, 4)?,
        int("image weights: images", images)?,
        Argument::I32(kind),
        double(momentum),
        average,
        operand("image weights: weights", weights, images, 4)?,
        operand("image weights: total", total, 1, 8)?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(weights, &SOURCE, "image_weights", [1, 1, 1], &arguments) }
}
