//! The detector's kernels for NVIDIA GPUs, and the engines that run described networks with them.
//!
//! A [`Device`] is memory and work on it in one order: copies, launches of the kernels in `kernels/*.cu`, convolutions.
//! Everything above it is written once and runs on any device.
//!
//! ```
//! use retinanet_cuda::{Device, Element, Gpu, GpuOptions, Memory, Twin, kernels};
//! use std::sync::Arc;
//!
//! // The first GPU, or, where there is none, the same kernels on the processor.
//! let device: Arc<dyn Device> = match Gpu::open(GpuOptions::default()) {
//!     Ok(gpu) => Arc::new(gpu),
//!     Err(_) => Arc::new(Twin::new()?),
//! };
//! let x = Memory::of(&device, &[-1f32, 2.0].map(f32::to_ne_bytes).concat())?;
//! kernels::relu(Element::F32, 2, x.span(), x.span())?;
//! let mut bytes = [0; 8];
//! x.span().read(&mut bytes)?;
//! assert_eq!(bytes[..], [0f32, 2.0].map(f32::to_ne_bytes).concat());
//! # Ok::<(), retinanet_cuda::Error>(())
//! ```

mod bytes;
mod device;
mod error;
mod gpu;
pub mod kernels;
pub mod network;
mod twin;

pub use device::{
    Activation, Address, Argument, Convolution, Device, Element, Fetch, Fetching, Launch, Memory, Pass, Recording,
    Source, Span,
};
pub use error::{Error, Result};
pub use gpu::{Gpu, GpuOptions};
pub use twin::Twin;
