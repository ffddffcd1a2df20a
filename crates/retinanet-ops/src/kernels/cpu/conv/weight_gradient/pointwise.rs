//! The gradient of the weight of a 1x1 convolution: a product of two matrices over all pixels.
//!
//! Pixels are taken in chunks: all threads bring inputs and output gradients in the order of the register tile, once, and
//! then multiply, each other channels. The sums of a chunk join the gradient, in an order that depends on the shape alone.

use super::super::super::inference::Plain;
use super::super::super::isa::vectorized;
use super::super::super::products::{Floats, Products};
use super::super::super::tasks::{SharedMut, for_each, split};
use super::super::super::vector::Lanes;
use super::super::super::{Isa, Storable};
use super::super::register_tile::with_rows;
use crate::kernels::ConvShape;
use half::bf16;

/// Bytes of the packed numbers of a chunk, about: they stay in the third-level cache.
const CHUNK_BYTES: usize = 4 << 20;
/// Words of a chunk: enough that the sums are seldom loaded and stored, few enough that they lose little.
const WORDS: (usize, usize) = (256, 1024);
/// Words that a task packs.
const PACK_WORDS: usize = 32;
/// Output channels of a register tile.
const MAX_ROWS: usize = 12;
/// Register tiles that a task computes in one column of the gradient, at most.
const TASK_BLOCKS: usize = 8;

/// Whether the algorithm computes such gradients: every output has one input of each channel, in whole vectors.
pub(crate) fn fits(shape: &ConvShape) -> bool {
    let [_, in_channels, height, width] = shape.weight();
    (height, width, shape.padding(), shape.groups()) == (1, 1, 0, 1) && in_channels.is_multiple_of(16)
}

/// How numbers of some pixels become a word.
trait Packing: Send + Sync {
    /// As stored.
    type Stored: Storable;
    /// What the register tile multiplies.
    type Word: Plain + Send + Sync + Default;
    /// Pixels in a word.
    const PIXELS: usize;

    fn word(first: Self::Stored, second: Self::Stored) -> Self::Word;
}

/// One pixel a word, as f32.
struct Single<X>(std::marker::PhantomData<fn() -> X>);

/// Two pixels a word.
struct Pair;

impl<X: Storable<Float = f32>> Packing for Single<X> {
    type Stored = X;
    type Word = f32;
    const PIXELS: usize = 1;

    #[inline(always)]
    fn word(first: X, _second: X) -> f32 {
        first.load()
    }
}

impl Packing for Pair {
    type Stored = bf16;
    type Word = u32;
    const PIXELS: usize = 2;

    #[inline(always)]
    fn word(first: bf16, second: bf16) -> u32 {
        u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16
    }
}

/// Where the pixels of a feature map lie that outputs see.
#[derive(Clone, Copy)]
struct Pixels {
    /// Of the output.
    height: usize,
    width: usize,
    /// Numbers of the map from one image, row, pixel to the next.
    steps: (usize, usize, usize),
    channels: usize,
}

impl Pixels {
    /// The place of an output's numbers.
    #[inline(always)]
    fn place(&self, pixel: usize) -> usize {
        let (row, column) = (pixel / self.width, pixel % self.width);
        row / self.height * self.steps.0 + row % self.height * self.steps.1 + column * self.steps.2
    }
}

/// How a chunk is cut.
#[derive(Clone, Copy)]
struct Cut {
    /// Pixels of all images.
    pixels: usize,
    /// Words of all pixels, and of a chunk at most.
    all_words: usize,
    words: usize,
    chunks: usize,
}

impl Cut {
    fn new(shape: &ConvShape, pixels_per_word: usize) -> Self {
        let [out_channels, in_channels, _, _] = shape.weight();
        let pixels = shape.output().num_pixels();
        let all_words = pixels.div_ceil(pixels_per_word);
        let fitting = CHUNK_BYTES / ((in_channels + out_channels) * size_of::<f32>());
        let chunks = all_words.div_ceil(fitting.clamp(WORDS.0, WORDS.1));
        Self { pixels, all_words, words: all_words.div_ceil(chunks), chunks }
    }
}

/// Numbers of workspace, of four bytes.
pub(crate) fn workspace_len(shape: &ConvShape) -> usize {
    let [out_channels, in_channels, _, _] = shape.weight();
    // Of whichever packing.
    let words = Cut::new(shape, 1).words.max(Cut::new(shape, 2).words);
    (in_channels + out_channels) * words
}

/// Adds the gradient to `gradient`, `[Cout, Cin, 1, 1]`.
pub(crate) fn pointwise_weight_gradient<X: Storable<Float = f32>>(
    isa: Isa,
    shape: &ConvShape,
    x: &[X],
    y_gradient: &[X],
    gradient: &mut [f32],
    workspace: &mut [f32],
) {
    let isa = isa.or_portable();
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => run::<Single<X>>(isa, shape, (x, y_gradient), gradient, workspace, (16, 12), x86::avx512),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => run::<Single<X>>(isa, shape, (x, y_gradient), gradient, workspace, (8, 6), x86::avx2),
        _ => run::<Single<X>>(isa, shape, (x, y_gradient), gradient, workspace, (4, 4), multiply::<Portable>),
    }
}

/// The same of bfloat16, multiplied as such where the processor can.
pub(crate) fn pointwise_weight_gradient_bf16(
    isa: Isa,
    shape: &ConvShape,
    x: &[bf16],
    y_gradient: &[bf16],
    gradient: &mut [f32],
    workspace: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_bf16_products() {
        let words: &mut [u32] = {
            // SAFETY: as many numbers of as many bytes, of any bits.
            unsafe { std::slice::from_raw_parts_mut(workspace.as_mut_ptr().cast(), workspace.len()) }
        };
        run::<Pair>(isa, shape, (x, y_gradient), gradient, words, (16, 12), x86::avx512_bf16);
        return;
    }
    pointwise_weight_gradient(isa, shape, x, y_gradient, gradient, workspace);
}

type Portable = Floats<f32, Lanes<f32, 4>>;

/// [`multiply`] for an instruction set.
type MultiplyFn<W> = unsafe fn(&Product<W>);

fn run<K: Packing>(
    isa: Isa,
    shape: &ConvShape,
    (x, y_gradient): (&[K::Stored], &[K::Stored]),
    gradient: &mut [f32],
    workspace: &mut [K::Word],
    (lanes, rows): (usize, usize),
    multiply: MultiplyFn<K::Word>,
) {
    let (input, output) = (shape.input(), shape.output());
    let (in_channels, out_channels) = (input.channels, output.channels);
    assert!(x.len() == input.len() && y_gradient.len() == output.len(), "pointwise weight gradient: maps");
    assert_eq!(gradient.len(), in_channels * out_channels, "pointwise weight gradient: gradient");
    let cut = Cut::new(shape, K::PIXELS);
    let (height, width) = (output.height, output.width);
    let row = input.width * in_channels;
    let steps = (input.height * row, shape.stride() * row, shape.stride() * in_channels);
    let x_pixels = Pixels { height, width, steps, channels: in_channels };
    let row = width * out_channels;
    let y_pixels = Pixels { height, width, steps: (height * row, row, out_channels), channels: out_channels };
    let (x_packed, rest) = workspace.split_at_mut(in_channels * cut.words);
    let y_packed = &mut rest[..out_channels * cut.words];
    let gradient = SharedMut::new(gradient);
    let panels = in_channels.div_ceil(2 * lanes);
    let groups = out_channels.div_ceil(rows).div_ceil(TASK_BLOCKS);
    for chunk in 0..cut.chunks {
        let (first, end) = split(cut.all_words, cut.chunks, chunk);
        let words = end - first;
        {
            let (x_packed, y_packed) = (SharedMut::new(x_packed), SharedMut::new(y_packed));
            for_each(words.div_ceil(PACK_WORDS), |task_idx| {
                let range = task_idx * PACK_WORDS..words.min((task_idx + 1) * PACK_WORDS);
                pack::<K>(isa, x, &x_pixels, &cut, first, range.clone(), 2 * lanes, &x_packed);
                pack::<K>(isa, y_gradient, &y_pixels, &cut, first, range, rows, &y_packed);
            });
        }
        let (x_packed, y_packed) = (&*x_packed, &*y_packed);
        for_each(panels * groups, |task_idx| {
            let (panel, group) = (task_idx / groups, task_idx % groups);
            let first_channel = panel * 2 * lanes;
            let vectors = (in_channels - first_channel).min(2 * lanes) / lanes;
            let start = group * TASK_BLOCKS * rows;
            for first_row in (start..out_channels.min(start + TASK_BLOCKS * rows)).step_by(rows) {
                let product = Product {
                    x: x_packed[first_channel * cut.words..].as_ptr(),
                    y_gradient: y_packed[first_row * cut.words..].as_ptr(),
                    words,
                    rows: rows.min(out_channels - first_row),
                    vectors,
                    out: gradient.pointer(first_row * in_channels + first_channel),
                    out_step: in_channels,
                };
                // SAFETY: the instruction set is there; places within the packed numbers and the gradient, which has these
                // channels for this task alone.
                unsafe { multiply(&product) };
            }
        });
    }
}

vectorized! {
    /// Packs words of some pixels: channels in blocks of `width`, of each block its words one after the other.
    fn pack[K: Packing](
        from: &[K::Stored],
        pixels: &Pixels,
        cut: &Cut,
        first: usize,
        range: std::ops::Range<usize>,
        width: usize,
        to: &SharedMut<K::Word>,
    ) {
        let channels = pixels.channels;
        for word in range {
            let pixel = (first + word) * K::PIXELS;
            let one = &from[pixels.place(pixel)..][..channels];
            let has_other = K::PIXELS > 1 && pixel + 1 < cut.pixels;
            let other = if has_other { &from[pixels.place(pixel + 1)..][..channels] } else { one };
            for start in (0..channels).step_by(width) {
                let count = width.min(channels - start);
                // SAFETY: the word's place in the block is this task's alone.
                let to = unsafe { to.slice(start * cut.words + word * count, count) };
                let (one, other) = (&one[start..start + count], &other[start..start + count]);
                if K::PIXELS > 1 && !has_other {
                    for (to, &one) in to.iter_mut().zip(one) {
                        *to = K::word(one, K::Stored::default());
                    }
                } else {
                    for ((to, &one), &other) in to.iter_mut().zip(one).zip(other) {
                        *to = K::word(one, other);
                    }
                }
            }
        }
    }
}

/// A register tile over the words of a chunk.
struct Product<W> {
    /// `[words, vectors of channels in]`.
    x: *const W,
    /// `[words, rows]`, of channels out.
    y_gradient: *const W,
    words: usize,
    rows: usize,
    vectors: usize,
    /// What the sums are added to.
    out: *mut f32,
    out_step: usize,
}

/// # Safety
/// The pointers reach as far as the numbers say, nobody else has the sums, and the processor has the instruction set of `P`.
#[inline(always)]
unsafe fn multiply<P: Products<Sum = f32>>(product: &Product<P::Word>) {
    // SAFETY: the caller vouches for it.
    unsafe { with_rows!(MAX_ROWS, product.rows, product.vectors, multiply_tile, (P), (product)) }
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn multiply_tile<P: Products<Sum = f32>, const ROWS: usize, const VECTORS: usize>(product: &Product<P::Word>) {
    let (mut x, mut y_gradient) = (product.x, product.y_gradient);
    // SAFETY: the caller vouches for it.
    unsafe {
        let mut sums = [[P::zero(); VECTORS]; ROWS];
        for _ in 0..product.words {
            let inputs: [P::Weight; VECTORS] = std::array::from_fn(|vector| P::weight(x.add(vector * P::LANES)));
            for row in 0..ROWS {
                let gradient = P::input(y_gradient.add(row));
                for vector in 0..VECTORS {
                    sums[row][vector] = P::add_products(sums[row][vector], gradient, inputs[vector]);
                }
            }
            x = x.add(VECTORS * P::LANES);
            y_gradient = y_gradient.add(ROWS);
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                let out = product.out.add(row * product.out_step + vector * P::LANES);
                P::store(P::add_stored(sums[row][vector], out), out);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The loops compiled for the instruction sets.

    use super::super::super::super::products::DotBf16x16;
    use super::super::super::super::vector::x86::{F32x8, F32x16};
    use super::*;

    /// # Safety
    /// As for [`multiply`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(product: &Product<f32>) {
        // SAFETY: the caller vouches for it.
        unsafe { multiply::<Floats<f32, F32x8>>(product) }
    }

    /// # Safety
    /// As for [`multiply`].
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512(product: &Product<f32>) {
        // SAFETY: the caller vouches for it.
        unsafe { multiply::<Floats<f32, F32x16>>(product) }
    }

    /// # Safety
    /// As for [`multiply`].
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bf16,avx2,fma")]
    pub(super) unsafe fn avx512_bf16(product: &Product<u32>) {
        // SAFETY: the caller vouches for it.
        unsafe { multiply::<DotBf16x16>(product) }
    }
}
