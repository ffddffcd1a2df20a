//! The gradient of the weight of a 3x3 convolution of stride 1, by the same filtering run backwards.
//!
//! With U = B^T d B of a tile of inputs and V = A e A^T of the gradient e of its outputs, the gradient of the weight is
//! `G^T (sum over tiles of U . V) G`: one product for each of the 36 places and tiles, of all channels in with all channels
//! out, instead of nine for each of the 16 outputs. Tiles are taken in chunks: transformed by all threads, then multiplied
//! place by place, so that every sum is added up by one task, in an order that depends on the shape alone.

use super::super::Isa;
use super::super::conv::register_tile::{Pixels, weight_gradient as multiply};
use super::super::conv::with_rows;
use super::super::inference::Numbers;
use super::super::isa::vectorized;
use super::super::stored::{Conversions, Stored};
use super::super::tasks::{SharedMut, for_each, for_each_task, slots_len, split};
use super::super::vector::{Lanes, Vector};
use super::block::{Input, MAX_LANES, Place, RawPlane, transform_input};
use super::transform::{F4, Transform};
use super::{TileSize, lanes};
use crate::kernels::{ConvShape, ImageShape};
use half::bf16;

/// Rows and columns of a tile of inputs, and of outputs.
const N: usize = 6;
const M: usize = 4;
const PLACES: usize = N * N;
/// Tiles of a chunk, at most: a panel of transformed gradients of one place stays in the first-level cache.
const MAX_CHUNK_TILES: usize = 192;
/// Bytes of the transformed numbers of a chunk, about: they stay in the third-level cache.
const CHUNK_BYTES: usize = 14 << 20;
/// Tiles that a task transforms.
const TASK_TILES: usize = 4;
/// Channels in of a task that transforms sums.
const TASK_CHANNELS: usize = 16;
/// Words by which rows lie apart beyond their size, so that they do not share sets of the cache.
const SKEW: usize = 16;

/// A batch of feature maps: the input of the convolution and the gradient of its output.
#[derive(Clone, Copy)]
pub(crate) struct GradientMap<'a> {
    /// Of the input.
    pub(crate) shape: ImageShape,
    pub(crate) x: Numbers<'a>,
    pub(crate) y_gradient: Numbers<'a>,
}

/// Where the parts of the workspace lie, in numbers.
#[derive(Clone, Copy)]
struct Layout {
    in_channels: usize,
    out_channels: usize,
    lanes: usize,
    /// Of a chunk.
    tiles: usize,
    /// Of transformed inputs, from tile to tile.
    input_step: usize,
    /// Channels out, in whole vectors.
    padded: usize,
    input_place_step: usize,
    gradient_place_step: usize,
    sum_place_step: usize,
    slot_len: usize,
}

impl Layout {
    fn new(isa: Isa, shape: &ConvShape, num_tiles: usize) -> Self {
        let [out_channels, in_channels, _, _] = shape.weight();
        let lanes = lanes(isa);
        let input_step = in_channels.next_multiple_of(MAX_LANES) + SKEW;
        let padded = out_channels.next_multiple_of(lanes);
        let tile_bytes = PLACES * (input_step + padded) * size_of::<f32>();
        let largest = (CHUNK_BYTES / tile_bytes).clamp(16, MAX_CHUNK_TILES);
        let tiles = num_tiles.div_ceil(num_tiles.div_ceil(largest).max(1));
        let widest = in_channels.max(out_channels).next_multiple_of(2 * MAX_LANES);
        Self {
            in_channels,
            out_channels,
            lanes,
            tiles,
            input_step,
            padded,
            input_place_step: tiles * input_step + SKEW,
            gradient_place_step: tiles * padded + SKEW,
            sum_place_step: in_channels * padded + SKEW,
            slot_len: PLACES * widest,
        }
    }

    fn len(&self) -> usize {
        PLACES * (self.input_place_step + self.gradient_place_step + self.sum_place_step)
            + slots_len(usize::MAX, self.slot_len)
            + MAX_LANES
    }

    /// The first channel of a panel of two vectors, and how many it has.
    fn panel(&self, panel: usize) -> (usize, usize) {
        let first = panel * 2 * self.lanes;
        (first, (2 * self.lanes).min(self.padded - first))
    }
}

fn num_tiles(maps: impl Iterator<Item = ImageShape>) -> usize {
    maps.map(|shape| shape.batch * shape.height.div_ceil(M) * shape.width.div_ceil(M)).sum()
}

/// Numbers of workspace for the current number of threads.
pub(crate) fn weight_gradient_workspace_len(isa: Isa, shape: &ConvShape, maps: &[GradientMap<'_>]) -> usize {
    Layout::new(isa.or_portable(), shape, num_tiles(maps.iter().map(|map| map.shape))).len()
}

/// Adds the gradient over all maps, times `scale[Cout]` where there is one, to `gradient`, `[Cout, Cin, 3, 3]`.
pub(crate) fn weight_gradient(
    isa: Isa,
    shape: &ConvShape,
    maps: &[GradientMap<'_>],
    scale: Option<&[f32]>,
    gradient: &mut [f32],
    workspace: &mut [f32],
) {
    let isa = isa.or_portable();
    let tiles = num_tiles(maps.iter().map(|map| map.shape));
    let layout = Layout::new(isa, shape, tiles);
    assert_eq!(gradient.len(), layout.in_channels * layout.out_channels * 9, "winograd: weight gradient");
    let aligned = workspace.as_ptr().align_offset(MAX_LANES * size_of::<f32>()).min(MAX_LANES);
    let (inputs, rest) = workspace[aligned..].split_at_mut(PLACES * layout.input_place_step);
    let (gradients, rest) = rest.split_at_mut(PLACES * layout.gradient_place_step);
    let (sums, slots) = rest.split_at_mut(PLACES * layout.sum_place_step);
    for first in (0..tiles).step_by(layout.tiles) {
        let count = layout.tiles.min(tiles - first);
        {
            let (inputs, gradients) = (SharedMut::new(inputs), SharedMut::new(gradients));
            let slots_needed = count.div_ceil(TASK_TILES);
            for_each_task(slots_needed, slots, layout.slot_len, |task_idx, slot| {
                for tile in task_idx * TASK_TILES..count.min((task_idx + 1) * TASK_TILES) {
                    let (map, place) = locate(&layout, maps, first + tile);
                    let target = Target {
                        input: inputs.pointer(tile * layout.input_step),
                        gradient: &gradients,
                        tile,
                        patch: slot.as_mut_ptr(),
                    };
                    // SAFETY: the instruction set is there (`or_portable`); the tile's rows are this task's alone.
                    unsafe { transform(isa, &layout, map, &place, &target) };
                }
            });
        }
        let sums = SharedMut::new(sums);
        let (inputs, gradients) = (&*inputs, &*gradients);
        for_each(PLACES, |place| {
            let product = Product {
                layout: &layout,
                inputs: &inputs[place * layout.input_place_step..],
                gradients: &gradients[place * layout.gradient_place_step..],
                sums: sums.pointer(place * layout.sum_place_step),
                count,
                accumulate: first > 0,
            };
            // SAFETY: the instruction set is there; the sums of a place are this task's alone.
            unsafe { multiply_place(isa, &product) };
        });
    }
    if tiles > 0 {
        transform_sums(isa, &layout, sums, scale, gradient);
    }
}

/// The map and place of a tile, whose plane has the gradient as its output.
fn locate<'a, 'b>(layout: &Layout, maps: &'b [GradientMap<'a>], tile: usize) -> (&'b GradientMap<'a>, Place) {
    let mut rest = tile;
    for map in maps {
        let ImageShape { height, width, .. } = map.shape;
        let per_image = height.div_ceil(M) * width.div_ceil(M);
        if rest < per_image * map.shape.batch {
            let (image, rest) = (rest / per_image, rest % per_image);
            let bytes = |numbers: &Numbers| if matches!(numbers, Numbers::Bf16(_)) { 2 } else { 4 };
            let start = |numbers: &Numbers, channels: usize| {
                numbers.pointer().wrapping_add(image * height * width * channels * bytes(numbers))
            };
            let plane = RawPlane {
                x: start(&map.x, layout.in_channels),
                residual: start(&map.y_gradient, layout.out_channels),
                ..TileSize::Four.plane((height, width), 0)
            };
            return (map, Place::of(&[plane], rest));
        }
        rest -= per_image * map.shape.batch;
    }
    unreachable!("tiles are counted over the same maps")
}

/// Where a tile's transformed numbers go.
struct Target<'a> {
    input: *mut f32,
    gradient: &'a SharedMut<'a, f32>,
    tile: usize,
    patch: *mut f32,
}

/// # Safety
/// The processor has the instruction set; the map's numbers are as many as its shape says; the tile's rows of the target are
/// nobody else's.
unsafe fn transform(isa: Isa, layout: &Layout, map: &GradientMap, place: &Place, target: &Target) {
    macro_rules! stored_as {
        ($X:ty, $Y:ty) => {
            // SAFETY: the caller vouches for it.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => x86::transform_avx512::<$X, $Y>(layout, place, target),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => x86::transform_avx2::<$X, $Y>(layout, place, target),
                    _ => transform_as::<Lanes<f32, 4>, $X, $Y>(layout, place, target),
                }
            }
        };
    }
    match (map.x, map.y_gradient) {
        (Numbers::F32(_), Numbers::F32(_)) => stored_as!(f32, f32),
        (Numbers::Bf16(_), Numbers::Bf16(_)) => stored_as!(bf16, bf16),
        // An odd number of channels is f32 in any case.
        (Numbers::Bf16(_), Numbers::F32(_)) => stored_as!(bf16, f32),
        (Numbers::F32(_), Numbers::Bf16(_)) => stored_as!(f32, bf16),
        _ => panic!("winograd: weight gradient: expected floating-point numbers"),
    }
}

/// # Safety
/// As for [`transform`].
#[inline(always)]
unsafe fn transform_as<V: Conversions, X: Stored<f32, V>, Y: Stored<f32, V>>(
    layout: &Layout,
    place: &Place,
    target: &Target,
) {
    let (channels, place_step) = (layout.in_channels, layout.input_place_step);
    let input = Input { channels, step: channels, patch: target.patch, place_step };
    // SAFETY: the caller vouches for it.
    unsafe {
        transform_input::<X, f32, V, F4, N, M>(&input, place, target.input);
        transform_gradient::<V, Y>(layout, place, target);
    }
}

/// A e A^T of one tile, to its row in each panel of each place.
///
/// # Safety
/// As for [`transform`].
#[inline(always)]
unsafe fn transform_gradient<V: Conversions, Y: Stored<f32, V>>(layout: &Layout, place: &Place, target: &Target) {
    let plane = &place.plane;
    let channels = layout.out_channels;
    let (row, column) = (place.tile_row * M, place.tile_column * M);
    let (rows, columns) = (M.min(plane.height - row), M.min(plane.width - column));
    // SAFETY: what is read lies within the plane or has been copied to the patch; what is written is the tile's.
    unsafe {
        let from = plane.residual.cast::<Y>().add((row * plane.width + column) * channels);
        for first in (0..channels).step_by(V::LANES) {
            let present = V::LANES.min(channels - first);
            let mut inner = [[V::splat(0.0); N]; M];
            for j in 0..columns {
                let mut e = [V::splat(0.0); M];
                for i in 0..rows {
                    let from = from.add((i * plane.width + j) * channels + first);
                    e[i] = if present == V::LANES { Y::load(from) } else { load_part::<V, Y>(from, present) };
                }
                inner[j] = F4::output_gradient(e);
            }
            let (panel_first, width) = layout.panel(first / (2 * V::LANES));
            let start = panel_first * layout.tiles + target.tile * width + first - panel_first;
            for i in 0..N {
                let mut e = [V::splat(0.0); M];
                for j in 0..M {
                    e[j] = inner[j][i];
                }
                let out = F4::output_gradient(e);
                for j in 0..N {
                    out[j].store(target.gradient.pointer((i * N + j) * layout.gradient_place_step + start));
                }
            }
        }
    }
}

/// The first `count` numbers of a vector, the rest 0.
///
/// # Safety
/// The numbers are readable, and the processor has the instruction set of `V`.
#[inline(always)]
unsafe fn load_part<V: Vector<f32>, Y: Stored<f32, V>>(from: *const Y, count: usize) -> V {
    let mut buffer = [0.0; MAX_LANES];
    // SAFETY: the caller vouches for it.
    unsafe {
        for (lane, value) in buffer[..count].iter_mut().enumerate() {
            *value = (*from.add(lane)).read();
        }
        V::load(buffer.as_ptr())
    }
}

/// The product of one place.
struct Product<'a> {
    layout: &'a Layout,
    inputs: &'a [f32],
    gradients: &'a [f32],
    sums: *mut f32,
    /// Tiles of the chunk.
    count: usize,
    accumulate: bool,
}

/// # Safety
/// The processor has the instruction set, and nobody else the sums.
unsafe fn multiply_place(isa: Isa, product: &Product) {
    // SAFETY: the caller vouches for it.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::multiply_avx512(product),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::multiply_avx2(product),
            _ => multiply_as::<Lanes<f32, 4>>(product),
        }
    }
}

/// # Safety
/// As for [`multiply_place`].
#[inline(always)]
unsafe fn multiply_as<V: Vector<f32>>(product: &Product) {
    let layout = product.layout;
    let pixels = Pixels { images: 1, rows: 1, columns: product.count, x_steps: (0, 0, layout.input_step) };
    let blocks = layout.in_channels.div_ceil(V::ROWS);
    for panel in 0..layout.out_channels.div_ceil(2 * V::LANES) {
        let (first, width) = layout.panel(panel);
        let vectors = width / V::LANES;
        for block in 0..blocks {
            let (start, end) = split(layout.in_channels, blocks, block);
            // SAFETY: places within the transformed numbers and the sums, as the caller vouches.
            unsafe {
                let x = product.inputs.as_ptr().add(start);
                let gradient = product.gradients.as_ptr().add(first * layout.tiles);
                let out = product.sums.add(start * layout.padded + first);
                with_rows!(
                    V::ROWS,
                    end - start,
                    vectors,
                    multiply,
                    (f32, V),
                    (x, &pixels, gradient, out, layout.padded, product.accumulate)
                );
            }
        }
    }
}

/// Adds G^T m G of every pair of channels, scaled, to the gradient. The sums of all places, which fill more than a cache, are
/// read once and in their order.
fn transform_sums(isa: Isa, layout: &Layout, sums: &[f32], scale: Option<&[f32]>, gradient: &mut [f32]) {
    let shared = SharedMut::new(gradient);
    for_each(layout.in_channels.div_ceil(TASK_CHANNELS), |task_idx| {
        let first_in = task_idx * TASK_CHANNELS;
        let mut taps = [[0.0; MAX_LANES]; 9];
        for in_channel in first_in..layout.in_channels.min(first_in + TASK_CHANNELS) {
            for first in (0..layout.out_channels).step_by(MAX_LANES) {
                let start = in_channel * layout.padded + first;
                let channels = MAX_LANES.min(layout.out_channels - first);
                let scale = |lane| scale.and_then(|scale: &[f32]| scale.get(first + lane)).copied().unwrap_or(1.0);
                transform_pair(isa, &sums[start..], layout.sum_place_step, &std::array::from_fn(scale), &mut taps);
                for lane in 0..channels {
                    // SAFETY: the channels in are this task's alone.
                    let gradient = unsafe { shared.slice(((first + lane) * layout.in_channels + in_channel) * 9, 9) };
                    gradient.iter_mut().zip(&taps).for_each(|(gradient, tap)| *gradient += tap[lane]);
                }
            }
        }
    });
}

vectorized! {
    /// G^T m G of one channel in and a vector of channels out, scaled. Sums behind the last channel are those of the next
    /// row, or of the place's padding, and nobody wants theirs.
    fn transform_pair[](
        sums: &[f32],
        place_step: usize,
        scales: &[f32; MAX_LANES],
        taps: &mut [[f32; MAX_LANES]; 9],
    ) {
        let mut inner = [[[0.0f32; MAX_LANES]; N]; 3];
        for i in 0..N {
            for j in 0..N {
                let of_place = &sums[(i * N + j) * place_step..][..MAX_LANES];
                for a in 0..3 {
                    let factor = F4::WEIGHT[i][a] as f32;
                    for lane in 0..MAX_LANES {
                        inner[a][j][lane] += factor * of_place[lane];
                    }
                }
            }
        }
        for a in 0..3 {
            for b in 0..3 {
                let mut sums = [0.0f32; MAX_LANES];
                for j in 0..N {
                    let factor = F4::WEIGHT[j][b] as f32;
                    for lane in 0..MAX_LANES {
                        sums[lane] += factor * inner[a][j][lane];
                    }
                }
                for lane in 0..MAX_LANES {
                    taps[a * 3 + b][lane] = sums[lane] * scales[lane];
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The loops compiled for the instruction sets.

    use super::super::super::vector::x86::{F32x8, F32x16};
    use super::*;

    macro_rules! compiled_for {
        ($transform:ident, $multiply:ident, $vector:ident, $features:literal) => {
            /// # Safety
            /// As for [`transform`].
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $transform<X: Stored<f32, $vector>, Y: Stored<f32, $vector>>(
                layout: &Layout,
                place: &Place,
                target: &Target,
            ) {
                // SAFETY: the caller vouches for it.
                unsafe { transform_as::<$vector, X, Y>(layout, place, target) }
            }

            /// # Safety
            /// As for [`multiply_place`].
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $multiply(product: &Product) {
                // SAFETY: the caller vouches for it.
                unsafe { multiply_as::<$vector>(product) }
            }
        };
    }

    compiled_for!(transform_avx2, multiply_avx2, F32x8, "avx2,fma");
    compiled_for!(transform_avx512, multiply_avx512, F32x16, "avx512f,avx512vl,avx512dq,avx2,fma");
}
