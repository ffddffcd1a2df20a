//! Products of bytes without sign (the input) and with (the weight), four a word, with exact sums of i32.

use super::Products;

/// Byte by byte, on any processor.
pub(crate) struct ExactInt8<const N: usize>;

impl<const N: usize> Products for ExactInt8<N> {
    type Word = u32;
    type Sum = i32;
    type Input = [i32; 4];
    type Weight = [[i32; N]; 4];
    type Sums = [i32; N];
    const LANES: usize = N;
    const ROWS: usize = 4;
    const DEPTH_BLOCK: usize = usize::MAX;

    #[inline(always)]
    unsafe fn input(from: *const u32) -> Self::Input {
        // SAFETY: the caller vouches for the word.
        unsafe { from.cast::<[u8; 4]>().read() }.map(i32::from)
    }

    #[inline(always)]
    unsafe fn weight(from: *const u32) -> Self::Weight {
        // SAFETY: the caller vouches for N words.
        let words = unsafe { from.cast::<[[i8; 4]; N]>().read() };
        std::array::from_fn(|idx| words.map(|word| i32::from(word[idx])))
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; N]
    }

    #[inline(always)]
    unsafe fn add_products(mut sums: Self::Sums, input: Self::Input, weight: Self::Weight) -> Self::Sums {
        for idx in 0..4 {
            for lane in 0..N {
                sums[lane] = sums[lane].wrapping_add(input[idx] * weight[idx][lane]);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn add_stored(sums: Self::Sums, from: *const i32) -> Self::Sums {
        // SAFETY: the caller vouches for N sums.
        let stored = unsafe { from.cast::<[i32; N]>().read_unaligned() };
        std::array::from_fn(|lane| sums[lane].wrapping_add(stored[lane]))
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, to: *mut i32) {
        // SAFETY: the caller vouches for N sums.
        unsafe { to.cast::<[i32; N]>().write_unaligned(sums) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    //! AVX512-VNNI, AVX-VNNI, and AVX2 without either.

    use super::Products;
    use std::arch::x86_64::*;

    macro_rules! dot {
        ($(#[$doc:meta])* $name:ident, $register:ty, $lanes:literal, $rows:literal,
         $splat:ident, $load:ident, $store:ident, $zero:ident, $add:ident, $dot:ident) => {
            $(#[$doc])*
            pub(crate) struct $name;

            impl Products for $name {
                type Word = u32;
                type Sum = i32;
                type Input = $register;
                type Weight = $register;
                type Sums = $register;
                const LANES: usize = $lanes;
                const ROWS: usize = $rows;
                const DEPTH_BLOCK: usize = usize::MAX;

                #[inline(always)]
                unsafe fn input(from: *const u32) -> $register {
                    // SAFETY: the caller vouches for the word and the instruction set.
                    unsafe { $splat(from.read_unaligned().cast_signed()) }
                }

                #[inline(always)]
                unsafe fn weight(from: *const u32) -> $register {
                    // SAFETY: as above.
                    unsafe { $load(from.cast()) }
                }

                #[inline(always)]
                unsafe fn zero() -> $register {
                    // SAFETY: as above.
                    unsafe { $zero() }
                }

                #[inline(always)]
                unsafe fn add_products(sums: $register, input: $register, weight: $register) -> $register {
                    // SAFETY: as above. The first factor is the one without sign.
                    unsafe { $dot(sums, input, weight) }
                }

                #[inline(always)]
                unsafe fn add_stored(sums: $register, from: *const i32) -> $register {
                    // SAFETY: as above.
                    unsafe { $add($load(from.cast()), sums) }
                }

                #[inline(always)]
                unsafe fn store(sums: $register, to: *mut i32) {
                    // SAFETY: as above.
                    unsafe { $store(to.cast(), sums) }
                }
            }
        };
    }

    dot!(
        /// 16 words: AVX-512 F and VNNI.
        DotInt8x16,
        __m512i,
        16,
        12,
        _mm512_set1_epi32,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        _mm512_setzero_si512,
        _mm512_add_epi32,
        _mm512_dpbusd_epi32
    );
    dot!(
        /// 8 words: AVX-VNNI.
        DotInt8x8,
        __m256i,
        8,
        6,
        _mm256_set1_epi32,
        _mm256_loadu_si256,
        _mm256_storeu_si256,
        _mm256_setzero_si256,
        _mm256_add_epi32,
        _mm256_dpbusd_avx_epi32
    );

    /// 8 words, AVX2: the bytes of even and of odd places widened to 16 bits, whose products of pairs are exact. (The
    /// product of bytes that AVX2 has saturates.)
    pub(crate) struct MaddInt8x8;

    impl Products for MaddInt8x8 {
        type Word = u32;
        type Sum = i32;
        /// Even and odd places.
        type Input = (__m256i, __m256i);
        type Weight = (__m256i, __m256i);
        type Sums = __m256i;
        const LANES: usize = 8;
        // 8 sums, 4 weights, 2 inputs and a product of the 16 registers.
        const ROWS: usize = 4;
        const DEPTH_BLOCK: usize = usize::MAX;

        #[inline(always)]
        unsafe fn input(from: *const u32) -> Self::Input {
            // SAFETY: the caller vouches for the word and the instruction set.
            unsafe {
                let word = from.read_unaligned();
                let (even, odd) = (word & 0x00ff_00ff, (word >> 8) & 0x00ff_00ff);
                (_mm256_set1_epi32(even.cast_signed()), _mm256_set1_epi32(odd.cast_signed()))
            }
        }

        #[inline(always)]
        unsafe fn weight(from: *const u32) -> Self::Weight {
            // SAFETY: as above.
            unsafe {
                let words = _mm256_loadu_si256(from.cast());
                (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(words)), _mm256_srai_epi16::<8>(words))
            }
        }

        #[inline(always)]
        unsafe fn zero() -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        unsafe fn add_products(sums: __m256i, input: Self::Input, weight: Self::Weight) -> __m256i {
            // SAFETY: as above. A pair of products is at most 2 * 255 * 128.
            unsafe {
                let even = _mm256_madd_epi16(input.0, weight.0);
                let odd = _mm256_madd_epi16(input.1, weight.1);
                _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
            }
        }

        #[inline(always)]
        unsafe fn add_stored(sums: __m256i, from: *const i32) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_add_epi32(_mm256_loadu_si256(from.cast()), sums) }
        }

        #[inline(always)]
        unsafe fn store(sums: __m256i, to: *mut i32) {
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(to.cast(), sums) }
        }
    }
}
