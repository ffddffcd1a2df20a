//! Memory that the kernels of a training step work in.

use super::super::inference::Lines;

/// Memory that kernels work in, of unspecified contents before and after; it grows to the most that was ever needed, so that
/// the steps after the first allocate nothing.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Weights in another precision, or gradients before they are summed.
    pub(super) weights: Lines,
    /// Weights packed or transformed.
    pub(super) packed: Lines,
    /// What tasks work on.
    pub(super) scratch: Lines,
    doubles: Vec<f64>,
}

impl Workspace {
    /// `len` doubles, for the kernels of norms.
    pub fn doubles(&mut self, len: usize) -> &mut [f64] {
        if self.doubles.len() < len {
            self.doubles.resize(len, 0.0);
        }
        &mut self.doubles[..len]
    }
}
