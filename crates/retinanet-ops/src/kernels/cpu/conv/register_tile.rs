//! The two innermost loops: sums that stay in registers over a block of the depth of a product.

use super::super::Element;
use super::super::vector::Vector;
use std::mem::MaybeUninit;

/// The most lanes in two vectors of any instruction set.
const MAX_WIDTH: usize = 32;
/// The most rows of a register tile.
const MAX_ROWS: usize = 12;
/// The most products that are summed one after the other. The rounding of a sum of n grows with the root of n, and a
/// network that is trained feels it: a ReLU that falls to the other side moves a gradient by a thousandth. Blocks of this
/// depth cost a hundredth of the time.
const DEPTH_BLOCK: usize = 128;

/// What the input of a register tile looks like.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    /// Numbers from one output pixel's input to the next one's.
    pub(super) pixel_step: usize,
    /// Numbers from one kernel row to the next.
    pub(super) row_step: usize,
    /// Kernel rows.
    pub(super) rows: usize,
    /// Contiguous runs in one kernel row: 1 where all channels take part, else one for each tap.
    pub(super) runs: usize,
    /// Numbers from one run to the next.
    pub(super) run_step: usize,
    /// Numbers in a run.
    pub(super) run_len: usize,
}

/// Where the sums of a register tile go, and what is done to them. Absent pointers are null.
#[derive(Clone, Copy)]
pub(super) struct Target<T> {
    pub(super) y: *mut T,
    pub(super) pixel_step: usize,
    /// Output channels of the tile that exist.
    pub(super) channels: usize,
    pub(super) scale: *const T,
    pub(super) shift: *const T,
    pub(super) residual: *const T,
    pub(super) relu: bool,
}

/// `ROWS` output pixels times `VECTORS` vectors of output channels.
///
/// # Safety
/// The pointers reach as far as `taps` and `target` say; the processor has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn forward<T: Element, V: Vector<T>, const ROWS: usize, const VECTORS: usize>(
    x: *const T,
    taps: &Taps,
    panel: *const T,
    target: &Target<T>,
) {
    // SAFETY: the caller vouches for the pointers and the instruction set.
    unsafe {
        // Sums of at most DEPTH_BLOCK products stay in registers, and then join the totals in memory.
        let mut totals = [MaybeUninit::<T>::uninit(); MAX_ROWS * MAX_WIDTH];
        let totals = totals.as_mut_ptr().cast::<T>();
        let mut panel = panel;
        let Taps { pixel_step, row_step, rows, runs, run_step, run_len } = *taps;
        let is_one_block = rows * runs * run_len <= DEPTH_BLOCK;
        let (outer, inner_rows, inner_runs) = if is_one_block { (1, rows, runs) } else { (rows * runs, 1, 1) };
        for outer_idx in 0..outer {
            let x = x.wrapping_add(outer_idx / runs * row_step + outer_idx % runs * run_step);
            let mut first = 0;
            // Once even for no taps at all, whose sums are 0: a gradient that skips pixels has such.
            loop {
                let last = run_len.min(first + DEPTH_BLOCK);
                let mut sums = [[V::splat(T::ZERO); VECTORS]; ROWS];
                for row in 0..inner_rows {
                    for run in 0..inner_runs {
                        let x = x.wrapping_add(row * row_step + run * run_step);
                        for idx in first..last {
                            let mut weights = [V::splat(T::ZERO); VECTORS];
                            for vector in 0..VECTORS {
                                weights[vector] = V::load(panel.add(vector * V::LANES));
                            }
                            for pixel in 0..ROWS {
                                let value = V::splat(*x.add(pixel * pixel_step + idx));
                                for vector in 0..VECTORS {
                                    sums[pixel][vector] = value.mul_add(weights[vector], sums[pixel][vector]);
                                }
                            }
                            panel = panel.add(VECTORS * V::LANES);
                        }
                    }
                }
                let is_first = outer_idx == 0 && first == 0;
                for pixel in 0..ROWS {
                    for vector in 0..VECTORS {
                        let total = totals.add((pixel * VECTORS + vector) * V::LANES);
                        let sum = sums[pixel][vector];
                        if is_first { sum.store(total) } else { V::load(total).add(sum).store(total) }
                    }
                }
                first = last;
                if first >= run_len {
                    break;
                }
            }
        }
        for pixel in 0..ROWS {
            write::<T, V, VECTORS>(totals.add(pixel * VECTORS * V::LANES), pixel * target.pixel_step, target);
        }
    }
}

/// Writes the sums of one pixel, `offset` numbers into the target.
///
/// # Safety
/// As for [`forward`].
#[inline(always)]
unsafe fn write<T: Element, V: Vector<T>, const VECTORS: usize>(sums: *const T, offset: usize, target: &Target<T>) {
    // SAFETY: the caller vouches for the pointers and the instruction set; only channels that exist are touched.
    unsafe {
        if target.channels < VECTORS * V::LANES {
            for channel in 0..target.channels {
                let mut value = *sums.add(channel);
                if !target.scale.is_null() {
                    value = value * *target.scale.add(channel);
                }
                if !target.shift.is_null() {
                    value += *target.shift.add(channel);
                }
                if !target.residual.is_null() {
                    value += *target.residual.add(offset + channel);
                }
                *target.y.add(offset + channel) = if target.relu { value.relu() } else { value };
            }
            return;
        }
        for vector in 0..VECTORS {
            let lane = vector * V::LANES;
            let mut value = V::load(sums.add(lane));
            if !target.scale.is_null() {
                let zero = V::splat(T::ZERO);
                value = value.mul_add(V::load(target.scale.add(lane)), zero);
            }
            if !target.shift.is_null() {
                value = value.add(V::load(target.shift.add(lane)));
            }
            if !target.residual.is_null() {
                value = value.add(V::load(target.residual.add(offset + lane)));
            }
            if target.relu {
                value = value.relu();
            }
            value.store(target.y.add(offset + lane));
        }
    }
}

/// The pixels that a weight gradient sums over: images of rows of `columns` pixels.
#[derive(Clone, Copy)]
pub(super) struct Pixels {
    pub(super) images: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Numbers from one image, row, pixel of the packed input to the next.
    pub(super) x_steps: (usize, usize, usize),
}

/// `ROWS` input channels times `VECTORS` vectors of output channels, summed over pixels.
///
/// # Safety
/// `x` reaches as far as `pixels` says; `y_gradient` holds as many rows of `VECTORS` vectors as there are pixels; `sums`
/// holds `ROWS` rows of as many numbers, `sums_step` apart; the processor has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn weight_gradient<T: Element, V: Vector<T>, const ROWS: usize, const VECTORS: usize>(
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

/// Calls a register tile with the numbers of its rows and vectors as constants.
macro_rules! with_rows {
    ($element:ident, $vector:ident, $rows:expr, $vectors:expr, $call:ident, $arguments:tt) => {
        with_rows!(@arms $element, $vector, $rows, $vectors, $call, $arguments, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@arms $element:ident, $vector:ident, $rows:expr, $vectors:expr, $call:ident, $arguments:tt, $($n:literal)*) => {
        match ($rows, $vectors) {
            $(($n, 1) if $n <= $vector::ROWS => with_rows!(@call $call, $element, $vector, $n, 1, $arguments),
            ($n, _) if $n <= $vector::ROWS => with_rows!(@call $call, $element, $vector, $n, 2, $arguments),)*
            (rows, _) => unreachable!("register tiles have at most {} rows, found {rows}", $vector::ROWS),
        }
    };
    (@call $call:ident, $element:ident, $vector:ident, $n:literal, $vectors:literal, ($($argument:expr),* $(,)?)) => {
        $call::<$element, $vector, $n, $vectors>($($argument),*)
    };
}
pub(super) use with_rows;
