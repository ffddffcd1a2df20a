//! A convolution in place: where its numbers lie, and how the work is cut into tasks.

use super::super::Isa;
use super::super::isa::vectorized;
use super::super::tasks::{for_each_task, slots_len, split};
use super::arithmetic::Arithmetic;
use super::finish::Finish;
use super::panels::Panels;
use super::register_tile::Taps;
use super::tile::{Strip, Tile, run_tile};
use crate::kernels::ConvShape;

/// Output pixels of a tile, for words of one number: enough that the weights, read once a tile, cost little; few enough
/// that there are tiles for every thread, and that the tile's input stays in the second-level cache.
const TILE_PIXELS: usize = 192;
/// Bytes of a tile's copied input.
const TILE_BYTES: usize = 384 * 1024;
/// Rows of a tile.
const MAX_STRIPS: usize = 32;
/// Tiles below which the output channels are divided too.
const MIN_TASKS: usize = 16;
/// Output pixels of a row that are computed or not together: few, so that little is computed that nobody asked for, but as
/// many sums as keep the multipliers busy.
pub(crate) const CELL_PIXELS: usize = 4;
/// Cells of a task.
const TASK_CELLS: usize = 16;

/// A convolution by packed panels. Output pixel (y, x) sees the input from `y * stride + offset.0` on, in rows, and
/// likewise in columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direct {
    pub(super) batch: usize,
    /// Input rows and columns.
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) stride: usize,
    pub(super) offset: (isize, isize),
    /// Output rows and columns.
    pub(super) out_size: (usize, usize),
    /// Where the output's pixels lie, in pixels: the first, and from one image, row, column to the next.
    pub(super) out_start: usize,
    pub(super) out_image_step: usize,
    pub(super) out_row_step: usize,
    pub(super) out_column_step: usize,
    pub(super) panels: Panels,
}

/// What is the same for all planes of a run.
pub(crate) struct Layer<'a, A: Arithmetic> {
    pub(crate) isa: Isa,
    pub(crate) panels: &'a Panels,
    /// From [`Panels::pack`], in words.
    pub(crate) packed: &'a [A::Weight],
    /// What lies around the input.
    pub(crate) outside: A::Number,
    pub(crate) finish: Finish<'a, A::Sum>,
}

/// One input and output. Input and mask are checked where they are used, the outputs by the caller.
pub(crate) struct Plane<'a, N> {
    pub(crate) direct: Direct,
    pub(crate) x: &'a [N],
    /// Input counts where this is more than what lies outside.
    pub(crate) mask: Option<&'a [N]>,
    pub(crate) y: *mut u8,
    /// Null where there is none.
    pub(crate) residual: *const u8,
    /// Laid out as the output, which becomes 0 where this is not positive; null where there is none.
    pub(crate) gate: *const u8,
}

/// How a plane is cut into tiles; by shape alone.
struct Tiling {
    rows: usize,
    row_tiles: usize,
    column_tiles: usize,
    /// Whether tiles copy their input: it has a border, or a mask.
    copies: bool,
    /// Numbers of the copy.
    copy_len: usize,
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

impl Direct {
    /// For inputs that are read in words of `per_word` channels.
    pub(crate) fn forward(shape: &ConvShape, per_word: usize) -> Self {
        let (input, output) = (shape.input(), shape.output());
        let padding = shape.padding() as isize;
        Self {
            batch: input.batch,
            height: input.height,
            width: input.width,
            stride: shape.stride(),
            offset: (-padding, -padding),
            out_size: (output.height, output.width),
            out_start: 0,
            out_image_step: output.height * output.width,
            out_row_step: output.width,
            out_column_step: 1,
            panels: Panels::forward(shape, per_word),
        }
    }

    /// All images as one row of pixels, where no pixel sees its neighbours.
    pub(crate) fn flattened(self) -> Self {
        let pixels = self.batch * self.height * self.width;
        Self { batch: 1, height: 1, width: pixels, out_size: (1, pixels), ..self }
    }

    /// Numbers of one pixel of the input.
    fn pixel_len(&self) -> usize {
        self.panels.groups * self.panels.in_words() * self.panels.per_word()
    }

    /// Rows (or columns) of input that `count` output rows (or columns) see.
    fn reach(&self, count: usize, taps: usize) -> usize {
        (count - 1) * self.stride + taps
    }

    fn tiling(&self, pixel_bytes: usize, masked: bool) -> Tiling {
        let (height, width) = self.out_size;
        let (taps_y, taps_x) = (self.panels.taps_y.count, self.panels.taps_x.count);
        let tile_pixels = TILE_PIXELS * self.panels.per_word();
        let outside = |offset: isize, count: usize, taps: usize, len: usize| {
            offset < 0 || offset as usize + self.reach(count, taps) > len
        };
        let border =
            outside(self.offset.0, height, taps_y, self.height) || outside(self.offset.1, width, taps_x, self.width);
        let copies = self.panels.depth() > 0 && (border || masked);
        // Columns first, then as many rows as the tile has room for.
        let mut column_tiles = width.div_ceil(tile_pixels);
        let copied_rows = self.reach(1, taps_y.max(1));
        while copies
            && width.div_ceil(column_tiles) > 24
            && copied_rows * self.reach(width.div_ceil(column_tiles), taps_x) * pixel_bytes > TILE_BYTES
        {
            column_tiles += 1;
        }
        let columns = width.div_ceil(column_tiles);
        let mut rows = (tile_pixels / columns).clamp(1, height.min(MAX_STRIPS));
        while copies && rows > 1 && self.reach(rows, taps_y) * self.reach(columns, taps_x) * pixel_bytes > TILE_BYTES {
            rows -= 1;
        }
        let row_tiles = height.div_ceil(rows);
        let copy_len =
            if copies { self.reach(rows, taps_y) * self.reach(columns, taps_x) * self.pixel_len() } else { 0 };
        Tiling { rows, row_tiles, column_tiles, copies, copy_len }
    }

    /// Bytes of workspace for one thread.
    pub(crate) fn slot_bytes<N>(&self, masked: bool) -> usize {
        self.tiling(self.pixel_len() * size_of::<N>(), masked).copy_len * size_of::<N>()
    }

    /// Bytes of workspace for one thread in a run over cells.
    pub(crate) fn cells_slot_bytes<N>(&self) -> usize {
        TASK_CELLS * self.cell_copy_len() * size_of::<N>()
    }

    /// Numbers of the input that one cell sees.
    fn cell_copy_len(&self) -> usize {
        let (taps_y, taps_x) = (self.panels.taps_y.count, self.panels.taps_x.count);
        self.reach(1, taps_y) * self.reach(CELL_PIXELS, taps_x) * self.pixel_len()
    }

    /// Cells of a row.
    fn row_cells(&self) -> usize {
        self.out_size.1.div_ceil(CELL_PIXELS)
    }

    /// Cells of the plane.
    pub(crate) fn num_cells(&self) -> usize {
        self.out_size.0 * self.row_cells()
    }

    /// What the register tile reads, but for the step from row to row.
    fn taps(&self) -> Taps {
        let per_word = self.panels.per_word();
        let pixel_step = self.pixel_len() / per_word;
        let (taps_x, in_words) = (self.panels.taps_x.count, self.panels.in_words());
        let is_one_run = self.panels.groups == 1;
        Taps {
            pixel_step: self.stride * pixel_step,
            row_step: 0,
            rows: self.panels.taps_y.count,
            runs: if is_one_run { 1 } else { taps_x },
            run_step: pixel_step,
            run_len: if is_one_run { taps_x * in_words } else { in_words },
        }
    }
}

/// Workspace of [`run`] or [`run_cells`] in numbers of `T`, for slots of so many bytes and the current number of threads.
pub(crate) fn workspace_len<T>(slot_bytes: usize) -> usize {
    slots_len(usize::MAX, slot_bytes.div_ceil(size_of::<T>()))
}

/// Convolves planes, in numbers of the workspace's type `T`, whose size is a multiple of that of the input's.
///
/// # Panics
/// The workspace, the packed weights or an input are too short.
///
/// # Safety
/// The outputs and residuals are good for all pixels of their planes, and nobody else has the outputs; the numbers of a
/// layer's finish are as many as output channels.
pub(crate) unsafe fn run<'a, A: Arithmetic, T: Copy + Send>(
    layer: &Layer<A>,
    num_planes: usize,
    plane: impl Fn(usize) -> Plane<'a, A::Number> + Sync,
    workspace: &mut [T],
) {
    let path = A::path(layer.isa);
    assert!(layer.packed.len() >= layer.panels.len(path.lanes) * A::PER_WORD, "convolution: packed weights");
    let num_panels = layer.panels.num_panels(path.lanes) * layer.panels.groups;
    let tiling = |plane: &Plane<A::Number>| {
        plane.direct.tiling(plane.direct.pixel_len() * size_of::<A::Number>(), plane.mask.is_some())
    };
    let (mut tiles, mut slot_len) = (0, 0);
    for idx in 0..num_planes {
        let plane = plane(idx);
        let tiling = tiling(&plane);
        plane.check();
        tiles += plane.direct.batch * tiling.row_tiles * tiling.column_tiles;
        slot_len = slot_len.max((tiling.copy_len * size_of::<A::Number>()).div_ceil(size_of::<T>()));
    }
    let parts = if tiles >= MIN_TASKS { 1 } else { MIN_TASKS.div_ceil(tiles.max(1)).min(num_panels) };
    for_each_task(tiles * parts, workspace, slot_len, |task_idx, slot| {
        let (mut tile, part) = (task_idx / parts, task_idx % parts);
        let mut plane_idx = 0;
        let (plane, tiling) = loop {
            let plane = plane(plane_idx);
            let tiling = tiling(&plane);
            let tiles = plane.direct.batch * tiling.row_tiles * tiling.column_tiles;
            if tile < tiles {
                break (plane, tiling);
            }
            tile -= tiles;
            plane_idx += 1;
        };
        let direct = &plane.direct;
        let (image, tile) =
            (tile / (tiling.row_tiles * tiling.column_tiles), tile % (tiling.row_tiles * tiling.column_tiles));
        let (row_tile, column_tile) = (tile / tiling.column_tiles, tile % tiling.column_tiles);
        let first_row = row_tile * tiling.rows;
        let rows = tiling.rows.min(direct.out_size.0 - first_row);
        let (first_column, end_column) = split(direct.out_size.1, tiling.column_tiles, column_tile);
        let columns = end_column - first_column;
        let place = Place {
            image,
            row: (first_row * direct.stride) as isize + direct.offset.0,
            column: (first_column * direct.stride) as isize + direct.offset.1,
            rows: direct.reach(rows, direct.panels.taps_y.count),
            columns: direct.reach(columns, direct.panels.taps_x.count),
        };
        let (x, row_step) = if tiling.copies {
            copied(layer, &plane, place, numbers_mut::<A::Number, T>(slot))
        } else {
            in_place(layer, &plane, place)
        };
        let out = direct.out_start
            + image * direct.out_image_step
            + first_row * direct.out_row_step
            + first_column * direct.out_column_step;
        let mut strips = [Strip::NOWHERE; MAX_STRIPS];
        for (row, strip) in strips[..rows].iter_mut().enumerate() {
            let (y, residual, gate) = pixel(layer, &plane, out + row * direct.out_row_step);
            let x = x.wrapping_add(row * direct.stride * row_step);
            *strip = Strip { x, row_step, y, residual, gate, columns };
        }
        let tile = Tile {
            strips: &strips[..rows],
            taps: direct.taps(),
            out_step: direct.out_column_step,
            panels: layer.panels,
            range: split(num_panels, parts, part),
            packed: layer.packed.as_ptr().cast(),
            finish: &layer.finish,
        };
        // SAFETY: the instruction set is there (`Isa::or_portable` of whoever made the layer); the strips' input is either
        // the copy or, without a border, wholly within `x`; their output pixels and panels are this task's alone.
        unsafe { run_tile(&path, &tile) }
    });
}

/// [`run`] over some cells of the planes' outputs: indices in ascending order, the cells of a plane row by row, the planes
/// one after the other.
///
/// # Panics
/// As [`run`], and where a cell lies beyond the last plane.
///
/// # Safety
/// As for [`run`]. The planes are not flattened, and have no mask.
pub(crate) unsafe fn run_cells<'a, A: Arithmetic, T: Copy + Send>(
    layer: &Layer<A>,
    num_planes: usize,
    plane: impl Fn(usize) -> Plane<'a, A::Number> + Sync,
    cells: &[u32],
    workspace: &mut [T],
) {
    let path = A::path(layer.isa);
    assert!(layer.packed.len() >= layer.panels.len(path.lanes) * A::PER_WORD, "convolution: packed weights");
    assert!(cells.is_sorted_by(|a, b| a < b), "convolution: cells in ascending order");
    let num_panels = layer.panels.num_panels(path.lanes) * layer.panels.groups;
    let (mut num_cells, mut slot_len) = (0, 0);
    for idx in 0..num_planes {
        let plane = plane(idx);
        plane.check();
        num_cells += plane.direct.num_cells();
        slot_len = slot_len.max(plane.direct.cells_slot_bytes::<A::Number>().div_ceil(size_of::<T>()));
    }
    let last = cells.last().map_or(0, |&cell| cell as usize + 1);
    assert!(last <= num_cells, "convolution: last cell: expected below {num_cells}, found {}", last - 1);
    let tiles = cells.len().div_ceil(TASK_CELLS);
    let parts = if tiles >= MIN_TASKS { 1 } else { MIN_TASKS.div_ceil(tiles.max(1)).min(num_panels) };
    for_each_task(tiles * parts, workspace, slot_len, |task_idx, slot| {
        let (task_tile, part) = (task_idx / parts, task_idx % parts);
        let first_idx = task_tile * TASK_CELLS;
        let cells = &cells[first_idx..cells.len().min(first_idx + TASK_CELLS)];
        let mut slot = numbers_mut::<A::Number, T>(slot);
        let mut strips = [Strip::NOWHERE; TASK_CELLS];
        let mut num_strips = 0;
        let mut current = plane(0);
        let (mut plane_idx, mut first_cell) = (0, 0);
        let mut idx = 0;
        while idx < cells.len() {
            let cell = cells[idx] as usize;
            while cell >= first_cell + current.direct.num_cells() {
                first_cell += current.direct.num_cells();
                plane_idx += 1;
                current = plane(plane_idx);
            }
            let direct = &current.direct;
            let (row, column) = ((cell - first_cell) / direct.row_cells(), (cell - first_cell) % direct.row_cells());
            // Neighbours in the row make one strip.
            let neighbours = cells[idx..].iter().zip(cell..).take(direct.row_cells() - column);
            let count = neighbours.take_while(|&(&found, expected)| found as usize == expected).count();
            idx += count;
            let first_column = column * CELL_PIXELS;
            let columns = (count * CELL_PIXELS).min(direct.out_size.1 - first_column);
            let place = Place {
                image: 0,
                row: (row * direct.stride) as isize + direct.offset.0,
                column: (first_column * direct.stride) as isize + direct.offset.1,
                rows: direct.reach(1, direct.panels.taps_y.count),
                columns: direct.reach(columns, direct.panels.taps_x.count),
            };
            let (x, row_step) = if place.is_inside(direct) {
                in_place(layer, &current, place)
            } else {
                let (copy, rest) = slot.split_at_mut(place.rows * place.columns * direct.pixel_len());
                slot = rest;
                copied(layer, &current, place, copy)
            };
            let out = direct.out_start + row * direct.out_row_step + first_column * direct.out_column_step;
            let (y, residual, gate) = pixel(layer, &current, out);
            strips[num_strips] = Strip { x, row_step, y, residual, gate, columns };
            num_strips += 1;
        }
        let tile = Tile {
            strips: &strips[..num_strips],
            taps: current.direct.taps(),
            out_step: current.direct.out_column_step,
            panels: layer.panels,
            range: split(num_panels, parts, part),
            packed: layer.packed.as_ptr().cast(),
            finish: &layer.finish,
        };
        // SAFETY: as in `run`; cells do not overlap.
        unsafe { run_tile(&path, &tile) }
    });
}

impl Place {
    fn is_inside(&self, direct: &Direct) -> bool {
        let within = |first: isize, count: usize, len: usize| first >= 0 && first as usize + count <= len;
        within(self.row, self.rows, direct.height) && within(self.column, self.columns, direct.width)
    }
}

impl<N> Plane<'_, N> {
    fn check(&self) {
        let direct = &self.direct;
        let len = direct.batch * direct.height * direct.width * direct.pixel_len();
        assert!(self.x.len() >= len, "convolution: input: expected {len} numbers, found {}", self.x.len());
        assert!(self.mask.is_none_or(|mask| mask.len() >= len), "convolution: mask: expected {len} numbers");
    }
}

/// A slot of the workspace as numbers of the input.
fn numbers_mut<N: Copy, T: Copy>(slot: &mut [T]) -> &mut [N] {
    const { assert!(align_of::<N>() <= align_of::<T>() && size_of::<T>().is_multiple_of(size_of::<N>())) };
    let len = size_of_val(slot) / size_of::<N>();
    // SAFETY: as many bytes, aligned; both are plain numbers, of any bits.
    unsafe { std::slice::from_raw_parts_mut(slot.as_mut_ptr().cast(), len) }
}

/// The input that begins at a place, and the words from row to row; read where `place` says, without a border.
fn in_place<A: Arithmetic>(layer: &Layer<A>, plane: &Plane<A::Number>, place: Place) -> (*const A::Word, usize) {
    let _ = layer;
    let direct = &plane.direct;
    let start = ((place.image * direct.height) as isize + place.row) * direct.width as isize + place.column;
    let x = plane.x.as_ptr().wrapping_offset(start * direct.pixel_len() as isize);
    (x.cast(), direct.width * direct.pixel_len() / A::PER_WORD)
}

/// The same of a copy.
fn copied<A: Arithmetic>(
    layer: &Layer<A>,
    plane: &Plane<A::Number>,
    place: Place,
    copy: &mut [A::Number],
) -> (*const A::Word, usize) {
    copy_rectangle::<A>(layer, plane, place, copy);
    (copy.as_ptr().cast(), place.columns * plane.direct.pixel_len() / A::PER_WORD)
}

/// Output, residual and gate of a pixel.
fn pixel<A: Arithmetic>(layer: &Layer<A>, plane: &Plane<A::Number>, pixel: usize) -> (*mut u8, *const u8, *const u8) {
    let (y, residual) = (pixel * layer.finish.y_bytes.1, pixel * layer.finish.residual_bytes.1);
    let offset =
        |pointer: *const u8, offset: usize| if pointer.is_null() { pointer } else { pointer.wrapping_add(offset) };
    (plane.y.wrapping_add(y), offset(plane.residual, residual), offset(plane.gate, y))
}

/// Copies a rectangle of the input, `outside` around it and where the mask is not more.
fn copy_rectangle<A: Arithmetic>(layer: &Layer<A>, plane: &Plane<A::Number>, place: Place, copy: &mut [A::Number]) {
    let (direct, outside) = (&plane.direct, layer.outside);
    let (height, width, channels) = (direct.height, direct.width, direct.pixel_len());
    let row_len = place.columns * channels;
    let left = (-place.column).clamp(0, place.columns as isize) as usize;
    let right = (width as isize - place.column).clamp(left as isize, place.columns as isize) as usize;
    for row in 0..place.rows {
        let copied = &mut copy[row * row_len..(row + 1) * row_len];
        let in_row = place.row + row as isize;
        if in_row < 0 || in_row >= height as isize || left == right {
            copied.fill(outside);
            continue;
        }
        copied[..left * channels].fill(outside);
        copied[right * channels..].fill(outside);
        let copied = &mut copied[left * channels..right * channels];
        let in_column = (place.column + left as isize) as usize;
        let start = ((place.image * height + in_row as usize) * width + in_column) * channels;
        let source = &plane.x[start..start + copied.len()];
        match plane.mask {
            None => copied.copy_from_slice(source),
            Some(mask) => copy_masked::<A>(layer.isa, source, &mask[start..start + copied.len()], outside, copied),
        }
    }
}

vectorized! {
    /// The numbers where the mask is more than `outside`.
    fn copy_masked[A: Arithmetic](x: &[A::Number], mask: &[A::Number], outside: A::Number, copy: &mut [A::Number]) {
        for ((copy, &value), &mask) in copy.iter_mut().zip(x).zip(mask) {
            *copy = if mask > outside { value } else { outside };
        }
    }
}
