//! What a run took.

use retinanet_ops::network::plan::Session;
use std::time::Duration;

/// What a run took, by the part of the work. A device runs the network, and
/// finds what its outputs say, as one piece of work: all its time is the backbone's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunReport {
    /// Pictures to normalised, resized, padded pixels.
    pub preprocess: Duration,
    /// Pixels to C3..C5.
    pub backbone: Duration,
    /// C3..C5 to P3..P7.
    pub fpn: Duration,
    /// P3..P7 to class logits.
    pub class_head: Duration,
    /// P3..P7 to box deltas.
    pub box_head: Duration,
    /// Class logits to candidates, and their boxes to detections.
    pub post_process: Duration,
    /// The share of the box subnet's multiplications that were made, 0 to 1.
    pub box_head_share: f64,
}

/// The parts of a network, as they are recorded.
pub(crate) const BACKBONE: &str = "backbone";
pub(crate) const FPN: &str = "fpn";
pub(crate) const HEAD: &str = "head";

impl RunReport {
    /// Each stage with its time, in the order of execution.
    pub fn stages(&self) -> [(&'static str, Duration); 6] {
        [
            ("preprocess", self.preprocess),
            ("backbone", self.backbone),
            ("fpn", self.fpn),
            ("class_head", self.class_head),
            ("box_head", self.box_head),
            ("post_process", self.post_process),
        ]
    }

    /// Takes the times of the network from its session.
    pub(super) fn add_network(&mut self, session: &Session) {
        for (part, first, rest) in session.times() {
            match part {
                BACKBONE => self.backbone = first + rest,
                FPN => self.fpn = first + rest,
                _ => (self.class_head, self.box_head) = (first, rest),
            }
        }
    }
}
