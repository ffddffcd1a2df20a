//! Detectors as other toolkits have them.

mod torchvision;

pub use torchvision::{TorchvisionModel, to_torchvision};
