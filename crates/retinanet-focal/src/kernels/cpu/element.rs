//! What a logit is stored as, and what it is computed in.

use half::bf16;
use half::vec::HalfBitsVecExt;

use super::large_pages::ask_for_large_pages;
use super::real::Real;

/// The storage type of logits and gradients: `f32`, `f64` or `bf16`.
///
/// Implemented for these three; nothing else can implement it.
pub trait Element: Copy + Send + Sync + sealed::Sealed + 'static {
    /// The type of the arithmetic: `f32` for `f32` and `bf16`, `f64` for `f64`.
    type Compute: Real;

    /// The stored number, exactly.
    fn load(self) -> Self::Compute;

    /// The nearest number of the storage type, ties to even.
    fn store(value: Self::Compute) -> Self;

    /// `len` zeros in memory that the operating system clears on first touch, so by the threads that write it.
    fn zeros(len: usize) -> Vec<Self>;
}

pub(super) mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::bf16 {}
}

macro_rules! implement_element {
    ($real:ident) => {
        impl Element for $real {
            type Compute = $real;

            #[inline(always)]
            fn load(self) -> $real {
                self
            }

            #[inline(always)]
            fn store(value: $real) -> $real {
                value
            }

            fn zeros(len: usize) -> Vec<$real> {
                let mut zeros = vec![0.0; len];
                ask_for_large_pages(&mut zeros);
                zeros
            }
        }
    };
}

implement_element!(f32);
implement_element!(f64);

impl Element for bf16 {
    type Compute = f32;

    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    // `bf16::from_f32` branches on NaN, which would keep the loop around it scalar.
    #[inline(always)]
    fn store(value: f32) -> bf16 {
        let bits = value.to_bits();
        let half_unit = 0x7fff + ((bits >> 16) & 1);
        let rounded = bits.wrapping_add(half_unit) >> 16;
        // A NaN keeps its sign and is made quiet, so that rounding cannot turn it into an infinity.
        let quiet = (bits >> 16) | 0x40;
        bf16::from_bits(if value.is_nan() { quiet } else { rounded } as u16)
    }

    fn zeros(len: usize) -> Vec<bf16> {
        let mut zeros = vec![0u16; len];
        ask_for_large_pages(&mut zeros);
        zeros.reinterpret_into()
    }
}

#[cfg(test)]
mod tests {
    use super::Element;
    use half::bf16;

    #[test]
    fn bf16_rounds_as_the_half_crate_does() {
        for step in 0..200_000u32 {
            let value = f32::from_bits(step.wrapping_mul(2_654_435_761));
            let (ours, theirs) = (bf16::store(value), bf16::from_f32(value));
            assert!(
                ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()),
                "{value:e}: {ours} against {theirs}"
            );
        }
    }
}
