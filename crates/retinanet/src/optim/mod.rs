//! Optimisers, schedules and gradient clipping.

mod clip;
mod gradients;
mod optimizer;
mod schedule;

pub use clip::{clip_gradients, gradient_norm};
pub use gradients::ParameterGradients;
pub use optimizer::{Optimizer, OptimizerConfig};
pub use schedule::{Decay, Schedule, Warmup};
