//! The plain engine with its values numbered, so that each can be looked at or changed.

use candle_core::{Result, Tensor};
use rayon::prelude::*;
use retinanet_ops::kernels::cpu::inference::Quantization;
use retinanet_ops::network::{ConvLayer, Engine, InferenceEngine, Parameters};

/// Numbers of one task.
const CHUNK: usize = 1 << 14;

/// What happens to the values of a network while it runs.
pub(super) trait Watcher {
    /// A value was made, the `value_idx`-th as [`Values`](super::values::Values) counts; what is returned stands in its place.
    fn value(&mut self, value_idx: usize, tensor: Tensor) -> Result<Tensor>;

    /// A convolution ran. Called before [`value`](Self::value) for its output.
    fn conv(&mut self, _: &ConvLayer, _x: &Tensor, _residual: Option<&Tensor>, _y: &Tensor) -> Result<()> {
        Ok(())
    }
}

/// Runs f32 tensors as [`InferenceEngine`] does, under the eyes of a watcher.
pub(super) struct WatchedEngine<'a, W> {
    inner: InferenceEngine<'a>,
    watcher: &'a mut W,
    num_values: usize,
}

impl<'a, W: Watcher> WatchedEngine<'a, W> {
    pub(super) fn new(parameters: &'a Parameters, watcher: &'a mut W) -> Self {
        Self { inner: InferenceEngine::new(parameters), watcher, num_values: 0 }
    }

    /// The images: value 0, and the first to be made.
    pub(super) fn images(&mut self, images: Tensor) -> Result<Tensor> {
        self.value(images)
    }

    fn value(&mut self, tensor: Tensor) -> Result<Tensor> {
        let value_idx = self.num_values;
        self.num_values += 1;
        self.watcher.value(value_idx, tensor)
    }
}

impl<W: Watcher> Engine for WatchedEngine<'_, W> {
    type Value = Tensor;

    fn conv(&mut self, layer: &ConvLayer, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let y = self.inner.conv(layer, x, residual)?;
        self.watcher.conv(layer, x, residual, &y)?;
        self.value(y)
    }

    fn max_pool(&mut self, x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
        let y = self.inner.max_pool(x, kernel, stride, padding)?;
        self.value(y)
    }

    fn upsample_add(&mut self, coarse: &Tensor, fine: &Tensor) -> Result<Tensor> {
        let y = self.inner.upsample_add(coarse, fine)?;
        self.value(y)
    }

    fn relu(&mut self, x: &Tensor) -> Result<Tensor> {
        let y = self.inner.relu(x)?;
        self.value(y)
    }
}

/// The numbers that remain of these when they are stored in 8 bits.
pub(super) fn round_to_bytes(x: &Tensor, quantization: Quantization) -> Result<Tensor> {
    let mut numbers = x.flatten_all()?.to_vec1::<f32>()?;
    numbers.par_chunks_mut(CHUNK).for_each(|chunk| {
        for number in chunk {
            *number = quantization.dequantize(quantization.quantize(*number));
        }
    });
    Tensor::from_vec(numbers, x.dims(), x.device())
}
