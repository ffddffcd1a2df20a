//! The arguments of `retinanet export`.

use super::ZooArgs;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A checkpoint of `retinanet train`, RetinaNet weights of torchvision, Detectron2 or MMDetection, or a name of
    /// `retinanet models`
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
    /// File to write
    #[arg(long, value_name = "FILE.onnx")]
    pub(crate) onnx: PathBuf,
    /// End with detections (boxes, scores, labels) instead of class logits, box deltas and anchors
    #[arg(long)]
    pub(crate) with_nms: bool,
    /// Version of the operators, 17 to 21
    #[arg(long, value_name = "N", default_value_t = 17)]
    pub(crate) opset: i64,
    /// What the graph takes for images
    #[arg(long, value_enum, default_value = "f32-nchw")]
    pub(crate) input: InputArg,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputArg {
    /// Normalised numbers, [N, 3, H, W]
    F32Nchw,
    /// Bytes of red, green and blue, [N, H, W, 3]; the graph normalises them
    U8Nhwc,
}
