//! Max pooling and its gradient.

use super::isa::vectorized;
use super::tasks::{SharedMut, for_each};
use super::{Element, Isa, Storable};
use crate::kernels::{ImageShape, PoolShape};
use std::ops::Range;

/// Channels worked on together.
const BLOCK: usize = 16;
const WITHIN: &str = "a block of channels lies within its pixel";
/// Input rows of one task of the gradient.
const BAND_ROWS: usize = 16;

/// The input rows (or columns) of one window, without the padding.
pub(super) fn window(place: usize, shape: &PoolShape, len: usize) -> Range<usize> {
    let start = place * shape.stride();
    start.saturating_sub(shape.padding())..(start + shape.kernel() - shape.padding()).min(len)
}

/// Whether a number takes the maximum's place: torch's rule, where NaN wins and the first of equals stays.
#[inline(always)]
pub(super) fn exceeds<T: Element>(value: T, max: T) -> bool {
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    let is_nan = value != value;
    // Without a branch, so that it is vectorised.
    (value > max) | is_nan
}

/// The maximum of each window and channel; padding counts as minus infinity.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn max_pool2d<T: Storable>(isa: Isa, shape: &PoolShape, x: &[T], y: &mut [T]) {
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
        let x = &x[image * input.height * input.width * channels..];
        pool_row(isa, shape, rows, x, y);
    });
}

vectorized! {
    /// One row of the output of an image.
    fn pool_row[T: Storable](shape: &PoolShape, rows: Range<usize>, x: &[T], y: &mut [T]) {
        let (width, channels) = (shape.input().width, shape.input().channels);
        for (out_column, y) in y.chunks_exact_mut(channels).enumerate() {
            y.fill(T::nearest(T::Float::NEG_INFINITY));
            for row in rows.clone() {
                for column in window(out_column, shape, width) {
                    let start = (row * width + column) * channels;
                    for (max, &value) in y.iter_mut().zip(&x[start..start + channels]) {
                        *max = if exceeds(value.load(), max.load()) { value } else { *max };
                    }
                }
            }
        }
    }
}

/// The gradient of the input: each output's goes to the first maximum of its window, in row order.
///
/// # Shapes
/// - `x`, `x_gradient` (overwritten): `[N, H, W, C]`
/// - `y_gradient`: `[N, H', W', C]`
///
/// # Panics
/// A slice is shorter than its shape.
pub fn max_pool2d_gradient<T: Storable>(isa: Isa, shape: &PoolShape, x: &[T], y_gradient: &[T], x_gradient: &mut [T]) {
    let (input, output) = (shape.input(), shape.output());
    assert!(x.len() == input.len() && x_gradient.len() == input.len(), "max pool gradient: input");
    assert_eq!(y_gradient.len(), output.len(), "max pool gradient: output gradient");
    let bands = input.height.div_ceil(BAND_ROWS);
    let row_len = input.width * input.channels;
    let shared = SharedMut::new(x_gradient);
    for_each(input.batch * bands, |task_idx| {
        let (image, first) = (task_idx / bands, task_idx % bands * BAND_ROWS);
        let rows = first..input.height.min(first + BAND_ROWS);
        // SAFETY: each task has its own band of an image.
        let gradient = unsafe { shared.slice((image * input.height + rows.start) * row_len, rows.len() * row_len) };
        gradient_band(isa, shape, Band { image, rows, gradient }, x, y_gradient);
    });
}

/// Rows of an image and their gradient.
struct Band<'a, T> {
    image: usize,
    rows: Range<usize>,
    gradient: &'a mut [T],
}

vectorized! {
    /// Visits the windows that touch a band; those at its ends are visited for the next band again.
    fn gradient_band[T: Storable](shape: &PoolShape, band: Band<T>, x: &[T], y_gradient: &[T]) {
        let mut band = band;
        band.gradient.fill(T::default());
        let (input, output) = (shape.input(), shape.output());
        let x = &x[band.image * input.height * input.width * input.channels..];
        for out_row in 0..output.height {
            let rows = window(out_row, shape, input.height);
            if rows.end <= band.rows.start || rows.start >= band.rows.end {
                continue;
            }
            for out_column in 0..output.width {
                let columns = window(out_column, shape, input.width);
                let start = ((band.image * output.height + out_row) * output.width + out_column) * output.channels;
                let y_gradient = &y_gradient[start..start + output.channels];
                let whole = output.channels / BLOCK * BLOCK;
                for channel in (0..whole).step_by(BLOCK) {
                    gradient_window::<T, BLOCK>(&input, &rows, &columns, channel, x, y_gradient, &mut band);
                }
                for channel in whole..output.channels {
                    gradient_window::<T, 1>(&input, &rows, &columns, channel, x, y_gradient, &mut band);
                }
            }
        }
    }
}

/// Gives the gradients of `N` channels of one window to the first maxima, where those lie in the band.
#[inline(always)]
fn gradient_window<T: Storable, const N: usize>(
    input: &ImageShape,
    rows: &Range<usize>,
    columns: &Range<usize>,
    channel: usize,
    x: &[T],
    y_gradient: &[T],
    band: &mut Band<T>,
) {
    let place = |row: usize, column: usize| (row * input.width + column) * input.channels + channel;
    let (mut max, mut winner) = ([T::Float::NEG_INFINITY; N], [0u32; N]);
    let mut tap = 0;
    for row in rows.clone() {
        for column in columns.clone() {
            let start = place(row, column);
            let values = x[start..].first_chunk::<N>().expect(WITHIN);
            for idx in 0..N {
                let value = values[idx].load();
                let wins = exceeds(value, max[idx]);
                max[idx] = if wins { value } else { max[idx] };
                winner[idx] = if wins { tap } else { winner[idx] };
            }
            tap += 1;
        }
    }
    let y_gradient = y_gradient[channel..].first_chunk::<N>().expect(WITHIN);
    let mut tap = 0;
    for row in rows.clone() {
        if !band.rows.contains(&row) {
            tap += columns.len() as u32;
            continue;
        }
        for column in columns.clone() {
            let start = place(row - band.rows.start, column);
            let out = band.gradient[start..].first_chunk_mut::<N>().expect(WITHIN);
            for idx in 0..N {
                let part = if winner[idx] == tap { y_gradient[idx].load() } else { T::Float::ZERO };
                out[idx] = T::nearest(out[idx].load() + part);
            }
            tap += 1;
        }
    }
}
