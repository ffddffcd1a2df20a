//! The box losses: value and gradient over foreground anchors.

use super::launch::{blocks, by_element, double, int, launch, long, of, operand};
use super::source;
use crate::device::{Argument, Element, Source, Span};
use crate::error::Result;
use retinanet_anchors::BoxCoder;

pub(super) const SOURCE: Source = source!("box_loss.cu", "boxes.cuh");

/// What the box deltas of a foreground anchor are charged with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BoxLoss {
    /// Sum over the four deltas of |d|.
    L1,
    /// Sum over the four deltas of d^2 / (2 beta) below beta and |d| - beta / 2 from there on.
    SmoothL1 {
        /// Where the square ends, in units of deltas; above 0.
        beta: f64,
    },
    /// 1 - GIoU of the decoded box and its ground truth.
    Giou,
    /// 1 - DIoU.
    Diou,
    /// 1 - CIoU, its weight alpha a constant where the gradient is taken.
    Ciou,
}

impl BoxLoss {
    /// The kernel's `Kind`, and beta.
    fn kind(self) -> (i32, f64) {
        match self {
            Self::L1 => (0, 1.0),
            Self::SmoothL1 { beta } => (1, beta),
            Self::Giou => (2, 1.0),
            Self::Diou => (3, 1.0),
            Self::Ciou => (4, 1.0),
        }
    }
}

/// Bytes of workspace for a level of `anchors` of each image.
pub fn box_loss_workspace_bytes(images: usize, anchors: usize) -> usize {
    blocks(images * anchors) as usize * 8
}

/// Adds the loss of each foreground anchor times its image's weight to a sum, and writes the gradient times `factor`; it is 0 for
/// all other anchors.
///
/// # Shapes
/// - `deltas`, `gradient`: `[N, R, 4]`, one level
/// - `anchors`: `[R, 4]` in f32, `boxes`: `[G, 4]` in f32, of all images
/// - `matched`: `[N, R]` in i32, which box an anchor has, below 0 for none
/// - `image_weights`: `[N]` in f32
/// - `sum`: one f64
///
/// # Numerics
/// In f64 from the deltas on; the gradient is rounded once.
///
/// # Errors
/// A span is shorter than its shape, or a launch fails. Which boxes `matched` names is not looked at.
pub fn box_loss(
    loss: BoxLoss,
    coder: &BoxCoder,
    element: Element,
    (images, num_anchors): (usize, usize),
    deltas: Span<'_>,
    anchors: Span<'_>,
    (matched, boxes): (Span<'_>, Span<'_>),
    image_weights: Span<'_>,
    sum: Span<'_>,
    (factor, gradient): (f32, Span<'_>),
    workspace: Span<'_>,
) -> Result<()> {
    let count = images * num_anchors;
    let (kind, beta) = loss.kind();
    let [wx, wy, ww, wh] = coder.weights.map(Argument::F32);
    let partials = operand("box loss: workspace", workspace, blocks(count) as usize, 8)?;
    let arguments = [
        operand("box loss: deltas", deltas, 4 * count, element.size())?,
        operand("box loss: anchors", anchors, 4 * num_anchors, 4)?,
        operand("box loss: matched", matched, count, 4)?,
        operand("box loss: boxes", boxes, 0, 16)?,
        operand("box loss: image weights", image_weights, images, 4)?,
        Argument::F32(factor),
        operand("box loss: gradient", gradient, 4 * count, element.size())?,
        Argument::I32(kind),
        double(beta),
        wx,
        wy,
        ww,
        wh,
        Argument::F32(coder.clamp),
        int("box loss: anchors", num_anchors)?,
        long("box loss: count", count)?,
        partials,
    ];
    let totals = [partials, Argument::I32(blocks(count) as i32), operand("box loss: sum", sum, 1, 8)?];
    // SAFETY: the sizes were checked; `matched` comes from `assign_targets`.
    unsafe {
        launch(deltas, &SOURCE, of(element, by_element!("box_loss")), [blocks(count), 1, 1], &arguments)?;
        launch(deltas, &SOURCE, "add_partial_sums", [1, 1, 1], &totals)
    }
}
