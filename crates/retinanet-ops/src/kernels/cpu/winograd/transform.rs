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
}

/// F(4, 3): points 0, P, -P, Q, -Q.
///
/// Powers of P and Q lie about as far below 1 as above it, and are exact. Against 1 and 2, which save three multiplications
/// of a transform back, the rounding of a convolution of 256 channels is half as large, and the worst of it a fifth.
pub(super) struct F4;

const P: f32 = 0.75;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;

/// 1, x and x^2, divided by the product of the distances from x to -x, 0, and the other point and its negative.
const fn weights(x: f32, other: f32) -> [f64; 3] {
    let (x, other) = (x as f64, other as f64);
    let distances = 2.0 * x * x * (x * x - other * other);
    [1.0 / distances, x / distances, x * x / distances]
}

impl Transform<6, 4> for F4 {
    const WEIGHT: [[f64; 3]; 6] = [
        [1.0 / (P2 * Q2) as f64, 0.0, 0.0],
        weights(P, Q),
        weights(-P, Q),
        weights(Q, P),
        weights(-Q, P),
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    unsafe fn input<V: Vector<f32>>([a, b, c, d, e, f]: [V; 6]) -> [V; 6] {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let (product, minus_sum) = (V::splat(P2 * Q2), V::splat(-P2 - Q2));
            let (minus_p2, minus_q2) = (V::splat(-P2), V::splat(-Q2));
            // A point and its negative share the even and the odd part.
            let (even_p, odd_p) = (minus_q2.mul_add(c, e), minus_q2.mul_add(b, d));
            let (even_q, odd_q) = (minus_p2.mul_add(c, e), minus_p2.mul_add(b, d));
            [
                product.mul_add(a, minus_sum.mul_add(c, e)),
                V::splat(P).mul_add(odd_p, even_p),
                V::splat(-P).mul_add(odd_p, even_p),
                V::splat(Q).mul_add(odd_q, even_q),
                V::splat(-Q).mul_add(odd_q, even_q),
                product.mul_add(b, minus_sum.mul_add(d, f)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output<V: Vector<f32>>([m0, m1, m2, m3, m4, m5]: [V; 6]) -> [V; 4] {
        // SAFETY: as above.
        unsafe {
            let (sum_p, difference_p) = (m1.add(m2), m1.sub(m2));
            let (sum_q, difference_q) = (m3.add(m4), m3.sub(m4));
            [
                m0.add(sum_p).add(sum_q),
                V::splat(Q).mul_add(difference_q, V::splat(P).mul(difference_p)),
                V::splat(Q2).mul_add(sum_q, V::splat(P2).mul(sum_p)),
                V::splat(Q2 * Q).mul_add(difference_q, V::splat(P2 * P).mul_add(difference_p, m5)),
            ]
        }
    }
}

impl F4 {
    /// A: the gradient of 4 outputs to that of 6 products.
    ///
    /// # Safety
    /// The processor has the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn output_gradient<V: Vector<f32>>([d0, d1, d2, d3]: [V; 4]) -> [V; 6] {
        // SAFETY: as above.
        unsafe {
            let (even_p, odd_p) = (V::splat(P2).mul_add(d2, d0), V::splat(P2 * P).mul_add(d3, V::splat(P).mul(d1)));
            let (even_q, odd_q) = (V::splat(Q2).mul_add(d2, d0), V::splat(Q2 * Q).mul_add(d3, V::splat(Q).mul(d1)));
            [d0, even_p.add(odd_p), even_p.sub(odd_p), even_q.add(odd_q), even_q.sub(odd_q), d3]
        }
    }
}

/// F(6, 3): points 0, 1, -1, 2, -2, 1/2, -1/2.
pub(super) struct F6;

impl Transform<8, 6> for F6 {
    const WEIGHT: [[f64; 3]; 8] = [
        [1.0, 0.0, 0.0],
        [-2.0 / 9.0, -2.0 / 9.0, -2.0 / 9.0],
        [-2.0 / 9.0, 2.0 / 9.0, -2.0 / 9.0],
        [1.0 / 90.0, 1.0 / 45.0, 2.0 / 45.0],
        [1.0 / 90.0, -1.0 / 45.0, 2.0 / 45.0],
        [32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0],
        [32.0 / 45.0, -16.0 / 45.0, 8.0 / 45.0],
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    unsafe fn input<V: Vector<f32>>([a, b, c, d, e, f, g, h]: [V; 8]) -> [V; 8] {
        // SAFETY: as above.
        unsafe {
            let by = |factor: f32, x: V, rest: V| V::splat(factor).mul_add(x, rest);
            // A pair of points x and -x shares the even and the odd part of its polynomial.
            let (even_1, odd_1) = (by(-4.25, e, c.add(g)), by(-4.25, d, b.add(f)));
            let even_2 = by(0.25, c, by(-1.25, e, g));
            let odd_2 = by(0.5, b, by(-2.5, d, f.add(f)));
            let even_3 = by(4.0, c, by(-5.0, e, g));
            let odd_3 = by(0.5, f, by(-2.5, d, b.add(b)));
            [
                by(5.25, e.sub(c), a.sub(g)),
                even_1.add(odd_1),
                even_1.sub(odd_1),
                even_2.add(odd_2),
                even_2.sub(odd_2),
                even_3.add(odd_3),
                even_3.sub(odd_3),
                by(5.25, d.sub(f), h.sub(b)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output<V: Vector<f32>>([m0, m1, m2, m3, m4, m5, m6, m7]: [V; 8]) -> [V; 6] {
        // SAFETY: as above.
        unsafe {
            let by = |factor: f32, x: V, rest: V| V::splat(factor).mul_add(x, rest);
            let (sum_1, difference_1) = (m1.add(m2), m1.sub(m2));
            let (sum_2, difference_2) = (m3.add(m4), m3.sub(m4));
            let (sum_3, difference_3) = (m5.add(m6), m5.sub(m6));
            [
                m0.add(sum_1).add(sum_2.add(sum_3)),
                by(0.5, difference_3, by(2.0, difference_2, difference_1)),
                by(0.25, sum_3, by(4.0, sum_2, sum_1)),
                by(0.125, difference_3, by(8.0, difference_2, difference_1)),
                by(1.0 / 16.0, sum_3, by(16.0, sum_2, sum_1)),
                by(1.0 / 32.0, difference_3, by(32.0, difference_2, difference_1)).add(m7),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::vector::Lanes;
    use super::*;

    /// The 3 taps of every output of one dimension, in the numbers of a filter and of inputs that add up exactly.
    fn check<T: Transform<N, M>, const N: usize, const M: usize>() {
        for place in 0..N {
            for tap in 0..3 {
                // SAFETY: every processor has arrays.
                let transformed = numbers(unsafe { T::input(unit(place)) });
                let products: [Lanes<f32, 4>; N] = std::array::from_fn(|i| {
                    // SAFETY: as above.
                    unsafe { Lanes::splat((f64::from(transformed[i]) * T::WEIGHT[i][tap]) as f32) }
                });
                // SAFETY: as above.
                let outputs = numbers(unsafe { T::output(products) });
                for (idx, found) in outputs.into_iter().enumerate() {
                    let expected = if idx + tap == place { 1.0 } else { 0.0 };
                    assert!((found - expected).abs() < 1e-5, "input {place}, tap {tap}, output {idx}: {found}");
                }
            }
        }
    }

    /// The first lane of each vector.
    fn numbers<const N: usize>(vectors: [Lanes<f32, 4>; N]) -> [f32; N] {
        vectors.map(|vector| {
            let mut lanes = [0.0; 4];
            // SAFETY: every processor has arrays.
            unsafe { vector.store(lanes.as_mut_ptr()) };
            lanes[0]
        })
    }

    /// 1 at a place, 0 elsewhere.
    fn unit<const N: usize>(place: usize) -> [Lanes<f32, 4>; N] {
        // SAFETY: every processor has arrays.
        std::array::from_fn(|i| unsafe { Lanes::splat(if i == place { 1.0 } else { 0.0 }) })
    }

    #[test]
    fn the_gradient_is_the_output_transposed() {
        for product in 0..6 {
            // SAFETY: every processor has arrays.
            let outputs = numbers(unsafe { F4::output(unit(product)) });
            for (idx, &expected) in outputs.iter().enumerate() {
                // SAFETY: as above.
                let gradient = numbers(unsafe { F4::output_gradient(unit(idx)) });
                assert_eq!(gradient[product], expected, "product {product}, output {idx}");
            }
        }
    }

    #[test]
    fn each_output_sees_its_three_inputs() {
        check::<F2, 4, 2>();
        check::<F4, 6, 4>();
        check::<F6, 8, 6>();
    }
}
