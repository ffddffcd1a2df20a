//! The typed description of a network's layers, and what executes it.
//!
//! A network is described once, as plain structs of [`ConvLayer`]s with the names of their parameters, and its `forward`
//! is written once, over an [`Engine`]. An engine decides what a value is and what a layer does with it: [`TrainingEngine`]
//! runs candle tensors and keeps the graph for the gradients, [`InferenceEngine`] runs them with everything fused and no
//! graph, [`plan::Recorder`] writes down the steps of a [`plan::Plan`], for inference, or of a [`training::TrainingSession`],
//! which have their own memory.

mod engine;
mod layer;
mod parameters;
pub mod plan;
mod quantization;
pub mod schedule;
pub mod training;

pub use engine::{Engine, InferenceEngine, TrainingEngine};
pub use layer::{ConvLayer, Initialization, NormKind, ParameterKind, ParameterSpec};
pub use parameters::Parameters;
pub use quantization::{
    MAX_WEIGHT, QuantizationTable, QuantizedLayer, QuantizedWeight, dequantize_weight, quantize_weight,
};
