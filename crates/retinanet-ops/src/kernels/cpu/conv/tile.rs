//! One task of a convolution: strips of output pixels times panels of output channels.

use super::super::products::Products;
use super::super::stored::Sum;
use super::super::tasks::split;
use super::super::vector::prefetch;
use super::arithmetic::Path;
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
    /// Laid out as the output; null where there is none.
    pub(super) gate: *const u8,
    pub(super) columns: usize,
}

impl<W> Strip<W> {
    /// A place in a list that is not filled yet.
    pub(super) const NOWHERE: Self = Self {
        x: std::ptr::null(),
        row_step: 0,
        y: std::ptr::null_mut(),
        residual: std::ptr::null(),
        gate: std::ptr::null(),
        columns: 0,
    };
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

/// Bytes of packed weights that stay in the second-level cache: with as much, all panels are taken to some pixels before
/// the next pixels, else all pixels to one panel before the next panel.
const SMALL_WEIGHT: usize = 320 * 1024;
/// Pixels that all panels are taken to: their input and output stay in the first-level cache.
const CHUNK_PIXELS: usize = 48;
/// Bytes of a line of the cache.
const LINE: usize = 64;

/// # Safety
/// The tile's pointers reach as far as its numbers say, and the processor has the instruction set of the path.
pub(super) unsafe fn run_tile<W: Copy, S: Sum>(path: &Path<W, S>, tile: &Tile<W, S>) {
    let weight_bytes = tile.panels.len(path.lanes) * size_of::<W>();
    let panels = || (tile.range.0..tile.range.1).map(|idx| Panel::new(tile, path.lanes, idx));
    // SAFETY: the caller vouches for the tile; columns are those of a strip.
    unsafe {
        if weight_bytes <= SMALL_WEIGHT {
            for strip in tile.strips {
                for first in (0..strip.columns).step_by(CHUNK_PIXELS) {
                    let columns = (first, strip.columns.min(first + CHUNK_PIXELS));
                    for panel in panels() {
                        (path.strip)(tile, &panel, strip, columns);
                    }
                }
            }
        } else {
            for panel in panels() {
                for strip in tile.strips {
                    (path.strip)(tile, &panel, strip, (0, strip.columns));
                }
            }
        }
    }
}

/// [`run_strip`], compiled for an instruction set.
pub(crate) type StripFn<W, S> =
    unsafe fn(tile: &Tile<W, S>, panel: &Panel<W, <S as Sum>::Float>, strip: &Strip<W>, columns: (usize, usize));

/// Two vectors of output channels, or the last one of a group.
pub(crate) struct Panel<W, F> {
    packed: *const W,
    vectors: usize,
    /// The first.
    channel: usize,
    /// Words to the group's first channel.
    in_offset: usize,
    /// Whether it is the first that sees the input.
    is_first: bool,
    /// All but the places.
    target: Target<F>,
}

impl<W, F: Copy> Panel<W, F> {
    fn new<S: Sum<Float = F>>(tile: &Tile<W, S>, lanes: usize, idx: usize) -> Self {
        let (panels, finish) = (tile.panels, tile.finish);
        let width = 2 * lanes;
        let padded = panels.padded_channels(lanes);
        let per_group = panels.num_panels(lanes);
        let (group, first) =
            if panels.groups == 1 { (0, idx * width) } else { (idx / per_group, idx % per_group * width) };
        let channels = width.min(panels.out_channels - first);
        let channel = group * panels.out_channels + first;
        let is_last = channel + channels == panels.groups * panels.out_channels;
        let of_channel =
            |numbers: Option<&[F]>| numbers.map_or(std::ptr::null(), |numbers| numbers[channel..].as_ptr());
        let target = Target {
            y: std::ptr::null_mut(),
            y_step: tile.out_step * finish.y_bytes.1,
            residual: std::ptr::null(),
            residual_step: tile.out_step * finish.residual_bytes.1,
            gate: std::ptr::null(),
            channels,
            padding: if is_last { finish.y_padding } else { 0 },
            scale: of_channel(finish.scale),
            shift: of_channel(finish.shift),
            residual_scale: finish.residual_scale,
            relu: finish.relu,
            low: finish.low,
        };
        Self {
            packed: tile.packed.wrapping_add((group * padded + first) * panels.depth()),
            vectors: if padded - first < width { 1 } else { 2 },
            channel,
            in_offset: group * panels.in_words(),
            is_first: idx == tile.range.0,
            target,
        }
    }
}

/// One panel times the columns `from..to` of a strip.
///
/// # Safety
/// The tile's pointers reach as far as its numbers say, and the processor has the instruction set of `P`.
#[inline(always)]
pub(super) unsafe fn run_strip<P: Products<Sum: Sum>>(
    tile: &Tile<P::Word, P::Sum>,
    panel: &Panel<P::Word, <P::Sum as Sum>::Float>,
    strip: &Strip<P::Word>,
    (from, to): (usize, usize),
) {
    let mut sums: Sums<P::Sum> = Sums([MaybeUninit::uninit(); MAX_SUMS]);
    let sums = sums.0.as_mut_ptr().cast::<P::Sum>();
    let finish = tile.finish;
    let taps = Taps { row_step: strip.row_step, ..tile.taps };
    let mut target = panel.target;
    let blocks = (to - from).div_ceil(P::ROWS);
    for block in 0..blocks {
        let (start, end) = split(to - from, blocks, block);
        let (start, rows) = (from + start, end - start);
        let x = strip.x.wrapping_add(start * taps.pixel_step + panel.in_offset);
        target.y = strip.y.wrapping_add(start * target.y_step + panel.channel * finish.y_bytes.0);
        if !strip.residual.is_null() {
            let offset = start * target.residual_step + panel.channel * finish.residual_bytes.0;
            target.residual = strip.residual.wrapping_add(offset);
        }
        if !strip.gate.is_null() {
            target.gate = strip.gate.wrapping_add(start * target.y_step + panel.channel * finish.y_bytes.0);
        }
        // What the products do not touch is fetched while they are computed: pixels lie too far apart for the processor to
        // guess.
        for row in 0..rows {
            for byte in (0..panel.target.channels * finish.y_bytes.0).step_by(LINE) {
                prefetch(target.y.wrapping_add(row * target.y_step + byte));
            }
            if !strip.residual.is_null() {
                for byte in (0..panel.target.channels * finish.residual_bytes.0).step_by(LINE) {
                    prefetch(target.residual.wrapping_add(row * target.residual_step + byte));
                }
            }
        }
        if panel.is_first && taps.rows * taps.runs == 1 {
            let line = LINE / size_of::<P::Word>();
            for row in 0..rows {
                for word in (0..taps.run_len).step_by(line) {
                    prefetch(x.wrapping_add((row + rows) * taps.pixel_step + word));
                }
            }
        }
        // SAFETY: places within the packed weights, the input, the output and its companions, as the caller vouches.
        unsafe {
            with_rows!(P::ROWS, rows, panel.vectors, forward, (P), (x, &taps, panel.packed, sums));
            (finish.function)(sums, rows, panel.vectors, &target);
        }
    }
}
