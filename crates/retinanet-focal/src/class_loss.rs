//! The losses by name, and the two things a detector does with them: select examples, sum their loss.

use candle_core::Tensor;
use serde::Serialize;

use crate::examples::{self, ExampleFilter};
use crate::kernels::Curve;
use crate::{Alpha, AlphaBalanced, Focal, FocalStar, HardExamples, LossError, Sampled, op};

/// A loss of class logits.
///
/// In a configuration it is a table with the loss's name as its one key (`focal = { alpha = 0.25, gamma = 2 }`), or
/// the name alone (`"focal"`) for the defaults. `ohem` is another name of `hard_examples`.
///
/// A training step calls [`select`](Self::select) once with all levels of its images, then [`sum`](Self::sum) level
/// by level with the classes it got back, and adds; how the result is normalised is the caller's.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassLoss {
    /// The focal loss.
    Focal(Focal),
    /// Its alternate form FL*.
    FocalStar(FocalStar),
    /// CE(p_t) = -ln(p_t) over all anchors.
    CrossEntropy,
    /// Cross entropy with the balance alpha.
    AlphaBalanced(AlphaBalanced),
    /// Cross entropy over the hardest anchors of each image.
    HardExamples(HardExamples),
    /// Cross entropy over a sample of each image's anchors.
    Sampled(Sampled),
}

impl Default for ClassLoss {
    fn default() -> Self {
        Self::Focal(Focal::default())
    }
}

impl ClassLoss {
    /// Whether every hyper-parameter is in its range; [`sum`](Self::sum) and [`select`](Self::select) ask too.
    ///
    /// # Errors
    /// The first one that is not. What a per-class alpha's length should be is only known with the classes:
    /// [`validate_for`](Self::validate_for).
    pub fn validate(&self) -> Result<(), LossError> {
        match self {
            ClassLoss::Focal(loss) => loss.validate(),
            ClassLoss::FocalStar(loss) => loss.validate(),
            ClassLoss::CrossEntropy => Ok(()),
            ClassLoss::AlphaBalanced(loss) => loss.validate(),
            ClassLoss::HardExamples(loss) => loss.validate(),
            ClassLoss::Sampled(loss) => loss.validate(),
        }
    }

    /// As [`validate`](Self::validate), and whether a per-class alpha has a number for each of `num_classes`.
    ///
    /// # Errors
    /// The first hyper-parameter that is not as it should be.
    pub fn validate_for(&self, num_classes: usize) -> Result<(), LossError> {
        self.validate()?;
        self.pointwise().1.weights::<f64>(num_classes).map(|_| ())
    }

    /// Whether [`select`](Self::select) drops anchors; if not, it gives back what it got and can be left out.
    pub fn selects_examples(&self) -> bool {
        matches!(self, ClassLoss::HardExamples(_) | ClassLoss::Sampled(_))
    }

    /// The loss of each image, summed over anchors and classes.
    ///
    /// If `class_logits` takes part in a gradient, the gradient is computed in the same pass and kept; the backward
    /// pass scales it by the incoming `[N]` and hands it on without a copy. A second backward pass over the same graph
    /// computes it again from the logits. Otherwise only the value is computed.
    ///
    /// # Shapes
    /// - `class_logits`: `[N, R, K]`, f32, bf16 or f64
    /// - `classes`: `[N, R]`, i64: 0..K, [`BACKGROUND`](crate::BACKGROUND) or [`IGNORE`](crate::IGNORE)
    /// - returns `[N]`, f64 for f64 and f32 otherwise; 0 for an image where nothing counts
    ///
    /// # Numerics
    /// Finite for every finite logit: ln(p) is evaluated as -softplus(-x), ln(1 - p) as -softplus(x). A NaN logit of an
    /// anchor that counts gives a NaN loss. bf16 is read into f32, and rounded once, when the gradient is written.
    /// Sums are carried on in f64 and do not depend on the number of threads.
    ///
    /// # Errors
    /// The shapes or dtypes differ from the above, a class is out of range, a hyper-parameter is, or the device has
    /// no kernel.
    pub fn sum(&self, class_logits: &Tensor, classes: &Tensor) -> Result<Tensor, LossError> {
        self.validate()?;
        let (curve, alpha) = self.pointwise();
        op::sum(curve, alpha, class_logits, classes)
    }

    /// [`Self::sum`] with the gradient of its weighted total by the logits at once, for who goes backwards without candle's
    /// graph, which would copy the gradient once more.
    ///
    /// # Shapes
    /// - `class_logits`, `classes`: as for [`sum`](Self::sum)
    /// - `image_weights`: `[N]`, what the gradient of each image is multiplied by, 1 / number of foreground anchors in
    ///   the paper
    /// - returns `[N]`, not weighted, and `[N, R, K]` in the dtype of the logits
    ///
    /// # Errors
    /// As for [`sum`](Self::sum), or there is not a weight for each image.
    pub fn sum_and_gradient(
        &self,
        class_logits: &Tensor,
        classes: &Tensor,
        image_weights: &[f64],
    ) -> Result<(Tensor, Tensor), LossError> {
        self.validate()?;
        let (curve, alpha) = self.pointwise();
        op::sum_and_gradient(curve, alpha, class_logits, classes, image_weights)
    }

    /// The loss of each anchor, summed over classes, without a gradient.
    ///
    /// # Shapes
    /// - `class_logits`, `classes`: as for [`sum`](Self::sum)
    /// - returns `[N, R]`, f64 for f64 and f32 otherwise; 0 where the anchor is ignored
    ///
    /// # Errors
    /// As for [`sum`](Self::sum).
    pub fn per_anchor(&self, class_logits: &Tensor, classes: &Tensor) -> Result<Tensor, LossError> {
        self.validate()?;
        let (curve, alpha) = self.pointwise();
        op::per_anchor(curve, alpha, class_logits, classes)
    }

    /// The classes with every anchor that is not selected rewritten to [`IGNORE`](crate::IGNORE); unchanged for the
    /// losses over all anchors.
    ///
    /// Selection looks at all levels of an image at once, without joining them. It takes no part in the gradient.
    /// `seed` decides what [`Sampled`] draws and must change from step to step; the other losses do not read it.
    /// `filter` is asked by [`HardExamples`] alone, see [`ExampleFilter`].
    ///
    /// # Shapes
    /// - `levels`: `(class_logits, classes)` of each level, as for [`sum`](Self::sum), with one N
    /// - returns the classes of each level, `[N, R]`
    ///
    /// # Errors
    /// As for [`sum`](Self::sum); the levels differ in N; or hard examples are to be suppressed by IoU and there is no
    /// filter.
    pub fn select(
        &self,
        levels: &[(&Tensor, &Tensor)],
        seed: u64,
        filter: Option<&ExampleFilter>,
    ) -> Result<Vec<Tensor>, LossError> {
        self.validate()?;
        match self {
            ClassLoss::HardExamples(loss) => examples::hard(loss, levels, filter),
            ClassLoss::Sampled(loss) => examples::sampled(loss, levels, seed),
            _ => Ok(levels.iter().map(|(_, classes)| (*classes).clone()).collect()),
        }
    }

    fn pointwise(&self) -> (Curve, &Alpha) {
        const CROSS_ENTROPY: Curve = Curve::Focal { gamma: 0.0 };
        match self {
            ClassLoss::Focal(Focal { alpha, gamma }) => (Curve::Focal { gamma: *gamma }, alpha),
            ClassLoss::FocalStar(FocalStar { alpha, gamma, beta }) => {
                let (gamma, beta) = (*gamma, *beta);
                (Curve::FocalStar { gamma, beta }, alpha)
            }
            ClassLoss::AlphaBalanced(AlphaBalanced { alpha }) => (CROSS_ENTROPY, alpha),
            ClassLoss::CrossEntropy | ClassLoss::HardExamples(_) | ClassLoss::Sampled(_) => {
                (CROSS_ENTROPY, &Alpha::None)
            }
        }
    }
}
