//! One number after another.

use super::launch::{are_aligned, blocks, by_element, flag, is_relu, launch, long, of, operand, wide};
use super::source;
use crate::device::{Activation, Argument, Element, Source, Span};
use crate::error::Result;

pub(super) const SOURCE: Source = source!("elementwise.cu");

/// Launches over `count` numbers, with how many times 16 bytes of them there are and how many numbers behind the arguments.
///
/// # Safety
/// As for [`launch`].
unsafe fn run(
    at: Span<'_>,
    element: Element,
    kernel: &'static str,
    mut arguments: Vec<Argument>,
    count: usize,
) -> Result<()> {
    let vectors = if are_aligned(&arguments) { count / wide(element) } else { 0 };
    arguments.extend([long(kernel, vectors)?, long(kernel, count)?]);
    let work = if vectors > 0 { vectors } else { count };
    // SAFETY: the caller's.
    unsafe { launch(at, &SOURCE, kernel, [blocks(work), 1, 1], &arguments) }
}

/// `y = max(x, 0)`.
///
/// # Errors
/// A span is shorter than `count` numbers, or the launch fails.
pub fn relu(element: Element, count: usize, x: Span<'_>, y: Span<'_>) -> Result<()> {
    let operands = vec![operand("relu: x", x, count, element.size())?, operand("relu: y", y, count, element.size())?];
    // SAFETY: the sizes were checked.
    unsafe { run(x, element, of(element, by_element!("relu_forward")), operands, count) }
}

/// The gradient of [`relu`] by its output, added to what is there if wanted.
///
/// # Errors
/// As for [`relu`].
pub fn relu_gradient(
    element: Element,
    count: usize,
    y: Span<'_>,
    y_gradient: Span<'_>,
    accumulate: bool,
    x_gradient: Span<'_>,
) -> Result<()> {
    let operands = vec![
        operand("relu gradient: y", y, count, element.size())?,
        operand("relu gradient: y gradient", y_gradient, count, element.size())?,
        flag(accumulate),
        operand("relu gradient: x gradient", x_gradient, count, element.size())?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { run(y, element, of(element, by_element!("relu_gradient")), operands, count) }
}

/// Sets a gradient to 0 where the output of a ReLU is not positive.
///
/// # Errors
/// As for [`relu`].
pub fn gate(element: Element, count: usize, output: Span<'_>, gradient: Span<'_>) -> Result<()> {
    let operands = vec![
        operand("gate: output", output, count, element.size())?,
        operand("gate: gradient", gradient, count, element.size())?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { run(output, element, of(element, by_element!("gate")), operands, count) }
}

/// `y = activation(a + b)`; `y` may be one of them.
///
/// # Errors
/// As for [`relu`].
pub fn add(
    element: Element,
    count: usize,
    a: Span<'_>,
    b: Span<'_>,
    activation: Activation,
    y: Span<'_>,
) -> Result<()> {
    let operands = vec![
        operand("add: a", a, count, element.size())?,
        operand("add: b", b, count, element.size())?,
        is_relu(activation),
        operand("add: y", y, count, element.size())?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { run(a, element, of(element, by_element!("add")), operands, count) }
}

/// `to += from`.
///
/// # Errors
/// As for [`relu`].
pub fn accumulate(element: Element, count: usize, from: Span<'_>, to: Span<'_>) -> Result<()> {
    add(element, count, to, from, Activation::None, to)
}

/// `to = from`, in another element, to the nearest, ties to even.
///
/// # Errors
/// As for [`relu`].
pub fn convert(
    count: usize,
    (from_element, from): (Element, Span<'_>),
    (element, to): (Element, Span<'_>),
) -> Result<()> {
    let operands = [
        operand("convert: from", from, count, from_element.size())?,
        operand("convert: to", to, count, element.size())?,
        long("convert: count", count)?,
    ];
    let kernel = match (from_element, element) {
        (Element::F32, Element::Bf16) => "convert_f32_bf16",
        (Element::Bf16, Element::F32) => "convert_bf16_f32",
        (Element::F32, Element::F16) => "convert_f32_f16",
        (Element::F16, Element::F32) => "convert_f16_f32",
        // SAFETY: both have so many bytes, as was checked.
        _ => return unsafe { from.device().copy(from.address(), to.address(), count * element.size()) },
    };
    // SAFETY: the sizes were checked.
    unsafe { launch(from, &SOURCE, kernel, [blocks(count), 1, 1], &operands) }
}
