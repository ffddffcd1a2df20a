//! What follows the sums of a register tile: `act(sum * scale + shift + residual)`, rounded to the type of the output.

use super::super::Element;
use super::super::stored::{FromSums, Stored, Sum};
use super::super::vector::Vector;

/// A type that outputs and residuals are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stores {
    /// The type that sums are scaled in.
    Full,
    /// Two bytes.
    Bf16,
    /// One byte.
    U8,
}

/// Writes `rows` pixels of `vectors` vectors of sums.
pub(crate) type FinishFn<S> =
    unsafe fn(sums: *const S, rows: usize, vectors: usize, target: &Target<<S as Sum>::Float>);

/// What is the same for all register tiles of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a, S: Sum> {
    pub(crate) function: FinishFn<S>,
    /// `[Cout]`.
    pub(crate) scale: Option<&'a [S::Float]>,
    /// `[Cout]`.
    pub(crate) shift: Option<&'a [S::Float]>,
    /// Of the residual's numbers.
    pub(crate) residual_scale: S::Float,
    /// Whether max(x, 0) is the last step.
    pub(crate) relu: bool,
    /// The least byte of an output of bytes.
    pub(crate) low: S::Float,
    /// Bytes of one number and of one pixel of the output.
    pub(crate) y_bytes: (usize, usize),
    /// Bytes of one number and of one pixel of the residual.
    pub(crate) residual_bytes: (usize, usize),
    /// Numbers behind the last channel of a pixel of the output.
    pub(crate) y_padding: usize,
}

/// Where the sums of a register tile go. Absent pointers are null.
#[derive(Clone, Copy)]
pub(crate) struct Target<F> {
    pub(crate) y: *mut u8,
    /// Bytes from one pixel of the output to the next.
    pub(crate) y_step: usize,
    pub(crate) residual: *const u8,
    /// Bytes from one pixel of the residual to the next.
    pub(crate) residual_step: usize,
    /// Laid out as the output: where it is not positive, the output becomes 0.
    pub(crate) gate: *const u8,
    /// Output channels of the tile that exist.
    pub(crate) channels: usize,
    /// Numbers to be zeroed behind them.
    pub(crate) padding: usize,
    pub(crate) scale: *const F,
    pub(crate) shift: *const F,
    pub(crate) residual_scale: F,
    pub(crate) relu: bool,
    pub(crate) low: F,
}

/// [`FinishFn`] for an output of `Y` and a residual of `R`.
///
/// Products are rounded before they are added, whatever the instruction set has, so that exact sums give equal results
/// everywhere.
///
/// # Safety
/// There are `rows * vectors` vectors of sums; the target's pointers are good for as many pixels, of as many channels as
/// exist; the processor has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn finish<S, V, Y, R>(sums: *const S, rows: usize, vectors: usize, target: &Target<S::Float>)
where
    S: Sum,
    V: FromSums<S>,
    Y: Stored<S::Float, V>,
    R: Stored<S::Float, V>,
{
    let sums_step = vectors * V::LANES;
    // SAFETY: the caller vouches for the pointers and the instruction set; only channels that exist are touched.
    unsafe {
        for vector in 0..vectors {
            let first = vector * V::LANES;
            if first + V::LANES > target.channels {
                for row in 0..rows {
                    finish_tail::<S, V, Y, R>(sums.add(row * sums_step), first, row, target);
                }
                break;
            }
            let sums = sums.add(first);
            match (target.scale.is_null(), target.residual.is_null()) {
                (true, true) => finish_vector::<S, V, Y, R, false, false>(sums, sums_step, first, rows, target),
                (true, false) => finish_vector::<S, V, Y, R, false, true>(sums, sums_step, first, rows, target),
                (false, true) => finish_vector::<S, V, Y, R, true, false>(sums, sums_step, first, rows, target),
                (false, false) => finish_vector::<S, V, Y, R, true, true>(sums, sums_step, first, rows, target),
            }
        }
        if !target.gate.is_null() {
            gate::<S, V, Y>(rows, target);
        }
    }
}

/// Zeroes what has been written where the gate is not positive, while it still is in the first-level cache.
///
/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn gate<S, V, Y>(rows: usize, target: &Target<S::Float>)
where
    S: Sum,
    V: Vector<S::Float>,
    Y: Stored<S::Float, V>,
{
    // SAFETY: as for `finish`.
    unsafe {
        for row in 0..rows {
            let y = target.y.add(row * target.y_step).cast::<Y>();
            let gate = target.gate.add(row * target.y_step).cast::<Y>();
            let mut channel = 0;
            while channel + V::LANES <= target.channels {
                let value = Y::load(y.add(channel)).where_positive(Y::load(gate.add(channel)));
                Y::store(value, S::Float::ZERO, y.add(channel));
                channel += V::LANES;
            }
            while channel < target.channels {
                let is_open = (*gate.add(channel)).read() > S::Float::ZERO;
                *y.add(channel) = if is_open { *y.add(channel) } else { Y::PADDING };
                channel += 1;
            }
        }
    }
}

/// One vector of channels, from `first` on, of all rows.
///
/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn finish_vector<S, V, Y, R, const SCALED: bool, const RESIDUAL: bool>(
    mut sums: *const S,
    sums_step: usize,
    first: usize,
    rows: usize,
    target: &Target<S::Float>,
) where
    S: Sum,
    V: FromSums<S>,
    Y: Stored<S::Float, V>,
    R: Stored<S::Float, V>,
{
    // SAFETY: as for `finish`.
    unsafe {
        let zero = V::splat(S::Float::ZERO);
        let scale = if SCALED { V::load(target.scale.add(first)) } else { zero };
        // Sums begin at positive zero, so that another changes nothing.
        let shift = if target.shift.is_null() { zero } else { V::load(target.shift.add(first)) };
        let residual_scale = V::splat(target.residual_scale);
        let (low, relu) = (target.low, target.relu);
        let (y_step, residual_step) = (target.y_step, target.residual_step);
        let mut y = target.y.cast::<Y>().add(first).cast::<u8>();
        let mut residual = target.residual.cast::<R>().wrapping_add(first).cast::<u8>();
        for _ in 0..rows {
            let mut value = V::from_sums(sums);
            if SCALED {
                value = value.mul(scale);
            }
            value = value.add(shift);
            if RESIDUAL {
                value = value.add(R::load(residual.cast()).mul(residual_scale));
            }
            if relu {
                value = value.relu();
            }
            Y::store(value, low, y.cast());
            sums = sums.wrapping_add(sums_step);
            y = y.wrapping_add(y_step);
            residual = residual.wrapping_add(residual_step);
        }
    }
}

/// The channels of one pixel from `first` on, fewer than a vector, and what pads the pixel.
///
/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn finish_tail<S, V, Y, R>(sums: *const S, first: usize, row: usize, target: &Target<S::Float>)
where
    S: Sum,
    V: Vector<S::Float>,
    Y: Stored<S::Float, V>,
    R: Stored<S::Float, V>,
{
    // SAFETY: as for `finish`.
    unsafe {
        let y = target.y.add(row * target.y_step).cast::<Y>();
        for channel in first..target.channels {
            let mut value = (*sums.add(channel)).to_float();
            if !target.scale.is_null() {
                value = value * *target.scale.add(channel);
            }
            if !target.shift.is_null() {
                value += *target.shift.add(channel);
            }
            if !target.residual.is_null() {
                let residual = *target.residual.add(row * target.residual_step).cast::<R>().add(channel);
                value += residual.read() * target.residual_scale;
            }
            if target.relu {
                value = value.relu();
            }
            *y.add(channel) = Y::nearest(value, target.low);
        }
        for padding in 0..target.padding {
            *y.add(target.channels + padding) = Y::PADDING;
        }
    }
}
