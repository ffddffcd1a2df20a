//! The gradient of a convolution's weight, and of its bias.
//!
//! Products run over tiles of pixels. A tile packs its output gradient in panels two vectors wide (which is where the
//! ReLU's mask is applied and the bias gradient summed), and its input in blocks of as many channels as a register tile
//! has rows; every tap then reads the same block at another offset. Tasks own either different rows of the gradient or
//! different chunks of the pixels; chunks are a matter of shape, and are added up in order.

mod pack;
mod plan;
pub(crate) mod pointwise;

use super::super::element::sealed::Vectors;
use super::super::tasks::{SharedMut, for_each_task, slots_len, split};
use super::super::vector::Vector;
use super::super::{Element, Isa, Storable};
use super::register_tile::{Pixels, weight_gradient, with_rows};
use crate::kernels::ConvShape;
use pack::{pack_input, pack_output_gradient, unpack};
use plan::Plan;

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
pub fn conv2d_weight_gradient<X: Storable>(
    isa: Isa,
    shape: &ConvShape,
    x: &[X],
    y_gradient: &[X],
    relu_output: Option<&[X]>,
    weight_gradient: &mut [X::Float],
    bias_gradient: Option<&mut [X::Float]>,
    workspace: &mut [X::Float],
) {
    let isa = isa.or_portable();
    assert_eq!(x.len(), shape.input().len(), "conv2d weight gradient: input");
    assert_eq!(y_gradient.len(), shape.output().len(), "conv2d weight gradient: output gradient");
    assert!(relu_output.is_none_or(|y| y.len() == y_gradient.len()), "conv2d weight gradient: output");
    assert_eq!(weight_gradient.len(), shape.weight().iter().product::<usize>(), "conv2d weight gradient: weight");
    let out_channels = shape.output().channels;
    assert!(bias_gradient.as_ref().is_none_or(|bias| bias.len() == out_channels), "conv2d weight gradient: bias");
    let plan = Plan::new::<X::Float>(isa, shape);
    let (partials, rest) = workspace.split_at_mut(plan.chunks * plan.partial_len);
    let (biases, slots) = rest.split_at_mut(plan.bias_len());
    biases.fill(X::Float::ZERO);
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
                    Isa::Neon => run::<X, <X::Float as Vectors>::Neon>(&task, y_packed, x_packed),
                    _ => run::<X, <X::Float as Vectors>::Portable>(&task, y_packed, x_packed),
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
            *gradient = (0..plan.chunks).fold(X::Float::ZERO, |sum, chunk| sum + biases[chunk * step + place]);
        }
    }
}

struct Task<'a, X: Storable> {
    plan: &'a Plan,
    x: &'a [X],
    y_gradient: &'a [X],
    relu_output: Option<&'a [X]>,
    partial: *mut X::Float,
    biases: *mut X::Float,
    tiles: (usize, usize),
    blocks: (usize, usize),
}

/// # Safety
/// As for [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
unsafe fn run_avx512<X: Storable>(task: &Task<X>, y_packed: &mut [X::Float], x_packed: &mut [X::Float]) {
    // SAFETY: the caller vouches for it.
    unsafe { run::<X, <X::Float as Vectors>::Avx512>(task, y_packed, x_packed) }
}

/// # Safety
/// As for [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<X: Storable>(task: &Task<X>, y_packed: &mut [X::Float], x_packed: &mut [X::Float]) {
    // SAFETY: the caller vouches for it.
    unsafe { run::<X, <X::Float as Vectors>::Avx2>(task, y_packed, x_packed) }
}

/// [`weight_gradient`], by the type that is stored.
///
/// # Safety
/// As for it.
#[inline(always)]
unsafe fn multiply<X: Storable, V: Vector<X::Float>, const ROWS: usize, const VECTORS: usize>(
    x: *const X::Float,
    pixels: &Pixels,
    y_gradient: *const X::Float,
    out: *mut X::Float,
    out_step: usize,
    accumulate: bool,
) {
    // SAFETY: the caller vouches for it.
    unsafe { weight_gradient::<X::Float, V, ROWS, VECTORS>(x, pixels, y_gradient, out, out_step, accumulate) }
}

/// # Safety
/// No other task writes the blocks' rows of the partial gradient, nor the biases of groups whose first block is among
/// the blocks; the processor has the instruction set of `V`.
#[inline(always)]
unsafe fn run<X: Storable, V: Vector<X::Float>>(task: &Task<X>, y_packed: &mut [X::Float], x_packed: &mut [X::Float]) {
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
                            V::ROWS,
                            rows,
                            vectors,
                            multiply,
                            (X, V),
                            (x, &pixels, gradient, out, plan.padded, accumulate)
                        );
                    }
                }
                first += vectors * plan.lanes;
            }
        }
    }
}
