//! What the wrappers share: operands with checked sizes, grids.

use crate::device::{Activation, Argument, Element, Launch, Source, Span};
use crate::error::{Error, Result};

/// Threads of a block; `THREADS` in the kernels.
pub(super) const THREADS: u32 = 256;

/// Blocks of a kernel whose threads go on until all is done: several for each multiprocessor of the largest GPU.
const MOST_BLOCKS: usize = 4096;

/// A span as an argument, if it has room for so many numbers of so many bytes.
pub(super) fn operand(place: &str, span: Span<'_>, count: usize, size: usize) -> Result<Argument> {
    match count.checked_mul(size) {
        Some(bytes) if bytes <= span.bytes() => Ok(Argument::Address(span.address())),
        _ => {
            let (expected, found) = (format!("{count} numbers of {size} bytes"), format!("{} bytes", span.bytes()));
            Err(Error::Mismatch { place: place.to_owned(), expected, found })
        }
    }
}

/// As [`operand`], or no address for none.
pub(super) fn optional(place: &str, span: Option<Span<'_>>, count: usize, size: usize) -> Result<Argument> {
    span.map_or(Ok(NONE), |span| operand(place, span, count, size))
}

/// A pointer to nothing.
pub(super) const NONE: Argument = Argument::Address(crate::device::Address(0));

/// A number that a kernel counts with.
pub(super) fn int(place: &str, value: usize) -> Result<Argument> {
    i32::try_from(value).map(Argument::I32).map_err(|_| too_large(place, value))
}

/// Numbers, or vectors of them, that a kernel with 32-bit places works on: it also steps beyond the last of them.
pub(super) fn places(place: &str, count: usize) -> Result<Argument> {
    const MOST: usize = 1 << 30;
    if count <= MOST { int(place, count) } else { Err(too_large(place, count)) }
}

/// A number that a kernel counts with.
pub(super) fn long(place: &str, value: usize) -> Result<Argument> {
    i64::try_from(value).map(Argument::I64).map_err(|_| too_large(place, value))
}

fn too_large(place: &str, value: usize) -> Error {
    let expected = "a number that a kernel counts with".to_owned();
    Error::Mismatch { place: place.to_owned(), expected, found: value.to_string() }
}

/// A number in double precision, as its bits.
pub(super) fn double(value: f64) -> Argument {
    Argument::I64(value.to_bits() as i64)
}

/// Yes or no.
pub(super) fn flag(value: bool) -> Argument {
    Argument::I32(i32::from(value))
}

/// Whether the activation is a ReLU.
pub(super) fn is_relu(activation: Activation) -> Argument {
    flag(activation == Activation::Relu)
}

/// Numbers of 16 bytes.
pub(super) fn wide(element: Element) -> usize {
    16 / element.size()
}

/// Whether all of them begin where 16 bytes can be read at once.
pub(super) fn are_aligned(operands: &[Argument]) -> bool {
    operands.iter().all(|operand| !matches!(operand, Argument::Address(address) if address.0 % 16 != 0))
}

/// Blocks for so many pieces of work, each of one thread.
pub(super) fn blocks(work: usize) -> u32 {
    work.div_ceil(THREADS as usize).clamp(1, MOST_BLOCKS) as u32
}

/// The names of a kernel for f32, bf16 and f16.
pub(super) type ByElement = [&'static str; 3];

/// `NAME_f32`, `NAME_bf16` and `NAME_f16`.
macro_rules! by_element {
    ($name:literal) => {
        [concat!($name, "_f32"), concat!($name, "_bf16"), concat!($name, "_f16")]
    };
}
pub(super) use by_element;

pub(super) fn of(element: Element, names: ByElement) -> &'static str {
    match element {
        Element::F32 => names[0],
        Element::Bf16 => names[1],
        Element::F16 => names[2],
    }
}

/// Launches blocks of [`THREADS`] where the first span lies.
///
/// # Safety
/// The arguments are those that the kernel declares, and their memory is as large as it says.
pub(super) unsafe fn launch(
    at: Span<'_>,
    source: &'static Source,
    kernel: &'static str,
    grid: [u32; 3],
    arguments: &[Argument],
) -> Result<()> {
    // SAFETY: the caller's.
    unsafe { at.device().launch(&Launch { source, kernel, grid, threads: THREADS, arguments }) }
}
