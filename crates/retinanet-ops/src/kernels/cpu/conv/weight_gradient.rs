//! The gradient of a convolution's weight, and of its bias.
//!
//! Products run over tiles of pixels. A tile packs its output gradient in panels two vectors wide (which is where the
//! ReLU's mask is applied and the bias gradient summed), and its input in blocks of as many channels as a register tile
//! has rows; every tap then reads the same block at another offset. Tasks own either different rows of the gradient or
//! different chunks of the pixels; chunks are a matter of shape, and are added up in order.

use super::super::element::sealed::Vectors;
use super::super::tasks::{SharedMut, for_each, for_each_task, slots_len, split};
use super::super::vector::Vector;
use super::super::{Element, Isa};
use super::panels::{Panels, lanes};
use super::register_tile::{Pixels, weight_gradient, with_rows};
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
struct Plan {
    panels: Panels,
    /// Images, rows and columns of output in one tile; more than one image only where the tile holds all their pixels.
    images: usize,
    rows: usize,
    image_tiles: usize,
    row_tiles: usize,
    column_tiles: usize,
    /// Output rows and columns, and images, after flattening.
    out_size: (usize, usize),
    batch: usize,
    in_size: (usize, usize),
    stride: usize,
    padding: usize,
    chunks: usize,
    /// Blocks of input channels in one group, and parts that all blocks of all groups are divided in.
    blocks: usize,
    parts: usize,
    /// Numbers of one partial gradient: `[groups, taps, in channels, padded out channels]`.
    partial_len: usize,
    padded: usize,
    lanes: usize,
    /// Numbers of one tile's packed output gradient and input.
    y_len: usize,
    x_len: usize,
}

impl Plan {
    fn new<T: Element>(isa: Isa, shape: &ConvShape) -> Self {
        let (input, output) = (shape.input(), shape.output());
        let panels = Panels::forward(shape);
        let (batch, in_size, out_size) = if shape.is_pointwise() {
            (1, (1, input.num_pixels()), (1, input.num_pixels()))
        } else {
            (input.batch, (input.height, input.width), (output.height, output.width))
        };
        let lanes = lanes::<T>(isa);
        let rows_of_tile = register_rows::<T>(isa);
        let padded = panels.padded_channels::<T>(isa);
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

    fn tiles(&self) -> usize {
        self.image_tiles * self.row_tiles * self.column_tiles
    }

    fn slot_len(&self) -> usize {
        self.y_len + self.x_len
    }

    /// Numbers of the sums of output gradients of all chunks.
    fn bias_len(&self) -> usize {
        self.chunks * self.panels.groups * self.padded
    }

    fn tile(&self, tile: usize) -> TilePixels {
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
struct TilePixels {
    first_image: usize,
    images: usize,
    first_row: usize,
    rows: usize,
    first_column: usize,
    columns: usize,
}

fn register_rows<T: Element>(isa: Isa) -> usize {
    match isa.or_portable() {
        Isa::Portable => <T as Vectors>::Portable::ROWS,
        Isa::Avx2 => <T as Vectors>::Avx2::ROWS,
        Isa::Avx512 => <T as Vectors>::Avx512::ROWS,
    }
}

/// Workspace of [`conv2d_weight_gradient`], in numbers, for the current number of threads.
pub fn conv2d_weight_gradient_workspace_len<T: Element>(isa: Isa, shape: &ConvShape) -> usize {
    let plan = Plan::new::<T>(isa, shape);
    plan.chunks * plan.partial_len + plan.bias_len() + slots_len(plan.chunks * plan.parts, plan.slot_len())
}

/// The gradients of a convolution's weight and bias.
///
/// With the fused ReLU, `relu_output` is the output of the forward pass: gradients pass where it is positive.
///
/// # Shapes
/// - `x`: `[N, H, W, Cin]`
/// - `y_gradient`, `relu_output`: `[N, H', W', Cout]`
/// - `weight_gradient`: `[Cout, Cin / groups, kh, kw]`, overwritten
/// - `bias_gradient`: `[Cout]`, overwritten
/// - `workspace`: [`conv2d_weight_gradient_workspace_len`]
///
/// # Panics
/// A slice is shorter than its shape.
pub fn conv2d_weight_gradient<T: Element>(
    isa: Isa,
    shape: &ConvShape,
    x: &[T],
    y_gradient: &[T],
    relu_output: Option<&[T]>,
    weight_gradient: &mut [T],
    bias_gradient: Option<&mut [T]>,
    workspace: &mut [T],
) {
    let isa = isa.or_portable();
    assert_eq!(x.len(), shape.input().len(), "conv2d weight gradient: input");
    assert_eq!(y_gradient.len(), shape.output().len(), "conv2d weight gradient: output gradient");
    assert!(relu_output.is_none_or(|y| y.len() == y_gradient.len()), "conv2d weight gradient: output");
    assert_eq!(weight_gradient.len(), shape.weight().iter().product::<usize>(), "conv2d weight gradient: weight");
    let plan = Plan::new::<T>(isa, shape);
    let (partials, rest) = workspace.split_at_mut(plan.chunks * plan.partial_len);
    let (biases, slots) = rest.split_at_mut(plan.bias_len());
    biases.fill(T::ZERO);
    {
        let (partials, biases) = (SharedMut::new(partials), SharedMut::new(biases));
        for_each_task(plan.chunks * plan.parts, slots, plan.slot_len(), |task_idx, slot| {
            let (chunk, part) = (task_idx / plan.parts, task_idx % plan.parts);
            let (y_packed, x_packed) = slot.split_at_mut(plan.y_len);
            let task = Task {
                plan: &plan,
                x,
                y_gradient,
                relu_output,
                partial: partials.pointer(chunk * plan.partial_len),
                biases: biases.pointer(chunk * plan.panels.groups * plan.padded),
                tiles: split(plan.tiles(), plan.chunks, chunk),
                blocks: split(plan.blocks * plan.panels.groups, plan.parts, part),
            };
            // SAFETY: the instruction set is there (`or_portable`); a part's blocks are rows of the chunk's partial
            // gradient that no other task writes, and the part with a group's first block alone sums its bias.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => run_avx512(&task, y_packed, x_packed),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => run_avx2(&task, y_packed, x_packed),
                    _ => run::<T, <T as Vectors>::Portable>(&task, y_packed, x_packed),
                }
            }
        });
    }
    unpack(isa, &plan, shape, partials, weight_gradient);
    if let Some(bias_gradient) = bias_gradient {
        let out_channels = plan.panels.out_channels;
        for (channel, gradient) in bias_gradient.iter_mut().enumerate() {
            let place = channel / out_channels * plan.padded + channel % out_channels;
            let step = plan.panels.groups * plan.padded;
            *gradient = (0..plan.chunks).fold(T::ZERO, |sum, chunk| sum + biases[chunk * step + place]);
        }
    }
}

struct Task<'a, T> {
    plan: &'a Plan,
    x: &'a [T],
    y_gradient: &'a [T],
    relu_output: Option<&'a [T]>,
    partial: *mut T,
    biases: *mut T,
    tiles: (usize, usize),
    blocks: (usize, usize),
}

/// # Safety
/// As for [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
unsafe fn run_avx512<T: Element>(task: &Task<T>, y_packed: &mut [T], x_packed: &mut [T]) {
    // SAFETY: the caller vouches for it.
    unsafe { run::<T, <T as Vectors>::Avx512>(task, y_packed, x_packed) }
}

/// # Safety
/// As for [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<T: Element>(task: &Task<T>, y_packed: &mut [T], x_packed: &mut [T]) {
    // SAFETY: the caller vouches for it.
    unsafe { run::<T, <T as Vectors>::Avx2>(task, y_packed, x_packed) }
}

/// # Safety
/// No other task writes the blocks' rows of the partial gradient, nor the biases of groups whose first block is among
/// the blocks; the processor has the instruction set of `V`.
#[inline(always)]
unsafe fn run<T: Element, V: Vector<T>>(task: &Task<T>, y_packed: &mut [T], x_packed: &mut [T]) {
    let plan = task.plan;
    let panels = &plan.panels;
    let (taps_y, taps_x) = (panels.taps_y.count, panels.taps_x.count);
    for tile_idx in task.tiles.0..task.tiles.1 {
        let tile = plan.tile(tile_idx);
        let num_pixels = tile.images * tile.rows * tile.columns;
        let copy_rows = (tile.rows - 1) * plan.stride + taps_y;
        let copy_columns = (tile.columns - 1) * plan.stride + taps_x;
        let mut packed_group = None;
        for block in task.blocks.0..task.blocks.1 {
            let (group, group_block) = (block / plan.blocks, block % plan.blocks);
            if packed_group != Some(group) {
                let biases = (group_block == 0).then(|| {
                    // SAFETY: this task alone has the group's first block.
                    unsafe { std::slice::from_raw_parts_mut(task.biases.add(group * plan.padded), plan.padded) }
                });
                pack_output_gradient(task, &tile, group, y_packed, biases);
                packed_group = Some(group);
            }
            let (start, end) = split(panels.in_channels, plan.blocks, group_block);
            let rows = end - start;
            pack_input(task, &tile, group * panels.in_channels + start, rows, (copy_rows, copy_columns), x_packed);
            let pixels = Pixels {
                images: tile.images,
                rows: tile.rows,
                columns: tile.columns,
                x_steps: (copy_rows * copy_columns * rows, plan.stride * copy_columns * rows, plan.stride * rows),
            };
            let mut first = 0;
            while first < plan.padded {
                let vectors = if plan.padded - first < 2 * plan.lanes { 1 } else { 2 };
                for tap in 0..taps_y * taps_x {
                    let offset = ((tap / taps_x) * copy_columns + tap % taps_x) * rows;
                    let row = (group * taps_y * taps_x + tap) * panels.in_channels + start;
                    // SAFETY: places within the packed tile and the partial gradient.
                    unsafe {
                        let x = x_packed.as_ptr().add(offset);
                        let gradient = y_packed.as_ptr().add(first * num_pixels);
                        let out = task.partial.add(row * plan.padded + first);
                        let accumulate = tile_idx > task.tiles.0;
                        with_rows!(
                            T,
                            V,
                            rows,
                            vectors,
                            weight_gradient,
                            (x, &pixels, gradient, out, plan.padded, accumulate)
                        );
                    }
                }
                first += vectors * plan.lanes;
            }
        }
    }
}

/// Packs a tile's output gradient, masked, in panels `[pixels, width]`, and adds its sums to `biases`.
#[inline(always)]
fn pack_output_gradient<T: Element>(
    task: &Task<T>,
    tile: &TilePixels,
    group: usize,
    packed: &mut [T],
    biases: Option<&mut [T]>,
) {
    let plan = task.plan;
    let channels = plan.panels.out_channels;
    let all_channels = channels * plan.panels.groups;
    let num_pixels = tile.images * tile.rows * tile.columns;
    let mut first = 0;
    while first < plan.padded {
        let width = (plan.padded - first).min(2 * plan.lanes);
        let present = width.min(channels - first);
        let mut packed = packed[first * num_pixels..(first + width) * num_pixels].chunks_exact_mut(width);
        for image in tile.first_image..tile.first_image + tile.images {
            for row in tile.first_row..tile.first_row + tile.rows {
                let start = (image * plan.out_size.0 + row) * plan.out_size.1 + tile.first_column;
                for pixel in start..start + tile.columns {
                    let Some(packed) = packed.next() else { return };
                    let place = pixel * all_channels + group * channels + first;
                    let source = &task.y_gradient[place..place + present];
                    match task.relu_output {
                        None => packed[..present].copy_from_slice(source),
                        Some(output) => {
                            let mask = &output[place..place + present];
                            for ((packed, &value), &output) in packed.iter_mut().zip(source).zip(mask) {
                                *packed = if output > T::ZERO { value } else { T::ZERO };
                            }
                        }
                    }
                    packed[present..].fill(T::ZERO);
                }
            }
        }
        first += width;
    }
    if let Some(biases) = biases {
        // Sums of a tile first, so that the error does not grow with the number of pixels.
        let mut first = 0;
        while first < plan.padded {
            let width = (plan.padded - first).min(2 * plan.lanes);
            let mut sums = [T::ZERO; 32];
            for pixel in packed[first * num_pixels..(first + width) * num_pixels].chunks_exact(width) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += value;
                }
            }
            for (bias, &sum) in biases[first..first + width].iter_mut().zip(&sums) {
                *bias += sum;
            }
            first += width;
        }
    }
}

/// Packs `count` channels of a tile's input, with its border of zeros: `[images, rows, columns, count]`.
#[inline(always)]
fn pack_input<T: Element>(
    task: &Task<T>,
    tile: &TilePixels,
    first_channel: usize,
    count: usize,
    copy_size: (usize, usize),
    packed: &mut [T],
) {
    let plan = task.plan;
    let channels = plan.panels.in_channels * plan.panels.groups;
    let (height, width) = plan.in_size;
    let (copy_rows, copy_columns) = copy_size;
    let row = (tile.first_row * plan.stride) as isize - plan.padding as isize;
    let column = (tile.first_column * plan.stride) as isize - plan.padding as isize;
    let left = (-column).clamp(0, copy_columns as isize) as usize;
    let right = (width as isize - column).clamp(left as isize, copy_columns as isize) as usize;
    for image in 0..tile.images {
        for copy_row in 0..copy_rows {
            let start = (image * copy_rows + copy_row) * copy_columns * count;
            let packed = &mut packed[start..start + copy_columns * count];
            let in_row = row + copy_row as isize;
            if in_row < 0 || in_row >= height as isize || left == right {
                packed.fill(T::ZERO);
                continue;
            }
            packed[..left * count].fill(T::ZERO);
            packed[right * count..].fill(T::ZERO);
            let packed = &mut packed[left * count..right * count];
            let in_column = (column + left as isize) as usize;
            let start = (((tile.first_image + image) * height + in_row as usize) * width + in_column) * channels;
            let source = &task.x[start..start + (right - left) * channels];
            for (packed, source) in packed.chunks_exact_mut(count).zip(source.chunks_exact(channels)) {
                packed.copy_from_slice(&source[first_channel..first_channel + count]);
            }
        }
    }
}

/// Adds the chunks' partial gradients in order, into OIHW; what lies between merged groups is left out.
fn unpack<T: Element>(isa: Isa, plan: &Plan, shape: &ConvShape, partials: &[T], weight_gradient: &mut [T]) {
    let [_, group_in, kernel_height, kernel_width] = shape.weight();
    let panels = &plan.panels;
    let num_taps = kernel_height * kernel_width;
    let group_out = shape.output().channels / shape.groups();
    let num_blocks = group_out.div_ceil(OUT_BLOCK);
    let gradient = SharedMut::new(weight_gradient);
    for_each(shape.groups() * num_blocks, |task_idx| {
        let (original, block) = (task_idx / num_blocks, task_idx % num_blocks);
        let first = block * OUT_BLOCK;
        let count = OUT_BLOCK.min(group_out - first);
        let start = (original * group_out + first) * group_in * num_taps;
        // SAFETY: blocks of output channels do not overlap, and each is one task's.
        let out = unsafe { gradient.slice(start, count * group_in * num_taps) };
        let merged = panels.in_channels / group_in;
        let (group, merged_idx) = (original / merged, original % merged);
        isa.run(|| {
            for tap in 0..num_taps {
                for in_channel in 0..group_in {
                    let row = (group * num_taps + tap) * panels.in_channels + merged_idx * group_in + in_channel;
                    let place = row * plan.padded + merged_idx * group_out + first;
                    let mut sums = [T::ZERO; OUT_BLOCK];
                    for chunk in 0..plan.chunks {
                        let start = chunk * plan.partial_len + place;
                        for (sum, &value) in sums.iter_mut().zip(&partials[start..start + count]) {
                            *sum += value;
                        }
                    }
                    for (out_channel, &sum) in sums[..count].iter().enumerate() {
                        out[(out_channel * group_in + in_channel) * num_taps + tap] = sum;
                    }
                }
            }
        });
    });
}

/// Output channels that one task unpacks: a cache line of them.
const OUT_BLOCK: usize = 16;
