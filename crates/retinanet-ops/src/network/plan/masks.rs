//! Which parts of the rest are computed where only some locations of its outputs are wanted.

use super::layout::{Layout, Place};
use super::steps::{Lane, SlotIdx, Step, Steps, Work};
use crate::kernels::cpu::inference::CellSize;
use std::ops::Range;

/// Above this share of its cells a step computes everything: cells cost more, pixel for pixel, than rows.
const DENSE_SHARE: f64 = 0.85;

/// What is computed of one step.
#[derive(Clone, Debug, Default)]
struct Part {
    /// Of each plane (lane by lane, image by image), whether anything is.
    is_active: Vec<bool>,
    /// The cells, as a range of [`Masks::cells`]; none where the active planes are computed whole.
    cells: Option<Range<usize>>,
}

/// What is computed of one step of the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepMask<'a> {
    /// Of each plane, whether anything is.
    pub(super) is_active: &'a [bool],
    /// The cells of the active planes, none where these are computed whole.
    pub(super) cells: Option<&'a [u32]>,
}

/// The wanted pixels of every value of the rest, and the cells of every step that compute them.
///
/// Walking from the outputs to the inputs, a step computes whole cells, and a cell wants all that its windows see. So
/// everything that a computed cell reads is computed, and computed as in a run over everything.
#[derive(Debug, Default)]
pub(super) struct Masks {
    /// Bytes, not 0 where a pixel is wanted; the slots of the rest one after the other.
    wanted: Vec<u8>,
    /// `[slots, images]`, the start in `wanted`; none for slots of the first part, which are there already.
    starts: Vec<Option<usize>>,
    /// Of each step of the rest.
    parts: Vec<Part>,
    cells: Vec<u32>,
    num_images: usize,
}

impl Masks {
    /// Room for this layout, nothing wanted.
    pub(super) fn new(steps: &Steps, layout: &Layout) -> Self {
        let num_images = layout.num_images();
        let rest = &steps.steps[steps.num_first..];
        let mut masks = Self { starts: vec![None; steps.slots.len() * num_images], num_images, ..Self::default() };
        let (mut len, mut num_cells) = (0, 0);
        for step in rest {
            step.work.writes(|slot| {
                for image in 0..num_images {
                    masks.starts[slot.0 * num_images + image] = Some(len);
                    len += layout.place(slot, image).num_pixels();
                }
            });
            let mut part = Part::default();
            match &step.work {
                Work::Conv { conv, lanes, .. } => {
                    part.is_active = vec![false; lanes.len() * num_images];
                    let planes = lanes.iter().flat_map(|lane| (0..num_images).map(|image| layout.place(lane.y, image)));
                    num_cells += planes.map(|place| Grid::new(place, conv.cell_size()).len()).sum::<usize>();
                }
                _ => part.is_active = vec![false; num_images],
            }
            masks.parts.push(part);
        }
        masks.wanted = vec![0; len];
        masks.cells = Vec::with_capacity(num_cells);
        masks
    }

    /// Nothing is wanted.
    pub(super) fn clear(&mut self) {
        self.wanted.fill(0);
    }

    /// The pixels of a slot, not 0 where they are wanted; none for a slot of the first part.
    pub(super) fn of(&mut self, slot: SlotIdx, image: usize, place: &Place) -> Option<&mut [u8]> {
        let start = self.starts[slot.0 * self.num_images + image]?;
        Some(&mut self.wanted[start..start + place.num_pixels()])
    }

    /// What is computed of a step of the rest.
    pub(super) fn of_step(&self, step_idx: usize) -> StepMask<'_> {
        let Part { is_active, cells } = &self.parts[step_idx];
        StepMask { is_active, cells: cells.clone().map(|range| &self.cells[range]) }
    }

    /// Finds the cells of every step of the rest; returns the share of its multiplications that they are.
    pub(super) fn propagate(&mut self, steps: &Steps, layout: &Layout) -> f64 {
        self.cells.clear();
        let (mut computed, mut total) = (0.0, 0.0);
        for (step_idx, step) in steps.steps[steps.num_first..].iter().enumerate().rev() {
            match &step.work {
                Work::Conv { cost, lanes, .. } => {
                    let pixels = self.propagate_conv(step_idx, step, layout);
                    computed += (pixels * cost) as f64;
                    let planes = lanes.iter().flat_map(|lane| (0..self.num_images).map(move |image| (lane.y, image)));
                    let all: usize = planes.map(|(slot, image)| layout.place(slot, image).num_pixels()).sum();
                    total += (all * cost) as f64;
                }
                work => {
                    for image in 0..self.num_images {
                        let mut is_active = false;
                        work.writes(|slot| is_active |= self.is_wanted(slot, image, layout));
                        self.parts[step_idx].is_active[image] = is_active;
                        if is_active {
                            work.reads(|slot| self.want_all(slot, image, layout));
                        }
                    }
                }
            }
        }
        if total > 0.0 { computed / total } else { 0.0 }
    }

    fn is_wanted(&mut self, slot: SlotIdx, image: usize, layout: &Layout) -> bool {
        self.of(slot, image, layout.place(slot, image)).is_some_and(|wanted| wanted.iter().any(|&pixel| pixel != 0))
    }

    fn want_all(&mut self, slot: SlotIdx, image: usize, layout: &Layout) {
        if let Some(wanted) = self.of(slot, image, layout.place(slot, image)) {
            wanted.fill(1);
        }
    }

    /// The cells of a convolution and what they want of its inputs; returns the pixels that it computes.
    fn propagate_conv(&mut self, step_idx: usize, step: &Step, layout: &Layout) -> usize {
        let Work::Conv { conv, norm, lanes, .. } = &step.work else { unreachable!("a convolution") };
        let num_images = self.num_images;
        let planes = || lanes.iter().flat_map(|lane| (0..num_images).map(move |image| (lane, image)));
        let first_cell = self.cells.len();
        // Cells are counted from plane to plane, those without any left out.
        let (mut num_cells, mut num_pixels) = (0, 0);
        for (plane_idx, (lane, image)) in planes().enumerate() {
            let is_active = self.is_wanted(lane.y, image, layout);
            self.parts[step_idx].is_active[plane_idx] = is_active;
            if is_active {
                let place = *layout.place(lane.y, image);
                let grid = Grid::new(&place, conv.cell_size());
                self.mark_cells(lane.y, image, &place, &grid, num_cells);
                num_cells += grid.len();
                num_pixels += place.num_pixels();
            }
        }
        let active = self.cells.len() - first_cell;
        // The statistics of a norm are those of the whole plane.
        if norm.is_some() || active as f64 > DENSE_SHARE * num_cells as f64 {
            self.cells.truncate(first_cell);
            self.parts[step_idx].cells = None;
            for (plane_idx, (lane, image)) in planes().enumerate() {
                if self.parts[step_idx].is_active[plane_idx] {
                    [Some(lane.x), lane.residual].into_iter().flatten().for_each(|x| self.want_all(x, image, layout));
                }
            }
            return num_pixels;
        }
        self.parts[step_idx].cells = Some(first_cell..self.cells.len());
        let (mut cell_idx, mut first_of_plane, mut computed) = (first_cell, 0, 0);
        for (plane_idx, (lane, image)) in planes().enumerate() {
            if !self.parts[step_idx].is_active[plane_idx] {
                continue;
            }
            let grid = Grid::new(layout.place(lane.y, image), conv.cell_size());
            while let Some(&cell) =
                self.cells.get(cell_idx).filter(|&&cell| (cell as usize) < first_of_plane + grid.len())
            {
                computed += self.want_of_cell(step, lane, image, layout, grid.cell(cell as usize - first_of_plane));
                cell_idx += 1;
            }
            first_of_plane += grid.len();
        }
        computed
    }

    /// Appends the cells that hold a wanted pixel.
    fn mark_cells(&mut self, slot: SlotIdx, image: usize, place: &Place, grid: &Grid, first: usize) {
        let Some(start) = self.starts[slot.0 * self.num_images + image] else { return };
        let wanted = &self.wanted[start..start + place.num_pixels()];
        for cell in 0..grid.len() {
            let Cell { rows, columns } = grid.cell(cell);
            let is_wanted = |row: usize| wanted[row * place.width..][columns.clone()].iter().any(|&pixel| pixel != 0);
            if rows.clone().any(is_wanted) {
                self.cells.push((first + cell) as u32);
            }
        }
    }

    /// Marks what the windows of a cell see; returns the cell's pixels.
    fn want_of_cell(&mut self, step: &Step, lane: &Lane, image: usize, layout: &Layout, cell: Cell) -> usize {
        let Work::Conv { window, .. } = &step.work else { unreachable!("a convolution") };
        let Cell { rows, columns } = cell;
        let input = layout.place(lane.x, image);
        if let Some(wanted) = self.of(lane.x, image, input) {
            let columns = window.seen(&columns, input.width);
            for row in window.seen(&rows, input.height) {
                wanted[row * input.width..][columns.clone()].fill(1);
            }
        }
        if let Some(residual) = lane.residual {
            let place = layout.place(residual, image);
            if let Some(wanted) = self.of(residual, image, place) {
                rows.clone().for_each(|row| wanted[row * place.width..][columns.clone()].fill(1));
            }
        }
        rows.len() * columns.len()
    }
}

/// The window of a convolution along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Window {
    /// The inputs, of `len`, that the windows of these outputs see; none where they see padding alone.
    fn seen(&self, outputs: &Range<usize>, len: usize) -> Range<usize> {
        let start = (outputs.start * self.stride).saturating_sub(self.padding);
        let end = ((outputs.end - 1) * self.stride + self.kernel).saturating_sub(self.padding).min(len);
        start.min(end)..end
    }
}

/// The cells of one plane.
struct Grid {
    height: usize,
    width: usize,
    cell: CellSize,
    columns: usize,
    rows: usize,
}

/// Rows and columns of the pixels of a cell.
struct Cell {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Grid {
    fn new(place: &Place, cell: CellSize) -> Self {
        let (height, width) = (place.height, place.width);
        Self { height, width, cell, columns: width.div_ceil(cell.width), rows: height.div_ceil(cell.height) }
    }

    fn len(&self) -> usize {
        self.rows * self.columns
    }

    fn cell(&self, idx: usize) -> Cell {
        let (row, column) = (idx / self.columns * self.cell.height, idx % self.columns * self.cell.width);
        Cell {
            rows: row..self.height.min(row + self.cell.height),
            columns: column..self.width.min(column + self.cell.width),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_at_the_borders() {
        let window = Window { kernel: 3, stride: 1, padding: 1 };
        assert_eq!(window.seen(&(0..4), 10), 0..5);
        assert_eq!(window.seen(&(4..8), 10), 3..9);
        assert_eq!(window.seen(&(8..10), 10), 7..10);
        let window = Window { kernel: 3, stride: 2, padding: 1 };
        assert_eq!(window.seen(&(0..1), 7), 0..2);
        assert_eq!(window.seen(&(3..4), 7), 5..7);
        // All padding.
        assert!(Window { kernel: 1, stride: 1, padding: 2 }.seen(&(0..2), 5).is_empty());
    }

    #[test]
    fn cells_are_cut_off_at_the_edge() {
        let place = Place { height: 5, width: 9, ..Place::default() };
        let grid = Grid::new(&place, CellSize { height: 4, width: 4 });
        assert_eq!(grid.len(), 6);
        let Cell { rows, columns } = grid.cell(5);
        assert_eq!((rows, columns), (4..5, 8..9));
    }
}
