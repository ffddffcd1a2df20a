//! How the work of a weight gradient is cut into tiles, chunks and parts.

use super::super::super::element::sealed::Vectors;
use super::super::super::tasks::split;
use super::super::super::vector::Vector;
use super::super::super::{Element, Isa};
use super::super::panels::{Panels, lanes};
use crate::kernels::ConvShape;

/// Pixels of a tile, where the gradient is small enough to stay in the second-level cache from tile to tile.
const TILE_PIXELS: usize = 128;
/// Pixels of a tile otherwise.
const LARGE_TILE_PIXELS: usize = 320;
/// Bytes of a gradient from which the larger tiles pay.
const LARGE_GRADIENT: usize = 1024 * 1024;
/// Bytes of all partial gradients.
const PARTIAL_BYTES: usize = 6 * 1024 * 1024;
/// Chunks of pixels.
const MAX_CHUNKS: usize = 16;
/// Tasks aimed at.
const MIN_TASKS: usize = 16;

/// How the work is cut; by shape and instruction set alone.
pub(super) struct Plan {
    pub(super) panels: Panels,
    /// Images, rows and columns of output in one tile; more than one image only where the tile holds all their pixels.
    pub(super) images: usize,
    pub(super) rows: usize,
    pub(super) image_tiles: usize,
    pub(super) row_tiles: usize,
    pub(super) column_tiles: usize,
    /// Output rows and columns, and images, after flattening.
    pub(super) out_size: (usize, usize),
    pub(super) batch: usize,
    pub(super) in_size: (usize, usize),
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) chunks: usize,
    /// Blocks of input channels in one group, and parts that all blocks of all groups are divided in.
    pub(super) blocks: usize,
    pub(super) parts: usize,
    /// Numbers of one partial gradient: `[groups, taps, in channels, padded out channels]`.
    pub(super) partial_len: usize,
    pub(super) padded: usize,
    pub(super) lanes: usize,
    /// Numbers of one tile's packed output gradient and input.
    pub(super) y_len: usize,
    pub(super) x_len: usize,
}

impl Plan {
    pub(super) fn new<T: Element>(isa: Isa, shape: &ConvShape) -> Self {
        let (input, output) = (shape.input(), shape.output());
        let panels = Panels::forward(shape, 1);
        let (batch, in_size, out_size) = if shape.is_pointwise() {
            (1, (1, input.num_pixels()), (1, input.num_pixels()))
        } else {
            (input.batch, (input.height, input.width), (output.height, output.width))
        };
        let lanes = lanes::<T>(isa);
        let rows_of_tile = register_rows::<T>(isa);
        let padded = panels.padded_channels(lanes);
        let partial_len = panels.groups * panels.depth() * padded;
        let partial_bytes = partial_len * size_of::<T>();

        let tile_pixels = if partial_bytes >= LARGE_GRADIENT { LARGE_TILE_PIXELS } else { TILE_PIXELS };
        let (height, width) = out_size;
        let column_tiles = width.div_ceil(tile_pixels);
        let columns = width.div_ceil(column_tiles);
        let rows = (tile_pixels / columns).clamp(1, height);
        let images =
            if rows == height && column_tiles == 1 { (tile_pixels / (rows * columns)).clamp(1, batch) } else { 1 };
        let (image_tiles, row_tiles) = (batch.div_ceil(images), height.div_ceil(rows));
        let tiles = image_tiles * row_tiles * column_tiles;

        let blocks = panels.in_channels.div_ceil(rows_of_tile);
        let chunks = (PARTIAL_BYTES / partial_bytes).clamp(1, MAX_CHUNKS).min(tiles);
        let parts = MIN_TASKS.div_ceil(chunks).min(blocks * panels.groups);
        let reach = |count: usize, taps: usize| (count - 1) * shape.stride() + taps;
        let x_pixels = images * reach(rows, panels.taps_y.count) * reach(columns, panels.taps_x.count);
        Self {
            panels,
            images,
            rows,
            image_tiles,
            row_tiles,
            column_tiles,
            out_size,
            batch,
            in_size,
            stride: shape.stride(),
            padding: shape.padding(),
            chunks,
            blocks,
            parts,
            partial_len,
            padded,
            lanes,
            y_len: images * rows * columns * padded,
            x_len: x_pixels * rows_of_tile,
        }
    }

    pub(super) fn tiles(&self) -> usize {
        self.image_tiles * self.row_tiles * self.column_tiles
    }

    pub(super) fn slot_len(&self) -> usize {
        self.y_len + self.x_len
    }

    /// Numbers of the sums of output gradients of all chunks.
    pub(super) fn bias_len(&self) -> usize {
        self.chunks * self.panels.groups * self.padded
    }

    pub(super) fn tile(&self, tile: usize) -> TilePixels {
        let column_tile = tile % self.column_tiles;
        let row_tile = tile / self.column_tiles % self.row_tiles;
        let image_tile = tile / self.column_tiles / self.row_tiles;
        let (first_image, first_row) = (image_tile * self.images, row_tile * self.rows);
        let (first_column, end_column) = split(self.out_size.1, self.column_tiles, column_tile);
        TilePixels {
            first_image,
            images: self.images.min(self.batch - first_image),
            first_row,
            rows: self.rows.min(self.out_size.0 - first_row),
            first_column,
            columns: end_column - first_column,
        }
    }
}

/// The output pixels of a tile.
#[derive(Clone, Copy)]
pub(super) struct TilePixels {
    pub(super) first_image: usize,
    pub(super) images: usize,
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) first_column: usize,
    pub(super) columns: usize,
}

pub(super) fn register_rows<T: Element>(isa: Isa) -> usize {
    match isa.or_portable() {
        Isa::Portable => <T as Vectors>::Portable::ROWS,
        Isa::Avx2 => <T as Vectors>::Avx2::ROWS,
        Isa::Avx512 => <T as Vectors>::Avx512::ROWS,
        Isa::Neon => <T as Vectors>::Neon::ROWS,
    }
}
