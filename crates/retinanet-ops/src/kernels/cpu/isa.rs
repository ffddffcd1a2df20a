//! The instruction sets that the kernels are compiled for, and the choice among them at run time.

/// An instruction set. Results of two sets may differ in the last bits; within one they never do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// What every processor of the target has.
    Portable,
    /// AVX2 with fused multiply-add: 256-bit vectors.
    Avx2,
    /// AVX-512 (F, VL, DQ): 512-bit vectors.
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

    /// Runs `body` compiled for the set: the compiler vectorises what it inlines into the function that owns the set.
    #[inline(always)]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        match self.or_portable() {
            Self::Portable | Self::Neon => body(),
            // SAFETY: `or_portable` has found the set on this processor.
            Self::Avx2 => unsafe { run_avx2(body) },
            // SAFETY: as above.
            Self::Avx512 => unsafe { run_avx512(body) },
        }
        #[cfg(not(target_arch = "x86_64"))]
        body()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
unsafe fn run_avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}
