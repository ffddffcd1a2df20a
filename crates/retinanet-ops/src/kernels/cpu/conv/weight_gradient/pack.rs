//! What a weight gradient reads, brought in order before, and what it writes, after.

use super::super::super::isa::vectorized;
use super::super::super::tasks::{SharedMut, for_each};
use super::super::super::{Element, Isa, Storable};
use super::Task;
use super::plan::{Plan, TilePixels};
use crate::kernels::ConvShape;

/// Packs a tile's output gradient, masked, in panels `[pixels, width]`, and adds its sums to `biases`.
#[inline(always)]
pub(super) fn pack_output_gradient<X: Storable>(
    task: &Task<X>,
    tile: &TilePixels,
    group: usize,
    packed: &mut [X::Float],
    biases: Option<&mut [X::Float]>,
) {
    let zero = X::Float::ZERO;
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
                        None => load(source, &mut packed[..present]),
                        Some(output) => {
                            let mask = &output[place..place + present];
                            for ((packed, &value), &output) in packed.iter_mut().zip(source).zip(mask) {
                                *packed = if output.load() > zero { value.load() } else { zero };
                            }
                        }
                    }
                    packed[present..].fill(zero);
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
            let mut sums = [zero; 32];
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
pub(super) fn pack_input<X: Storable>(
    task: &Task<X>,
    tile: &TilePixels,
    first_channel: usize,
    count: usize,
    copy_size: (usize, usize),
    packed: &mut [X::Float],
) {
    let zero = X::Float::ZERO;
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
                packed.fill(zero);
                continue;
            }
            packed[..left * count].fill(zero);
            packed[right * count..].fill(zero);
            let packed = &mut packed[left * count..right * count];
            let in_column = (column + left as isize) as usize;
            let start = (((tile.first_image + image) * height + in_row as usize) * width + in_column) * channels;
            let source = &task.x[start..start + (right - left) * channels];
            for (packed, source) in packed.chunks_exact_mut(count).zip(source.chunks_exact(channels)) {
                load(&source[first_channel..first_channel + count], packed);
            }
        }
    }
}

/// Copies numbers as they are computed with.
#[inline(always)]
fn load<X: Storable>(from: &[X], to: &mut [X::Float]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = from.load());
}

/// Adds the chunks' partial gradients in order, into OIHW; what lies between merged groups is left out.
pub(super) fn unpack<T: Element>(isa: Isa, plan: &Plan, shape: &ConvShape, partials: &[T], weight_gradient: &mut [T]) {
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
        for tap in 0..num_taps {
            let row = (group * num_taps + tap) * panels.in_channels + merged_idx * group_in;
            let place = row * plan.padded + merged_idx * group_out + first;
            unpack_tap(isa, plan, group_in, count, &partials[place..], num_taps, &mut out[tap..]);
        }
    });
}

vectorized! {
    /// One place of the kernel, all input channels and a block of output channels.
    fn unpack_tap[T: Element](
        plan: &Plan,
        group_in: usize,
        count: usize,
        partials: &[T],
        num_taps: usize,
        out: &mut [T],
    ) {
        for in_channel in 0..group_in {
            let mut sums = [T::ZERO; OUT_BLOCK];
            for chunk in 0..plan.chunks {
                let start = chunk * plan.partial_len + in_channel * plan.padded;
                for (sum, &value) in sums.iter_mut().zip(&partials[start..start + count]) {
                    *sum += value;
                }
            }
            for (out_channel, &sum) in sums[..count].iter().enumerate() {
                out[(out_channel * group_in + in_channel) * num_taps] = sum;
            }
        }
    }
}

/// Output channels that one task unpacks: a cache line of them.
const OUT_BLOCK: usize = 16;
