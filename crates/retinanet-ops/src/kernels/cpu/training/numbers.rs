//! The slice of a stored feature map, by the type of its numbers.

use super::super::Storable;
use super::super::inference::{Numbers, Plain};
use half::bf16;

/// The types that feature maps of a training step are stored in.
pub(super) trait Number: Storable<Float = f32> + Plain {
    /// The numbers, if they are of this type.
    fn slice<'a>(numbers: &Numbers<'a>) -> Option<&'a [Self]>;
}

impl Number for f32 {
    fn slice<'a>(numbers: &Numbers<'a>) -> Option<&'a [Self]> {
        if let Numbers::F32(numbers) = numbers { Some(numbers) } else { None }
    }
}

impl Number for bf16 {
    fn slice<'a>(numbers: &Numbers<'a>) -> Option<&'a [Self]> {
        if let Numbers::Bf16(numbers) = numbers { Some(numbers) } else { None }
    }
}
