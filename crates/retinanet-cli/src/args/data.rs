//! The arguments of `retinanet data`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Draw images as training will see them beside the images as they are, with their boxes
    Preview(PreviewArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// The data set: a folder or file in COCO, VOC or YOLO form
    #[arg(long, value_name = "PATH")]
    pub(crate) data: PathBuf,
    /// Split to show; several joined with +, as train+val
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub(crate) split: String,
    /// Augment as this preset says; `retinanet info` lists them
    #[arg(long, value_name = "NAME", default_value = "small_r18", conflicts_with = "config")]
    pub(crate) preset: String,
    /// Augment as this file says
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any value of the configuration, as train.augmentation.mosaic={}; may be given several times
    #[arg(long = "set", value_name = "key=value")]
    pub(crate) set: Vec<String>,
    /// Images to show, spread over the split
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) count: usize,
    /// Epoch whose draws to show, from 0
    #[arg(long, value_name = "E", default_value_t = 0)]
    pub(crate) epoch: u64,
    /// Start of everything that is drawn; the configuration's if not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// The contact sheet, PNG or JPEG by its ending
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}
