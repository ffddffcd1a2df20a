//! Detectors as other toolkits have them.

mod onnx;
mod torchvision;

pub use onnx::{OnnxFile, OnnxInput, OnnxOptions, OnnxValue};
pub use torchvision::{TorchvisionModel, to_torchvision};
