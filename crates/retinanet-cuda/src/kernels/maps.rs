//! Pooling and upsampling.

use super::launch::{ByElement, are_aligned, blocks, by_element, flag, int, launch, of, operand, places, wide};
use super::source;
use crate::device::{Argument, Element, Source, Span};
use crate::error::{Error, Result};
use retinanet_ops::kernels::{ImageShape, PoolShape};

pub(super) const SOURCE: Source = source!("maps.cu");

/// Launches one thread for some neighbouring channels of a pixel of a map, whose number it puts behind the arguments.
///
/// # Safety
/// As for [`launch`].
unsafe fn run(
    at: Span<'_>,
    element: Element,
    [narrow, broad]: [ByElement; 2],
    map: &ImageShape,
    mut arguments: Vec<Argument>,
) -> Result<()> {
    let is_wide = map.channels.is_multiple_of(wide(element)) && are_aligned(&arguments);
    let vectors = if is_wide { map.len() / wide(element) } else { map.len() };
    arguments.push(places("map", vectors)?);
    let kernel = of(element, if is_wide { broad } else { narrow });
    // SAFETY: the caller's.
    unsafe { launch(at, &SOURCE, kernel, [blocks(vectors), 1, 1], &arguments) }
}

fn pool_arguments(shape: &PoolShape) -> Result<[Argument; 8]> {
    let (input, output) = (shape.input(), shape.output());
    let number = |value| int("pooling", value);
    Ok([
        number(input.height)?,
        number(input.width)?,
        number(input.channels)?,
        number(output.height)?,
        number(output.width)?,
        number(shape.kernel())?,
        number(shape.stride())?,
        number(shape.padding())?,
    ])
}

/// The maximum of each window and channel; padding counts as minus infinity, NaN is above all.
///
/// # Errors
/// A span is shorter than its shape, or the launch fails.
pub fn max_pool(element: Element, shape: &PoolShape, x: Span<'_>, y: Span<'_>) -> Result<()> {
    let mut arguments = vec![
        operand("max pool: x", x, shape.input().len(), element.size())?,
        operand("max pool: y", y, shape.output().len(), element.size())?,
    ];
    arguments.extend(pool_arguments(shape)?);
    let names = [by_element!("max_pool"), by_element!("max_pool_wide")];
    // SAFETY: the sizes were checked.
    unsafe { run(x, element, names, &shape.output(), arguments) }
}

/// The gradient of [`max_pool`]'s input, added to what is there if wanted: each output's goes to the first maximum of its window,
/// in row order.
///
/// # Errors
/// As for [`max_pool`].
pub fn max_pool_gradient(
    element: Element,
    shape: &PoolShape,
    x: Span<'_>,
    y_gradient: Span<'_>,
    accumulate: bool,
    x_gradient: Span<'_>,
) -> Result<()> {
    let mut arguments = vec![
        operand("max pool gradient: x", x, shape.input().len(), element.size())?,
        operand("max pool gradient: y gradient", y_gradient, shape.output().len(), element.size())?,
        flag(accumulate),
        operand("max pool gradient: x gradient", x_gradient, shape.input().len(), element.size())?,
    ];
    arguments.extend(pool_arguments(shape)?);
    let names = [by_element!("max_pool_gradient"), by_element!("max_pool_gradient_wide")];
    // SAFETY: the sizes were checked.
    unsafe { run(x, element, names, &shape.input(), arguments) }
}

/// The sides of both maps, and their ratios as torch has them.
fn scale_arguments(coarse: &ImageShape, fine: &ImageShape) -> Result<[Argument; 7]> {
    if (coarse.batch, coarse.channels) != (fine.batch, fine.channels) {
        return Err(Error::Mismatch {
            place: "upsampling: images and channels".to_owned(),
            expected: format!("{} and {}", fine.batch, fine.channels),
            found: format!("{} and {}", coarse.batch, coarse.channels),
        });
    }
    let number = |value| int("upsampling", value);
    let ratio = |coarse: usize, fine: usize| Argument::F32(coarse as f32 / fine as f32);
    Ok([
        number(coarse.height)?,
        number(coarse.width)?,
        number(fine.height)?,
        number(fine.width)?,
        number(fine.channels)?,
        ratio(coarse.height, fine.height),
        ratio(coarse.width, fine.width),
    ])
}

/// `y = upsample(coarse) + fine`, nearest neighbour to the shape of `fine`, which `y` may be.
///
/// # Errors
/// The shapes differ in images or channels, a span is shorter than its shape, or the launch fails.
pub fn upsample_add(
    element: Element,
    (coarse_shape, coarse): (&ImageShape, Span<'_>),
    (shape, fine): (&ImageShape, Span<'_>),
    y: Span<'_>,
) -> Result<()> {
    let mut arguments = vec![
        operand("upsampling: coarse", coarse, coarse_shape.len(), element.size())?,
        operand("upsampling: fine", fine, shape.len(), element.size())?,
        operand("upsampling: y", y, shape.len(), element.size())?,
    ];
    arguments.extend(scale_arguments(coarse_shape, shape)?);
    let names = [by_element!("upsample_add"), by_element!("upsample_add_wide")];
    // SAFETY: the sizes were checked.
    unsafe { run(fine, element, names, shape, arguments) }
}

/// The gradient of [`upsample_add`]'s coarse map, added to what is there if wanted.
///
/// # Errors
/// As for [`upsample_add`].
pub fn upsample_gradient(
    element: Element,
    (shape, y_gradient): (&ImageShape, Span<'_>),
    accumulate: bool,
    (coarse_shape, x_gradient): (&ImageShape, Span<'_>),
) -> Result<()> {
    let mut arguments = vec![
        operand("upsampling: y gradient", y_gradient, shape.len(), element.size())?,
        flag(accumulate),
        operand("upsampling: x gradient", x_gradient, coarse_shape.len(), element.size())?,
    ];
    arguments.extend(scale_arguments(coarse_shape, shape)?);
    let names = [by_element!("upsample_gradient"), by_element!("upsample_gradient_wide")];
    // SAFETY: the sizes were checked.
    unsafe { run(y_gradient, element, names, coarse_shape, arguments) }
}
