//! Group norm behind a convolution, written in any storage.

use super::super::Isa;
use super::super::columns::{Columns, moments};
use super::super::isa::vectorized;
use super::super::tasks::{SharedMut, for_each};
use super::codec::{Codec, Single, with_codec};
use super::{Map, MapMut, Numbers, NumbersMut};
use crate::kernels::Activation;

/// Pixels of one task.
const CHUNK_PIXELS: usize = 64;

/// A group norm with its parameters.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    /// Groups of channels; it divides them.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// `[C]`.
    pub weight: Vec<f32>,
    /// `[C]`.
    pub bias: Vec<f32>,
    /// The last step.
    pub activation: Activation,
}

impl GroupNorm {
    fn columns(&self, pixels: usize) -> Columns {
        Columns { groups: 1, pixels, channels: self.weight.len() }
    }

    /// Workspace of [`Self::run`], in doubles.
    pub fn workspace_len(&self, pixels: usize) -> usize {
        let columns = self.columns(pixels);
        columns.workspace_len() + columns.sums_len()
    }

    /// `y = activation((x - mean) * inv_std * weight[c] + bias[c] + residual)` for one image, mean and variance (biased)
    /// over the pixels and channels of a group.
    ///
    /// # Shapes
    /// - `x`: `[pixels, C]`
    /// - `residual`, `y`: `[pixels, C]` with their storage's pitch
    /// - `coefficients`: `[2, C]`, overwritten
    /// - `workspace`: [`Self::workspace_len`]
    ///
    /// # Panics
    /// A slice does not fit its shape.
    pub fn run(
        &self,
        isa: Isa,
        x: &[f32],
        residual: Option<Map<'_>>,
        y: MapMut<'_>,
        coefficients: &mut [f32],
        workspace: &mut [f64],
    ) {
        let channels = self.weight.len();
        let pixels = x.len() / channels;
        self.coefficients(isa, x, coefficients, workspace);
        let y_pitch = y.storage.pixel_len(channels);
        let job = Job { channels, pixels, y_pitch, activation: self.activation };
        with_codec!(NumbersMut, y, |to, y| match residual {
            None => job.run::<Single, _>(isa, x, coefficients, None, (to, y)),
            Some(residual) => {
                let pitch = residual.storage.pixel_len(channels);
                with_codec!(Numbers, residual, |from, residual| {
                    assert_eq!(residual.len(), pixels * pitch, "group norm: residual");
                    job.run(isa, x, coefficients, Some((from, residual, pitch)), (to, y))
                })
            }
        });
    }

    /// Scale and shift of each channel.
    fn coefficients(&self, isa: Isa, x: &[f32], coefficients: &mut [f32], workspace: &mut [f64]) {
        let channels = self.weight.len();
        let columns = self.columns(x.len() / channels);
        let group_channels = channels / self.groups;
        let count = (columns.pixels * group_channels) as f64;
        let (sums, workspace) = workspace.split_at_mut(columns.sums_len());
        moments(isa, columns, x, sums, workspace);
        let (sum, square) = sums.split_at(channels);
        let (scale, shift) = coefficients.split_at_mut(channels);
        for group in 0..self.groups {
            let range = group * group_channels..(group + 1) * group_channels;
            let mean = sum[range.clone()].iter().sum::<f64>() / count;
            let variance = (square[range.clone()].iter().sum::<f64>() / count - mean * mean).max(0.0);
            let inv_std = 1.0 / (variance + self.epsilon).sqrt();
            for channel in range {
                let factor = f64::from(self.weight[channel]) * inv_std;
                scale[channel] = factor as f32;
                shift[channel] = (f64::from(self.bias[channel]) - mean * factor) as f32;
            }
        }
    }
}

struct Job {
    channels: usize,
    pixels: usize,
    y_pitch: usize,
    activation: Activation,
}

/// What is added: codec, numbers, and how many a pixel has.
type Residual<'a, R> = Option<(R, &'a [<R as Codec>::Stored], usize)>;

impl Job {
    fn run<R: Codec, Y: Codec>(
        &self,
        isa: Isa,
        x: &[f32],
        coefficients: &[f32],
        residual: Residual<'_, R>,
        (to, y): (Y, &mut [Y::Stored]),
    ) {
        let Self { channels, pixels, y_pitch, activation } = *self;
        assert_eq!(y.len(), pixels * y_pitch, "group norm: output");
        let shared = SharedMut::new(y);
        for_each(pixels.div_ceil(CHUNK_PIXELS), |task_idx| {
            let first = task_idx * CHUNK_PIXELS;
            let count = CHUNK_PIXELS.min(pixels - first);
            // SAFETY: each task has its own pixels.
            let y = unsafe { shared.slice(first * y_pitch, count * y_pitch) };
            let residual = residual.map(|(from, numbers, pitch)| (from, &numbers[first * pitch..], pitch));
            norm_pixels(isa, channels, &x[first * channels..], coefficients, residual, activation, to, y_pitch, y);
        });
    }
}

vectorized! {
    fn norm_pixels[R: Codec, Y: Codec](
        channels: usize,
        x: &[f32],
        coefficients: &[f32],
        residual: Residual<'_, R>,
        activation: Activation,
        to: Y,
        y_pitch: usize,
        y: &mut [Y::Stored],
    ) {
        let floor = if activation == Activation::Relu { 0.0 } else { f32::NEG_INFINITY };
        let (scale, shift) = coefficients.split_at(channels);
        let shift = &shift[..channels];
        for (pixel, y) in y.chunks_exact_mut(y_pitch).enumerate() {
            let x = &x[pixel * channels..][..channels];
            let (y, padding) = y.split_at_mut(channels);
            if let Some((from, residual, pitch)) = residual {
                let residual = &residual[pixel * pitch..][..channels];
                for channel in 0..channels {
                    let value = x[channel] * scale[channel] + shift[channel] + from.decode(residual[channel]);
                    y[channel] = to.encode(if value < floor { floor } else { value });
                }
            } else {
                for channel in 0..channels {
                    let value = x[channel] * scale[channel] + shift[channel];
                    y[channel] = to.encode(if value < floor { floor } else { value });
                }
            }
            padding.fill(to.encode(0.0));
        }
    }
}
