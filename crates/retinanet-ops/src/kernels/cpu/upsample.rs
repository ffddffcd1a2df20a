//! Nearest upsampling (or downsampling) to a given size, and its gradient.

use super::isa::vectorized;
use super::tasks::{SharedMut, for_each};
use super::{Isa, Storable};
use crate::kernels::ImageShape;

/// The source of each place: floor(place * in / out), the ratio in single precision as torch has it, so that sizes where
/// rounding decides come out the same.
pub(super) fn source(place: usize, in_len: usize, out_len: usize) -> usize {
    let ratio = in_len as f32 / out_len as f32;
    ((place as f32 * ratio) as usize).min(in_len - 1)
}

/// Copies the nearest pixel of `x`.
///
/// # Shapes
/// - `x`: `shape`, `[N, H, W, C]`
/// - `y`: `[N, height, width, C]`
///
/// # Panics
/// A slice is shorter than its shape.
pub fn upsample_nearest2d<T: Storable>(shape: &ImageShape, size: (usize, usize), x: &[T], y: &mut [T]) {
    let (height, width) = size;
    let channels = shape.channels;
    assert_eq!(x.len(), shape.len(), "upsample: input");
    assert_eq!(y.len(), shape.batch * height * width * channels, "upsample: output");
    let row_len = width * channels;
    let shared = SharedMut::new(y);
    for_each(shape.batch * height, |task_idx| {
        let (image, row) = (task_idx / height, source(task_idx % height, shape.height, height));
        // SAFETY: each task has its own row of output.
        let y = unsafe { shared.slice(task_idx * row_len, row_len) };
        let x = &x[(image * shape.height + row) * shape.width * channels..][..shape.width * channels];
        for (column, y) in y.chunks_exact_mut(channels).enumerate() {
            let start = source(column, shape.width, width) * channels;
            y.copy_from_slice(&x[start..start + channels]);
        }
    });
}

/// The gradient of the input: the sum over the pixels that were copied from it.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn upsample_nearest2d_gradient<T: Storable>(
    isa: Isa,
    shape: &ImageShape,
    size: (usize, usize),
    y_gradient: &[T],
    x_gradient: &mut [T],
) {
    let (height, width) = size;
    let channels = shape.channels;
    assert_eq!(x_gradient.len(), shape.len(), "upsample gradient: input gradient");
    assert_eq!(y_gradient.len(), shape.batch * height * width * channels, "upsample gradient: output gradient");
    let row_len = shape.width * channels;
    let shared = SharedMut::new(x_gradient);
    for_each(shape.batch * shape.height, |task_idx| {
        let (image, in_row) = (task_idx / shape.height, task_idx % shape.height);
        // SAFETY: each task has its own row of input.
        let gradient = unsafe { shared.slice(task_idx * row_len, row_len) };
        gradient_row(isa, shape, size, image, in_row, y_gradient, gradient);
    });
}

vectorized! {
    /// One row of the gradient of an image.
    fn gradient_row[T: Storable](
        shape: &ImageShape,
        size: (usize, usize),
        image: usize,
        in_row: usize,
        y_gradient: &[T],
        gradient: &mut [T],
    ) {
        let ((height, width), channels) = (size, shape.channels);
        gradient.fill(T::default());
        for row in (0..height).filter(|&row| source(row, shape.height, height) == in_row) {
            for column in 0..width {
                let start = source(column, shape.width, width) * channels;
                let place = ((image * height + row) * width + column) * channels;
                let source = &y_gradient[place..place + channels];
                for (sum, &value) in gradient[start..start + channels].iter_mut().zip(source) {
                    *sum = T::nearest(sum.load() + value.load());
                }
            }
        }
    }
}
