//! The arguments of `retinanet data`.

use super::{CheckArgs, SelectionArgs};
use clap::{Args, Subcommand, ValueEnum};
use retinanet_annotations::Format;
use std::path::PathBuf;

/// What is done with data sets, without a network.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Write data sets in another format, with their images, and tell what it cannot hold
    Convert(ConvertArgs),
    /// Look data sets over: numbers, flaws, duplicates and leaks, with pictures of the worst
    Check(CheckArgs),
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
pub(crate) struct ConvertArgs {
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
