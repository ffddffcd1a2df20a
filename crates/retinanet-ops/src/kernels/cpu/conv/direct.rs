//! A convolution in place: tiles of output pixels, each a loop over panels and register tiles.

use super::super::element::sealed::Vectors;
use super::super::tasks::{SharedMut, for_each_task, slots_len, split};
use super::super::vector::Vector;
use super::super::{Element, Isa};
use super::Epilogue;
use super::panels::{Panels, lanes};
use super::register_tile::{Taps, Target, forward, with_rows};
use crate::kernels::{Activation, ConvShape};

/// Output pixels of a tile: enough that the weights, read once a tile, cost little; few enough that there are tiles for
/// every thread, and that the tile's input stays in the second-level cache.
const TILE_PIXELS: usize = 192;
/// Bytes of a tile's copied input.
const TILE_BYTES: usize = 384 * 1024;
/// Tiles below which the output channels are divided too.
const MIN_TASKS: usize = 16;

/// A convolution by packed panels. Output pixel (y, x) sees the input from `y * stride + offset.0` on, in rows, and
/// likewise in columns; what lies outside is zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    pub(super) batch: usize,
    /// Input rows and columns.
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) stride: usize,
    pub(super) offset: (isize, isize),
    /// Output rows and columns.
    pub(super) out_size: (usize, usize),
    /// Where the output's numbers lie: the first, and from one image, row, pixel to the next.
    pub(super) out_start: usize,
    pub(super) out_image_step: usize,
    pub(super) out_row_step: usize,
    pub(super) out_pixel_step: usize,
    pub(super) panels: Panels,
}

/// How a convolution is cut into tasks; by shape alone.
struct Tiling {
    rows: usize,
    row_tiles: usize,
    column_tiles: usize,
    panel_parts: usize,
    /// Whether tiles copy their input: it has a border, or a mask, or a stride that the cache dislikes.
    copies: bool,
    /// Numbers between two pixels of the copy.
    copy_pixel_step: usize,
    /// Numbers of the copy.
    copy_len: usize,
}

impl Direct {
    pub(super) fn forward(shape: &ConvShape) -> Self {
        let (input, output) = (shape.input(), shape.output());
        let padding = shape.padding() as isize;
        let direct = Self {
            batch: input.batch,
            height: input.height,
            width: input.width,
            stride: shape.stride(),
            offset: (-padding, -padding),
            out_size: (output.height, output.width),
            out_start: 0,
            out_image_step: output.height * output.width * output.channels,
            out_row_step: output.width * output.channels,
            out_pixel_step: output.channels,
            panels: Panels::forward(shape),
        };
        if shape.is_pointwise() { direct.flattened() } else { direct }
    }

    /// All images as one row of pixels, where no pixel sees its neighbours.
    pub(super) fn flattened(self) -> Self {
        let pixels = self.batch * self.height * self.width;
        Self { batch: 1, height: 1, width: pixels, out_size: (1, pixels), ..self }
    }

    fn in_channels(&self) -> usize {
        self.panels.groups * self.panels.in_channels
    }

    /// Rows (or columns) of input that `count` output rows (or columns) see.
    fn reach(&self, count: usize, taps: usize) -> usize {
        (count - 1) * self.stride + taps
    }

    fn tiling<T: Element>(&self, isa: Isa, masked: bool) -> Tiling {
        let (height, width) = self.out_size;
        let (taps_y, taps_x) = (self.panels.taps_y.count, self.panels.taps_x.count);
        let channels = self.in_channels();
        let depth = self.panels.depth();
        let outside = |offset: isize, count: usize, taps: usize, len: usize| {
            offset < 0 || offset as usize + self.reach(count, taps) > len
        };
        let border =
            outside(self.offset.0, height, taps_y, self.height) || outside(self.offset.1, width, taps_x, self.width);
        let copies = depth > 0 && (border || masked);
        let pixel_bytes = channels * size_of::<T>();
        let copy_pixel_step = channels;
        // Columns first, then as many rows as the tile has room for.
        let mut column_tiles = width.div_ceil(TILE_PIXELS);
        let copied_rows = self.reach(1, taps_y.max(1));
        while copies
            && width.div_ceil(column_tiles) > 24
            && copied_rows * self.reach(width.div_ceil(column_tiles), taps_x) * pixel_bytes > TILE_BYTES
        {
            column_tiles += 1;
        }
        let columns = width.div_ceil(column_tiles);
        let mut rows = (TILE_PIXELS / columns).clamp(1, height);
        while copies && rows > 1 && self.reach(rows, taps_y) * self.reach(columns, taps_x) * pixel_bytes > TILE_BYTES {
            rows -= 1;
        }
        let row_tiles = height.div_ceil(rows);
        let tiles = self.batch * row_tiles * column_tiles;
        let num_panels = self.panels.num_panels::<T>(isa) * self.panels.groups;
        let panel_parts = if tiles >= MIN_TASKS { 1 } else { MIN_TASKS.div_ceil(tiles).min(num_panels) };
        let copy_len =
            if copies { self.reach(rows, taps_y) * self.reach(columns, taps_x) * copy_pixel_step } else { 0 };
        Tiling { rows, row_tiles, column_tiles, panel_parts, copies, copy_pixel_step, copy_len }
    }

    pub(super) fn workspace_len<T: Element>(&self, masked: bool) -> usize {
        // The copy's size does not depend on the instruction set, and the number of tasks only bounds it.
        slots_len(usize::MAX, self.tiling::<T>(Isa::Portable, masked).copy_len)
    }

    /// # Panics
    /// The workspace or the packed weights are too short. Input and output are checked by the callers.
    pub(super) fn run<T: Element>(
        &self,
        isa: Isa,
        x: &[T],
        relu_output: Option<&[T]>,
        packed: &[T],
        epilogue: Epilogue<T>,
        y: &mut [T],
        workspace: &mut [T],
    ) {
        let isa = isa.or_portable();
        assert!(packed.len() >= self.panels.len::<T>(isa), "convolution: packed weights");
        let tiling = self.tiling::<T>(isa, relu_output.is_some());
        let tiles = self.batch * tiling.row_tiles * tiling.column_tiles;
        let y = SharedMut::new(y);
        let num_panels = self.panels.num_panels::<T>(isa) * self.panels.groups;
        for_each_task(tiles * tiling.panel_parts, workspace, tiling.copy_len, |task_idx, copy| {
            let (tile, part) = (task_idx / tiling.panel_parts, task_idx % tiling.panel_parts);
            let (image, tile) =
                (tile / (tiling.row_tiles * tiling.column_tiles), tile % (tiling.row_tiles * tiling.column_tiles));
            let (row_tile, column_tile) = (tile / tiling.column_tiles, tile % tiling.column_tiles);
            let first_row = row_tile * tiling.rows;
            let rows = tiling.rows.min(self.out_size.0 - first_row);
            let (first_column, end_column) = split(self.out_size.1, tiling.column_tiles, column_tile);
            let columns = end_column - first_column;

            let in_row = (first_row * self.stride) as isize + self.offset.0;
            let in_column = (first_column * self.stride) as isize + self.offset.1;
            let channels = self.in_channels();
            let (x, pixel_step, row_pitch) = if tiling.copies {
                let copy_columns = self.reach(columns, self.panels.taps_x.count);
                let copy_rows = self.reach(rows, self.panels.taps_y.count);
                let place = Place { image, row: in_row, column: in_column, rows: copy_rows, columns: copy_columns };
                isa.run(|| self.copy(x, relu_output, place, copy));
                (copy.as_ptr(), tiling.copy_pixel_step, copy_columns * tiling.copy_pixel_step)
            } else {
                // Without a border both are places in the input; without taps nothing is read.
                let start = (image * self.height * self.width) as isize + in_row * self.width as isize + in_column;
                (x.as_ptr().wrapping_offset(start * channels as isize), channels, self.width * channels)
            };
            let out_start = self.out_start
                + image * self.out_image_step
                + first_row * self.out_row_step
                + first_column * self.out_pixel_step;
            let taps_x = self.panels.taps_x.count;
            let in_channels = self.panels.in_channels;
            let one_run = self.panels.groups == 1 && pixel_step == in_channels;
            let tile = Tile {
                x,
                rows,
                columns,
                row_step: self.stride * row_pitch,
                taps: Taps {
                    pixel_step: self.stride * pixel_step,
                    row_step: row_pitch,
                    rows: self.panels.taps_y.count,
                    runs: if one_run { 1 } else { taps_x },
                    run_step: pixel_step,
                    run_len: if one_run { taps_x * in_channels } else { in_channels },
                },
                panels: split(num_panels, tiling.panel_parts, part),
                packed: packed.as_ptr(),
                y: y.pointer(out_start),
                residual: epilogue.residual.map_or(std::ptr::null(), |residual| residual[out_start..].as_ptr()),
                scale: epilogue.scale.map_or(std::ptr::null(), <[T]>::as_ptr),
                shift: epilogue.shift.map_or(std::ptr::null(), <[T]>::as_ptr),
                relu: epilogue.activation == Activation::Relu,
                lanes: lanes::<T>(isa),
            };
            // SAFETY: the instruction set is there (`or_portable`); the tile's input is either the copy or, without a
            // border, wholly within `x`; its output pixels and panels are this task's alone.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => run_tile_avx512(self, &tile),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => run_tile_avx2(self, &tile),
                    _ => run_tile::<T, <T as Vectors>::Portable>(self, &tile),
                }
            }
        });
    }

    /// Copies a rectangle of the input, zero outside of it and where the mask is not positive.
    #[inline(always)]
    fn copy<T: Element>(&self, x: &[T], relu_output: Option<&[T]>, place: Place, copy: &mut [T]) {
        let channels = self.in_channels();
        let row_len = place.columns * channels;
        let left = (-place.column).clamp(0, place.columns as isize) as usize;
        let right = (self.width as isize - place.column).clamp(left as isize, place.columns as isize) as usize;
        for row in 0..place.rows {
            let copied = &mut copy[row * row_len..(row + 1) * row_len];
            let in_row = place.row + row as isize;
            if in_row < 0 || in_row >= self.height as isize || left == right {
                copied.fill(T::ZERO);
                continue;
            }
            copied[..left * channels].fill(T::ZERO);
            copied[right * channels..].fill(T::ZERO);
            let copied = &mut copied[left * channels..right * channels];
            let in_column = (place.column + left as isize) as usize;
            let start = ((place.image * self.height + in_row as usize) * self.width + in_column) * channels;
            let source = &x[start..start + copied.len()];
            match relu_output {
                None => copied.copy_from_slice(source),
                Some(relu_output) => {
                    let mask = &relu_output[start..start + copied.len()];
                    for ((copied, &value), &output) in copied.iter_mut().zip(source).zip(mask) {
                        *copied = if output > T::ZERO { value } else { T::ZERO };
                    }
                }
            }
        }
    }
}

/// A rectangle of an image, which may reach beyond it.
#[derive(Clone, Copy)]
struct Place {
    image: usize,
    row: isize,
    column: isize,
    rows: usize,
    columns: usize,
}

/// One task: some rows of output pixels, some panels.
struct Tile<T> {
    x: *const T,
    rows: usize,
    columns: usize,
    /// Numbers of input from one output row to the next.
    row_step: usize,
    taps: Taps,
    /// Panels of all groups, from and to.
    panels: (usize, usize),
    packed: *const T,
    y: *mut T,
    residual: *const T,
    scale: *const T,
    shift: *const T,
    relu: bool,
    lanes: usize,
}

/// # Safety
/// As for [`run_tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
unsafe fn run_tile_avx512<T: Element>(direct: &Direct, tile: &Tile<T>) {
    // SAFETY: the caller vouches for it.
    unsafe { run_tile::<T, <T as Vectors>::Avx512>(direct, tile) }
}

/// # Safety
/// As for [`run_tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_tile_avx2<T: Element>(direct: &Direct, tile: &Tile<T>) {
    // SAFETY: the caller vouches for it.
    unsafe { run_tile::<T, <T as Vectors>::Avx2>(direct, tile) }
}

/// # Safety
/// The tile's pointers reach as far as its numbers say, and the processor has the instruction set of `V`.
#[inline(always)]
unsafe fn run_tile<T: Element, V: Vector<T>>(direct: &Direct, tile: &Tile<T>) {
    let panels = &direct.panels;
    let width = 2 * tile.lanes;
    let per_group = panels.out_channels.div_ceil(width);
    let padded = panels.out_channels.next_multiple_of(tile.lanes);
    let depth = panels.depth();
    let blocks = tile.columns.div_ceil(V::ROWS);
    for panel in tile.panels.0..tile.panels.1 {
        let (group, first) = (panel / per_group, (panel % per_group) * width);
        let channels = width.min(panels.out_channels - first);
        let vectors = if padded - first < width { 1 } else { 2 };
        let channel = group * panels.out_channels + first;
        // SAFETY: places within the packed weights, the input, the output and its companions, as the caller vouches.
        unsafe {
            let packed = tile.packed.add(group * depth * padded + depth * first);
            let offset_or_null = |pointer: *const T, offset: usize| {
                if pointer.is_null() { pointer } else { pointer.add(offset) }
            };
            for row in 0..tile.rows {
                for block in 0..blocks {
                    let (start, end) = split(tile.columns, blocks, block);
                    let out = row * direct.out_row_step + start * direct.out_pixel_step + channel;
                    let target = Target {
                        y: tile.y.add(out),
                        pixel_step: direct.out_pixel_step,
                        channels,
                        scale: offset_or_null(tile.scale, channel),
                        shift: offset_or_null(tile.shift, channel),
                        residual: offset_or_null(tile.residual, out),
                        relu: tile.relu,
                    };
                    let in_start = row * tile.row_step + start * tile.taps.pixel_step + group * panels.in_channels;
                    let x = tile.x.wrapping_add(in_start);
                    with_rows!(T, V, end - start, vectors, forward, (x, &tile.taps, packed, &target));
                }
            }
        }
    }
}
