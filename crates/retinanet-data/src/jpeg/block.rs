//! Blocks of coefficients to smaller blocks of pixels.

use std::f32::consts::FRAC_1_SQRT_2;
use std::f64::consts::{PI, SQRT_2};

/// Row and column of each coefficient in the order in which they are stored, times 8 and added.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Where each stored coefficient goes in a block of fewer pixels, and with which weight.
///
/// The mean of s neighbours of cos((2x + 1) u pi / 16) is cos((2i + 1) u pi / 2n) times
/// d(u) = sin(s u pi / 16) / (s sin(u pi / 16)), with n = 8/s pixels i: the cosine of a shorter block. From u = n on these
/// cosines repeat with the other sign, cos((2i + 1) (2n - u) pi / 2n) = -cos((2i + 1) u pi / 2n), so that all eight
/// coefficients fold into n.
pub(super) struct Folding {
    /// Pixels across, 1, 2, 4 or 8.
    pub(super) columns: usize,
    /// Pixels down.
    pub(super) rows: usize,
    /// The place among 8 x 8 of each stored coefficient.
    pub(super) place: [u8; 64],
    /// Its weight, with its step of quantisation.
    pub(super) weight: [f32; 64],
}

impl Folding {
    /// None where a side is not 1, 2, 4 or 8.
    pub(super) fn new(quantization: &[u16; 64], columns: usize, rows: usize) -> Option<Self> {
        if ![1, 2, 4, 8].contains(&columns) || ![1, 2, 4, 8].contains(&rows) {
            return None;
        }
        let (mut place, mut weight) = ([0; 64], [0.0; 64]);
        for (k, &at) in ZIGZAG.iter().enumerate() {
            let (row, row_weight) = fold(usize::from(at / 8), rows);
            let (column, column_weight) = fold(usize::from(at % 8), columns);
            place[k] = (8 * row + column) as u8;
            weight[k] = (f64::from(quantization[k]) / 8.0 * row_weight * column_weight) as f32;
        }
        Some(Self { columns, rows, place, weight })
    }

    /// Whether a block becomes one pixel, which its first coefficient alone decides.
    pub(super) fn is_mean(&self) -> bool {
        self.columns * self.rows == 1
    }
}

/// Where coefficient `u` of eight goes among `pixels`, and how much of it.
fn fold(u: usize, pixels: usize) -> (usize, f64) {
    let neighbours = (8 / pixels) as f64;
    let angle = u as f64 * PI / 16.0;
    match u {
        0 => (0, 1.0),
        // The cosine is 0 in the middle of every pixel, or the mean over its neighbours is.
        _ if u.is_multiple_of(pixels) => (0, 0.0),
        _ => {
            let mean = SQRT_2 * (neighbours * angle).sin() / (neighbours * angle.sin());
            match u / pixels {
                0 => (u, mean),
                1 => (2 * pixels - u, -mean),
                2 => (u - 2 * pixels, -mean),
                _ => (4 * pixels - u, mean),
            }
        }
    }
}

/// cos((2x + 1) u pi / 2n) by u and x.
const fn cosines<const N: usize>() -> [[f32; N]; N] {
    // Of multiples of pi / 16, from 0 to pi / 2.
    const QUARTER: [f32; 9] =
        [1.0, 0.980_785_25, 0.923_879_5, 0.831_469_6, FRAC_1_SQRT_2, 0.555_570_2, 0.382_683_43, 0.195_090_32, 0.0];
    let mut table = [[0.0; N]; N];
    let mut u = 0;
    while u < N {
        let mut x = 0;
        while x < N {
            let step = (2 * x + 1) * u * (8 / N) % 32;
            let half = if step > 16 { 32 - step } else { step };
            table[u][x] = if half > 8 { -QUARTER[16 - half] } else { QUARTER[half] };
            x += 1;
        }
        u += 1;
    }
    table
}

/// Writes the pixels of a folded block, rows of `out` being `pitch` apart. Where `is_flat`, all but the first of the
/// coefficients are 0.
pub(super) fn inverse(folded: &[f32; 64], size: (usize, usize), is_flat: bool, out: &mut [u8], pitch: usize) {
    let (columns, rows) = size;
    if is_flat {
        let value = pixel(folded[0]);
        return out.chunks_mut(pitch).take(rows).for_each(|row| row[..columns].fill(value));
    }
    match size {
        (4, 4) => inverse_of::<4, 4>(folded, out, pitch),
        (8, 8) => inverse_of::<8, 8>(folded, out, pitch),
        (2, 2) => inverse_of::<2, 2>(folded, out, pitch),
        (8, 4) => inverse_of::<8, 4>(folded, out, pitch),
        (4, 8) => inverse_of::<4, 8>(folded, out, pitch),
        (4, 2) => inverse_of::<4, 2>(folded, out, pitch),
        (2, 4) => inverse_of::<2, 4>(folded, out, pitch),
        _ => inverse_of_any(folded, size, out, pitch),
    }
}

fn inverse_of<const COLUMNS: usize, const ROWS: usize>(folded: &[f32; 64], out: &mut [u8], pitch: usize) {
    let (across, down) = (const { cosines::<COLUMNS>() }, const { cosines::<ROWS>() });
    let mut sums = [[0.0; COLUMNS]; ROWS];
    for (v, down) in down.iter().enumerate() {
        let coefficients: &[f32] = &folded[8 * v..8 * v + COLUMNS];
        if coefficients.iter().all(|&value| value == 0.0) {
            continue;
        }
        let mut row = [0.0; COLUMNS];
        for (&coefficient, across) in coefficients.iter().zip(&across) {
            for x in 0..COLUMNS {
                row[x] += coefficient * across[x];
            }
        }
        for (sum, &share) in sums.iter_mut().zip(down) {
            for x in 0..COLUMNS {
                sum[x] += share * row[x];
            }
        }
    }
    for (out, sum) in out.chunks_mut(pitch).zip(&sums) {
        for x in 0..COLUMNS {
            out[x] = pixel(sum[x]);
        }
    }
}

/// The same for shapes that hardly any file has.
fn inverse_of_any(folded: &[f32; 64], (columns, rows): (usize, usize), out: &mut [u8], pitch: usize) {
    let cosine = |u: usize, x: usize, count: usize| (((2 * x + 1) * u) as f64 * PI / (2 * count) as f64).cos();
    for (y, out) in out.chunks_mut(pitch).take(rows).enumerate() {
        for (x, out) in out[..columns].iter_mut().enumerate() {
            let term = |at: usize| f64::from(folded[at]) * cosine(at / 8, y, rows) * cosine(at % 8, x, columns);
            *out = pixel((0..64).map(term).sum::<f64>() as f32);
        }
    }
}

/// Rounded and cut to a byte; stored values lie around 0. The conversion saturates.
fn pixel(value: f32) -> u8 {
    (value + 128.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pixels of a block by the definition, in f64: T.81, A.3.3.
    fn whole(coefficients: &[i32; 64]) -> [[f64; 8]; 8] {
        let scale = |u: usize| if u == 0 { 0.5f64.sqrt() } else { 1.0 };
        let cosine = |x: usize, u: usize| (((2 * x + 1) * u) as f64 * PI / 16.0).cos();
        std::array::from_fn(|y| {
            std::array::from_fn(|x| {
                let term = |(k, &at): (usize, &u8)| {
                    let (v, u) = (usize::from(at / 8), usize::from(at % 8));
                    scale(u) * scale(v) * f64::from(coefficients[k]) * cosine(x, u) * cosine(y, v) / 4.0
                };
                128.0 + ZIGZAG.iter().enumerate().map(term).sum::<f64>()
            })
        })
    }

    #[test]
    fn a_folded_block_is_the_mean_of_the_whole_one() {
        let (mut state, steps) = (1u32, std::array::from_fn(|k| 1 + k as u16 % 3));
        let mut coefficients = [0i32; 64];
        for shape in [1, 2, 4, 8].into_iter().flat_map(|rows| [1, 2, 4, 8].map(|columns| (columns, rows))) {
            let mut stored = [0; 64];
            for (k, (stored, coefficient)) in stored.iter_mut().zip(&mut coefficients).enumerate() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *stored = (state >> 24) as i32 % 24 - 12;
                *coefficient = *stored * i32::from(steps[k]);
            }
            let folding = Folding::new(&steps, shape.0, shape.1).expect("an allowed shape");
            let mut folded = [0.0; 64];
            for k in 0..64 {
                folded[usize::from(folding.place[k])] += stored[k] as f32 * folding.weight[k];
            }
            let mut out = [0; 80];
            inverse(&folded, shape, false, &mut out, 10);
            let pixels = whole(&coefficients);
            let (across, down) = (8 / shape.0, 8 / shape.1);
            for y in 0..shape.1 {
                for x in 0..shape.0 {
                    let of = (0..down).flat_map(|dy| (0..across).map(move |dx| (y * down + dy, x * across + dx)));
                    let mean = of.map(|(y, x)| pixels[y][x]).sum::<f64>() / (across * down) as f64;
                    let found = f64::from(out[10 * y + x]);
                    let expected = mean.clamp(0.0, 255.0);
                    assert!((found - expected).abs() < 0.51, "{shape:?} ({x}, {y}): {expected} {found}");
                }
            }
        }
    }

    #[test]
    fn a_flat_block_is_its_first_coefficient() {
        let mut folded = [0.0; 64];
        folded[0] = -28.2;
        for shape in [(4, 4), (1, 1), (8, 2)] {
            let (mut flat, mut summed) = ([0; 80], [0; 80]);
            inverse(&folded, shape, true, &mut flat, 10);
            inverse(&folded, shape, false, &mut summed, 10);
            assert_eq!((flat, flat[0]), (summed, 100));
        }
    }
}
