//! A number with its derivatives by the four box deltas: a box loss is written once and its gradient is exact.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// `value` and d value / d (dx, dy, dw, dh).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dual {
    pub(crate) value: f64,
    pub(crate) gradient: [f64; 4],
}

impl Dual {
    /// A number that does not depend on the deltas.
    pub(crate) fn constant(value: f64) -> Self {
        Self { value, gradient: [0.0; 4] }
    }

    /// The delta of this index.
    pub(crate) fn variable(value: f64, index: usize) -> Self {
        let mut gradient = [0.0; 4];
        gradient[index] = 1.0;
        Self { value, gradient }
    }

    /// The function with this value and this derivative at `self`.
    fn chain(self, value: f64, derivative: f64) -> Self {
        Self { value, gradient: self.gradient.map(|g| g * derivative) }
    }

    /// The function of two numbers with this value and these derivatives by the first and the second.
    fn join(self, other: Self, value: f64, by_self: f64, by_other: f64) -> Self {
        Self { value, gradient: std::array::from_fn(|i| self.gradient[i] * by_self + other.gradient[i] * by_other) }
    }

    pub(crate) fn exp(self) -> Self {
        let value = self.value.exp();
        self.chain(value, value)
    }

    /// The angle whose tangent it is.
    pub(crate) fn atan(self) -> Self {
        self.chain(self.value.atan(), 1.0 / (1.0 + self.value * self.value))
    }

    /// |x|, with derivative 0 at 0 as torch has it.
    pub(crate) fn abs(self) -> Self {
        let sign = if self.value == 0.0 { 0.0 } else { self.value.signum() };
        self.chain(self.value.abs(), sign)
    }

    pub(crate) fn min(self, other: Self) -> Self {
        if self.value <= other.value { self } else { other }
    }

    pub(crate) fn max(self, other: Self) -> Self {
        if self.value >= other.value { self } else { other }
    }
}

impl From<f64> for Dual {
    fn from(value: f64) -> Self {
        Self::constant(value)
    }
}

impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        self.chain(-self.value, -1.0)
    }
}

impl<D: Into<Dual>> Add<D> for Dual {
    type Output = Self;
    fn add(self, other: D) -> Self {
        let other = other.into();
        self.join(other, self.value + other.value, 1.0, 1.0)
    }
}

impl<D: Into<Dual>> Sub<D> for Dual {
    type Output = Self;
    fn sub(self, other: D) -> Self {
        self + -other.into()
    }
}

impl<D: Into<Dual>> Mul<D> for Dual {
    type Output = Self;
    fn mul(self, other: D) -> Self {
        let other = other.into();
        self.join(other, self.value * other.value, other.value, self.value)
    }
}

impl<D: Into<Dual>> Div<D> for Dual {
    type Output = Self;
    fn div(self, other: D) -> Self {
        let other = other.into();
        let value = self.value / other.value;
        self.join(other, value, 1.0 / other.value, -value / other.value)
    }
}
