//! Pillow's bilinear filter on bytes.
//!
//! A triangle as wide as the larger of a source and a target pixel, its weights in fixed point; across first, then down, each
//! rounded to bytes.
//!
//! Source: Pillow, `libImaging/Resample.c`.

use super::for_each_row;
use retinanet_anchors::ImageSize;

/// Bits behind the point of a weight: what 32 bits leave beside a byte and the sum's growth.
const FRACTION_BITS: u32 = 32 - 8 - 2;

/// What is added before the fraction is cut off.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// Memory for the next picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    across: Windows,
    down: Windows,
    /// The picture resized across.
    wide: Vec<u8>,
}

/// The source positions that each target position mixes, and their weights.
#[derive(Clone, Debug, Default)]
struct Windows {
    /// First source position, and where its weights begin and end.
    spans: Vec<(usize, usize, usize)>,
    weights: Vec<i32>,
}

impl Windows {
    fn set(&mut self, source: usize, target: usize) {
        self.spans.clear();
        self.weights.clear();
        let scale = source as f64 / target as f64;
        let support = scale.max(1.0);
        for i in 0..target {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(source);
            let inverse = 1.0 / support;
            let weight = |x: usize| (1.0 - ((x as f64 - center + 0.5) * inverse).abs()).max(0.0);
            let sum: f64 = (first..end).map(weight).sum();
            let begin = self.weights.len();
            let fixed = |x: usize| {
                let share = if sum == 0.0 { weight(x) } else { weight(x) / sum };
                (0.5 + share * f64::from(1u32 << FRACTION_BITS)) as i32
            };
            self.weights.extend((first..end).map(fixed));
            self.spans.push((first, begin, self.weights.len()));
        }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.spans.iter().map(|&(first, begin, end)| (first, &self.weights[begin..end]))
    }

    fn get(&self, i: usize) -> (usize, &[i32]) {
        let (first, begin, end) = self.spans[i];
        (first, &self.weights[begin..end])
    }
}

/// Resizes a picture of at least a pixel.
pub(super) fn resize(
    pixels: &[u8],
    from: ImageSize,
    to: ImageSize,
    threads: usize,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) {
    let Scratch { across, down, wide } = scratch;
    let row_len = to.width * 3;
    let source = if from.width == to.width {
        pixels
    } else {
        across.set(from.width, to.width);
        wide.resize(from.height * row_len, 0);
        for_each_row(wide, row_len, threads, |y, row| {
            let source = &pixels[y * from.width * 3..][..from.width * 3];
            let source = source.as_chunks::<3>().0;
            for (out, (first, weights)) in row.as_chunks_mut::<3>().0.iter_mut().zip(across.iter()) {
                let mut sums = [HALF; 3];
                for (pixel, &weight) in source[first..].iter().zip(weights) {
                    for c in 0..3 {
                        sums[c] += i32::from(pixel[c]) * weight;
                    }
                }
                *out = sums.map(byte);
            }
        });
        &wide[..]
    };
    out.resize(to.height * row_len, 0);
    if from.height == to.height {
        return out.copy_from_slice(&source[..to.height * row_len]);
    }
    down.set(from.height, to.height);
    for_each_row(out, row_len, threads, |y, row| {
        let (first, weights) = down.get(y);
        let rows = source[first * row_len..].chunks_exact(row_len);
        // In pieces that stay in registers and in the cache, as every source row is passed over.
        const PIECE: usize = 64;
        for (piece_idx, out) in row.chunks_mut(PIECE).enumerate() {
            let mut sums = [HALF; PIECE];
            for (source, &weight) in rows.clone().zip(weights) {
                let source = &source[piece_idx * PIECE..][..out.len()];
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = byte(sum);
            }
        }
    });
}

fn byte(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}
