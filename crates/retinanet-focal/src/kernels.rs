//! The losses over slices, without tensors: value and gradient in one pass, every output given by the caller.
//!
//! One sibling module a device; the types here describe the work to all of them.

pub mod cpu;

/// The extent of one call: `images` x `anchors` x `classes` logits, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossShape {
    /// N.
    pub images: usize,
    /// R, the anchors of each image.
    pub anchors: usize,
    /// K, the foreground classes.
    pub classes: usize,
}

impl LossShape {
    /// N * R * K.
    pub fn logits(self) -> usize {
        self.rows().saturating_mul(self.classes)
    }

    /// N * R.
    pub fn rows(self) -> usize {
        self.images.saturating_mul(self.anchors)
    }
}

/// The loss of one logit x, before its alpha weight: a function of x_t = x for the anchor's class, -x for the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// (1 - p_t)^gamma (-ln p_t), p_t = sigmoid(x_t). With gamma = 0 it is the cross entropy.
    Focal {
        /// The focusing parameter, at least 0.
        gamma: f64,
    },
    /// -ln(p_t*) / gamma, p_t* = sigmoid(gamma x_t + beta).
    FocalStar {
        /// Steepness, above 0.
        gamma: f64,
        /// Shift.
        beta: f64,
    },
}

/// The weight of a positive and of a negative logit, one for all classes or one each.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights<T> {
    /// For the logit of the anchor's class: length 1 or K.
    pub positive: Vec<T>,
    /// For the logits of the other classes: the same length.
    pub negative: Vec<T>,
}
