//! What comes out of a network.

use super::slots::Slots;
use crate::bytes::bytes_of_mut;
use crate::device::{Element, Span};
use crate::error::Result;
use half::bf16;
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
        match self.element {
            Element::F32 => {
                let mut numbers = vec![0.0; self.shape.len()];
                self.span.read(bytes_of_mut(&mut numbers))?;
                Ok(numbers)
            }
            Element::Bf16 => {
                let mut bits = vec![0u16; self.shape.len()];
                self.span.read(bytes_of_mut(&mut bits))?;
                Ok(bits.into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect())
            }
        }
    }

    /// Puts numbers in, rounded to the nearest as they are stored.
    ///
    /// # Errors
    /// There are more than fit, or the copy fails.
    pub fn write(&self, numbers: &[f32]) -> Result<()> {
        match self.element {
            Element::F32 => self.span.write(crate::bytes::bytes_of(numbers)),
            Element::Bf16 => {
                let bits: Vec<u16> = numbers.iter().map(|&number| bf16::from_f32(number).to_bits()).collect();
                self.span.write(crate::bytes::bytes_of(&bits))
            }
        }
    }
}
