//! Vectors of the instruction sets, for the two loops where the compiler must not choose: the products of a convolution.

use super::Element;

/// A vector register of `T`.
pub trait Vector<T>: Copy {
    /// Numbers in a vector.
    const LANES: usize;
    /// Rows of the register tile, two vectors a row: as many as fit in the registers beside the operands.
    const ROWS: usize;

    /// Reads [`Self::LANES`] numbers, at any alignment.
    ///
    /// # Safety
    /// The numbers are readable, and the processor has the instruction set.
    unsafe fn load(from: *const T) -> Self;

    /// Writes [`Self::LANES`] numbers, at any alignment.
    ///
    /// # Safety
    /// The numbers are writable, and the processor has the instruction set.
    unsafe fn store(self, to: *mut T);

    /// The same number in every lane.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn splat(value: T) -> Self;

    /// `self * b + c`.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;

    /// `self + b`.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn add(self, b: Self) -> Self;

    /// `self - b`.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn sub(self, b: Self) -> Self;

    /// `self * b`.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn mul(self, b: Self) -> Self;

    /// max(x, 0) in every lane, NaN where x is NaN.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn relu(self) -> Self;

    /// The lanes where `gate` is positive, 0 elsewhere.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn where_positive(self, gate: Self) -> Self;
}

/// Asks for the line of the cache that holds `place`; anything may be asked for.
#[inline(always)]
pub(crate) fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, of an instruction that every processor of the target has; nothing is read.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// A vector as an array, that the compiler maps to whatever the target has.
#[derive(Clone, Copy, Debug)]
pub struct Lanes<T, const N: usize>([T; N]);

impl<T: Element, const N: usize> Vector<T> for Lanes<T, N> {
    const LANES: usize = N;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller vouches for N numbers.
        Self(unsafe { from.cast::<[T; N]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller vouches for N numbers.
        unsafe { to.cast::<[T; N]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Self([value; N])
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] * b.0[lane] + c.0[lane]))
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + b.0[lane]))
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] - b.0[lane]))
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] * b.0[lane]))
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Self(self.0.map(T::relu))
    }

    #[inline(always)]
    unsafe fn where_positive(self, gate: Self) -> Self {
        Self(std::array::from_fn(|lane| if gate.0[lane] > T::ZERO { self.0[lane] } else { T::ZERO }))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    //! The registers of x86-64.

    use super::Vector;
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($visible:vis $name:ident, $t:ty, $register:ty, $lanes:literal, $rows:literal,
         $load:ident, $store:ident, $splat:ident, $zero:ident, $mul_add:ident, $add:ident, $sub:ident, $mul:ident, $max:ident,
         |$value:ident, $gate:ident| $where_positive:expr) => {
            #[doc = concat!("A register of ", stringify!($lanes), " numbers.")]
            #[derive(Clone, Copy, Debug)]
            $visible struct $name(pub(crate) $register);

            impl Vector<$t> for $name {
                const LANES: usize = $lanes;
                const ROWS: usize = $rows;

                #[inline(always)]
                unsafe fn load(from: *const $t) -> Self {
                    // SAFETY: the caller vouches for the numbers and the instruction set.
                    Self(unsafe { $load(from) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $t) {
                    // SAFETY: as above.
                    unsafe { $store(to, self.0) }
                }

                #[inline(always)]
                unsafe fn splat(value: $t) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $splat(value) })
                }

                #[inline(always)]
                unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $mul_add(self.0, b.0, c.0) })
                }

                #[inline(always)]
                unsafe fn add(self, b: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $add(self.0, b.0) })
                }

                #[inline(always)]
                unsafe fn sub(self, b: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $sub(self.0, b.0) })
                }

                #[inline(always)]
                unsafe fn mul(self, b: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $mul(self.0, b.0) })
                }

                #[inline(always)]
                unsafe fn relu(self) -> Self {
                    // The instruction returns its second operand where either is NaN.
                    // SAFETY: as above.
                    Self(unsafe { $max($zero(), self.0) })
                }

                #[inline(always)]
                unsafe fn where_positive(self, gate: Self) -> Self {
                    let ($value, $gate) = (self.0, gate.0);
                    // SAFETY: as above.
                    Self(unsafe { $where_positive })
                }
            }
        };
    }

    vector!(
        pub F32x16,
        f32,
        __m512,
        16,
        12,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_setzero_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_max_ps,
        |value, gate| _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), value)
    );
    // The same with AVX512-BF16, whose conversions it uses.
    vector!(
        pub(crate) F32x16Bf16,
        f32,
        __m512,
        16,
        12,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_setzero_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_max_ps,
        |value, gate| _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), value)
    );
    vector!(
        pub F64x8,
        f64,
        __m512d,
        8,
        12,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_set1_pd,
        _mm512_setzero_pd,
        _mm512_fmadd_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_mul_pd,
        _mm512_max_pd,
        |value, gate| _mm512_maskz_mov_pd(_mm512_cmp_pd_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_pd()), value)
    );
    vector!(
        pub F32x8,
        f32,
        __m256,
        8,
        6,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_setzero_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_max_ps,
        |value, gate| _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), value)
    );
    vector!(
        pub F64x4,
        f64,
        __m256d,
        4,
        6,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_set1_pd,
        _mm256_setzero_pd,
        _mm256_fmadd_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_mul_pd,
        _mm256_max_pd,
        |value, gate| _mm256_and_pd(_mm256_cmp_pd::<_CMP_GT_OQ>(gate, _mm256_setzero_pd()), value)
    );
}

#[cfg(target_arch = "aarch64")]
pub(crate) mod neon {
    //! The registers of 64-bit ARM.

    use super::Vector;
    use std::arch::aarch64::*;

    macro_rules! vector {
        ($name:ident, $t:ty, $register:ty, $lanes:literal,
         $load:ident, $store:ident, $splat:ident, $mul_add:ident, $add:ident, $sub:ident, $mul:ident, $max:ident,
         |$value:ident, $gate:ident| $where_positive:expr) => {
            #[doc = concat!("A register of ", stringify!($lanes), " numbers.")]
            #[derive(Clone, Copy, Debug)]
            pub struct $name($register);

            impl Vector<$t> for $name {
                const LANES: usize = $lanes;
                // 24 sums, 2 weights and a broadcast of the 32 registers.
                const ROWS: usize = 12;

                #[inline(always)]
                unsafe fn load(from: *const $t) -> Self {
                    // SAFETY: the caller vouches for the numbers; every processor of the target has the instructions.
                    Self(unsafe { $load(from) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $t) {
                    // SAFETY: as above.
                    unsafe { $store(to, self.0) }
                }

                #[inline(always)]
                unsafe fn splat(value: $t) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $splat(value) })
                }

                #[inline(always)]
                unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: as above. The first operand is the one that is added to.
                    Self(unsafe { $mul_add(c.0, self.0, b.0) })
                }

                #[inline(always)]
                unsafe fn add(self, b: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $add(self.0, b.0) })
                }

                #[inline(always)]
                unsafe fn sub(self, b: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $sub(self.0, b.0) })
                }

                #[inline(always)]
                unsafe fn mul(self, b: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $mul(self.0, b.0) })
                }

                #[inline(always)]
                unsafe fn relu(self) -> Self {
                    // The instruction returns NaN where either operand is.
                    // SAFETY: as above.
                    Self(unsafe { $max($splat(0.0), self.0) })
                }

                #[inline(always)]
                unsafe fn where_positive(self, gate: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $select($greater(gate.0, $splat(0.0)), self.0, $splat(0.0)) })
                }
            }
        };
    }

    vector!(
        F32x4,
        f32,
        float32x4_t,
        4,
        vld1q_f32,
        vst1q_f32,
        vdupq_n_f32,
        vfmaq_f32,
        vaddq_f32,
        vsubq_f32,
        vmulq_f32,
        vmaxq_f32,
        vcgtq_f32,
        vbslq_f32
    );
    vector!(
        F64x2,
        f64,
        float64x2_t,
        2,
        vld1q_f64,
        vst1q_f64,
        vdupq_n_f64,
        vfmaq_f64,
        vaddq_f64,
        vsubq_f64,
        vmulq_f64,
        vmaxq_f64,
        vcgtq_f64,
        vbslq_f64
    );
}
