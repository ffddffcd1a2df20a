//! From one storage to another, and activations on their own.

use super::super::Isa;
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
        let job = Job { channels, x_pitch, y_pitch };
        match activation {
            Activation::None => job.run(isa, |value| value, (from, x), (to, y)),
            Activation::Relu => job.run(isa, |value| if value < 0.0 { 0.0 } else { value }, (from, x), (to, y)),
        }
    }));
}

struct Job {
    channels: usize,
    x_pitch: usize,
    y_pitch: usize,
}

impl Job {
    fn run<X: Codec, Y: Codec>(
        &self,
        isa: Isa,
        activation: impl Fn(f32) -> f32 + Sync + Send,
        (from, x): (X, &[X::Stored]),
        (to, y): (Y, &mut [Y::Stored]),
    ) {
        let Self { channels, x_pitch, y_pitch } = *self;
        let pixels = y.len() / y_pitch;
        assert!(x.len() == pixels * x_pitch && y.len() == pixels * y_pitch, "conversion: input and output");
        let shared = SharedMut::new(y);
        for_each(pixels.div_ceil(CHUNK_PIXELS), |task_idx| {
            let first = task_idx * CHUNK_PIXELS;
            let count = CHUNK_PIXELS.min(pixels - first);
            // SAFETY: each task has its own pixels.
            let y = unsafe { shared.slice(first * y_pitch, count * y_pitch) };
            let x = &x[first * x_pitch..][..count * x_pitch];
            isa.run(|| {
                if x_pitch == channels && y_pitch == channels {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = to.encode(activation(from.decode(x)));
                    }
                    return;
                }
                for (y, x) in y.chunks_exact_mut(y_pitch).zip(x.chunks_exact(x_pitch)) {
                    let (y, padding) = y.split_at_mut(channels);
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = to.encode(activation(from.decode(x)));
                    }
                    padding.fill(to.encode(0.0));
                }
            });
        });
    }
}
