//! The 8-bit network in f32: the same rounding, none of the speed.

use super::engine::{WatchedEngine, Watcher, round_to_bytes};
use super::values::Values;
use crate::error::Result;
use crate::model::{Model, Predictions};
use candle_core::Tensor;
use retinanet_ops::kernels::cpu::inference::Quantization;
use retinanet_ops::network::QuantizationTable;

/// Rounds every value that a plan would store in 8 bits.
struct Rounder {
    storages: Vec<Option<Quantization>>,
}

impl Watcher for Rounder {
    fn value(&mut self, value_idx: usize, tensor: Tensor) -> candle_core::Result<Tensor> {
        match self.storages[value_idx] {
            Some(quantization) => round_to_bytes(&tensor, quantization),
            None => Ok(tensor),
        }
    }
}

/// Predictions of a model whose weights the table's integers stand for, activations rounded as in 8 bits.
///
/// # Errors
/// The images have another shape.
pub(crate) fn predict_simulated(model: &Model, table: &QuantizationTable, images: &Tensor) -> Result<Predictions> {
    let mut rounder = Rounder { storages: Values::new(&model.network)?.storages(table) };
    let mut engine = WatchedEngine::new(&model.parameters, &mut rounder);
    let images = engine.images(images.clone())?;
    let output = model.network.forward(&mut engine, &images)?;
    Ok(model.network.predictions(output)?)
}
