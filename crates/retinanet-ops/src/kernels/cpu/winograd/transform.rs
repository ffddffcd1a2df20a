//! The transforms of Winograd's minimal filtering F(m x m, 3 x 3) (Lavin & Gray 2016, section 4), on vectors of channels.
//!
//! A tile of n x n inputs, n = m + 2, gives m x m outputs: `A^T [(G g G^T) . (B^T d B)] A`, with one multiplication for
//! each of the n^2 places instead of nine for each of the m^2 outputs.

use super::super::vector::Vector;

/// One dimension of F(m, 3); N = m + 2.
pub(super) trait Transform<const N: usize, const M: usize> {
    /// G: three weights to N.
    const WEIGHT: [[f64; 3]; N];

    /// B^T: N inputs to N.
    ///
    /// # Safety
    /// The processor has the instruction set of `V`.
    unsafe fn input<V: Vector<f32>>(d: [V; N]) -> [V; N];

    /// A^T: N products to M outputs.
    ///
    /// # Safety
    /// The processor has the instruction set of `V`.
    unsafe fn output<V: Vector<f32>>(m: [V; N]) -> [V; M];

    /// A: the gradient of M outputs to that of N products.
    ///
    /// # Safety
    /// The processor has the instruction set of `V`.
    unsafe fn output_gradient<V: Vector<f32>>(d: [V; M]) -> [V; N];
}

/// F(2, 3): points 0, 1, -1. Additions only, so that inputs rounded to bf16 lose little.
pub(super) struct F2;

impl Transform<4, 2> for F2 {
    const WEIGHT: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

    #[inline(always)]
    unsafe fn input<V: Vector<f32>>([a, b, c, d]: [V; 4]) -> [V; 4] {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { [a.sub(c), b.add(c), c.sub(b), b.sub(d)] }
    }

    #[inline(always)]
    unsafe fn output<V: Vector<f32>>([m0, m1, m2, m3]: [V; 4]) -> [V; 2] {
        // SAFETY: as above.
        unsafe { [m0.add(m1).add(m2), m1.sub(m2).sub(m3)] }
    }

    #[inline(always)]
    unsafe fn output_gradient<V: Vector<f32>>([d0, d1]: [V; 2]) -> [V; 4] {
        // SAFETY: as above.
        unsafe { [d0, d0.add(d1), d0.sub(d1), V::splat(0.0).sub(d1)] }
    }
}

/// F(4, 3): points 0, 1, -1, 2, -2.
pub(super) struct F4;

impl Transform<6, 4> for F4 {
    const WEIGHT: [[f64; 3]; 6] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    unsafe fn input<V: Vector<f32>>([a, b, c, d, e, f]: [V; 6]) -> [V; 6] {
        // SAFETY: as above.
        unsafe {
            let (two, four, minus_four, minus_five) = (V::splat(2.0), V::splat(4.0), V::splat(-4.0), V::splat(-5.0));
            let minus_two = V::splat(-2.0);
            // The points 1 and -1 share the even and the odd part, and so do 2 and -2.
            let (even_1, odd_1) = (minus_four.mul_add(c, e), minus_four.mul_add(b, d));
            let (even_2, odd_2) = (e.sub(c), d.sub(b));
            [
                four.mul_add(a, minus_five.mul_add(c, e)),
                even_1.add(odd_1),
                even_1.sub(odd_1),
                two.mul_add(odd_2, even_2),
                minus_two.mul_add(odd_2, even_2),
                four.mul_add(b, minus_five.mul_add(d, f)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output<V: Vector<f32>>([m0, m1, m2, m3, m4, m5]: [V; 6]) -> [V; 4] {
        // SAFETY: as above.
        unsafe {
            let (two, four, eight) = (V::splat(2.0), V::splat(4.0), V::splat(8.0));
            let (sum_1, difference_1) = (m1.add(m2), m1.sub(m2));
            let (sum_2, difference_2) = (m3.add(m4), m3.sub(m4));
            [
                m0.add(sum_1).add(sum_2),
                two.mul_add(difference_2, difference_1),
                four.mul_add(sum_2, sum_1),
                eight.mul_add(difference_2, difference_1).add(m5),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output_gradient<V: Vector<f32>>([d0, d1, d2, d3]: [V; 4]) -> [V; 6] {
        // SAFETY: as above.
        unsafe {
            let (two, four, eight) = (V::splat(2.0), V::splat(4.0), V::splat(8.0));
            let (even_1, odd_1) = (d0.add(d2), d1.add(d3));
            let (even_2, odd_2) = (four.mul_add(d2, d0), eight.mul_add(d3, two.mul(d1)));
            [d0, even_1.add(odd_1), even_1.sub(odd_1), even_2.add(odd_2), even_2.sub(odd_2), d3]
        }
    }
}
