//! The kernels on a processor: vectorised for the instruction set given by [`Isa`], in parallel over rayon's threads.
//!
//! Every result is the same, bit for bit, for any number of threads: work is divided by shape alone, and what several
//! tasks add up is added in a fixed order.

mod affine;
mod batch_norm;
mod columns;
mod conv;
mod element;
mod elementwise;
mod group_norm;
pub mod inference;
mod isa;
mod pool;
mod products;
mod stored;
mod tasks;
pub mod training;
mod upsample;
mod vector;
mod winograd;

pub use affine::{channel_affine, channel_affine_gradient, channel_affine_workspace_len};
pub use batch_norm::{batch_norm, batch_norm_gradient, batch_norm_statistics, batch_norm_workspace_len};
pub use conv::{
    Epilogue, conv2d, conv2d_input_gradient, conv2d_input_gradient_workspace_len, conv2d_weight_gradient,
    conv2d_weight_gradient_workspace_len, conv2d_workspace_len, pack_weights, pack_weights_for_input_gradient,
    packed_weights_for_input_gradient_len, packed_weights_len,
};
pub use element::{Element, Storable};
pub use elementwise::{add, relu_gradient};
pub use group_norm::{group_norm, group_norm_gradient, group_norm_workspace_len};
pub use isa::Isa;
pub use pool::{max_pool2d, max_pool2d_gradient};
pub use upsample::{upsample_nearest2d, upsample_nearest2d_gradient};
