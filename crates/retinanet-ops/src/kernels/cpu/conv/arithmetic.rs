//! The arithmetics that a convolution computes in, and their loops compiled for each instruction set.

use super::super::Isa;
use super::super::element::sealed::Vectors;
use super::super::products::{ExactInt8, Floats, Products, WidenedBf16};
use super::super::stored::{Conversions, FromSums, Sum};
use super::super::vector::Lanes;
use super::finish::{FinishFn, Stores};
use super::tile::{Panel, Strip, StripFn, Tile, run_strip};
use half::bf16;
use std::marker::PhantomData;

/// A way to multiply and add up.
pub trait Arithmetic: 'static {
    /// The input, as stored.
    type Number: Copy + PartialOrd + Send + Sync + 'static;
    /// The weight, as packed.
    type Weight: Copy + Default + Send + Sync + 'static;
    /// What the register tile reads at once of either; see [`Products`].
    type Word: Copy + 'static;
    /// The sum of products.
    type Sum: Sum + Send + Sync + 'static;
    /// Numbers in a word.
    const PER_WORD: usize = size_of::<Self::Word>() / size_of::<Self::Number>();

    /// The loops for an instruction set that the processor has.
    fn path(isa: Isa) -> Path<Self::Word, Self::Sum>;
}

/// The loops of one arithmetic for one instruction set.
pub struct Path<W, S: Sum> {
    /// Output channels in a vector.
    pub(crate) lanes: usize,
    /// [`run_strip`].
    pub(crate) strip: StripFn<W, S>,
    /// [`finish`](super::finish::finish) by the types of output and residual.
    pub(crate) finish: fn(Stores, Stores) -> FinishFn<S>,
}

/// The two loops, compiled for an instruction set.
macro_rules! compiled_for {
    ($(#[$attribute:meta])* $module:ident $(, $features:literal)?) => {
        $(#[$attribute])*
        mod $module {
            use super::super::finish;
            use super::*;
            use crate::kernels::cpu::stored::Stored;

            /// # Safety
            /// As for [`run_strip`].
            $(#[target_feature(enable = $features)])?
            unsafe fn strip<P: Products<Sum: Sum>>(
                tile: &Tile<P::Word, P::Sum>,
                panel: &Panel<P::Word, <P::Sum as Sum>::Float>,
                strip: &Strip<P::Word>,
                columns: (usize, usize),
            ) {
                // SAFETY: the caller vouches for it.
                unsafe { run_strip::<P>(tile, panel, strip, columns) }
            }

            /// # Safety
            /// As for [`finish::finish`].
            $(#[target_feature(enable = $features)])?
            unsafe fn finish<S, V, Y, R>(
                sums: *const S,
                rows: usize,
                vectors: usize,
                target: &finish::Target<S::Float>,
            ) where
                S: Sum,
                V: FromSums<S>,
                Y: Stored<S::Float, V>,
                R: Stored<S::Float, V>,
            {
                // SAFETY: the caller vouches for it.
                unsafe { finish::finish::<S, V, Y, R>(sums, rows, vectors, target) }
            }

            fn finish_f32<S: Sum<Float = f32>, V: Conversions + FromSums<S>>(y: Stores, residual: Stores) -> FinishFn<S> {
                match (y, residual) {
                    (Stores::Full, Stores::Full) => finish::<S, V, f32, f32>,
                    (Stores::Full, Stores::Bf16) => finish::<S, V, f32, bf16>,
                    (Stores::Full, Stores::U8) => finish::<S, V, f32, u8>,
                    (Stores::Bf16, Stores::Full) => finish::<S, V, bf16, f32>,
                    (Stores::Bf16, Stores::Bf16) => finish::<S, V, bf16, bf16>,
                    (Stores::Bf16, Stores::U8) => finish::<S, V, bf16, u8>,
                    (Stores::U8, Stores::Full) => finish::<S, V, u8, f32>,
                    (Stores::U8, Stores::Bf16) => finish::<S, V, u8, bf16>,
                    (Stores::U8, Stores::U8) => finish::<S, V, u8, u8>,
                }
            }

            /// Sums that are scaled in f32, by vectors of `V`.
            pub(super) fn path<P, V>() -> Path<P::Word, P::Sum>
            where
                P: Products<Sum: Sum<Float = f32>>,
                V: Conversions + FromSums<P::Sum>,
            {
                const { assert!(P::LANES == V::LANES) };
                Path { lanes: P::LANES, strip: strip::<P>, finish: finish_f32::<P::Sum, V> }
            }

            /// Sums of f64, by vectors of `V`.
            pub(super) fn path_f64<P, V>() -> Path<P::Word, f64>
            where
                P: Products<Sum = f64>,
                V: FromSums<f64>,
            {
                const { assert!(P::LANES == V::LANES) };
                Path { lanes: P::LANES, strip: strip::<P>, finish: |_, _| finish::<f64, V, f64, f64> }
            }
        }
    };
}

compiled_for!(portable);
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled_for!(
    #[expect(dead_code, reason = "floating-point sums have no use for the feature")]
    avx2_vnni,
    "avx2,fma,avxvnni"
);
#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, "avx512f,avx512vl,avx512dq,avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled_for!(
    #[expect(dead_code, reason = "only sums of f32 have a use for the feature")]
    avx512_bf16,
    "avx512f,avx512vl,avx512dq,avx512bf16,avx2,fma"
);
#[cfg(target_arch = "x86_64")]
compiled_for!(
    #[expect(dead_code, reason = "floating-point sums have no use for the feature")]
    avx512_vnni,
    "avx512f,avx512vl,avx512dq,avx512vnni,avx2,fma"
);

/// f32 or f64.
pub struct Real<T>(PhantomData<T>);

macro_rules! real {
    ($t:ty, $path:ident) => {
        impl Arithmetic for Real<$t> {
            type Number = $t;
            type Weight = $t;
            type Word = $t;
            type Sum = $t;

            fn path(isa: Isa) -> Path<$t, $t> {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => avx512::$path::<Floats<$t, <$t as Vectors>::Avx512>, <$t as Vectors>::Avx512>(),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2::$path::<Floats<$t, <$t as Vectors>::Avx2>, <$t as Vectors>::Avx2>(),
                    Isa::Neon => portable::$path::<Floats<$t, <$t as Vectors>::Neon>, <$t as Vectors>::Neon>(),
                    _ => portable::$path::<Floats<$t, <$t as Vectors>::Portable>, <$t as Vectors>::Portable>(),
                }
            }
        }
    };
}

real!(f32, path);
real!(f64, path_f64);

/// bfloat16 with sums of f32.
pub(crate) struct Bf16;

impl Arithmetic for Bf16 {
    type Number = bf16;
    type Weight = bf16;
    type Word = u32;
    type Sum = f32;

    fn path(isa: Isa) -> Path<u32, f32> {
        #[cfg(target_arch = "x86_64")]
        {
            use super::super::products::DotBf16x16;
            use super::super::vector::x86::{F32x8, F32x16, F32x16Bf16};
            match isa {
                Isa::Avx512 if isa.has_bf16_products() => return avx512_bf16::path::<DotBf16x16, F32x16Bf16>(),
                Isa::Avx512 => return avx512::path::<WidenedBf16<16>, F32x16>(),
                Isa::Avx2 => return avx2::path::<WidenedBf16<8>, F32x8>(),
                Isa::Portable | Isa::Neon => {}
            }
        }
        let _ = isa;
        portable::path::<WidenedBf16<4>, Lanes<f32, 4>>()
    }
}

/// Bytes: those of the input without sign, those of the weight with; sums are exact.
pub(crate) struct Int8;

impl Arithmetic for Int8 {
    type Number = u8;
    type Weight = i8;
    type Word = u32;
    type Sum = i32;

    fn path(isa: Isa) -> Path<u32, i32> {
        #[cfg(target_arch = "x86_64")]
        {
            use super::super::products::{DotInt8x8, DotInt8x16, MaddInt8x8};
            use super::super::vector::x86::{F32x8, F32x16};
            match isa {
                Isa::Avx512 if isa.has_int8_products() => return avx512_vnni::path::<DotInt8x16, F32x16>(),
                Isa::Avx2 if isa.has_int8_products() => return avx2_vnni::path::<DotInt8x8, F32x8>(),
                Isa::Avx512 | Isa::Avx2 => return avx2::path::<MaddInt8x8, F32x8>(),
                Isa::Portable | Isa::Neon => {}
            }
        }
        let _ = isa;
        portable::path::<ExactInt8<4>, Lanes<f32, 4>>()
    }
}
