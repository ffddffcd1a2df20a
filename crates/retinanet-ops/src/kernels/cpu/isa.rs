//! The instruction sets that the kernels are compiled for, and the choice among them at run time.

/// An instruction set. Results of two sets may differ in the last bits; within one they never do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// What every processor of the target has.
    Portable,
    /// AVX2 with fused multiply-add: 256-bit vectors.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL): 512-bit vectors.
    Avx512,
    /// NEON: the 128-bit vectors of 64-bit ARM.
    Neon,
}

impl Isa {
    /// Every set; of one processor's, narrowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Neon];

    /// The widest set of this processor.
    pub fn detect() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether this processor has the set. Kernels fall back to [`Isa::Portable`] where it has not.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Portable => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
            }
            Self::Neon => false,
        }
        #[cfg(target_arch = "aarch64")]
        {
            // Every processor of the target has NEON.
            matches!(self, Self::Portable | Self::Neon)
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        matches!(self, Self::Portable)
    }

    /// Whether the set multiplies bfloat16 at more than the speed of f32 (AVX512-BF16). The kernels work without it.
    pub fn has_bf16_products(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Avx512 {
            return self.is_available() && is_x86_feature_detected!("avx512bf16");
        }
        false
    }

    /// Whether the set has a dot product of bytes (AVX512-VNNI, AVX-VNNI). The kernels work without it.
    pub fn has_int8_products(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx2 => return self.is_available() && is_x86_feature_detected!("avxvnni"),
            Self::Avx512 => return self.is_available() && is_x86_feature_detected!("avx512vnni"),
            Self::Portable | Self::Neon => {}
        }
        false
    }

    /// The set itself where the processor has it, else [`Isa::Portable`].
    pub(crate) fn or_portable(self) -> Self {
        if self.is_available() { self } else { Self::Portable }
    }
}

/// A function over plain loops, compiled for every instruction set and called through one whose first argument is the set.
///
/// The compiler vectorises what it inlines into a function that owns a set. The body is therefore a function that is always
/// inlined, as must be all that it calls; of a closure that would be a guess. Generics stand in brackets.
macro_rules! vectorized {
    (
        $(#[$attribute:meta])*
        fn $name:ident[$($generic:ident: $bound:path),* $(,)?]($($argument:ident: $type:ty),* $(,)?) $body:block
    ) => {
        $(#[$attribute])*
        fn $name<$($generic: $bound),*>(isa: $crate::kernels::cpu::Isa, $($argument: $type),*) {
            #[inline(always)]
            fn body<$($generic: $bound),*>($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<$($generic: $bound),*>($($argument: $type),*) {
                body::<$($generic),*>($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            fn avx512<$($generic: $bound),*>($($argument: $type),*) {
                body::<$($generic),*>($($argument),*)
            }

            match isa.or_portable() {
                // SAFETY: `or_portable` has found the set on this processor.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::cpu::Isa::Avx2 => unsafe { avx2::<$($generic),*>($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::cpu::Isa::Avx512 => unsafe { avx512::<$($generic),*>($($argument),*) },
                _ => body::<$($generic),*>($($argument),*),
            }
        }
    };
}
pub(super) use vectorized;
