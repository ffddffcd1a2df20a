//! Products of f32 and f64.

use super::super::Element;
use super::super::vector::Vector;
use super::Products;
use std::marker::PhantomData;

/// A word is a number, and vectors are those of the instruction set.
pub(crate) struct Floats<T, V>(PhantomData<(T, V)>);

impl<T: Element, V: Vector<T>> Products for Floats<T, V> {
    type Word = T;
    type Sum = T;
    type Input = V;
    type Weight = V;
    type Sums = V;
    const LANES: usize = V::LANES;
    const ROWS: usize = V::ROWS;
    // The rounding of a sum of n grows with the root of n, and a network that is trained feels it: a ReLU that falls to
    // the other side moves a gradient by a thousandth. Blocks of this depth cost a hundredth of the time.
    const DEPTH_BLOCK: usize = 128;

    #[inline(always)]
    unsafe fn input(from: *const T) -> V {
        // SAFETY: the caller vouches for the number and the instruction set.
        unsafe { V::splat(from.read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weight(from: *const T) -> V {
        // SAFETY: as above.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn zero() -> V {
        // SAFETY: as above.
        unsafe { V::splat(T::ZERO) }
    }

    #[inline(always)]
    unsafe fn add_products(sums: V, input: V, weight: V) -> V {
        // SAFETY: as above.
        unsafe { input.mul_add(weight, sums) }
    }

    #[inline(always)]
    unsafe fn add_stored(sums: V, from: *const T) -> V {
        // SAFETY: as above.
        unsafe { V::load(from).add(sums) }
    }

    #[inline(always)]
    unsafe fn store(sums: V, to: *mut T) {
        // SAFETY: as above.
        unsafe { sums.store(to) }
    }
}
