//! RetinaNet (Lin et al. 2017, *Focal Loss for Dense Object Detection*): configuration, model, targets, losses,
//! post-processing, weights and training.
//!
//! Detecting with a trained model:
//!
//! ```no_run
//! use retinanet::{Detector, InferenceOptions};
//! use retinanet_data::{DecodeLimits, decode_file};
//!
//! let plan = Detector::load("runs/cells/last.safetensors")?.into_plan(&InferenceOptions::default())?;
//! for detection in plan.detect(&decode_file("cells.jpg".as_ref(), &DecodeLimits::default())?)? {
//!     println!("{} {:.2} {:?}", plan.classes()[detection.label].name, detection.score, detection.bbox);
//! }
//! # Ok::<(), retinanet::Error>(())
//! ```
//!
//! # Letters in shapes
//! N images, H and W height and width of a feature map, A anchors per location, K classes (foreground only: there is no
//! background index anywhere), R = H * W * A anchors of a level, G ground truths. Activations are channels-last,
//! `[N, H, W, C]`; weights have torch's order and names.

mod classes;
mod compute_device;
mod config;
mod detector;
mod early_stopping;
mod ema;
mod error;
mod evaluate;
mod export;
mod import;
mod initialize;
mod loss;
mod loss_distribution;
mod model;
mod optim;
mod plan;
mod postprocess;
mod quantization;
pub mod run;
mod start;
mod targets;
mod train;
mod training_step;
pub mod weights;

pub use classes::validation_class_notes;
pub use compute_device::ComputeDevice;
pub use config::{Config, ConfigError, TrainConfig};
pub use detector::Detector;
pub use early_stopping::{EarlyStopping, Progress};
pub use ema::{AveragedWeights, EmaConfig};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, evaluate};
pub use export::{OnnxFile, OnnxInput, OnnxOptions, OnnxValue, TorchvisionModel, to_torchvision};
pub use import::{Origin, Toolkit};
pub use loss::{BoxLoss, DetectionLoss, ForegroundAnchor, LossConfig, Losses, Normalizer};
pub use loss_distribution::{LossDistribution, LossExamples};
pub use model::{Features, Model, Network, Predictions};
pub use optim::{
    Decay, Optimizer, OptimizerConfig, ParameterGradients, RateFactors, Schedule, Warmup, clip_gradients,
    gradient_norm, gradient_norms,
};
pub use plan::{DetectionPlan, InferenceOptions, RunReport, Runner};
pub use postprocess::{Borders, Candidate, PostProcessing};
pub use quantization::{Clipping, Pass, QuantizeOptions, Quantized, QuantizedLayerReport, quantize};
pub use retinanet_anchors;
pub use retinanet_onnx::{OnnxError, Opset};
pub use retinanet_ops::kernels::cpu::Isa;
pub use retinanet_ops::kernels::cpu::inference::{Precision, Quantization};
pub use retinanet_ops::network::plan::Output;
pub use retinanet_ops::network::training::{Gradients, TrainingOptions};
pub use retinanet_ops::network::{QuantizationTable, QuantizedLayer};
pub use start::{InitialWeights, Start, start};
pub use targets::{GroundTruth, Targets};
#[cfg(feature = "cuda")]
pub use train::DeviceTrainingStep;
pub use train::{
    Checkpoint, CheckpointError, CheckpointInterval, Divergence, EpochSummary, Event, NotFinite, Outcome, Step,
    Training, TrainingState,
};
pub use training_step::TrainingStep;
