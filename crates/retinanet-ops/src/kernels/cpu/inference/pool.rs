//! Max pooling of stored feature maps.

use super::super::Isa;
use super::super::isa::vectorized;
use super::super::pool::{exceeds, window};
use super::super::tasks::{SharedMut, for_each};
use super::codec::{Codec, with_codec};
use super::{Map, MapMut, Numbers, NumbersMut, Storage};
use crate::kernels::PoolShape;
use std::ops::Range;

/// Channels worked on together: four of the widest vectors.
const BLOCK: usize = 64;

/// The maximum of each window and channel of one image; padding counts as minus infinity.
///
/// # Panics
/// The shape has several images, or a slice is shorter than its shape.
pub fn max_pool(isa: Isa, shape: &PoolShape, x: Map<'_>, y: MapMut<'_>) {
    let channels = shape.input().channels;
    let pitches = (x.storage.pixel_len(channels), y.storage.pixel_len(channels));
    match (x, y) {
        (
            Map { storage: Storage::U8(from), numbers: Numbers::U8(x) },
            MapMut { storage: Storage::U8(to), numbers: NumbersMut::U8(y) },
        ) if from == to => run(isa, shape, pitches, Bytes, x, y),
        (x, y) => with_codec!(Numbers, x, |from, x| with_codec!(NumbersMut, y, |to, y| {
            run(isa, shape, pitches, Decoded { from, to }, x, y)
        })),
    }
}

/// What numbers are compared as.
trait Ordering: Copy + Send + Sync {
    type Input: Copy + Send + Sync;
    type Output: Copy + Send + Sync;
    type Key: Copy;
    const LEAST: Self::Key;

    fn key(self, stored: Self::Input) -> Self::Key;

    fn max(a: Self::Key, b: Self::Key) -> Self::Key;

    fn output(self, key: Self::Key) -> Self::Output;

    fn padding(self) -> Self::Output;
}

/// As single precision.
#[derive(Clone, Copy)]
struct Decoded<X, Y> {
    from: X,
    to: Y,
}

impl<X: Codec, Y: Codec> Ordering for Decoded<X, Y> {
    type Input = X::Stored;
    type Output = Y::Stored;
    type Key = f32;
    const LEAST: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn key(self, stored: X::Stored) -> f32 {
        self.from.decode(stored)
    }

    #[inline(always)]
    fn max(a: f32, b: f32) -> f32 {
        if exceeds(b, a) { b } else { a }
    }

    #[inline(always)]
    fn output(self, key: f32) -> Y::Stored {
        self.to.encode(key)
    }

    #[inline(always)]
    fn padding(self) -> Y::Stored {
        self.to.encode(0.0)
    }
}

/// As they are: of equal scales the greater byte is the greater number.
#[derive(Clone, Copy)]
struct Bytes;

impl Ordering for Bytes {
    type Input = u8;
    type Output = u8;
    type Key = u8;
    const LEAST: u8 = 0;

    #[inline(always)]
    fn key(self, stored: u8) -> u8 {
        stored
    }

    #[inline(always)]
    fn max(a: u8, b: u8) -> u8 {
        a.max(b)
    }

    #[inline(always)]
    fn output(self, key: u8) -> u8 {
        key
    }

    #[inline(always)]
    fn padding(self) -> u8 {
        0
    }
}

fn run<O: Ordering>(
    isa: Isa,
    shape: &PoolShape,
    (x_pitch, y_pitch): (usize, usize),
    ordering: O,
    x: &[O::Input],
    y: &mut [O::Output],
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
        pool_row(isa, shape, window(out_row, shape, input.height), ordering, x_pitch, x, y_pitch, y);
    });
}

vectorized! {
    /// One row of the output.
    fn pool_row[O: Ordering](
        shape: &PoolShape,
        rows: Range<usize>,
        ordering: O,
        x_pitch: usize,
        x: &[O::Input],
        y_pitch: usize,
        y: &mut [O::Output],
    ) {
        let (width, channels) = (shape.input().width, shape.input().channels);
        for (out_column, y) in y.chunks_exact_mut(y_pitch).enumerate() {
            let columns = window(out_column, shape, width);
            for first in (0..channels).step_by(BLOCK) {
                let count = BLOCK.min(channels - first);
                let mut max = [O::LEAST; BLOCK];
                for row in rows.clone() {
                    for column in columns.clone() {
                        let start = (row * width + column) * x_pitch + first;
                        for (max, &stored) in max.iter_mut().zip(&x[start..start + count]) {
                            *max = O::max(*max, ordering.key(stored));
                        }
                    }
                }
                for (y, &max) in y[first..first + count].iter_mut().zip(&max) {
                    *y = ordering.output(max);
                }
            }
            y[channels..].fill(ordering.padding());
        }
    }
}
