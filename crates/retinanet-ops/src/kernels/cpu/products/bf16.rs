//! Products of bfloat16, two a word, with sums of f32.

use super::Products;

/// Both numbers widened to f32, on any processor.
pub(crate) struct WidenedBf16<const N: usize>;

/// The two numbers of a word, the first in the low half.
#[inline(always)]
fn widened(word: u32) -> (f32, f32) {
    (f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000))
}

impl<const N: usize> Products for WidenedBf16<N> {
    type Word = u32;
    type Sum = f32;
    type Input = (f32, f32);
    type Weight = ([f32; N], [f32; N]);
    type Sums = [f32; N];
    const LANES: usize = N;
    const ROWS: usize = 4;
    const DEPTH_BLOCK: usize = usize::MAX;

    #[inline(always)]
    unsafe fn input(from: *const u32) -> Self::Input {
        // SAFETY: the caller vouches for the word.
        widened(unsafe { from.read_unaligned() })
    }

    #[inline(always)]
    unsafe fn weight(from: *const u32) -> Self::Weight {
        // SAFETY: the caller vouches for N words.
        let words = unsafe { from.cast::<[u32; N]>().read_unaligned() };
        (words.map(|word| widened(word).0), words.map(|word| widened(word).1))
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0.0; N]
    }

    #[inline(always)]
    unsafe fn add_products(sums: Self::Sums, input: Self::Input, weight: Self::Weight) -> Self::Sums {
        std::array::from_fn(|lane| sums[lane] + input.0 * weight.0[lane] + input.1 * weight.1[lane])
    }

    #[inline(always)]
    unsafe fn add_stored(sums: Self::Sums, from: *const f32) -> Self::Sums {
        // SAFETY: the caller vouches for N sums.
        let stored = unsafe { from.cast::<[f32; N]>().read_unaligned() };
        std::array::from_fn(|lane| stored[lane] + sums[lane])
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, to: *mut f32) {
        // SAFETY: the caller vouches for N sums.
        unsafe { to.cast::<[f32; N]>().write_unaligned(sums) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    //! AVX512-BF16.

    use super::Products;
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// 16 pairs of numbers: AVX-512 F and BF16.
    pub(crate) struct DotBf16x16;

    impl Products for DotBf16x16 {
        type Word = u32;
        type Sum = f32;
        type Input = __m512i;
        type Weight = __m512i;
        type Sums = __m512;
        const LANES: usize = 16;
        const ROWS: usize = 12;
        // Inputs are rounded to 8 bits, so that the rounding of f32 sums does not show.
        const DEPTH_BLOCK: usize = usize::MAX;

        #[inline(always)]
        unsafe fn input(from: *const u32) -> __m512i {
            // SAFETY: the caller vouches for the word and the instruction set.
            unsafe { _mm512_set1_epi32(from.read_unaligned().cast_signed()) }
        }

        #[inline(always)]
        unsafe fn weight(from: *const u32) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn add_products(sums: __m512, input: __m512i, weight: __m512i) -> __m512 {
            // SAFETY: as above; the types are views of the same register.
            unsafe {
                _mm512_dpbf16_ps(sums, transmute::<__m512i, __m512bh>(weight), transmute::<__m512i, __m512bh>(input))
            }
        }

        #[inline(always)]
        unsafe fn add_stored(sums: __m512, from: *const f32) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(_mm512_loadu_ps(from), sums) }
        }

        #[inline(always)]
        unsafe fn store(sums: __m512, to: *mut f32) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(to, sums) }
        }
    }
}
