//! The focal loss family on candle tensors: value and analytic gradient in one pass.
//!
//! An anchor's target is one number, its class, [`BACKGROUND`] or [`IGNORE`]; no one-hot tensor is ever made. Logits
//! stay logits, and each pyramid level is evaluated where it lies:
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use retinanet_focal::ClassLoss;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // One image, one anchor of class 0, two classes, p = 1/2: (.25 + .75) * (1/2)^2 * ln 2.
//! let class_logits = Var::zeros((1, 1, 2), candle_core::DType::F32, &Device::Cpu)?;
//! let classes = Tensor::from_slice(&[0i64], (1, 1), &Device::Cpu)?;
//! let sums = ClassLoss::default().sum(&class_logits, &classes)?;
//! assert!((sums.to_vec1::<f32>()?[0] - 0.25 * 2f32.ln()).abs() < 1e-6);
//! let gradient = sums.sum_all()?.backward()?.get(&class_logits).unwrap().clone();
//! assert!(gradient.flatten_all()?.to_vec1::<f32>()?[0] < 0.0); // A higher score for class 0, please.
//! # Ok(())
//! # }
//! ```
//!
//! [`ClassLoss`] is the family, for candle. [`kernels`] is the same over slices, without tensors.
//!
//! Source: Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", 2017.
//!
//! # Shapes
//! N images, R anchors of an image (of a level, where levels are given one by one), K foreground classes.

mod alpha;
mod class_loss;
mod error;
mod examples;
pub mod kernels;
mod op;
mod parameters;
mod reading;

pub use alpha::Alpha;
pub use class_loss::ClassLoss;
pub use error::LossError;
pub use examples::{Example, ExampleFilter};
pub use parameters::{AlphaBalanced, Focal, FocalStar, HardExamples, Sampled};

/// The class of an anchor that is to find nothing: every one of its logits is on the negative side.
pub const BACKGROUND: i64 = -1;

/// The class of an anchor that does not count: no loss and no gradient.
pub const IGNORE: i64 = -2;
