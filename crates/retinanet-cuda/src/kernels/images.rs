//! Pictures to what the network reads.

use super::launch::{blocks, by_element, int, launch, of, operand};
use super::source;
use crate::device::{Device, Element, Memory, Source, Span};
use crate::error::{Error, Result};
use std::sync::Arc;

pub(super) const SOURCE: Source = source!("images.cu");

/// What each byte becomes in each channel.
#[derive(Debug)]
pub struct NormalisationTable(Memory);

impl NormalisationTable {
    /// The table of `value(byte, channel)`.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(device: &Arc<dyn Device>, value: impl Fn(u8, usize) -> f32) -> Result<Self> {
        let numbers = (0..=255u8).flat_map(|byte| [0, 1, 2].map(|channel| value(byte, channel)));
        let bytes: Vec<u8> = numbers.flat_map(f32::to_ne_bytes).collect();
        Memory::of(device, &bytes).map(Self)
    }
}

/// A picture of `[height, width, 3]` bytes to the upper left of `[height, width, 3]` numbers of a canvas, which is 0 around it.
/// Sizes are rows and columns.
///
/// # Errors
/// The picture is larger than the canvas, a span is shorter than its size, or the launch fails.
pub fn normalise(
    table: &NormalisationTable,
    (size, bytes): ((usize, usize), Span<'_>),
    element: Element,
    (canvas, y): ((usize, usize), Span<'_>),
) -> Result<()> {
    if size.0 > canvas.0 || size.1 > canvas.1 {
        let (expected, found) = (format!("at most {canvas:?}"), format!("{size:?}"));
        return Err(Error::Mismatch { place: "normalisation: rows and columns".to_owned(), expected, found });
    }
    let pixels = canvas.0 * canvas.1;
    let number = |value| int("normalisation", value);
    let arguments = [
        operand("normalisation: picture", bytes, 3 * size.0 * size.1, 1)?,
        operand("normalisation: table", table.0.span(), 256 * 3, 4)?,
        number(size.0)?,
        number(size.1)?,
        operand("normalisation: canvas", y, 3 * pixels, element.size())?,
        number(canvas.0)?,
        number(canvas.1)?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(y, &SOURCE, of(element, by_element!("normalise")), [blocks(pixels), 1, 1], &arguments) }
}
