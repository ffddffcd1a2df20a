//! OpenCV's linear interpolation on bytes (`INTER_LINEAR`).
//!
//! Two source positions across and two down, with weights of 11 bits; half-pixel centres, no smoothing.
//!
//! Source: OpenCV, `modules/imgproc/src/resize.cpp`.

use super::for_each_row;
use retinanet_anchors::ImageSize;

/// A weight of 1.
const ONE: f32 = 2048.0;

/// Memory for the next picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    across: Vec<Tap>,
    down: Vec<Tap>,
}

/// Two source positions and their weights.
#[derive(Clone, Copy, Debug)]
struct Tap {
    positions: [usize; 2],
    weights: [i32; 2],
}

/// The taps of an axis. Outside of the picture its border is repeated; across, OpenCV gives the border the whole weight.
fn set(taps: &mut Vec<Tap>, source: usize, target: usize, is_across: bool) {
    taps.clear();
    // The inverse of the inverse, as there: another rounding than source / target.
    let scale = 1.0 / (target as f64 / source as f64);
    let last = source - 1;
    taps.extend((0..target).map(|i| {
        let position = ((i as f64 + 0.5) * scale - 0.5) as f32;
        let low = position.floor();
        let mut share = position - low;
        if is_across && (low < 0.0 || low >= last as f32) {
            share = 0.0;
        }
        let within = |position: f32| (position.max(0.0) as usize).min(last);
        let weight = |share: f32| (share * ONE).round_ties_even() as i32;
        Tap { positions: [within(low), within(low + 1.0)], weights: [weight(1.0 - share), weight(share)] }
    }));
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
    let Scratch { across, down } = scratch;
    set(across, from.width, to.width, true);
    set(down, from.height, to.height, false);
    out.resize(to.width * to.height * 3, 0);
    for_each_row(out, to.width * 3, threads, |y, row| {
        let Tap { positions, weights: [top_weight, bottom_weight] } = down[y];
        let [top, bottom] = positions.map(|y| pixels[y * from.width * 3..][..from.width * 3].as_chunks::<3>().0);
        for (out, tap) in row.as_chunks_mut::<3>().0.iter_mut().zip(across.iter()) {
            let ([left, right], [left_weight, right_weight]) = (tap.positions, tap.weights);
            for c in 0..3 {
                let across = |row: &[[u8; 3]]| {
                    let sum = i32::from(row[left][c]) * left_weight + i32::from(row[right][c]) * right_weight;
                    sum >> 4
                };
                let sum = ((top_weight * across(top)) >> 16) + ((bottom_weight * across(bottom)) >> 16);
                out[c] = ((sum + 2) >> 2).clamp(0, 255) as u8;
            }
        }
    });
}
