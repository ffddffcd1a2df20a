//! 8-bit integers after training: what to scale by, found by looking at pictures.

mod calibrate;
mod engine;
mod histogram;
mod simulate;
mod values;

use crate::error::Result;
use crate::model::Network;
use retinanet_ops::network::QuantizationTable;
use values::Values;

pub use calibrate::{Pass, QuantizeOptions, Quantized, QuantizedLayerReport, quantize};
pub use histogram::Clipping;
pub(crate) use simulate::predict_simulated;

/// Whether a table is one of this network; the inner error says what is not.
pub(crate) fn check(network: &Network, table: &QuantizationTable) -> Result<std::result::Result<(), String>> {
    Ok(Values::new(network)?.check(table))
}
