//! The detector's kernels for NVIDIA GPUs, and the engines that run described networks with them.
//!
//! A [`Device`] is memory and work on it in one order: copies, launches of the kernels in `kernels/*.cu`, convolutions.
//! Everything above it is written once and runs on any device.

mod bytes;
mod device;
mod error;
mod gpu;
pub mod kernels;
pub mod network;
mod twin;

pub use device::{
    Activation, Address, Argument, Convolution, Device, Element, Launch, Memory, Pass, Recording, Source, Span,
};
pub use error::{Error, Result};
pub use gpu::{Gpu, GpuOptions};
pub use twin::Twin;
