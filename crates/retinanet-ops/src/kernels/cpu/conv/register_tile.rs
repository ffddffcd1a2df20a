//! The two innermost loops: sums that stay in registers over a block of the depth of a product.

use super::super::Element;
use super::super::products::Products;
use super::super::vector::Vector;

/// The most lanes in two vectors of any instruction set.
const MAX_WIDTH: usize = 32;
/// The most rows of a register tile.
const MAX_ROWS: usize = 12;
/// The most sums of a register tile.
pub(super) const MAX_SUMS: usize = MAX_ROWS * MAX_WIDTH;

/// What the input of a register tile looks like, in words.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    /// From one output pixel's input to the next one's.
    pub(super) pixel_step: usize,
    /// From one kernel row to the next.
    pub(super) row_step: usize,
    /// Kernel rows.
    pub(super) rows: usize,
    /// Contiguous runs in one kernel row: 1 where all channels take part, else one for each tap.
    pub(super) runs: usize,
    /// From one run to the next.
    pub(super) run_step: usize,
    /// Of a run.
    pub(super) run_len: usize,
}

/// `ROWS` output pixels times `VECTORS` vectors of output channels, in rows of as many sums.
///
/// # Safety
/// `x` and `panel` reach as far as `taps` says, and `totals` holds the sums; the processor has the instruction set of `P`.
#[inline(always)]
pub(super) unsafe fn forward<P: Products, const ROWS: usize, const VECTORS: usize>(
    x: *const P::Word,
    taps: &Taps,
    panel: *const P::Word,
    totals: *mut P::Sum,
) {
    // SAFETY: the caller vouches for the pointers and the instruction set.
    unsafe {
        // Sums of at most a block stay in registers, and then join the totals in memory.
        let mut panel = panel;
        let Taps { pixel_step, row_step, rows, runs, run_step, run_len } = *taps;
        let is_one_block = P::DEPTH_BLOCK == usize::MAX || rows * runs * run_len <= P::DEPTH_BLOCK;
        let (outer, inner_rows, inner_runs) = if is_one_block { (1, rows, runs) } else { (rows * runs, 1, 1) };
        for outer_idx in 0..outer {
            let x = x.wrapping_add(outer_idx / runs * row_step + outer_idx % runs * run_step);
            let mut first = 0usize;
            // Once even for no taps at all, whose sums are 0: a gradient that skips pixels has such.
            loop {
                let last = run_len.min(first.saturating_add(P::DEPTH_BLOCK));
                let mut sums = [[P::zero(); VECTORS]; ROWS];
                for row in 0..inner_rows {
                    for run in 0..inner_runs {
                        let x = x.wrapping_add(row * row_step + run * run_step);
                        for idx in first..last {
                            let weights: [P::Weight; VECTORS] =
                                std::array::from_fn(|vector| P::weight(panel.add(vector * P::LANES)));
                            for pixel in 0..ROWS {
                                let input = P::input(x.add(pixel * pixel_step + idx));
                                for vector in 0..VECTORS {
                                    sums[pixel][vector] = P::add_products(sums[pixel][vector], input, weights[vector]);
                                }
                            }
                            panel = panel.add(VECTORS * P::LANES);
                        }
                    }
                }
                let is_first = outer_idx == 0 && first == 0;
                for pixel in 0..ROWS {
                    for vector in 0..VECTORS {
                        let total = totals.add((pixel * VECTORS + vector) * P::LANES);
                        let sum = sums[pixel][vector];
                        P::store(if is_first { sum } else { P::add_stored(sum, total) }, total);
                    }
                }
                first = last;
                if first >= run_len {
                    break;
                }
            }
        }
    }
}

/// The pixels that a weight gradient sums over: images of rows of `columns` pixels.
#[derive(Clone, Copy)]
pub(in super::super) struct Pixels {
    pub(in super::super) images: usize,
    pub(in super::super) rows: usize,
    pub(in super::super) columns: usize,
    /// Numbers from one image, row, pixel of the packed input to the next.
    pub(in super::super) x_steps: (usize, usize, usize),
}

/// `ROWS` input channels times `VECTORS` vectors of output channels, summed over pixels.
///
/// # Safety
/// `x` reaches as far as `pixels` says; `y_gradient` holds as many rows of `VECTORS` vectors as there are pixels; `sums`
/// holds `ROWS` rows of as many numbers, `sums_step` apart; the processor has the instruction set of `V`.
#[inline(always)]
pub(in super::super) unsafe fn weight_gradient<T: Element, V: Vector<T>, const ROWS: usize, const VECTORS: usize>(
    x: *const T,
    pixels: &Pixels,
    y_gradient: *const T,
    out: *mut T,
    out_step: usize,
    accumulate: bool,
) {
    // SAFETY: the caller vouches for the pointers and the instruction set.
    unsafe {
        let mut sums = [[V::splat(T::ZERO); VECTORS]; ROWS];
        if accumulate {
            for row in 0..ROWS {
                for vector in 0..VECTORS {
                    sums[row][vector] = V::load(out.add(row * out_step + vector * V::LANES));
                }
            }
        }
        let mut y_gradient = y_gradient;
        let (image_step, row_step, pixel_step) = pixels.x_steps;
        for image in 0..pixels.images {
            for row in 0..pixels.rows {
                let mut x = x.add(image * image_step + row * row_step);
                for _ in 0..pixels.columns {
                    let mut gradients = [V::splat(T::ZERO); VECTORS];
                    for vector in 0..VECTORS {
                        gradients[vector] = V::load(y_gradient.add(vector * V::LANES));
                    }
                    for channel in 0..ROWS {
                        let value = V::splat(*x.add(channel));
                        for vector in 0..VECTORS {
                            sums[channel][vector] = value.mul_add(gradients[vector], sums[channel][vector]);
                        }
                    }
                    y_gradient = y_gradient.add(VECTORS * V::LANES);
                    x = x.wrapping_add(pixel_step);
                }
            }
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                sums[row][vector].store(out.add(row * out_step + vector * V::LANES));
            }
        }
    }
}

/// Calls a register tile of at most `max` rows with the numbers of its rows and vectors as constants.
macro_rules! with_rows {
    ($max:expr, $rows:expr, $vectors:expr, $call:ident, $types:tt, $arguments:tt) => {
        with_rows!(@arms $max, $rows, $vectors, $call, $types, $arguments, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@arms $max:expr, $rows:expr, $vectors:expr, $call:ident, $types:tt, $arguments:tt, $($n:literal)*) => {
        match ($rows, $vectors) {
            $(($n, 1) if $n <= $max => with_rows!(@call $call, $types, $n, 1, $arguments),
            ($n, _) if $n <= $max => with_rows!(@call $call, $types, $n, 2, $arguments),)*
            (rows, _) => unreachable!("register tiles have at most {} rows, found {rows}", $max),
        }
    };
    (@call $call:ident, ($($type:ident),*), $n:literal, $vectors:literal, ($($argument:expr),* $(,)?)) => {
        $call::<$($type),*, $n, $vectors>($($argument),*)
    };
}
pub(in super::super) use with_rows;
