//! The losses on the processor: threads over chunks of anchors, vectors over logits.
//!
//! The chunks depend on the shape alone and their sums are added in order, in f64, so a result is the same to the
//! last bit for any number of threads. It differs in the last bits from one instruction set to another, as one of
//! them rounds a product and a sum once and the other twice.

mod element;
mod instruction_set;
mod large_pages;
mod point_loss;
mod real;
mod rows;

pub use element::Element;
pub use instruction_set::InstructionSet;
pub use real::Real;

use rayon::prelude::*;

use self::point_loss::{ANY_POWER, Focal, FocalStar, PointLoss};
use self::rows::{EachRow, SumRows};
use crate::kernels::{Curve, LossShape, Weights};
use crate::{IGNORE, LossError};

/// Logits a thread takes at a time: a few hundred KiB, so that threads balance and waiting for work costs nothing.
const CHUNK_LOGITS: usize = 32 * 1024;

/// Evaluates `$body` with `$name` bound to the point loss of `$curve`.
macro_rules! with_point_loss {
    ($curve:expr, $name:ident => $body:expr) => {
        match $curve {
            Curve::Focal { gamma } => {
                let real = E::Compute::from_f64(gamma);
                if gamma == 0.0 {
                    let $name = Focal::<_, 0> { gamma: real };
                    $body
                } else if gamma == 1.0 {
                    let $name = Focal::<_, 1> { gamma: real };
                    $body
                } else if gamma == 2.0 {
                    let $name = Focal::<_, 2> { gamma: real };
                    $body
                } else {
                    let $name = Focal::<_, ANY_POWER> { gamma: real };
                    $body
                }
            }
            Curve::FocalStar { gamma, beta } => {
                let $name = FocalStar {
                    gamma: E::Compute::from_f64(gamma),
                    beta: E::Compute::from_f64(beta),
                    one_over_gamma: E::Compute::from_f64(1.0 / gamma),
                    beta_over_gamma: E::Compute::from_f64(beta / gamma),
                };
                $body
            }
        }
    };
}

/// How many partial sums [`sum`] needs as workspace.
pub fn workspace_len(shape: LossShape) -> usize {
    shape.images.saturating_mul(chunks_per_image(shape))
}

fn rows_per_chunk(shape: LossShape) -> usize {
    (CHUNK_LOGITS / shape.classes.max(1)).max(1)
}

fn chunks_per_image(shape: LossShape) -> usize {
    shape.anchors.div_ceil(rows_per_chunk(shape))
}

/// The loss of each image, summed over its anchors and classes, and its gradient by the logits in the same pass.
///
/// Without `gradient` only the value is computed. Ignored anchors add nothing, whatever their logits, and their
/// gradient is 0.
///
/// # Shapes
/// - `logits`: `[N, R, K]`
/// - `classes`: `[N, R]`
/// - `gradient`: `[N, R, K]`, overwritten
/// - `workspace`: [`workspace_len`], overwritten
/// - `sums`: `[N]`, overwritten
///
/// # Numerics
/// Finite for every finite logit; NaN for an image with a NaN logit that counts.
///
/// # Errors
/// A slice has not the length of its shape, or a class is no code and no class.
pub fn sum<E: Element>(
    instructions: InstructionSet,
    curve: Curve,
    weights: &Weights<E::Compute>,
    shape: LossShape,
    logits: &[E],
    classes: &[i64],
    gradient: Option<&mut [E]>,
    workspace: &mut [f64],
    sums: &mut [f64],
) -> Result<(), LossError> {
    check(weights, shape, logits, classes)?;
    check_len("sums", shape.images, sums.len())?;
    check_len("workspace", workspace_len(shape), workspace.len())?;
    if let Some(gradient) = &gradient {
        check_len("gradient", shape.logits(), gradient.len())?;
    }
    if shape.logits() == 0 {
        sums.fill(0.0);
        return Ok(());
    }
    with_point_loss!(curve, point_loss => {
        sum_chunks(instructions, point_loss, weights, shape, logits, classes, gradient, workspace);
    });
    for (sum, partial_sums) in sums.iter_mut().zip(workspace.chunks_exact(chunks_per_image(shape))) {
        *sum = partial_sums.iter().sum();
    }
    Ok(())
}

fn sum_chunks<E: Element, C: PointLoss<E::Compute>>(
    instructions: InstructionSet,
    curve: C,
    weights: &Weights<E::Compute>,
    shape: LossShape,
    logits: &[E],
    classes: &[i64],
    gradient: Option<&mut [E]>,
    workspace: &mut [f64],
) {
    let num_classes = shape.classes;
    let image_logits = shape.anchors * num_classes;
    let chunk_rows = rows_per_chunk(shape);
    let chunk_logits = chunk_rows * num_classes;
    // A chunk never spans two images: the first split is by image, the second within it.
    let images = (
        workspace.par_chunks_mut(chunks_per_image(shape)),
        logits.par_chunks(image_logits),
        classes.par_chunks(shape.anchors),
    );
    match gradient {
        Some(gradient) => (images.0, images.1, images.2, gradient.par_chunks_mut(image_logits))
            .into_par_iter()
            .flat_map(|(partial_sums, logits, classes, gradient)| {
                (
                    partial_sums,
                    logits.par_chunks(chunk_logits),
                    classes.par_chunks(chunk_rows),
                    gradient.par_chunks_mut(chunk_logits),
                )
                    .into_par_iter()
            })
            .for_each(|(partial_sum, logits, classes, gradient)| {
                *partial_sum =
                    instructions.run(SumRows::<E, C, true> { curve, weights, num_classes, logits, classes, gradient });
            }),
        None => images
            .into_par_iter()
            .flat_map(|(partial_sums, logits, classes)| {
                (partial_sums, logits.par_chunks(chunk_logits), classes.par_chunks(chunk_rows)).into_par_iter()
            })
            .for_each(|(partial_sum, logits, classes)| {
                *partial_sum = instructions.run(SumRows::<E, C, false> {
                    curve,
                    weights,
                    num_classes,
                    logits,
                    classes,
                    gradient: &mut [],
                });
            }),
    }
}

/// The loss of each anchor, summed over its classes; 0 where it is ignored.
///
/// # Shapes
/// - `logits`: `[N, R, K]`
/// - `classes`: `[N, R]`
/// - `losses`: `[N, R]`, overwritten
///
/// # Errors
/// A slice has not the length of its shape, or a class is no code and no class.
pub fn per_anchor<E: Element>(
    instructions: InstructionSet,
    curve: Curve,
    weights: &Weights<E::Compute>,
    shape: LossShape,
    logits: &[E],
    classes: &[i64],
    losses: &mut [E::Compute],
) -> Result<(), LossError> {
    check(weights, shape, logits, classes)?;
    check_len("losses", shape.rows(), losses.len())?;
    if shape.logits() == 0 {
        losses.fill(E::Compute::ZERO);
        return Ok(());
    }
    let num_classes = shape.classes;
    let chunk_rows = rows_per_chunk(shape);
    with_point_loss!(curve, point_loss => {
        (
            logits.par_chunks(chunk_rows * num_classes),
            classes.par_chunks(chunk_rows),
            losses.par_chunks_mut(chunk_rows),
        )
            .into_par_iter()
            .for_each(|(logits, classes, losses)| {
                instructions.run(EachRow {
                    curve: point_loss,
                    weights,
                    num_classes,
                    logits,
                    classes,
                    losses,
                });
            });
    });
    Ok(())
}

/// Multiplies the gradient of each image by that image's factor, in place.
///
/// # Shapes
/// - `gradient`: `[N, ...]`
/// - `factors`: `[N]`
///
/// # Errors
/// The gradient has not the same length for every image.
pub fn scale<E: Element>(gradient: &mut [E], factors: &[E::Compute]) -> Result<(), LossError> {
    if gradient.is_empty() {
        return Ok(());
    }
    let image_logits = gradient.len() / factors.len().max(1);
    check_len("gradient", image_logits * factors.len(), gradient.len())?;
    gradient
        .par_chunks_mut(image_logits)
        .zip(factors)
        // An unscaled loss, summed over the images, is not worth a pass over memory.
        .filter(|(_, factor)| **factor != E::Compute::ONE)
        .for_each(|(gradient, &factor)| {
            gradient.par_chunks_mut(CHUNK_LOGITS).for_each(|chunk| {
                for slope in chunk {
                    *slope = E::store(factor * slope.load());
                }
            });
        });
    Ok(())
}

/// Whether every class is a code or in 0..K.
///
/// # Errors
/// The first class that is neither.
pub fn check_classes(shape: LossShape, classes: &[i64]) -> Result<(), LossError> {
    let num_classes = i64::try_from(shape.classes).unwrap_or(i64::MAX);
    match classes.iter().position(|class| !(IGNORE..num_classes).contains(class)) {
        Some(row) => Err(LossError::Class {
            image: row / shape.anchors.max(1),
            anchor: row % shape.anchors.max(1),
            num_classes: shape.classes,
            found: classes[row],
        }),
        None => Ok(()),
    }
}

fn check<E: Element>(
    weights: &Weights<E::Compute>,
    shape: LossShape,
    logits: &[E],
    classes: &[i64],
) -> Result<(), LossError> {
    check_len("class_logits", shape.logits(), logits.len())?;
    check_len("classes", shape.rows(), classes.len())?;
    if weights.positive.len() != 1 {
        check_len("weights.positive", shape.classes, weights.positive.len())?;
    }
    check_len("weights.negative", weights.positive.len(), weights.negative.len())?;
    check_classes(shape, classes)
}

fn check_len(argument: &'static str, expected: usize, found: usize) -> Result<(), LossError> {
    if expected == found {
        return Ok(());
    }
    Err(LossError::Shape { argument, expected: format!("{expected} elements"), found: format!("{found} elements") })
}
