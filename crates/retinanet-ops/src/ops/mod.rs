//! The kernels as candle operations: thin adapters that check shapes, give kernels their memory, and keep what the
//! gradient needs.

mod add;
mod affine;
mod batch_norm;
mod conv2d;
mod group_norm;
mod pool;
pub(crate) mod tensors;
mod upsample;

pub use add::add;
pub use affine::channel_affine;
pub use batch_norm::{BatchStatistics, batch_norm};
pub use conv2d::{Conv2d, conv2d, conv2d_fused};
pub use group_norm::group_norm;
pub use pool::max_pool2d;
pub use upsample::upsample_nearest2d;
