//! The arguments of `retinanet convert`.

use super::ZooArgs;
use candle_core::DType;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Whose form a model is converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A checkpoint as `train` writes it
    Ours,
    /// A state dict for torchvision's RetinaNet
    Torchvision,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Storage {
    /// 4 bytes
    F32,
    /// 2 bytes, the range of f32
    Bf16,
    /// 2 bytes, three more bits of precision
    F16,
}

impl Storage {
    /// As tensors call it.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// A model of ours, torchvision's, Detectron2's or MMDetection's (.safetensors, .pth or .pkl), or a name of `retinanet models`
    #[arg(value_name = "FILE|NAME")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
    /// Whose form to write
    #[arg(long, value_enum)]
    pub(crate) to: Form,
    /// File to write: .safetensors, or .pth for torchvision
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// How to store the numbers
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Storage,
    /// Any value of the configuration that goes with the weights, as post_processing.max_detections=300; may be given several
    /// times
    #[arg(long = "set", value_name = "key=value")]
    pub(crate) set: Vec<String>,
}
