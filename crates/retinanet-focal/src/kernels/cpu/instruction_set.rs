//! Which vector instructions a kernel runs with, chosen at run time.

/// A set of vector instructions that this processor has.
///
/// A value exists only for what was detected, so a kernel may run it without asking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionSet(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// A computation that [`InstructionSet::run`] compiles once for every instruction set.
pub(super) trait Kernel {
    /// What it gives back.
    type Output;

    /// The body; it must be `#[inline(always)]`, as must all it calls, or it is compiled for the portable set.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Whether all processors the crate is compiled for fuse multiplication and addition, as every 64-bit Arm does; where
/// they may not, it would be a library call.
const PORTABLE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

impl InstructionSet {
    /// Everything this processor can run, the narrowest first; there is always one.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)] // Other processors have the portable set alone.
        let mut available = vec![Self(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx2() {
                available.push(Self(Kind::Avx2));
            }
            if has_avx512() {
                available.push(Self(Kind::Avx512));
            }
        }
        available
    }

    /// The widest this processor has.
    pub fn widest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self(Kind::Avx512);
            }
            if has_avx2() {
                return Self(Kind::Avx2);
            }
        }
        Self(Kind::Portable)
    }

    /// `"portable"`, `"avx2"` or `"avx512"`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Portable => kernel.run::<PORTABLE_FMA>(),
            // SAFETY: the value was made after avx2 and fma had been detected.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: the value was made after avx512f had been detected, with avx2 and fma.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { run_avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}
