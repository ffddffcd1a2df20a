//! How convolutions multiply: a word of the input is broadcast and multiplied with a vector of packed words of the weight,
//! whose products join the vector's sums. A word holds one number of f32 or f64, two of bf16, or four bytes.

mod bf16;
mod float;
mod int8;

pub(crate) use bf16::WidenedBf16;
pub(crate) use float::Floats;
pub(crate) use int8::ExactInt8;

#[cfg(target_arch = "x86_64")]
pub(crate) use {
    bf16::x86::DotBf16x16,
    int8::x86::{DotInt8x8, DotInt8x16, MaddInt8x8},
};

/// The products of one arithmetic on one instruction set.
pub(crate) trait Products {
    /// What is broadcast, and what each lane of a weight holds.
    type Word: Copy;
    /// The sum of one lane.
    type Sum: Copy;
    /// A broadcast word.
    type Input: Copy;
    /// A vector of words.
    type Weight: Copy;
    /// A vector of sums.
    type Sums: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Rows of the register tile, two vectors a row: as many as fit in the registers beside the operands.
    const ROWS: usize;
    /// The most words whose products are summed one after the other, before they join the total.
    const DEPTH_BLOCK: usize;

    /// Broadcasts a word, at any alignment.
    ///
    /// # Safety
    /// The word is readable, and the processor has the instruction set.
    unsafe fn input(from: *const Self::Word) -> Self::Input;

    /// Reads [`Self::LANES`] words, at any alignment.
    ///
    /// # Safety
    /// The words are readable, and the processor has the instruction set.
    unsafe fn weight(from: *const Self::Word) -> Self::Weight;

    /// Sums of nothing.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn zero() -> Self::Sums;

    /// `sums + input * weight`, over all numbers of each word.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn add_products(sums: Self::Sums, input: Self::Input, weight: Self::Weight) -> Self::Sums;

    /// Adds [`Self::LANES`] sums of memory, at any alignment.
    ///
    /// # Safety
    /// The sums are readable, and the processor has the instruction set.
    unsafe fn add_stored(sums: Self::Sums, from: *const Self::Sum) -> Self::Sums;

    /// Writes [`Self::LANES`] sums, at any alignment.
    ///
    /// # Safety
    /// The sums are writable, and the processor has the instruction set.
    unsafe fn store(sums: Self::Sums, to: *mut Self::Sum);
}
