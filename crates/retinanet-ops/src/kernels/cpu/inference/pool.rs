//! Max pooling of stored feature maps.

use super::super::Isa;
use super::super::isa::vectorized;
use super::super::pool::{exceeds, window};
use super::super::tasks::{SharedMut, for_each};
use super::codec::{Codec, with_codec};
use super::{Map, MapMut, Numbers, NumbersMut, Quantization, Storage};
use crate::kernels::PoolShape;
use std::ops::Range;

/// Channels worked on together: four of the widest vectors.
const BLOCK: usize = 64;

/// The maximum of each window and channel of one image; padding counts as minus infinity.
///
/// # Panics
/// The shape has several images, or a slice is shorter than its shape.
pub fn max_pool(isa: Isa, shape: &PoolShape, x: Map<'_>, y: MapMut<'_>) {
    let (mut x, mut y) = (x, y);
    if let (Storage::U8(from), Storage::U8(to)) = (x.storage, y.storage)
        && from == to
    {
        // Of equal scales the greater byte is the greater number, whatever the scale.
        let bytes = Storage::U8(Quantization { scale: 1.0, zero_point: 0 });
        (x.storage, y.storage) = (bytes, bytes);
    }
    let channels = shape.input().channels;
    let pitches = (x.storage.pixel_len(channels), y.storage.pixel_len(channels));
    with_codec!(Numbers, x, |from, x| with_codec!(NumbersMut, y, |to, y| run(isa, shape, pitches, (from, x), (to, y))));
}

fn run<X: Codec, Y: Codec>(
    isa: Isa,
    shape: &PoolShape,
    (x_pitch, y_pitch): (usize, usize),
    (from, x): (X, &[X::Stored]),
    (to, y): (Y, &mut [Y::Stored]),
) {
    let (input, output) = (shape.input(), shape.output());
    assert_eq!(input.batch, 1, "max pool: images");
    assert_eq!(x.len(), input.num_pixels() * x_pitch, "max pool: input");
    assert_eq!(y.len(), output.num_pixels() * y_pitch, "max pool: output");
    let row_len = output.width * y_pitch;
    let shared = SharedMut::new(y);
    for_each(output.height, |out_row| {
        // SAFETY: each task has its own row of output.
        let y = unsafe { shared.slice(out_row * row_len, row_len) };
        let rows = window(out_row, shape, input.height);
        pool_row(isa, shape, x_pitch, rows, from, x, to, y_pitch, y);
    });
}

vectorized! {
    /// One row of the output.
    fn pool_row[X: Codec, Y: Codec](
        shape: &PoolShape,
        x_pitch: usize,
        rows: Range<usize>,
        from: X,
        x: &[X::Stored],
        to: Y,
        y_pitch: usize,
        y: &mut [Y::Stored],
    ) {
        let (width, channels) = (shape.input().width, shape.input().channels);
        for (out_column, y) in y.chunks_exact_mut(y_pitch).enumerate() {
            let columns = window(out_column, shape, width);
            for first in (0..channels).step_by(BLOCK) {
                let count = BLOCK.min(channels - first);
                let mut max = [f32::NEG_INFINITY; BLOCK];
                for row in rows.clone() {
                    for column in columns.clone() {
                        let start = (row * width + column) * x_pitch + first;
                        for (max, &stored) in max.iter_mut().zip(&x[start..start + count]) {
                            let value = from.decode(stored);
                            *max = if exceeds(value, *max) { value } else { *max };
                        }
                    }
                }
                for (y, &max) in y[first..first + count].iter_mut().zip(&max) {
                    *y = to.encode(max);
                }
            }
            y[channels..].fill(to.encode(0.0));
        }
    }
}
