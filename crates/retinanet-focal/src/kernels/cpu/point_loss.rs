//! The loss of one logit as a function of x_t = y x, where y is 1 for the anchor's class and -1 for any other.

use super::real::Real;

/// A loss of one logit and its derivative, both by x_t and before the alpha weight.
pub(super) trait PointLoss<T: Real>: Copy + Send + Sync {
    /// `(loss, d loss / d x_t)`.
    fn evaluate<const FMA: bool>(self, x_t: T) -> (T, T);
}

/// What the losses need of the logistic function at x; each part is accurate in itself, not a difference of others.
struct Logistic<T> {
    /// p = sigmoid(x).
    p: T,
    /// 1 - p = sigmoid(-x).
    q: T,
    /// ln(1 + e^-|x|).
    log1p: T,
    /// max(x, 0).
    above: T,
    /// max(-x, 0).
    below: T,
}

impl<T: Real> Logistic<T> {
    #[inline(always)]
    fn new<const FMA: bool>(x: T) -> Self {
        let magnitude = x.abs();
        let e = (-magnitude).exp_of_negative::<FMA>();
        // One division serves both 1 / (1 + e) and z = e / (2 + e).
        let (one_plus, two_plus) = (T::ONE + e, T::ONE + T::ONE + e);
        let reciprocal = T::ONE / (one_plus * two_plus);
        let larger = reciprocal * two_plus;
        let smaller = e * larger;
        // ln(1 + e) = 2 atanh(z), which keeps its relative accuracy however small e is.
        let z = e * reciprocal * one_plus;
        let log1p = (z + z) * (z * z).atanh_over_argument::<FMA>();
        let positive = x >= T::ZERO;
        Self {
            p: if positive { larger } else { smaller },
            q: if positive { smaller } else { larger },
            log1p,
            above: if positive { magnitude } else { T::ZERO },
            below: if positive { T::ZERO } else { magnitude },
        }
    }
}

/// General gamma in [`Focal`].
pub(super) const ANY_POWER: u8 = u8::MAX;

/// (1 - p_t)^gamma (-ln p_t). `POWER` is gamma where it is 0, 1 or 2, which need no logarithm of 1 - p_t, or
/// [`ANY_POWER`].
#[derive(Clone, Copy)]
pub(super) struct Focal<T, const POWER: u8> {
    pub(super) gamma: T,
}

impl<T: Real, const POWER: u8> PointLoss<T> for Focal<T, POWER> {
    #[inline(always)]
    fn evaluate<const FMA: bool>(self, x_t: T) -> (T, T) {
        let Logistic { p, q, log1p, above, below } = Logistic::new::<FMA>(x_t);
        let cross_entropy = log1p + below;
        let modulation = match POWER {
            0 => T::ONE,
            1 => q,
            2 => q * q,
            // ln(1 - p_t) = -softplus(x_t), so the power never sees a rounded 1 - p_t.
            _ => (-self.gamma * (log1p + above)).exp_of_negative::<FMA>(),
        };
        let slope = match POWER {
            0 => q,
            _ => modulation * (self.gamma * p).multiply_add::<FMA>(cross_entropy, q),
        };
        (modulation * cross_entropy, -slope)
    }
}

/// -ln(sigmoid(gamma x_t + beta)) / gamma.
#[derive(Clone, Copy)]
pub(super) struct FocalStar<T> {
    pub(super) gamma: T,
    pub(super) beta: T,
    pub(super) one_over_gamma: T,
    pub(super) beta_over_gamma: T,
}

impl<T: Real> PointLoss<T> for FocalStar<T> {
    #[inline(always)]
    fn evaluate<const FMA: bool>(self, x_t: T) -> (T, T) {
        let Logistic { q, log1p, .. } = Logistic::new::<FMA>(self.gamma.multiply_add::<FMA>(x_t, self.beta));
        // max(-(gamma x_t + beta), 0) / gamma without the product, which could overflow where the quotient does not.
        let shifted = x_t + self.beta_over_gamma;
        let below = if shifted >= T::ZERO { T::ZERO } else { -shifted };
        (log1p.multiply_add::<FMA>(self.one_over_gamma, below), -q)
    }
}
