//! The hyper-parameters of each loss, as they stand in a configuration.

use serde::{Deserialize, Serialize};

use crate::{Alpha, LossError};

/// The focal loss. FL(p_t) = -alpha_t (1 - p_t)^gamma ln(p_t), p = sigmoid(logit).
///
/// Source: Lin et al. 2017, equation 5. The default is the paper's best: alpha .25, gamma 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Focal {
    /// Balance between an anchor's class and the others.
    pub alpha: Alpha,
    /// How much well-classified logits are damped, at least 0; 0 is the alpha-balanced cross entropy.
    pub gamma: f64,
}

impl Default for Focal {
    fn default() -> Self {
        Self { alpha: Alpha::Scalar(0.25), gamma: 2.0 }
    }
}

/// The alternate form of the focal loss. FL* = -alpha_t ln(p_t*) / gamma, p_t* = sigmoid(gamma x_t + beta), x_t = the
/// logit for the anchor's class and minus the logit for the others.
///
/// Source: Lin et al. 2017, appendix A, whose equation has no alpha_t; hence none by default. The default gamma 2 and
/// beta 1 are one of the two settings the paper reports, the other is 4 and 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FocalStar {
    /// Balance between an anchor's class and the others.
    pub alpha: Alpha,
    /// Steepness, above 0.
    pub gamma: f64,
    /// Shift.
    pub beta: f64,
}

impl Default for FocalStar {
    fn default() -> Self {
        Self { alpha: Alpha::None, gamma: 2.0, beta: 1.0 }
    }
}

/// The balanced cross entropy. CE(p_t) = -alpha_t ln(p_t).
///
/// Source: Lin et al. 2017, equation 3. The default is the paper's best without focusing: alpha .75.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlphaBalanced {
    /// Balance between an anchor's class and the others.
    pub alpha: Alpha,
}

impl Default for AlphaBalanced {
    fn default() -> Self {
        Self { alpha: Alpha::Scalar(0.75) }
    }
}

/// Online hard example mining: cross entropy over the anchors of an image that lose most, once those that overlap a
/// harder one are gone.
///
/// Source: Shrivastava et al. 2016, as compared with in Lin et al. 2017, section 5.1 and table 1d. An anchor's loss is
/// the cross entropy summed over its classes. The default is the best row of that table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardExamples {
    /// Anchors kept of an image, over all its levels, at least 1. The paper tries 128, 256 and 512.
    pub examples: usize,
    /// IoU above which an anchor gives way to a harder one, in [0, 1]; 1 is no suppression. The paper tries .5 and
    /// .7. This crate knows no boxes: below 1, [`crate::ClassLoss::select`] asks for a filter that does it.
    pub nms_iou_threshold: f64,
    /// Background anchors kept for each foreground one, at least 1 (the paper's 1:3 is 3); absent is no ratio.
    ///
    /// With a ratio of n, foreground anchors are chosen first, at most one in n + 1 of the examples, then n
    /// background anchors for each. An image without foreground keeps n background anchors, as if it had one.
    pub negatives_per_positive: Option<usize>,
}

impl Default for HardExamples {
    fn default() -> Self {
        Self { examples: 128, nms_iou_threshold: 0.5, negatives_per_positive: None }
    }
}

/// Fixed foreground-background sampling: cross entropy over a random sample of an image's anchors.
///
/// Source: Ren et al. 2015, section 3.1.3, and Girshick 2015, section 2.3, whose one in four is the default. Where
/// foreground is short of its share, background fills the sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampled {
    /// Anchors kept of an image, over all its levels, at least 1.
    pub examples: usize,
    /// Largest share of foreground anchors among them, in [0, 1]; their number is rounded down.
    pub positive_fraction: f64,
}

impl Default for Sampled {
    fn default() -> Self {
        Self { examples: 256, positive_fraction: 0.25 }
    }
}

impl Focal {
    pub(crate) fn validate(&self) -> Result<(), LossError> {
        self.alpha.validate()?;
        require(self.gamma >= 0.0 && self.gamma.is_finite(), "focal.gamma", "a finite number of at least 0", self.gamma)
    }
}

impl FocalStar {
    pub(crate) fn validate(&self) -> Result<(), LossError> {
        self.alpha.validate()?;
        require(self.gamma > 0.0 && self.gamma.is_finite(), "focal_star.gamma", "a finite number above 0", self.gamma)?;
        require(self.beta.is_finite(), "focal_star.beta", "a finite number", self.beta)
    }
}

impl AlphaBalanced {
    pub(crate) fn validate(&self) -> Result<(), LossError> {
        self.alpha.validate()
    }
}

impl HardExamples {
    pub(crate) fn validate(&self) -> Result<(), LossError> {
        require(self.examples >= 1, "hard_examples.examples", "at least 1", self.examples)?;
        require(
            (0.0..=1.0).contains(&self.nms_iou_threshold),
            "hard_examples.nms_iou_threshold",
            "a number in [0, 1]",
            self.nms_iou_threshold,
        )?;
        require(self.negatives_per_positive != Some(0), "hard_examples.negatives_per_positive", "at least 1", 0)
    }
}

impl Sampled {
    pub(crate) fn validate(&self) -> Result<(), LossError> {
        require(self.examples >= 1, "sampled.examples", "at least 1", self.examples)?;
        require(
            (0.0..=1.0).contains(&self.positive_fraction),
            "sampled.positive_fraction",
            "a number in [0, 1]",
            self.positive_fraction,
        )
    }
}

fn require(holds: bool, name: &'static str, expected: &str, found: impl ToString) -> Result<(), LossError> {
    if holds {
        return Ok(());
    }
    Err(LossError::Parameter { name, expected: expected.into(), found: found.to_string() })
}
