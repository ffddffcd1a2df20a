//! Channels as columns of a matrix of pixels: sums over pixels, in double precision and in an order that depends on the
//! shape alone, and the linear functions that norms come down to.

use super::isa::vectorized;
use super::tasks::{SharedMut, for_each};
use super::{Element, Isa, Storable};
use crate::kernels::Activation;

/// Pixels of one task.
const CHUNK_PIXELS: usize = 256;
/// Channels worked on together: their sums and coefficients stay in the first-level cache, and few enough passes are
/// made that memory is read in order.
const BLOCK: usize = 256;

/// Pixels and channels; coefficients and sums are per group of pixels (an image, or all of them).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) groups: usize,
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
}

impl Columns {
    fn chunks(&self) -> usize {
        self.pixels.div_ceil(CHUNK_PIXELS)
    }

    /// Numbers of the two rows of sums: `[groups, 2, channels]`.
    pub(crate) fn sums_len(&self) -> usize {
        self.groups * 2 * self.channels
    }

    /// Workspace of [`moments`] and [`gradient_sums`].
    pub(crate) fn workspace_len(&self) -> usize {
        self.chunks() * self.sums_len()
    }

    /// The places of a chunk's numbers.
    fn range(&self, group: usize, chunk: usize) -> std::ops::Range<usize> {
        let start = group * self.pixels + chunk * CHUNK_PIXELS;
        let end = (group * self.pixels + self.pixels).min(start + CHUNK_PIXELS);
        start * self.channels..end * self.channels
    }

    /// Runs `sum(group, chunk, first, second)` for every chunk and adds the results in order.
    fn sum(
        &self,
        sums: &mut [f64],
        workspace: &mut [f64],
        sum: impl Fn(std::ops::Range<usize>, &mut [f64], &mut [f64]) + Send + Sync,
    ) {
        let (chunks, channels) = (self.chunks(), self.channels);
        let partials = &mut workspace[..self.workspace_len()];
        let shared = SharedMut::new(partials);
        for_each(self.groups * chunks, |task_idx| {
            // SAFETY: each task has its own pair of rows.
            let partial = unsafe { shared.slice(task_idx * 2 * channels, 2 * channels) };
            let (first, second) = partial.split_at_mut(channels);
            sum(self.range(task_idx / chunks, task_idx % chunks), first, second);
        });
        for group in 0..self.groups {
            let sums = &mut sums[group * 2 * channels..(group + 1) * 2 * channels];
            sums.fill(0.0);
            for chunk in 0..chunks {
                let start = (group * chunks + chunk) * 2 * channels;
                for (sum, &partial) in sums.iter_mut().zip(&partials[start..start + 2 * channels]) {
                    *sum += partial;
                }
            }
        }
    }
}

/// `sums[group] = (sum x, sum x^2)` for each channel.
pub(crate) fn moments<T: Storable>(isa: Isa, columns: Columns, x: &[T], sums: &mut [f64], workspace: &mut [f64]) {
    columns.sum(sums, workspace, |range, first, second| {
        sum_products(isa, columns.channels, &x[range.clone()], None, &x[range], first, second);
    });
}

/// `sums[group] = (sum g, sum g x)` for each channel, g being the gradient where the output is positive.
pub(crate) fn gradient_sums<T: Storable>(
    isa: Isa,
    columns: Columns,
    y_gradient: &[T],
    relu_output: Option<&[T]>,
    x: &[T],
    sums: &mut [f64],
    workspace: &mut [f64],
) {
    columns.sum(sums, workspace, |range, first, second| {
        let relu_output = relu_output.map(|output| &output[range.clone()]);
        sum_products(isa, columns.channels, &y_gradient[range.clone()], relu_output, &x[range], first, second);
    });
}

vectorized! {
    /// `first = sum g`, `second = sum g x` over pixels.
    fn sum_products[T: Storable](
        channels: usize,
        gradient: &[T],
        relu_output: Option<&[T]>,
        x: &[T],
        first: &mut [f64],
        second: &mut [f64],
    ) {
        for channel in (0..channels).step_by(BLOCK) {
            let count = BLOCK.min(channels - channel);
            let (mut sums, mut products) = ([0.0f64; BLOCK], [0.0f64; BLOCK]);
            for start in (channel..x.len()).step_by(channels) {
                let range = start..start + count;
                let rows = (&gradient[range.clone()], &x[range.clone()]);
                let sums = sums[..count].iter_mut().zip(&mut products[..count]);
                match relu_output {
                    None => {
                        for (((sum, product), &g), &x) in sums.zip(rows.0).zip(rows.1) {
                            let g = g.load().to_f64();
                            *sum += g;
                            *product += g * x.load().to_f64();
                        }
                    }
                    Some(output) => {
                        for ((((sum, product), &g), &x), &y) in sums.zip(rows.0).zip(rows.1).zip(&output[range]) {
                            let g = if y.load() > T::Float::ZERO { g.load().to_f64() } else { 0.0 };
                            *sum += g;
                            *product += g * x.load().to_f64();
                        }
                    }
                }
            }
            first[channel..channel + count].copy_from_slice(&sums[..count]);
            second[channel..channel + count].copy_from_slice(&products[..count]);
        }
    }
}

/// `y = act(a x + b + residual)`, `coefficients` being `[groups, 2, channels]`.
pub(crate) fn linear<T: Storable>(
    isa: Isa,
    columns: Columns,
    x: &[T],
    coefficients: &[f64],
    residual: Option<&[T]>,
    activation: Activation,
    y: &mut [T],
) {
    let (chunks, channels) = (columns.chunks(), columns.channels);
    let shared = SharedMut::new(y);
    for_each(columns.groups * chunks, |task_idx| {
        let (group, range) = (task_idx / chunks, columns.range(task_idx / chunks, task_idx % chunks));
        // SAFETY: each task has its own pixels.
        let y = unsafe { shared.slice(range.start, range.len()) };
        let coefficients = &coefficients[group * 2 * channels..][..2 * channels];
        let residual = residual.map(|residual| &residual[range.clone()]);
        linear_chunk(isa, channels, &x[range], coefficients, residual, activation, y);
    });
}

vectorized! {
    fn linear_chunk[T: Storable](
        channels: usize,
        x: &[T],
        coefficients: &[f64],
        residual: Option<&[T]>,
        activation: Activation,
        y: &mut [T],
    ) {
        let (scale, shift) = coefficients.split_at(channels);
        for channel in (0..channels).step_by(BLOCK) {
            let count = BLOCK.min(channels - channel);
            let (scale, shift) = (block::<T::Float>(scale, channel, count), block::<T::Float>(shift, channel, count));
            for start in (channel..x.len()).step_by(channels) {
                let range = start..start + count;
                let terms = y[range.clone()].iter_mut().zip(&x[range.clone()]).zip(&scale).zip(&shift);
                match (residual, activation) {
                    (None, Activation::None) => {
                        for (((y, &x), &scale), &shift) in terms {
                            *y = T::nearest(x.load() * scale + shift);
                        }
                    }
                    (None, Activation::Relu) => {
                        for (((y, &x), &scale), &shift) in terms {
                            *y = T::nearest((x.load() * scale + shift).relu());
                        }
                    }
                    (Some(residual), Activation::None) => {
                        for ((((y, &x), &scale), &shift), &residual) in terms.zip(&residual[range]) {
                            *y = T::nearest(x.load() * scale + shift + residual.load());
                        }
                    }
                    (Some(residual), Activation::Relu) => {
                        for ((((y, &x), &scale), &shift), &residual) in terms.zip(&residual[range]) {
                            *y = T::nearest((x.load() * scale + shift + residual.load()).relu());
                        }
                    }
                }
            }
        }
    }
}

/// `x_gradient = p g + q x + r`, g being the gradient where the output is positive; `coefficients` is
/// `[groups, 3, channels]`. Without `y_gradient`, `x_gradient` holds it.
pub(crate) fn linear_gradient<T: Storable>(
    isa: Isa,
    columns: Columns,
    y_gradient: Option<&[T]>,
    relu_output: Option<&[T]>,
    x: &[T],
    coefficients: &[f64],
    x_gradient: &mut [T],
) {
    let (chunks, channels) = (columns.chunks(), columns.channels);
    let shared = SharedMut::new(x_gradient);
    for_each(columns.groups * chunks, |task_idx| {
        let (group, range) = (task_idx / chunks, columns.range(task_idx / chunks, task_idx % chunks));
        // SAFETY: each task has its own pixels.
        let out = unsafe { shared.slice(range.start, range.len()) };
        let coefficients = &coefficients[group * 3 * channels..][..3 * channels];
        let y_gradient = y_gradient.map(|gradient| &gradient[range.clone()]);
        let relu_output = relu_output.map(|output| &output[range.clone()]);
        gradient_chunk(isa, channels, y_gradient, relu_output, &x[range], coefficients, out);
    });
}

vectorized! {
    fn gradient_chunk[T: Storable](
        channels: usize,
        gradient: Option<&[T]>,
        relu_output: Option<&[T]>,
        x: &[T],
        coefficients: &[f64],
        out: &mut [T],
    ) {
        let (p, rest) = coefficients.split_at(channels);
        let (q, r) = rest.split_at(channels);
        for channel in (0..channels).step_by(BLOCK) {
            let count = BLOCK.min(channels - channel);
            let [p, q, r] = [p, q, r].map(|numbers| block::<T::Float>(numbers, channel, count));
            for start in (channel..x.len()).step_by(channels) {
                let range = start..start + count;
                if let Some(gradient) = gradient {
                    out[range.clone()].copy_from_slice(&gradient[range.clone()]);
                }
                let coefficients = p.iter().zip(&q).zip(&r);
                let rows = out[range.clone()].iter_mut().zip(&x[range.clone()]).zip(coefficients);
                match relu_output {
                    None => {
                        for ((out, &x), ((&p, &q), &r)) in rows {
                            *out = T::nearest(p * out.load() + (q * x.load() + r));
                        }
                    }
                    Some(output) => {
                        for (((out, &x), ((&p, &q), &r)), &y) in rows.zip(&output[range]) {
                            let g = if y.load() > T::Float::ZERO { out.load() } else { T::Float::ZERO };
                            *out = T::nearest(p * g + (q * x.load() + r));
                        }
                    }
                }
            }
        }
    }
}

/// The coefficients of a block of channels, rounded to the type of the activations.
#[inline(always)]
fn block<T: Element>(coefficients: &[f64], channel: usize, count: usize) -> [T; BLOCK] {
    let mut block = [T::ZERO; BLOCK];
    for (out, &value) in block.iter_mut().zip(&coefficients[channel..channel + count]) {
        *out = T::from_f64(value);
    }
    block
}
