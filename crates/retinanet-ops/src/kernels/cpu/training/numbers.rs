//! The types that feature maps of a training step are stored in.

use super::super::Storable;
use super::super::inference::Plain;

/// A number that is computed with as f32.
pub(super) trait Number: Storable<Float = f32> + Plain {}

impl Number for f32 {}
impl Number for half::bf16 {}
