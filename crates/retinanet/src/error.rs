//! What can go wrong, by what the caller can do about it.

use crate::config::ConfigError;
use crate::weights::WeightsError;
use std::path::PathBuf;

/// An error of the detector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration describes no backbone or pyramid.
    #[error("configuration: {0}")]
    Backbone(#[from] retinanet_backbone::BackboneError),
    /// The configuration describes no head.
    #[error("configuration: {0}")]
    Head(#[from] retinanet_head::HeadError),
    /// The configuration describes no anchors.
    #[error("configuration: anchors: {0}")]
    Anchors(#[from] retinanet_anchors::AnchorError),
    /// A weight file cannot be read, does not fit or cannot be written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A model file was read, and what it holds makes no detector.
    #[error("{path}: {source}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A checkpoint's metadata cannot be used.
    #[error("{path}: metadata {key}: {message}")]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Another toolkit has no such detector: all that it cannot express.
    #[error("{toolkit} cannot express this detector:\n  {}", differences.join("\n  "))]
    Inexpressible {
        /// Whose form was asked for.
        toolkit: crate::Toolkit,
        /// One line for each field: what the toolkit has, and what the detector has.
        differences: Vec<String>,
    },
    /// An image cannot be decoded.
    #[error(transparent)]
    Decode(#[from] retinanet_data::DecodeError),
    /// Preprocessing, augmentation or loading is configured out of range.
    #[error("configuration: {0}")]
    DataConfig(#[from] retinanet_data::ConfigError),
    /// Images cannot be made a batch.
    #[error(transparent)]
    Batch(#[from] retinanet_data::BatchError),
    /// The class loss was given what it cannot use.
    #[error(transparent)]
    Loss(#[from] retinanet_focal::LossError),
    /// Detections cannot be scored.
    #[error(transparent)]
    Eval(#[from] retinanet_eval::EvalError),
    /// The data cannot be trained on.
    #[error("data: {0}")]
    Data(String),
    /// The loss stopped being a number. The last checkpoint is as it was.
    #[error("{0}")]
    LossNotFinite(Box<crate::NotFinite>),
    /// The weights stopped being numbers, which the loss did not see. The last checkpoint is as it was.
    #[error(
        "after {step} steps: weights: expected finite numbers, found others in {name}; usual cause: a learning rate too high"
    )]
    WeightsNotFinite {
        /// Steps of the optimiser that are done.
        step: usize,
        /// The first tensor with such a number.
        name: String,
    },
    /// A checkpoint that no training can go on from, or not this one.
    #[error(transparent)]
    Checkpoint(#[from] crate::CheckpointError),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A run folder cannot be made.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    /// The network cannot be planned, or run on these images.
    #[error(transparent)]
    Plan(#[from] retinanet_ops::network::plan::PlanError),
    /// A device cannot do what is asked for.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Device(#[from] retinanet_cuda::Error),
    /// The model has no form in ONNX.
    #[error(transparent)]
    Onnx(#[from] retinanet_onnx::OnnxError),
    /// The processor or the model cannot do what is asked for.
    #[error("precision {precision}: expected {expected}, found {found}")]
    Precision {
        /// What was asked for.
        precision: &'static str,
        /// What it needs.
        expected: String,
        /// What there is.
        found: String,
    },
    /// The threads of a plan cannot be started.
    #[error("threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// The result of what the detector does.
pub type Result<T, E = Error> = std::result::Result<T, E>;
