//! Max pooling and its gradient.

use super::tasks::{SharedMut, for_each};
use super::{Element, Isa};
use crate::kernels::PoolShape;
use std::ops::Range;

/// Channels worked on together.
const BLOCK: usize = 16;

/// The input rows (or columns) of one window, without the padding.
fn window(place: usize, shape: &PoolShape, len: usize) -> Range<usize> {
    let start = place * shape.stride();
    start.saturating_sub(shape.padding())..(start + shape.kernel() - shape.padding()).min(len)
}

/// Whether a number takes the maximum's place: torch's rule, where NaN wins and the first of equals stays.
#[inline(always)]
fn exceeds<T: Element>(value: T, max: T) -> bool {
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    let is_nan = value != value;
    value > max || is_nan
}

/// The maximum of each window and channel; padding counts as minus infinity.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn max_pool2d<T: Element>(isa: Isa, shape: &PoolShape, x: &[T], y: &mut [T]) {
    let (input, output) = (shape.input(), shape.output());
    assert!(x.len() == input.len() && y.len() == output.len(), "max pool: input and output");
    let channels = input.channels;
    let row_len = output.width * channels;
    let shared = SharedMut::new(y);
    for_each(output.batch * output.height, |task_idx| {
        let (image, out_row) = (task_idx / output.height, task_idx % output.height);
        // SAFETY: each task has its own row of output.
        let y = unsafe { shared.slice(task_idx * row_len, row_len) };
        let rows = window(out_row, shape, input.height);
        isa.run(|| {
            for (out_column, y) in y.chunks_exact_mut(channels).enumerate() {
                y.fill(T::NEG_INFINITY);
                for row in rows.clone() {
                    for column in window(out_column, shape, input.width) {
                        let start = ((image * input.height + row) * input.width + column) * channels;
                        for (max, &value) in y.iter_mut().zip(&x[start..start + channels]) {
                            *max = if exceeds(value, *max) { value } else { *max };
                        }
                    }
                }
            }
        });
    });
}

/// The gradient of the input: each output's goes to the first maximum of its window, in row order.
///
/// # Shapes
/// - `x`, `x_gradient` (overwritten): `[N, H, W, C]`
/// - `y_gradient`: `[N, H', W', C]`
///
/// # Panics
/// A slice is shorter than its shape.
pub fn max_pool2d_gradient<T: Element>(isa: Isa, shape: &PoolShape, x: &[T], y_gradient: &[T], x_gradient: &mut [T]) {
    let (input, output) = (shape.input(), shape.output());
    assert!(x.len() == input.len() && x_gradient.len() == input.len(), "max pool gradient: input");
    assert_eq!(y_gradient.len(), output.len(), "max pool gradient: output gradient");
    let blocks = input.channels.div_ceil(BLOCK);
    let shared = SharedMut::new(x_gradient);
    // Windows overlap, so a task has a block of an image's channels to itself.
    for_each(input.batch * blocks, |task_idx| {
        let (image, channel) = (task_idx / blocks, task_idx % blocks * BLOCK);
        let count = BLOCK.min(input.channels - channel);
        isa.run(|| {
            if count == BLOCK {
                gradient_block::<T, BLOCK>(shape, image, channel, x, y_gradient, &shared);
            } else {
                for channel in channel..channel + count {
                    gradient_block::<T, 1>(shape, image, channel, x, y_gradient, &shared);
                }
            }
        });
    });
}

#[inline(always)]
fn gradient_block<T: Element, const N: usize>(
    shape: &PoolShape,
    image: usize,
    channel: usize,
    x: &[T],
    y_gradient: &[T],
    x_gradient: &SharedMut<T>,
) {
    let (input, output) = (shape.input(), shape.output());
    let place =
        |row: usize, column: usize| ((image * input.height + row) * input.width + column) * input.channels + channel;
    // SAFETY: this task alone has these channels of this image.
    let gradient_at = |place: usize| unsafe { x_gradient.slice(place, N) };
    for row in 0..input.height {
        for column in 0..input.width {
            gradient_at(place(row, column)).fill(T::ZERO);
        }
    }
    for out_row in 0..output.height {
        let rows = window(out_row, shape, input.height);
        for out_column in 0..output.width {
            let columns = window(out_column, shape, input.width);
            let (mut max, mut winner) = ([T::NEG_INFINITY; N], [0u32; N]);
            let mut tap = 0;
            for row in rows.clone() {
                for column in columns.clone() {
                    let start = place(row, column);
                    let values = &x[start..start + N];
                    for idx in 0..N {
                        let wins = exceeds(values[idx], max[idx]);
                        max[idx] = if wins { values[idx] } else { max[idx] };
                        winner[idx] = if wins { tap } else { winner[idx] };
                    }
                    tap += 1;
                }
            }
            let start = ((image * output.height + out_row) * output.width + out_column) * output.channels + channel;
            let gradient = &y_gradient[start..start + N];
            let mut tap = 0;
            for row in rows.clone() {
                for column in columns.clone() {
                    let out = gradient_at(place(row, column));
                    for idx in 0..N {
                        out[idx] += if winner[idx] == tap { gradient[idx] } else { T::ZERO };
                    }
                    tap += 1;
                }
            }
        }
    }
}
