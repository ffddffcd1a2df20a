//! The arguments of `retinanet losses`.

use super::{DataArgs, Engine, ZooArgs};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct LossesArgs {
    /// A checkpoint of `retinanet train`, RetinaNet weights of torchvision, Detectron2 or MMDetection, or a name of `retinanet models`
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Split to look at, or all; test if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) split: Option<String>,
    /// The focal loss's gamma, 0 to 5; may be given several times
    #[arg(long = "gamma", value_name = "GAMMA", default_values_t = [0.0, 0.5, 1.0, 2.0])]
    pub(crate) gammas: Vec<f64>,
    #[command(flatten)]
    pub(crate) engine: Engine,
    /// Also draw the cumulative losses into this PNG file
    #[arg(long, value_name = "FILE.png")]
    pub(crate) output: Option<PathBuf>,
    /// Print one JSON document, with the curves, instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}
