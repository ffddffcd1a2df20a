//! Convolutions prepared for inference: the algorithm chosen by shape, the weights packed once, and one call over all the
//! feature maps that share them, whatever their sizes.

mod conv;
mod storage;

pub use conv::{CellSize, ConvSpec, Plane, PreparedConv};
pub use storage::{Numbers, NumbersMut, Precision, Quantization, Storage};
