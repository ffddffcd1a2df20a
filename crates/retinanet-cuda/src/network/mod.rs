//! Described networks on a device: [`Inference`] with its [`Detections`], [`Training`] with its [`Losses`] and [`Optimizer`].
//!
//! Both execute the [schedule](retinanet_ops::network::schedule) that the processor's engine has: the same steps, the same
//! lifetimes, the same reverse pass. Feature maps are channels-last in one [`Element`](crate::Element); parameters, their
//! gradients and the statistics of norms are f32 or f64.

mod convolve;
mod detections;
mod inference;
mod losses;
mod optimizer;
mod output;
mod prepared;
mod reverse;
mod running;
mod slots;
mod steps;
mod tensors;
mod training;
mod weights;

pub use detections::Detections;
pub use inference::Inference;
pub use losses::{LossOptions, Losses, Objects};
pub use optimizer::{Optimizer, UpdateNumbers};
pub use output::Output;
pub use tensors::Tensors;
pub use training::{Training, TrainingOptions};

/// Gives the values of a parameter by its name.
pub type Parameter<'a> = dyn Fn(&str) -> crate::Result<Vec<f32>> + 'a;
