//! The class losses: value and gradient in one pass.

use super::launch::{THREADS, are_aligned, by_element, int, launch, of, operand, optional, places, wide};
use super::source;
use crate::device::{Argument, Device, Element, Memory, Source, Span};
use crate::error::Result;
use retinanet_focal::{Alpha, AlphaBalanced, ClassLoss, Focal, FocalStar};
use std::sync::Arc;

pub(super) const SOURCE: Source = source!("class_loss.cu");

/// A class loss with what its kernel needs.
///
/// Those that choose examples, [`ClassLoss::HardExamples`] and [`ClassLoss::Sampled`], are the cross entropy here: what
/// [`ClassLoss::select`] leaves out is to be ignored in the classes.
#[derive(Debug)]
pub struct PreparedClassLoss {
    num_classes: usize,
    /// The kernel's `Curve`, gamma and beta.
    curve: (i32, f64, f64),
    /// Of an anchor's class and of the others.
    alpha: (f32, f32),
    /// `[2, K]` of the same where each class has its own.
    alphas: Option<Memory>,
}

/// Blocks of a launch, at most: a few times as many as the largest GPU runs at once.
const MOST_BLOCKS: usize = 2048;
/// Logits of a thread that are worth one, in the number of vectors.
const VECTORS: usize = 4;
/// Blocks for each image.
fn blocks(element: Element, images: usize, logits: usize) -> usize {
    logits.div_ceil(THREADS as usize * VECTORS * wide(element)).clamp(1, MOST_BLOCKS.div_ceil(images.max(1)))
}

/// Bytes of workspace for a level of `anchors` of each image.
pub fn class_loss_workspace_bytes(element: Element, images: usize, anchors: usize, num_classes: usize) -> usize {
    images * blocks(element, images, anchors * num_classes) * 8
}

impl PreparedClassLoss {
    /// The loss over `num_classes` classes.
    ///
    /// # Errors
    /// A hyper-parameter is out of its range, or there is no memory for the alphas.
    pub fn new(device: &Arc<dyn Device>, loss: &ClassLoss, num_classes: usize) -> Result<Self> {
        loss.validate_for(num_classes)?;
        let (curve, alpha) = match loss {
            ClassLoss::Focal(Focal { alpha, gamma }) => (focal(*gamma), alpha),
            ClassLoss::FocalStar(FocalStar { alpha, gamma, beta }) => ((5, *gamma, *beta), alpha),
            ClassLoss::AlphaBalanced(AlphaBalanced { alpha }) => (focal(0.0), alpha),
            ClassLoss::CrossEntropy | ClassLoss::HardExamples(_) | ClassLoss::Sampled(_) => (focal(0.0), &Alpha::None),
        };
        let weights = alpha.weights::<f32>(num_classes)?;
        let alphas = (weights.positive.len() > 1).then(|| {
            let both = weights.positive.iter().chain(&weights.negative);
            Memory::of(device, &both.flat_map(|alpha| alpha.to_ne_bytes()).collect::<Vec<u8>>())
        });
        let first = |weights: &[f32]| weights.first().copied().unwrap_or(1.0);
        let alpha = (first(&weights.positive), first(&weights.negative));
        Ok(Self { num_classes, curve, alpha, alphas: alphas.transpose()? })
    }

    /// Adds the loss of each image times its weight to a sum, and writes its gradient.
    ///
    /// # Shapes
    /// - `logits`: `[N, R, K]`, one level; `gradient` likewise, of the weighted sum
    /// - `classes`: `[N, R]` in i32: 0..K, -1 for background, -2 for ignored; others have no class and count as background
    /// - `image_weights`: `[N]` in f32
    /// - `sum`: one f64
    ///
    /// # Numerics
    /// Within 1e-6 of [`ClassLoss::sum`]; finite for logits up to 1e36, beyond which short sums overflow.
    ///
    /// # Errors
    /// A span is shorter than its shape, an image has more than 2^30 logits, or a launch fails.
    pub fn run(
        &self,
        element: Element,
        (images, anchors): (usize, usize),
        logits: Span<'_>,
        classes: Span<'_>,
        image_weights: Span<'_>,
        sum: Span<'_>,
        gradient: Span<'_>,
        workspace: Span<'_>,
    ) -> Result<()> {
        let count = anchors.saturating_mul(self.num_classes);
        places("class loss: logits of an image", count)?;
        let parts = blocks(element, images, count);
        let sum = operand("class loss: sum", sum, 1, 8)?;
        if images * count == 0 {
            return Ok(());
        }
        let maps = [
            operand("class loss: logits", logits, images * count, element.size())?,
            operand("class loss: gradient", gradient, images * count, element.size())?,
        ];
        let partials = operand("class loss: workspace", workspace, images * parts, 8)?;
        let weights = operand("class loss: image weights", image_weights, images, 4)?;
        let (curve, gamma, beta) = self.curve;
        let (magic, shift) = divisor(self.num_classes);
        let alphas = self.alphas.as_ref().map(|alphas| alphas.span());
        let arguments = [
            maps[0],
            operand("class loss: classes", classes, images * anchors, 4)?,
            maps[1],
            weights,
            optional("class loss: alphas", alphas, 2 * self.num_classes, 4)?,
            Argument::F32(self.alpha.0),
            Argument::F32(self.alpha.1),
            Argument::I32(curve),
            Argument::F32(gamma as f32),
            Argument::F32(beta as f32),
            Argument::F32((1.0 / gamma) as f32),
            Argument::F32((beta / gamma) as f32),
            int("class loss: anchors", anchors)?,
            int("class loss: classes", self.num_classes)?,
            Argument::I64(magic),
            Argument::I32(shift),
            partials,
        ];
        let is_wide = count.is_multiple_of(wide(element)) && are_aligned(&maps);
        let names = if is_wide { by_element!("class_loss_wide") } else { by_element!("class_loss") };
        let totals = [partials, weights, int("class loss: parts", parts)?, int("class loss: images", images)?, sum];
        // SAFETY: the sizes were checked.
        unsafe {
            launch(logits, &SOURCE, of(element, names), [parts as u32, images as u32, 1], &arguments)?;
            launch(logits, &SOURCE, "add_image_sums", [1, 1, 1], &totals)
        }
    }
}

/// The curve that is short for this gamma.
fn focal(gamma: f64) -> (i32, f64, f64) {
    let short = [0.0, 0.5, 1.0, 2.0].iter().position(|&short| short == gamma).unwrap_or(4);
    (short as i32, gamma, 0.0)
}

/// `n / d` is `n * magic >> shift` for every n below 2^31.
fn divisor(d: usize) -> (i64, i32) {
    let shift = 31 + d.next_power_of_two().trailing_zeros();
    ((1i64 << shift) / d as i64 + 1, shift as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_by_multiplication_is_exact() {
        const MOST: u64 = (1 << 31) - 1;
        for d in (1..=4096).chain([65_535, 65_536, 65_537, (1 << 30) - 1, 1 << 30]) {
            let (magic, shift) = divisor(d);
            let (d, magic) = (d as u64, magic as u64);
            assert!(magic.checked_mul(MOST).is_some(), "{d}");
            for multiple in [0, d, 17 * d, MOST / d * d] {
                for n in multiple.saturating_sub(1)..=multiple + 1 {
                    assert!(n > MOST || (n * magic) >> shift == n / d, "{n} / {d}");
                }
            }
        }
    }
}
