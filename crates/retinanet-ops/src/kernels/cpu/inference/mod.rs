//! Kernels of inference: convolutions prepared for it (the algorithm chosen by shape, the weights packed once, one call
//! over all the feature maps that share them, whatever their sizes), and what lies between convolutions, in every storage.

pub(super) mod codec;
mod conv;
mod convert;
mod direct;
mod group_norm;
mod lines;
mod pool;
mod storage;
mod upsample;

pub use codec::{Map, MapMut};
pub use conv::{CellSize, ConvSpec, Plane, PreparedConv, Residual, Runs};
pub use convert::convert;
pub use group_norm::GroupNorm;
pub(crate) use lines::{Lines, Plain};
pub use pool::max_pool;
pub use storage::{Numbers, NumbersMut, Precision, Quantization, Storage};
pub use upsample::upsample_add;
