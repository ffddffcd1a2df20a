//! From one storage to another, and activations on their own.

use super::super::Isa;
use super::super::isa::vectorized;
use super::super::tasks::{SharedMut, for_each};
use super::codec::{Codec, with_codec};
use super::{Map, MapMut, Numbers, NumbersMut};
use crate::kernels::Activation;

/// Pixels of one task.
const CHUNK_PIXELS: usize = 256;

/// `y = activation(x)`, each stored in its own way; what pads the pixels of `y` becomes 0.
///
/// # Panics
/// The two have different numbers of pixels.
pub fn convert(isa: Isa, channels: usize, activation: Activation, x: Map<'_>, y: MapMut<'_>) {
    let (x_pitch, y_pitch) = (x.storage.pixel_len(channels), y.storage.pixel_len(channels));
    with_codec!(Numbers, x, |from, x| with_codec!(NumbersMut, y, |to, y| {
        Job { channels, x_pitch, y_pitch, activation }.run(isa, (from, x), (to, y));
    }));
}

struct Job {
    channels: usize,
    x_pitch: usize,
    y_pitch: usize,
    activation: Activation,
}

impl Job {
    fn run<X: Codec, Y: Codec>(&self, isa: Isa, (from, x): (X, &[X::Stored]), (to, y): (Y, &mut [Y::Stored])) {
        let Self { channels, x_pitch, y_pitch, activation } = *self;
        let pixels = y.len() / y_pitch;
        assert!(x.len() == pixels * x_pitch && y.len() == pixels * y_pitch, "conversion: input and output");
        let shared = SharedMut::new(y);
        for_each(pixels.div_ceil(CHUNK_PIXELS), |task_idx| {
            let first = task_idx * CHUNK_PIXELS;
            let count = CHUNK_PIXELS.min(pixels - first);
            // SAFETY: each task has its own pixels.
            let y = unsafe { shared.slice(first * y_pitch, count * y_pitch) };
            let x = &x[first * x_pitch..][..count * x_pitch];
            convert_pixels(isa, channels, activation, from, x_pitch, x, to, y_pitch, y);
        });
    }
}

vectorized! {
    fn convert_pixels[X: Codec, Y: Codec](
        channels: usize,
        activation: Activation,
        from: X,
        x_pitch: usize,
        x: &[X::Stored],
        to: Y,
        y_pitch: usize,
        y: &mut [Y::Stored],
    ) {
        let floor = if activation == Activation::Relu { 0.0 } else { f32::NEG_INFINITY };
        if x_pitch == channels && y_pitch == channels {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = convert_number(from, x, floor, to);
            }
            return;
        }
        for (y, x) in y.chunks_exact_mut(y_pitch).zip(x.chunks_exact(x_pitch)) {
            let (y, padding) = y.split_at_mut(channels);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = convert_number(from, x, floor, to);
            }
            padding.fill(to.encode(0.0));
        }
    }
}

/// What is not below the floor, NaN with it, stays.
#[inline(always)]
fn convert_number<X: Codec, Y: Codec>(from: X, stored: X::Stored, floor: f32, to: Y) -> Y::Stored {
    let value = from.decode(stored);
    to.encode(if value < floor { floor } else { value })
}
