//! The inner loops: the loss and gradient of consecutive anchors, [`LANES`] logits at a time.

use std::ops::Range;

use super::element::Element;
use super::instruction_set::Kernel;
use super::point_loss::PointLoss;
use super::real::{LANES, Real};
use crate::kernels::Weights;
use crate::{BACKGROUND, IGNORE};

/// The summed loss of consecutive anchors, and with `GRADIENT` the gradient of every logit.
pub(super) struct SumRows<'a, E: Element, C, const GRADIENT: bool> {
    pub(super) curve: C,
    pub(super) weights: &'a Weights<E::Compute>,
    pub(super) num_classes: usize,
    /// `[rows, num_classes]`.
    pub(super) logits: &'a [E],
    /// `[rows]`.
    pub(super) classes: &'a [i64],
    /// `[rows, num_classes]`, or empty without `GRADIENT`.
    pub(super) gradient: &'a mut [E],
}

impl<E: Element, C: PointLoss<E::Compute>, const GRADIENT: bool> Kernel for SumRows<'_, E, C, GRADIENT> {
    type Output = f64;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f64 {
        let Self { curve, weights, num_classes, logits, classes, gradient } = self;
        let one_weight = weights.negative.len() == 1;
        let mut total = LaneSum::new();
        let mut row = 0;
        while row < classes.len() {
            let class = classes[row];
            let mut end = row + 1;
            // Nearly all anchors are background. Neighbours of equal treatment are one long segment, so few classes
            // waste no lanes.
            if class == IGNORE || (class == BACKGROUND && one_weight) {
                while end < classes.len() && classes[end] == class {
                    end += 1;
                }
            }
            let span = row * num_classes..end * num_classes;
            let slopes = if GRADIENT { &mut gradient[span.clone()] } else { &mut [] };
            if class == IGNORE {
                slopes.fill(E::store(E::Compute::ZERO));
            } else {
                targets::<E, C, FMA, GRADIENT>(curve, weights, class, &logits[span], slopes, &mut total);
            }
            row = end;
        }
        total.finish()
    }
}

/// The loss of each of consecutive anchors by itself; 0 where the anchor is ignored.
pub(super) struct EachRow<'a, E: Element, C> {
    pub(super) curve: C,
    pub(super) weights: &'a Weights<E::Compute>,
    pub(super) num_classes: usize,
    /// `[rows, num_classes]`.
    pub(super) logits: &'a [E],
    /// `[rows]`.
    pub(super) classes: &'a [i64],
    /// `[rows]`.
    pub(super) losses: &'a mut [E::Compute],
}

impl<E: Element, C: PointLoss<E::Compute>> Kernel for EachRow<'_, E, C> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (row, (&class, loss)) in self.classes.iter().zip(self.losses).enumerate() {
            let mut total = LaneSum::new();
            if class != IGNORE {
                let span: Range<usize> = row * self.num_classes..(row + 1) * self.num_classes;
                targets::<E, C, FMA, false>(self.curve, self.weights, class, &self.logits[span], &mut [], &mut total);
            }
            *loss = E::Compute::from_f64(total.finish());
        }
    }
}

/// One row, or several background rows where all classes weigh the same.
#[inline(always)]
fn targets<E: Element, C: PointLoss<E::Compute>, const FMA: bool, const GRADIENT: bool>(
    curve: C,
    weights: &Weights<E::Compute>,
    class: i64,
    logits: &[E],
    slopes: &mut [E],
    total: &mut LaneSum<E::Compute>,
) {
    // No column has this index for background.
    let positive_column = usize::try_from(class).unwrap_or(usize::MAX);
    match (weights.positive.as_slice(), weights.negative.as_slice()) {
        ([_], [negative]) if class == BACKGROUND => {
            let sides = Background { weight: *negative };
            segment::<E, C, _, FMA, GRADIENT>(curve, sides, logits, slopes, total);
        }
        ([positive], [negative]) => {
            let sides = OneWeight { positive_column, positive: *positive, negative: *negative };
            segment::<E, C, _, FMA, GRADIENT>(curve, sides, logits, slopes, total);
        }
        (positive, negative) => {
            let sides = WeightPerClass { positive_column, positive, negative };
            segment::<E, C, _, FMA, GRADIENT>(curve, sides, logits, slopes, total);
        }
    }
}

/// Which logits are on the positive side, and how much each weighs.
trait Sides<T: Real>: Copy {
    /// (y, alpha_t) of the `len <= LANES` logits from `base` on; the weight of the lanes past them is 0.
    fn lanes(self, base: usize, len: usize) -> ([T; LANES], [T; LANES]);
}

#[derive(Clone, Copy)]
struct Background<T> {
    weight: T,
}

impl<T: Real> Sides<T> for Background<T> {
    #[inline(always)]
    fn lanes(self, _base: usize, len: usize) -> ([T; LANES], [T; LANES]) {
        let mut weights = [self.weight; LANES];
        weights[len..].fill(T::ZERO);
        ([-T::ONE; LANES], weights)
    }
}

#[derive(Clone, Copy)]
struct OneWeight<T> {
    positive_column: usize,
    positive: T,
    negative: T,
}

impl<T: Real> Sides<T> for OneWeight<T> {
    #[inline(always)]
    fn lanes(self, base: usize, len: usize) -> ([T; LANES], [T; LANES]) {
        let (mut signs, mut weights) = ([-T::ONE; LANES], [self.negative; LANES]);
        weights[len..].fill(T::ZERO);
        let lane = self.positive_column.wrapping_sub(base);
        if lane < len {
            signs[lane] = T::ONE;
            weights[lane] = self.positive;
        }
        (signs, weights)
    }
}

#[derive(Clone, Copy)]
struct WeightPerClass<'a, T> {
    positive_column: usize,
    positive: &'a [T],
    negative: &'a [T],
}

impl<T: Real> Sides<T> for WeightPerClass<'_, T> {
    #[inline(always)]
    fn lanes(self, base: usize, len: usize) -> ([T; LANES], [T; LANES]) {
        let (mut signs, mut weights) = ([-T::ONE; LANES], [T::ZERO; LANES]);
        weights[..len].copy_from_slice(&self.negative[base..base + len]);
        let lane = self.positive_column.wrapping_sub(base);
        if lane < len {
            signs[lane] = T::ONE;
            weights[lane] = self.positive[self.positive_column];
        }
        (signs, weights)
    }
}

#[inline(always)]
fn segment<E, C, S, const FMA: bool, const GRADIENT: bool>(
    curve: C,
    sides: S,
    logits: &[E],
    slopes: &mut [E],
    total: &mut LaneSum<E::Compute>,
) where
    E: Element,
    C: PointLoss<E::Compute>,
    S: Sides<E::Compute>,
{
    let (full, tail) = logits.as_chunks::<LANES>();
    for (idx, x) in full.iter().enumerate() {
        let base = idx * LANES;
        let (loss, slope) = lanes::<E, C, S, FMA>(curve, sides, base, LANES, x);
        total.add(&loss);
        if GRADIENT {
            slopes[base..base + LANES].copy_from_slice(&slope);
        }
    }
    if !tail.is_empty() {
        let base = full.len() * LANES;
        let mut padded = [E::store(E::Compute::ZERO); LANES];
        padded[..tail.len()].copy_from_slice(tail);
        let (loss, slope) = lanes::<E, C, S, FMA>(curve, sides, base, tail.len(), &padded);
        total.add(&loss);
        if GRADIENT {
            slopes[base..].copy_from_slice(&slope[..tail.len()]);
        }
    }
}

/// Weighted losses, and their derivatives by the logits; the latter are not computed where nothing reads them.
#[inline(always)]
fn lanes<E, C, S, const FMA: bool>(
    curve: C,
    sides: S,
    base: usize,
    len: usize,
    logits: &[E; LANES],
) -> ([E::Compute; LANES], [E; LANES])
where
    E: Element,
    C: PointLoss<E::Compute>,
    S: Sides<E::Compute>,
{
    let (signs, weights) = sides.lanes(base, len);
    let mut losses = [E::Compute::ZERO; LANES];
    let mut slopes = [E::store(E::Compute::ZERO); LANES];
    for lane in 0..LANES {
        let (loss, slope) = curve.evaluate::<FMA>(signs[lane] * logits[lane].load());
        losses[lane] = weights[lane] * loss;
        slopes[lane] = E::store(weights[lane] * (signs[lane] * slope));
    }
    (losses, slopes)
}

/// A sum that is short in the working precision and long in f64, always in the same order.
struct LaneSum<T> {
    lanes: [T; LANES],
    pending: usize,
    total: f64,
}

/// Additions to a lane before it goes to f64: few enough that f32 loses no more than it does in one loss.
const SHORT: usize = 16;

impl<T: Real> LaneSum<T> {
    #[inline(always)]
    fn new() -> Self {
        Self { lanes: [T::ZERO; LANES], pending: 0, total: 0.0 }
    }

    #[inline(always)]
    fn add(&mut self, values: &[T; LANES]) {
        for lane in 0..LANES {
            self.lanes[lane] += values[lane];
        }
        self.pending += 1;
        if self.pending == SHORT {
            self.flush();
        }
    }

    #[inline(always)]
    fn flush(&mut self) {
        // Halving keeps the conversions in vectors; a running sum over the lanes would be one long chain.
        let mut wide = [0f64; LANES];
        for lane in 0..LANES {
            wide[lane] = self.lanes[lane].to_f64();
        }
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                wide[lane] += wide[lane + width];
            }
            width /= 2;
        }
        self.total += wide[0];
        self.lanes = [T::ZERO; LANES];
        self.pending = 0;
    }

    #[inline(always)]
    fn finish(mut self) -> f64 {
        self.flush();
        self.total
    }
}
