//! The larger operators of the interpreter.

use super::interpreter::{Kind, Tensor};

pub(crate) fn conv(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    pad: usize,
    groups: usize,
) -> Tensor {
    let ([images, channels, height, width], [outputs, inputs, kernel, _]) = (dims4(x), dims4(weight));
    assert_eq!(inputs * groups, channels);
    let size = |length: usize| (length + 2 * pad - kernel) / stride + 1;
    let (out_height, out_width) = (size(height), size(width));
    let mut values = Vec::with_capacity(images * outputs * out_height * out_width);
    for image in 0..images {
        for output in 0..outputs {
            let first = output / (outputs / groups) * inputs;
            let start = bias.map_or(0.0, |bias| bias.values[output]);
            for (row, column) in (0..out_height).flat_map(|row| (0..out_width).map(move |column| (row, column))) {
                let mut sum = start;
                for input in 0..inputs {
                    let map = &x.values[(image * channels + first + input) * height * width..][..height * width];
                    let taps = &weight.values[(output * inputs + input) * kernel * kernel..][..kernel * kernel];
                    for (tap, w) in taps.iter().enumerate() {
                        let (y, x) = (row * stride + tap / kernel, column * stride + tap % kernel);
                        if (pad..height + pad).contains(&y) && (pad..width + pad).contains(&x) {
                            sum += w * map[(y - pad) * width + x - pad];
                        }
                    }
                }
                values.push(sum);
            }
        }
    }
    Tensor::new(x.kind, &[images, outputs, out_height, out_width], values)
}

pub(crate) fn max_pool(x: &Tensor, kernel: usize, stride: usize, pad: usize) -> Tensor {
    let [images, channels, height, width] = dims4(x);
    let size = |length: usize| (length + 2 * pad - kernel) / stride + 1;
    let (out_height, out_width) = (size(height), size(width));
    let mut values = Vec::new();
    for map in x.values.chunks(height * width) {
        for (row, column) in (0..out_height).flat_map(|row| (0..out_width).map(move |column| (row, column))) {
            let window = |start: usize, length: usize| start.saturating_sub(pad)..(start + kernel - pad).min(length);
            let rows = window(row * stride, height);
            let cells = rows.flat_map(|y| window(column * stride, width).map(move |x| map[y * width + x]));
            values.push(cells.fold(f64::NEG_INFINITY, f64::max));
        }
    }
    Tensor::new(x.kind, &[images, channels, out_height, out_width], values)
}

pub(crate) fn nearest(x: &Tensor, sizes: &[i64]) -> Tensor {
    let [images, channels, height, width] = dims4(x);
    let (out_height, out_width) = (sizes[2] as usize, sizes[3] as usize);
    assert_eq!(sizes[..2], [images as i64, channels as i64]);
    let values = x.values.chunks(height * width).flat_map(|map| {
        let rows = (0..out_height).map(move |row| row * height / out_height);
        rows.flat_map(move |y| (0..out_width).map(move |column| map[y * width + column * width / out_width]))
    });
    Tensor::new(x.kind, &[images, channels, out_height, out_width], values.collect())
}

/// Mean 0 and variance 1 over each of the groups of channels, then a scale and a shift a channel.
pub(crate) fn normalised(x: &Tensor, scale: &Tensor, shift: &Tensor, groups: usize, epsilon: f64) -> Tensor {
    let (images, channels) = (x.shape[0], x.shape[1]);
    let pixels = x.values.len() / (images * channels);
    let mut values = Vec::with_capacity(x.values.len());
    for (group, of_group) in x.values.chunks(channels / groups * pixels).enumerate() {
        let count = of_group.len() as f64;
        let mean = of_group.iter().sum::<f64>() / count;
        let variance = of_group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        for (place, v) in of_group.iter().enumerate() {
            let channel = group % groups * (channels / groups) + place / pixels;
            values.push((v - mean) / (variance + epsilon).sqrt() * scale.values[channel] + shift.values[channel]);
        }
    }
    Tensor::new(x.kind, &x.shape, values)
}

/// Along the last axis, the largest first, the first of equal ones first.
pub(crate) fn top_k(x: &Tensor, k: usize) -> Vec<Tensor> {
    let length = *x.shape.last().expect("an axis");
    let best: Vec<usize> = x
        .values
        .chunks(length)
        .flat_map(|row| {
            let mut order: Vec<usize> = (0..length).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            assert!(k <= length, "the best {k} of {length}");
            order.truncate(k);
            order
        })
        .collect();
    let shape = [&x.shape[..x.shape.len() - 1], &[k]].concat();
    let values = best.iter().enumerate().map(|(i, &place)| x.values[i / k * length + place]).collect();
    let places = best.iter().map(|&place| place as f64).collect();
    vec![Tensor::new(x.kind, &shape, values), Tensor::new(Kind::I64, &shape, places)]
}

/// Rows of (image, class, box), in the order of images, classes and falling scores.
pub(crate) fn non_max_suppression(inputs: &[&Tensor]) -> Tensor {
    let [boxes, scores] = [0, 1].map(|i| inputs[i]);
    let (most, iou_threshold, score_threshold) =
        (inputs[2].values[0] as usize, inputs[3].values[0], inputs[4].values[0]);
    let [images, classes, count] = [0, 1, 2].map(|axis| scores.shape[axis]);
    let corners = |image: usize, at: usize| &boxes.values[(image * count + at) * 4..][..4];
    let overlap = |a: &[f64], b: &[f64]| {
        let area = |b: &[f64]| (b[2] - b[0]).max(0.0) * (b[3] - b[1]).max(0.0);
        let both = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
        if area(&both) > 0.0 { area(&both) / (area(a) + area(b) - area(&both)) } else { 0.0 }
    };
    let mut rows = Vec::new();
    for (image, class) in (0..images).flat_map(|image| (0..classes).map(move |class| (image, class))) {
        let row = &scores.values[(image * classes + class) * count..][..count];
        let mut order: Vec<usize> = (0..count).filter(|&at| row[at] > score_threshold).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let mut kept: Vec<usize> = Vec::new();
        for at in order {
            let is_free = |&other: &usize| overlap(corners(image, at), corners(image, other)) <= iou_threshold;
            if kept.len() < most && kept.iter().all(is_free) {
                kept.push(at);
            }
        }
        rows.extend(kept.iter().flat_map(|&at| [image as f64, class as f64, at as f64]));
    }
    Tensor::new(Kind::I64, &[rows.len() / 3, 3], rows)
}

fn dims4(x: &Tensor) -> [usize; 4] {
    x.shape.as_slice().try_into().expect("four axes")
}
