//! The arguments of `retinanet quantize`.

use super::{Engine, OptionalDataArgs, ZooArgs};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// A checkpoint of `retinanet train`, RetinaNet weights of torchvision, Detectron2 or MMDetection, or a name of `retinanet models`
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
    /// Images to calibrate on, or folders of images: some that the model was trained on
    #[arg(long, value_name = "IMAGE|DIR", num_args = 1.., required_unless_present = "paths", conflicts_with = "paths")]
    pub(crate) images: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) data: OptionalDataArgs,
    /// Split of the data set to calibrate on
    #[arg(long, value_name = "NAME", default_value = "train", requires = "paths")]
    pub(crate) split: String,
    /// File for the quantised model
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Most images to calibrate on, spread over those given; all if not given
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Signal-to-noise ratio that a layer's output must keep to run in 8 bits, 30 if not given; others keep their
    /// precision
    #[arg(long, value_name = "DB", allow_negative_numbers = true)]
    pub(crate) min_sqnr: Option<f64>,
    #[command(flatten)]
    pub(crate) engine: Engine,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}
