//! Channels-last tensor operations with gradients that candle lacks or does slowly: as slice kernels ([`kernels`]) and as
//! candle operations (the functions below).
//!
//! Activations are `[N, H, W, C]`, weights keep torch's order, `[Cout, Cin / groups, kh, kw]`. Every operation works in
//! f32 and f64, takes tensors of any strides, and gives the same bits for any number of threads.
//!
//! ```
//! use candle_core::{DType, Device, Tensor, Var};
//! use retinanet_ops::{Activation, Conv2d, conv2d};
//!
//! # fn main() -> candle_core::Result<()> {
//! let image = Tensor::ones((1, 4, 4, 2), DType::F32, &Device::Cpu)?;
//! let weight = Var::ones((1, 2, 3, 3), DType::F32, &Device::Cpu)?;
//! let conv = Conv2d { stride: 1, padding: 1, groups: 1 };
//! let y = conv2d(&image, weight.as_tensor(), None, conv, Activation::Relu)?;
//! assert_eq!(y.get(0)?.get(1)?.get(1)?.to_vec1::<f32>()?, [18.0]); // nine taps of two channels
//! assert_eq!(y.get(0)?.get(0)?.get(0)?.to_vec1::<f32>()?, [8.0]); // four of the taps lie on the image
//! let gradients = y.sum_all()?.backward()?;
//! assert_eq!(gradients.get(&weight).unwrap().dims(), [1, 2, 3, 3]);
//! # Ok(())
//! # }
//! ```

pub mod kernels;
pub mod network;
mod ops;

pub use kernels::Activation;
pub use ops::{
    BatchStatistics, Conv2d, add, batch_norm, channel_affine, conv2d, conv2d_fused, group_norm, max_pool2d,
    upsample_nearest2d,
};
