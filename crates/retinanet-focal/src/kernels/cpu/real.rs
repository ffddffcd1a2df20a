//! The arithmetic the kernels are written in: branch-free elementary functions that the compiler turns into vectors.
//!
//! Every function is `#[inline(always)]`, so that it is compiled anew inside each instruction set's entry point
//! ([`super::instruction_set`]). `FMA` says whether that instruction set fuses multiplication and addition; without
//! it `mul_add` would be a library call per element.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// Elements handled together: one 512-bit register of f32, two 256-bit ones.
pub(super) const LANES: usize = 16;

/// A number the loss is computed in.
///
/// Implemented for `f32` and `f64`; nothing else can implement it.
pub trait Real:
    super::element::sealed::Sealed
    + Copy
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;

    /// The nearest number of this type.
    fn from_f64(value: f64) -> Self;

    /// The same number, exactly.
    fn to_f64(self) -> f64;

    /// |x|.
    fn abs(self) -> Self;

    /// `self * factor + addend`, rounded once if `FMA`.
    fn multiply_add<const FMA: bool>(self, factor: Self, addend: Self) -> Self;

    /// e^x for x <= 0, to about one unit in the last place; exactly 0 where it would be subnormal; NaN for NaN.
    fn exp_of_negative<const FMA: bool>(self) -> Self;

    /// atanh(z) / z as a function of z^2, for z^2 <= 1/9.
    fn atanh_over_argument<const FMA: bool>(self) -> Self;
}

/// c0 + x (c1 + x (c2 + ...)), coefficients from the lowest order up.
macro_rules! horner {
    ($x:expr; $last:expr $(,)?) => { $last };
    ($x:expr; $first:expr, $($rest:expr),+ $(,)?) => {
        horner!($x; $($rest),+).multiply_add::<FMA>($x, $first)
    };
}

macro_rules! implement_real {
    ($real:ident, $mantissa_bits:expr, $bias:expr, $ln2_high:expr, [$($exp:expr),+ $(,)?], [$($atanh:expr),+ $(,)?]) => {
        impl Real for $real {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn abs(self) -> Self {
                $real::abs(self)
            }

            #[inline(always)]
            fn multiply_add<const FMA: bool>(self, factor: Self, addend: Self) -> Self {
                if FMA {
                    self.mul_add(factor, addend)
                } else {
                    self * factor + addend
                }
            }

            #[inline(always)]
            fn exp_of_negative<const FMA: bool>(self) -> Self {
                // x = n ln 2 + r with |r| <= ln 2 / 2, so e^x = 2^n e^r. ln 2 is split in two: n * HIGH is exact,
                // as HIGH leaves as many low bits empty as n can have.
                const HIGH: $real = $ln2_high;
                const LOW: $real = (std::f64::consts::LN_2 - $ln2_high) as $real;
                // Adding 1.5 * 2^mantissa_bits pushes the fraction out of the mantissa: it rounds to an integer, and
                // leaves that integer in the low bits, without a conversion that saturates element by element.
                const ROUND: $real = 1.5 * (1u64 << $mantissa_bits) as $real;
                // At n = -bias the exponent bits of 2^n are all zero, which reads as 0: e^x underflows by itself.
                const FLOOR: $real = -($bias as $real) * std::f64::consts::LN_2 as $real;

                // The comparison is false for NaN, which therefore goes through.
                let x = if self < FLOOR { FLOOR } else { self };
                let shifted =
                    x.multiply_add::<FMA>(std::f64::consts::LOG2_E as $real, ROUND);
                let n = shifted - ROUND;
                let r = n.multiply_add::<FMA>(-LOW, n.multiply_add::<FMA>(-HIGH, x));
                let two_to_n =
                    $real::from_bits(shifted.to_bits().wrapping_add($bias) << $mantissa_bits);
                two_to_n * horner!(r; $($exp),+)
            }

            #[inline(always)]
            fn atanh_over_argument<const FMA: bool>(self) -> Self {
                horner!(self; $($atanh),+)
            }
        }
    };
}

// e^r = sum r^n / n!: with |r| <= 0.347 the first term left out is below half a unit in the last place.
// atanh(z) / z = sum z^2n / (2n + 1), with z^2 <= 1/9 likewise.
implement_real!(
    f32,
    23,
    127,
    355.0 / 512.0,
    [1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0],
    [1.0, 1.0 / 3.0, 1.0 / 5.0, 1.0 / 7.0, 1.0 / 9.0, 1.0 / 11.0, 1.0 / 13.0]
);
implement_real!(
    f64,
    52,
    1023,
    // The leading 41 bits of ln 2.
    f64::from_bits(std::f64::consts::LN_2.to_bits() & !0xfff),
    [
        1.0,
        1.0,
        1.0 / 2.0,
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5_040.0,
        1.0 / 40_320.0,
        1.0 / 362_880.0,
        1.0 / 3_628_800.0,
        1.0 / 39_916_800.0,
        1.0 / 479_001_600.0,
        1.0 / 6_227_020_800.0,
    ],
    [
        1.0,
        1.0 / 3.0,
        1.0 / 5.0,
        1.0 / 7.0,
        1.0 / 9.0,
        1.0 / 11.0,
        1.0 / 13.0,
        1.0 / 15.0,
        1.0 / 17.0,
        1.0 / 19.0,
        1.0 / 21.0,
        1.0 / 23.0,
        1.0 / 25.0,
        1.0 / 27.0,
        1.0 / 29.0,
        1.0 / 31.0,
    ]
);

#[cfg(test)]
mod tests {
    use super::Real;

    /// The largest relative error of `exp_of_negative` and of ln(1 + e) = 2 atanh(e / (2 + e)) over a grid.
    fn worst_errors<T: Real, const FMA: bool>(lowest: f64) -> (f64, f64) {
        let (mut exp_error, mut log_error) = (0f64, 0f64);
        for step in 0..=20_000 {
            let x = T::from_f64(lowest * f64::from(step) / 20_000.0);
            let exact = x.to_f64().exp();
            exp_error = exp_error.max((x.exp_of_negative::<FMA>().to_f64() / exact - 1.0).abs());

            let e = T::from_f64(exact);
            let z = e / (T::ONE + T::ONE + e);
            let log = (z + z) * (z * z).atanh_over_argument::<FMA>();
            log_error = log_error.max((log.to_f64() / e.to_f64().ln_1p() - 1.0).abs());
        }
        (exp_error, log_error)
    }

    #[test]
    fn elementary_functions_are_accurate_to_a_few_units_in_the_last_place() {
        for (exp_error, log_error) in [worst_errors::<f32, true>(-87.0), worst_errors::<f32, false>(-87.0)] {
            assert!(exp_error < 2e-7, "exp in f32: {exp_error:e}");
            assert!(log_error < 3e-7, "log1p in f32: {log_error:e}");
        }
        for (exp_error, log_error) in [worst_errors::<f64, true>(-80.0), worst_errors::<f64, false>(-80.0)] {
            assert!(exp_error < 5e-15, "exp in f64: {exp_error:e}");
            assert!(log_error < 1e-15, "log1p in f64: {log_error:e}");
        }
    }

    #[test]
    fn exp_underflows_to_zero_and_keeps_nan() {
        for x in [-88.1f32, -1e4, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(x.exp_of_negative::<false>(), 0.0, "e^{x}");
        }
        assert_eq!((-1e4f64).exp_of_negative::<false>(), 0.0);
        assert_eq!(0f32.exp_of_negative::<false>(), 1.0);
        assert!(f32::NAN.exp_of_negative::<false>().is_nan());
        assert!(f64::NAN.exp_of_negative::<false>().is_nan());
    }
}
