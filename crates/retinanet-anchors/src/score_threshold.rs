//! A score as logits are compared with it.

/// What `sigmoid(logit) > score`, as it rounds in f32, is without the sigmoid, for all but the logits next to the score's own.
///
/// ```
/// use retinanet_anchors::ScoreThreshold;
///
/// // The logit of .05 is -ln 19 = -2.944.
/// let threshold = ScoreThreshold::new(0.05);
/// assert!(threshold.never < -2.944 && -2.944 < threshold.always);
/// assert!(threshold.always - threshold.never < 0.01);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreThreshold {
    /// The score itself.
    pub score: f32,
    /// Scores of logits up to here are not above it.
    pub never: f32,
    /// Scores of logits above this are.
    pub always: f32,
}

impl ScoreThreshold {
    /// Of a score within [0, 1).
    pub fn new(score: f32) -> Self {
        let exact = f64::from(score);
        let logit = (exact / (1.0 - exact)).ln() as f32;
        // Room for the rounding of the sigmoid: of a few units in the last place of the exponential, and of 1 where the
        // score is close to it.
        let room = 1e-3 * logit.abs().max(1.0) + (2.0f64.powi(-22) / (1.0 - exact)) as f32;
        // A threshold of 0 has the logit -inf, which nothing is below; the sigmoid is a normal number down to -87.
        Self { score, never: logit - room, always: (logit + room).max(-80.0) }
    }
}
