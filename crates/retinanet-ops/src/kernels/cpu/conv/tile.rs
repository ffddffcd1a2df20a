//! One task of a convolution: strips of output pixels times panels of output channels.

use super::super::products::Products;
use super::super::stored::Sum;
use super::super::tasks::split;
use super::finish::{Finish, Target};
use super::panels::Panels;
use super::register_tile::{MAX_SUMS, Taps, forward, with_rows};
use std::mem::MaybeUninit;

/// Neighbouring output pixels of a row.
#[derive(Clone, Copy)]
pub(crate) struct Strip<W> {
    /// The input that the first pixel sees first.
    pub(super) x: *const W,
    /// Words from one row of that input to the next.
    pub(super) row_step: usize,
    /// The first pixel.
    pub(super) y: *mut u8,
    /// Null where there is none.
    pub(super) residual: *const u8,
    pub(super) columns: usize,
}

impl<W> Strip<W> {
    /// A place in a list that is not filled yet.
    pub(super) const NOWHERE: Self =
        Self { x: std::ptr::null(), row_step: 0, y: std::ptr::null_mut(), residual: std::ptr::null(), columns: 0 };
}

/// Strips and panels.
pub(crate) struct Tile<'a, W, S: Sum> {
    pub(super) strips: &'a [Strip<W>],
    /// The same for all strips, but for the step from row to row.
    pub(super) taps: Taps,
    /// Pixels of the output's memory from one pixel of a strip to the next.
    pub(super) out_step: usize,
    pub(super) panels: &'a Panels,
    /// Panels of all groups, from and to.
    pub(super) range: (usize, usize),
    pub(super) packed: *const W,
    pub(super) finish: &'a Finish<'a, S>,
}

/// The sums of a register tile, in lines of the cache.
#[repr(align(64))]
struct Sums<S>([MaybeUninit<S>; MAX_SUMS]);

/// # Safety
/// The tile's pointers reach as far as its numbers say, and the processor has the instruction set of `P`.
#[inline(always)]
pub(super) unsafe fn run_tile<P: Products<Sum: Sum>>(tile: &Tile<P::Word, P::Sum>) {
    let mut sums: Sums<P::Sum> = Sums([MaybeUninit::uninit(); MAX_SUMS]);
    let sums = sums.0.as_mut_ptr().cast::<P::Sum>();
    let (panels, finish) = (tile.panels, tile.finish);
    let width = 2 * P::LANES;
    let per_group = panels.out_channels.div_ceil(width);
    let padded = panels.out_channels.next_multiple_of(P::LANES);
    let depth = panels.depth();
    let last_channel = panels.groups * panels.out_channels;
    for panel in tile.range.0..tile.range.1 {
        let (group, first) = (panel / per_group, (panel % per_group) * width);
        let channels = width.min(panels.out_channels - first);
        let vectors = if padded - first < width { 1 } else { 2 };
        let channel = group * panels.out_channels + first;
        let of_channel =
            |numbers: Option<&[_]>| numbers.map_or(std::ptr::null(), |numbers| numbers[channel..].as_ptr());
        let mut target = Target {
            y: std::ptr::null_mut(),
            y_step: tile.out_step * finish.y_bytes.1,
            residual: std::ptr::null(),
            residual_step: tile.out_step * finish.residual_bytes.1,
            channels,
            padding: if channel + channels == last_channel { finish.y_padding } else { 0 },
            scale: of_channel(finish.scale),
            shift: of_channel(finish.shift),
            residual_scale: finish.residual_scale,
            relu: finish.relu,
            low: finish.low,
        };
        // SAFETY: places within the packed weights, the input, the output and its companions, as the caller vouches.
        unsafe {
            let packed = tile.packed.add((group * padded + first) * depth);
            for strip in tile.strips {
                let taps = Taps { row_step: strip.row_step, ..tile.taps };
                let blocks = strip.columns.div_ceil(P::ROWS);
                for block in 0..blocks {
                    let (start, end) = split(strip.columns, blocks, block);
                    let x = strip.x.wrapping_add(start * taps.pixel_step + group * panels.in_words());
                    with_rows!(P::ROWS, end - start, vectors, forward, (P), (x, &taps, packed, sums));
                    target.y = strip.y.add(start * target.y_step + channel * finish.y_bytes.0);
                    if !strip.residual.is_null() {
                        let offset = start * target.residual_step + channel * finish.residual_bytes.0;
                        target.residual = strip.residual.add(offset);
                    }
                    (finish.function)(sums, end - start, vectors, &target);
                }
            }
        }
    }
}
