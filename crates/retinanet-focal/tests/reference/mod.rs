//! The losses once more, in f64, logit by logit and with the standard library's functions.
#![allow(dead_code)] // Each test file compiles this module and uses a part of it.

use retinanet_focal::kernels::{Curve, LossShape, Weights};
use retinanet_focal::{BACKGROUND, IGNORE};

/// ln(1 + e^x).
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// The loss of one logit and its derivative by x_t.
pub(crate) fn point(curve: Curve, x_t: f64) -> (f64, f64) {
    match curve {
        Curve::Focal { gamma } => {
            let modulation = (-gamma * softplus(x_t)).exp();
            let cross_entropy = softplus(-x_t);
            let slope = -modulation * (gamma * sigmoid(x_t) * cross_entropy + sigmoid(-x_t));
            (modulation * cross_entropy, slope)
        }
        Curve::FocalStar { gamma, beta } => {
            let x = gamma * x_t + beta;
            (softplus(-x) / gamma, -sigmoid(-x))
        }
    }
}

/// The sum of each image, the loss of each anchor, and the gradient.
pub(crate) fn evaluate(
    curve: Curve,
    weights: &Weights<f64>,
    shape: LossShape,
    logits: &[f64],
    classes: &[i64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut sums = vec![0.0; shape.images];
    let mut rows = vec![0.0; shape.rows()];
    let mut gradient = vec![0.0; shape.logits()];
    for (idx, &x) in logits.iter().enumerate() {
        let (row, column) = (idx / shape.classes, idx % shape.classes);
        if classes[row] == IGNORE {
            continue;
        }
        let positive = classes[row] == column as i64;
        let y = if positive { 1.0 } else { -1.0 };
        let side = if positive { &weights.positive } else { &weights.negative };
        let weight = side[if side.len() == 1 { 0 } else { column }];
        let (loss, slope) = point(curve, y * x);
        rows[row] += weight * loss;
        sums[row / shape.anchors] += weight * loss;
        gradient[idx] = weight * y * slope;
    }
    (sums, rows, gradient)
}

/// Numbers in [0, 1) that look random, the same ones every time.
pub(crate) fn uniform(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        })
        .collect()
}

/// Logits in [-12, 12], with the saturated ones strewn in, exactly representable in bf16.
pub(crate) fn logits(count: usize, seed: u64) -> Vec<f64> {
    let special = [0.0, 20.0, -20.0, 80.0, -80.0, 9984.0, -9984.0, -0.0];
    uniform(count, seed)
        .into_iter()
        .enumerate()
        .map(|(idx, u)| match idx % 11 {
            7 => special[(idx / 11) % special.len()],
            _ => half::bf16::from_f64(24.0 * u - 12.0).to_f64(),
        })
        .collect()
}

/// Foreground, ignored and background anchors mixed.
pub(crate) fn classes(rows: usize, num_classes: usize, seed: u64) -> Vec<i64> {
    uniform(rows, seed)
        .into_iter()
        .map(|u| match u {
            u if u < 0.2 => (u / 0.2 * num_classes as f64) as i64,
            u if u < 0.35 => IGNORE,
            _ => BACKGROUND,
        })
        .collect()
}

pub(crate) const CURVES: [Curve; 7] = [
    Curve::Focal { gamma: 0.0 },
    Curve::Focal { gamma: 0.5 },
    Curve::Focal { gamma: 1.0 },
    Curve::Focal { gamma: 2.0 },
    Curve::Focal { gamma: 5.0 },
    Curve::FocalStar { gamma: 2.0, beta: 1.0 },
    Curve::FocalStar { gamma: 4.0, beta: 0.0 },
];
