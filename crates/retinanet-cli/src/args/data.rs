//! The arguments of `retinanet data`.

use super::{CheckArgs, ConfigurationArgs, DataArgs, SelectionArgs};
use clap::{Args, Subcommand, ValueEnum};
use retinanet_annotations::Format;
use std::path::PathBuf;

/// What is done with data sets, without a network.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Write data sets in another format, with their images, and tell what it cannot hold
    Convert(DataConvertArgs),
    /// Look data sets over: numbers, flaws, duplicates and leaks, with pictures of the worst
    Check(CheckArgs),
    /// Draw images as training will see them beside the images as they are, with their boxes
    Preview(PreviewArgs),
}

/// A format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// annotations/instances_SPLIT.json and images/SPLIT
    Coco,
    /// Annotations/*.xml, JPEGImages and ImageSets/Main/SPLIT.txt
    Voc,
    /// data.yaml, images/SPLIT and labels/SPLIT
    Yolo,
    /// SPLIT.csv with rows of path,x1,y1,x2,y2,class, classes.csv and images/SPLIT
    Csv,
    /// SPLIT-annotations-bbox.csv, class-descriptions-boxable.csv and SPLIT
    OpenImages,
}

impl FormatArg {
    /// As the library calls it.
    pub(crate) fn format(self) -> Format {
        match self {
            Self::Coco => Format::Coco,
            Self::Voc => Format::Voc,
            Self::Yolo => Format::Yolo,
            Self::Csv => Format::Csv,
            Self::OpenImages => Format::OpenImages,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DataConvertArgs {
    /// Data sets: folders or files in COCO, VOC, YOLO, CSV or Open Images form; several are joined
    #[arg(value_name = "SRC", required = true)]
    pub(crate) sources: Vec<PathBuf>,
    /// Format to write
    #[arg(long, value_enum)]
    pub(crate) to: FormatArg,
    /// Folder to write, new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Write this split only; may be given several times, all splits if not given
    #[arg(long = "split", value_name = "NAME")]
    pub(crate) splits: Vec<String>,
    /// Copy the image files, as is done if nothing is said
    #[arg(long, conflicts_with_all = ["link_images", "no_images"])]
    pub(crate) copy_images: bool,
    /// Make symbolic links to the image files
    #[arg(long, conflicts_with = "no_images")]
    pub(crate) link_images: bool,
    /// Write the annotations alone
    #[arg(long)]
    pub(crate) no_images: bool,
    /// Replace all that is in the folder
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// Print one JSON document instead of lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Split to show; several joined with +, as train+val
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub(crate) split: String,
    #[command(flatten)]
    pub(crate) configuration: ConfigurationArgs,
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
