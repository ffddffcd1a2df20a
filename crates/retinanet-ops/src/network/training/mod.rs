//! A network planned for training: recorded once, its activations and their gradients in one block of memory, with a
//! reverse pass of our own.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use retinanet_ops::network::plan::Recorder;
//! use retinanet_ops::network::training::{TrainingOptions, TrainingSession};
//! use retinanet_ops::network::{ConvLayer, Engine, Parameters};
//!
//! let layer = ConvLayer::new("conv", 1, 2, 3, 1).with_relu();
//! let parameters = Parameters::new([
//!     ("conv.weight".to_owned(), Tensor::ones((2, 1, 3, 3), DType::F32, &Device::Cpu)?),
//!     ("conv.bias".to_owned(), Tensor::new(&[0f32, -8.0], &Device::Cpu)?),
//! ])?;
//! let (mut recorder, image) = Recorder::new(1);
//! let y = recorder.conv(&layer, &image, None)?;
//! let mut session = TrainingSession::new(&recorder, &[y], &TrainingOptions::default())?;
//!
//! session.begin();
//! session.forward(&parameters, &[1.0; 9], (1, 3, 3))?;
//! // Nine taps in the middle, four in a corner.
//! assert_eq!(session.output(0).1[4 * 2..5 * 2], [9.0, 1.0]);
//! assert_eq!(session.output(0).1[..2], [4.0, 0.0]);
//! session.set_output_gradient(0, &[1.0; 18]);
//! session.backward(&parameters)?;
//! // The first channel is positive everywhere, the second in the middle alone.
//! assert_eq!(session.gradients().get("conv.bias"), Some(&[9.0, 1.0][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backward;
mod forward;
mod gradients;
mod memory;
mod norm;
mod parameters;
mod session;
mod statistics;

pub use gradients::Gradients;
pub use session::{TrainingOptions, TrainingSession};
