//! Optimisers, schedules and gradient clipping.

mod clip;
mod gradients;
mod optimizer;
mod rates;
mod schedule;

pub use clip::{clip_gradients, gradient_norm, gradient_norms};
pub use gradients::ParameterGradients;
pub use optimizer::{Optimizer, OptimizerConfig};
pub use rates::RateFactors;
pub use schedule::{Decay, Schedule, Warmup};
