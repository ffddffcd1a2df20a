//! What comes out of a network.

use super::slots::Slots;
use crate::bytes::bytes_of_mut;
use crate::device::{Element, Span};
use crate::error::Result;
use retinanet_ops::kernels::ImageShape;
use retinanet_ops::network::schedule::SlotIdx;

/// A map on the device.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// `[N, H, W, C]`.
    pub shape: ImageShape,
    /// How its numbers are stored.
    pub element: Element,
    /// Its numbers.
    pub span: Span<'a>,
}

impl<'a> Output<'a> {
    pub(super) fn of(slots: &Slots<'a>, slot: impl Into<SlotIdx>) -> Self {
        let slot = slot.into();
        Self { shape: slots.shape(slot), element: slots.element, span: slots.span(slot) }
    }

    /// Its numbers on the host, after all work before.
    ///
    /// # Errors
    /// Work before or the copy failed.
    pub fn read(&self) -> Result<Vec<f32>> {
        if self.element == Element::F32 {
            let mut numbers = vec![0.0; self.shape.len()];
            self.span.read(bytes_of_mut(&mut numbers))?;
            return Ok(numbers);
        }
        let mut bytes = vec![0; self.shape.len() * self.element.size()];
        self.span.read(&mut bytes)?;
        Ok(self.element.widen(&bytes))
    }

    /// Puts numbers in, rounded to the nearest as they are stored.
    ///
    /// # Errors
    /// There are more than fit, or the copy fails.
    pub fn write(&self, numbers: &[f32]) -> Result<()> {
        self.span.write(&self.element.narrow(numbers))
    }
}
