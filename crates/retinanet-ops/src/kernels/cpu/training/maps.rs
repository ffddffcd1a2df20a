//! Pooling and upsampling of whole batches, in the storage of the feature maps.

use super::super::inference::{Map, MapMut, Numbers, NumbersMut, Storage};
use super::super::{Isa, inference, max_pool2d, max_pool2d_gradient, upsample_nearest2d_gradient};
use super::Workspace;
use super::elementwise::add_to;
use super::numbers::Number;
use crate::kernels::{ImageShape, PoolShape};
use half::bf16;

/// The maximum of each window and channel; padding counts as minus infinity.
///
/// # Panics
/// A slice is shorter than its shape, or storages differ.
pub fn max_pool(isa: Isa, shape: &PoolShape, x: Numbers<'_>, y: NumbersMut<'_>) {
    match (x, y) {
        (Numbers::F32(x), NumbersMut::F32(y)) => max_pool2d(isa, shape, x, y),
        (Numbers::Bf16(x), NumbersMut::Bf16(y)) => max_pool2d(isa, shape, x, y),
        _ => panic!("max pool: expected one floating-point storage"),
    }
}

/// The gradient of [`max_pool`]'s input, added to what is there if wanted: each output's goes to the first maximum of its
/// window.
///
/// # Panics
/// A slice is shorter than its shape, or storages differ.
pub fn max_pool_gradient(
    isa: Isa,
    shape: &PoolShape,
    x: Numbers<'_>,
    y_gradient: Numbers<'_>,
    accumulate: bool,
    x_gradient: NumbersMut<'_>,
    workspace: &mut Workspace,
) {
    match (x, y_gradient, x_gradient) {
        (Numbers::F32(x), Numbers::F32(y_gradient), NumbersMut::F32(x_gradient)) => {
            write_or_add::<f32>(isa, accumulate, x_gradient, workspace, |to| {
                max_pool2d_gradient(isa, shape, x, y_gradient, to);
            });
        }
        (Numbers::Bf16(x), Numbers::Bf16(y_gradient), NumbersMut::Bf16(x_gradient)) => {
            write_or_add::<bf16>(isa, accumulate, x_gradient, workspace, |to| {
                max_pool2d_gradient(isa, shape, x, y_gradient, to);
            });
        }
        _ => panic!("max pool gradient: expected one floating-point storage"),
    }
}

/// `y = upsample(coarse) + fine`, nearest neighbour to the size of `fine`.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn upsample_add(
    isa: Isa,
    (coarse_shape, coarse): (&ImageShape, Numbers<'_>),
    (shape, fine): (&ImageShape, Numbers<'_>),
    y: NumbersMut<'_>,
) {
    let image_len = |shape: &ImageShape| shape.height * shape.width * shape.channels;
    let mut rest = y;
    for image in 0..shape.batch {
        let (y, after) = split_at(rest, image_len(shape));
        rest = after;
        inference::upsample_add(
            isa,
            shape.channels,
            (
                (coarse_shape.height, coarse_shape.width),
                map(coarse, image * image_len(coarse_shape), image_len(coarse_shape)),
            ),
            ((shape.height, shape.width), map(fine, image * image_len(shape), image_len(shape))),
            y,
        );
    }
}

/// The gradient of [`upsample_add`]'s coarse map, added to what is there if wanted.
///
/// # Panics
/// A slice is shorter than its shape, or storages differ.
pub fn upsample_gradient(
    isa: Isa,
    shape: &ImageShape,
    size: (usize, usize),
    y_gradient: Numbers<'_>,
    accumulate: bool,
    x_gradient: NumbersMut<'_>,
    workspace: &mut Workspace,
) {
    match (y_gradient, x_gradient) {
        (Numbers::F32(y_gradient), NumbersMut::F32(x_gradient)) => {
            write_or_add::<f32>(isa, accumulate, x_gradient, workspace, |to| {
                upsample_nearest2d_gradient(isa, shape, size, y_gradient, to);
            });
        }
        (Numbers::Bf16(y_gradient), NumbersMut::Bf16(x_gradient)) => {
            write_or_add::<bf16>(isa, accumulate, x_gradient, workspace, |to| {
                upsample_nearest2d_gradient(isa, shape, size, y_gradient, to);
            });
        }
        _ => panic!("upsample gradient: expected one floating-point storage"),
    }
}

/// Has a gradient written in its place, or elsewhere and added.
fn write_or_add<N: Number>(
    isa: Isa,
    accumulate: bool,
    gradient: &mut [N],
    workspace: &mut Workspace,
    write: impl FnOnce(&mut [N]),
) {
    if accumulate {
        let part = workspace.scratch.first::<N>(gradient.len());
        write(part);
        add_to(isa, part, gradient);
    } else {
        write(gradient);
    }
}

fn map(numbers: Numbers<'_>, start: usize, len: usize) -> Map<'_> {
    match numbers {
        Numbers::F32(numbers) => Map { storage: Storage::F32, numbers: Numbers::F32(&numbers[start..start + len]) },
        Numbers::Bf16(numbers) => Map { storage: Storage::Bf16, numbers: Numbers::Bf16(&numbers[start..start + len]) },
        Numbers::U8(_) => panic!("feature map: expected floating-point numbers, found bytes"),
    }
}

/// The first numbers as a map, and the rest.
fn split_at(numbers: NumbersMut<'_>, len: usize) -> (MapMut<'_>, NumbersMut<'_>) {
    match numbers {
        NumbersMut::F32(numbers) => {
            let (first, rest) = numbers.split_at_mut(len);
            (MapMut { storage: Storage::F32, numbers: NumbersMut::F32(first) }, NumbersMut::F32(rest))
        }
        NumbersMut::Bf16(numbers) => {
            let (first, rest) = numbers.split_at_mut(len);
            (MapMut { storage: Storage::Bf16, numbers: NumbersMut::Bf16(first) }, NumbersMut::Bf16(rest))
        }
        NumbersMut::U8(_) => panic!("feature map: expected floating-point numbers, found bytes"),
    }
}
