//! The numbers that kernels compute with.

use super::inference::codec::{Brain, Codec};
use super::vector::{Lanes, Vector};
use half::bf16;
use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// A number in memory that is computed with as a [`Element`]: itself, or bfloat16 as f32.
pub trait Storable: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// What it is computed with.
    type Float: Element;

    /// The same value.
    fn load(self) -> Self::Float;

    /// The nearest number that can be stored, ties to even.
    fn nearest(value: Self::Float) -> Self;
}

impl Storable for bf16 {
    type Float = f32;

    #[inline(always)]
    fn load(self) -> f32 {
        Brain.decode(self)
    }

    #[inline(always)]
    fn nearest(value: f32) -> Self {
        Brain.encode(value)
    }
}

/// A floating-point number: `f32`, or `f64` for checking gradients.
pub trait Element:
    Storable<Float = Self>
    + Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + sealed::Vectors
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity.
    const NEG_INFINITY: Self;

    /// The nearest number of this type.
    fn from_f64(value: f64) -> Self;

    /// The same value in double precision.
    fn to_f64(self) -> f64;

    /// max(x, 0), and NaN where x is NaN.
    #[inline(always)]
    fn relu(self) -> Self {
        if self < Self::ZERO { Self::ZERO } else { self }
    }
}

pub(crate) mod sealed {
    use super::super::conv::Arithmetic;
    use super::super::stored::Sum;
    use super::Vector;

    /// The vectors of each instruction set. Sealed: the kernels are written for the two types below.
    pub trait Vectors: Sized {
        /// Of convolutions.
        type Arithmetic: Arithmetic<Number = Self, Weight = Self, Word = Self, Sum: Sum<Float = Self>>;
        /// 512-bit.
        type Avx512: Vector<Self>;
        /// 256-bit.
        type Avx2: Vector<Self>;
        /// 128-bit.
        type Neon: Vector<Self>;
        /// Anywhere.
        type Portable: Vector<Self>;
    }
}

macro_rules! element {
    ($t:ty, $lanes:literal, $avx512:ident, $avx2:ident, $neon:ident) => {
        impl Storable for $t {
            type Float = Self;

            #[inline(always)]
            fn load(self) -> Self {
                self
            }

            #[inline(always)]
            fn nearest(value: Self) -> Self {
                value
            }
        }

        impl Element for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = <$t>::NEG_INFINITY;

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $t
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
        }

        impl sealed::Vectors for $t {
            type Arithmetic = super::conv::Real<$t>;
            #[cfg(target_arch = "x86_64")]
            type Avx512 = super::vector::x86::$avx512;
            #[cfg(target_arch = "x86_64")]
            type Avx2 = super::vector::x86::$avx2;
            #[cfg(not(target_arch = "x86_64"))]
            type Avx512 = Lanes<$t, $lanes>;
            #[cfg(not(target_arch = "x86_64"))]
            type Avx2 = Lanes<$t, $lanes>;
            #[cfg(target_arch = "aarch64")]
            type Neon = super::vector::neon::$neon;
            #[cfg(not(target_arch = "aarch64"))]
            type Neon = Lanes<$t, $lanes>;
            type Portable = Lanes<$t, $lanes>;
        }
    };
}

element!(f32, 4, F32x16, F32x8, F32x4);
element!(f64, 2, F64x8, F64x4, F64x2);
