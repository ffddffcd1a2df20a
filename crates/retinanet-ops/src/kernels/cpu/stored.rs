//! How vectors of sums and of stored numbers become vectors to compute with, and back.

use super::Element;
use super::vector::{Lanes, Vector};
use half::bf16;

/// The most lanes of a vector of any instruction set.
const MAX_LANES: usize = 16;

/// The sum of a convolution's products.
pub trait Sum: Copy {
    /// What it is scaled and shifted in.
    type Float: Element;

    /// The nearest number of that type.
    fn to_float(self) -> Self::Float;
}

impl Sum for f32 {
    type Float = f32;

    #[inline(always)]
    fn to_float(self) -> f32 {
        self
    }
}

impl Sum for f64 {
    type Float = f64;

    #[inline(always)]
    fn to_float(self) -> f64 {
        self
    }
}

impl Sum for i32 {
    type Float = f32;

    #[inline(always)]
    fn to_float(self) -> f32 {
        self as f32
    }
}

/// A vector that is made of sums.
pub(crate) trait FromSums<S: Sum>: Vector<S::Float> {
    /// Reads as many sums as the vector has lanes.
    ///
    /// # Safety
    /// The sums are readable, and the processor has the instruction set.
    unsafe fn from_sums(from: *const S) -> Self;
}

impl<V: Vector<f32>> FromSums<f32> for V {
    #[inline(always)]
    unsafe fn from_sums(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the sums.
        unsafe { Self::load(from) }
    }
}

impl<V: Vector<f64>> FromSums<f64> for V {
    #[inline(always)]
    unsafe fn from_sums(from: *const f64) -> Self {
        // SAFETY: the caller vouches for the sums.
        unsafe { Self::load(from) }
    }
}

impl<V: Conversions> FromSums<i32> for V {
    #[inline(always)]
    unsafe fn from_sums(from: *const i32) -> Self {
        // SAFETY: the caller vouches for the sums.
        unsafe { Self::load_i32(from) }
    }
}

/// A number in memory that is read to, and written from, vectors of `F`.
pub(crate) trait Stored<F: Element, V: Vector<F>>: Copy {
    /// What pads a pixel.
    const PADDING: Self;

    /// As a number to compute with.
    fn read(self) -> F;

    /// The nearest number of this type to max(value, low); `low` is for bytes alone.
    fn nearest(value: F, low: F) -> Self;

    /// [`Self::read`] of a whole vector.
    ///
    /// # Safety
    /// The numbers are readable, and the processor has the instruction set.
    unsafe fn load(from: *const Self) -> V;

    /// [`Self::nearest`] of a whole vector.
    ///
    /// # Safety
    /// The numbers are writable, and the processor has the instruction set.
    unsafe fn store(value: V, low: F, to: *mut Self);
}

macro_rules! stored_as_it_is {
    ($t:ty) => {
        impl<V: Vector<$t>> Stored<$t, V> for $t {
            const PADDING: Self = 0.0;

            #[inline(always)]
            fn read(self) -> $t {
                self
            }

            #[inline(always)]
            fn nearest(value: $t, _low: $t) -> Self {
                value
            }

            #[inline(always)]
            unsafe fn load(from: *const Self) -> V {
                // SAFETY: the caller vouches for the numbers.
                unsafe { V::load(from) }
            }

            #[inline(always)]
            unsafe fn store(value: V, _low: $t, to: *mut Self) {
                // SAFETY: the caller vouches for the numbers.
                unsafe { value.store(to) }
            }
        }
    };
}

stored_as_it_is!(f32);
stored_as_it_is!(f64);

impl<V: Conversions> Stored<f32, V> for bf16 {
    const PADDING: Self = Self::ZERO;

    #[inline(always)]
    fn read(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn nearest(value: f32, _low: f32) -> Self {
        Self::from_f32(value)
    }

    #[inline(always)]
    unsafe fn load(from: *const Self) -> V {
        // SAFETY: the caller vouches for the numbers.
        unsafe { V::load_bf16(from) }
    }

    #[inline(always)]
    unsafe fn store(value: V, _low: f32, to: *mut Self) {
        // SAFETY: the caller vouches for the numbers.
        unsafe { value.store_bf16(to) }
    }
}

impl<V: Conversions> Stored<f32, V> for u8 {
    const PADDING: Self = 0;

    #[inline(always)]
    fn read(self) -> f32 {
        f32::from(self)
    }

    #[inline(always)]
    fn nearest(value: f32, low: f32) -> Self {
        // `low` for NaN; the conversion saturates.
        value.max(low).round_ties_even() as Self
    }

    #[inline(always)]
    unsafe fn load(from: *const Self) -> V {
        // SAFETY: the caller vouches for the numbers.
        unsafe { V::load_u8(from) }
    }

    #[inline(always)]
    unsafe fn store(value: V, low: f32, to: *mut Self) {
        // SAFETY: the caller vouches for the numbers.
        unsafe { value.store_u8(low, to) }
    }
}

/// Vectors of f32 read from and written to other types: lane by lane, unless the instruction set has better.
pub(crate) trait Conversions: Vector<f32> {
    /// # Safety
    /// The numbers are readable, and the processor has the instruction set.
    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: the caller vouches for the numbers.
        unsafe { load_each(|lane| *from.add(lane) as f32) }
    }

    /// # Safety
    /// The numbers are readable, and the processor has the instruction set.
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the caller vouches for the numbers.
        unsafe { load_each(|lane| f32::from_bits(u32::from((*from.add(lane)).to_bits()) << 16)) }
    }

    /// # Safety
    /// The numbers are readable, and the processor has the instruction set.
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        // SAFETY: the caller vouches for the numbers.
        unsafe { load_each(|lane| f32::from(*from.add(lane))) }
    }

    /// # Safety
    /// The numbers are writable, and the processor has the instruction set.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16) {
        // SAFETY: the caller vouches for the numbers.
        unsafe { store_each(self, |lane, value| *to.add(lane) = bf16::from_f32(value)) }
    }

    /// # Safety
    /// The numbers are writable, and the processor has the instruction set.
    #[inline(always)]
    unsafe fn store_u8(self, low: f32, to: *mut u8) {
        // SAFETY: the caller vouches for the numbers.
        unsafe { store_each(self, |lane, value| *to.add(lane) = value.max(low).round_ties_even() as u8) }
    }
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn load_each<V: Vector<f32>>(read: impl Fn(usize) -> f32) -> V {
    let mut lanes = [0.0; MAX_LANES];
    for lane in 0..V::LANES {
        lanes[lane] = read(lane);
    }
    // SAFETY: the array has as many lanes as any vector; the caller vouches for the instruction set.
    unsafe { V::load(lanes.as_ptr()) }
}

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn store_each<V: Vector<f32>>(vector: V, mut write: impl FnMut(usize, f32)) {
    let mut lanes = [0.0; MAX_LANES];
    // SAFETY: as above.
    unsafe { vector.store(lanes.as_mut_ptr()) };
    for lane in 0..V::LANES {
        write(lane, lanes[lane]);
    }
}

impl<const N: usize> Conversions for Lanes<f32, N> {}

#[cfg(target_arch = "aarch64")]
impl Conversions for super::vector::neon::F32x4 {}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::vector::x86::{F32x8, F32x16, F32x16Bf16};
    use super::{Conversions, bf16};
    use std::arch::x86_64::*;

    impl Conversions for F32x8 {
        #[inline(always)]
        unsafe fn load_i32(from: *const i32) -> Self {
            // SAFETY: the caller vouches for the numbers and the instruction set.
            Self(unsafe { _mm256_cvtepi32_ps(_mm256_loadu_si256(from.cast())) })
        }

        #[inline(always)]
        unsafe fn load_u8(from: *const u8) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) })
        }

        #[inline(always)]
        unsafe fn store_u8(self, low: f32, to: *mut u8) {
            // SAFETY: as above. The maximum is its second operand for NaN; the packings saturate as the conversion to u8
            // does, since no number is negative; those beyond i32 are cut off before.
            unsafe {
                let value = _mm256_min_ps(_mm256_max_ps(self.0, _mm256_set1_ps(low)), _mm256_set1_ps(255.0));
                let value = _mm256_cvtps_epi32(value);
                let value = _mm_packus_epi32(_mm256_castsi256_si128(value), _mm256_extracti128_si256::<1>(value));
                _mm_storel_epi64(to.cast(), _mm_packus_epi16(value, value));
            }
        }
    }

    macro_rules! avx512 {
        ($name:ident, $round:ident) => {
            impl Conversions for $name {
                #[inline(always)]
                unsafe fn load_i32(from: *const i32) -> Self {
                    // SAFETY: the caller vouches for the numbers and the instruction set.
                    Self(unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast())) })
                }

                #[inline(always)]
                unsafe fn load_bf16(from: *const bf16) -> Self {
                    // SAFETY: as above.
                    unsafe {
                        let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                        Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves)))
                    }
                }

                #[inline(always)]
                unsafe fn load_u8(from: *const u8) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) })
                }

                #[inline(always)]
                unsafe fn store_bf16(self, to: *mut bf16) {
                    // SAFETY: as above.
                    unsafe { _mm256_storeu_si256(to.cast(), $round(self.0)) }
                }

                #[inline(always)]
                unsafe fn store_u8(self, low: f32, to: *mut u8) {
                    // SAFETY: as above. The maximum is its second operand for NaN; no number is negative, so that those
                    // beyond i32, which become its least, saturate as the largest without sign.
                    unsafe {
                        let value = _mm512_cvtps_epi32(_mm512_max_ps(self.0, _mm512_set1_ps(low)));
                        _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(value));
                    }
                }
            }
        };
    }

    avx512!(F32x16, rounded);
    avx512!(F32x16Bf16, rounded_natively);

    /// To bf16, to nearest even: half of a last place is added, or a little less where it is even. NaN keeps its upper
    /// bits, and is made quiet.
    ///
    /// # Safety
    /// The processor has AVX-512 F.
    #[inline(always)]
    unsafe fn rounded(value: __m512) -> __m256i {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let bits = _mm512_castps_si512(value);
            let is_odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), is_odd);
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
            let rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x0040_0000));
            _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded))
        }
    }

    /// The same, except that numbers too small to be normal become zero, as they count in the products.
    ///
    /// # Safety
    /// The processor has AVX512-BF16.
    #[inline(always)]
    unsafe fn rounded_natively(value: __m512) -> __m256i {
        // SAFETY: the caller vouches for the instruction set; the types are views of the same register.
        unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value)) }
    }
}
