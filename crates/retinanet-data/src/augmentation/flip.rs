//! Mirroring.

use crate::Sample;
use crate::mirror::mirror_rows;

/// Mirrors left to right, boxes too.
pub fn flip_horizontal(sample: &mut Sample) {
    let size = sample.image.size;
    mirror_rows(&mut sample.image.pixels, size.width);
    for bbox in &mut sample.boxes {
        *bbox = bbox.flip_horizontal(size.width as f32);
    }
}

/// Mirrors top to bottom, boxes too.
pub fn flip_vertical(sample: &mut Sample) {
    let size = sample.image.size;
    let row_len = 3 * size.width;
    let (upper, lower) = sample.image.pixels.split_at_mut(size.height / 2 * row_len);
    if row_len > 0 {
        let lower = lower.chunks_exact_mut(row_len).rev();
        for (a, b) in upper.chunks_exact_mut(row_len).zip(lower) {
            a.swap_with_slice(b);
        }
    }
    for bbox in &mut sample.boxes {
        *bbox = bbox.flip_vertical(size.height as f32);
    }
}
