//! Kernels of a training step over stored feature maps: convolutions with weights that change from step to step, and their
//! gradients, written where they are wanted: joined to what is there, and cut where a ReLU lets nothing pass.

mod conv;
mod elementwise;
mod maps;
mod numbers;
mod workspace;

pub use conv::{Forward, InputGradient, WeightGradient, forward, input_gradient, weight_gradient};
pub use elementwise::{accumulate, channel_sums, convert, gate, relu, relu_gradient};
pub use maps::{max_pool, max_pool_gradient, upsample_add, upsample_gradient};
pub use workspace::Workspace;
