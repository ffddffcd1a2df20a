//! The arguments of `retinanet bench`.

use super::{CacheArgs, Engine, Inference, ZooArgs};
use clap::{Args, ValueEnum};
use retinanet::Isa;
use retinanet_anchors::ImageSize;
use std::path::PathBuf;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchMode {
    /// Backbone, pyramid and heads on random pixels
    Core,
    /// From a decoded image to its boxes
    Detect,
    /// One step of a training, with random targets
    Train,
    /// The loader alone: images of a data set to batches, epoch by epoch
    Data,
}

impl BenchMode {
    /// As it is given.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Detect => "detect",
            Self::Train => "train",
            Self::Data => "data",
        }
    }
}

/// An instruction set, by the name that it is given with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IsaArg {
    /// What every processor has
    Portable,
    /// AVX2 with fused multiply-add
    Avx2,
    /// AVX-512
    Avx512,
    /// NEON, of 64-bit ARM
    Neon,
}

impl IsaArg {
    const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Neon];

    /// As the engine calls it.
    pub(crate) fn isa(self) -> Isa {
        match self {
            Self::Portable => Isa::Portable,
            Self::Avx2 => Isa::Avx2,
            Self::Avx512 => Isa::Avx512,
            Self::Neon => Isa::Neon,
        }
    }

    /// As it is given.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// The widest set of this processor.
    pub(crate) fn detect() -> Self {
        Self::ALL.into_iter().find(|isa| isa.isa() == Isa::detect()).unwrap_or(Self::Portable)
    }
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BenchArgs {
    /// What to time
    #[arg(long, value_enum, default_value = "core")]
    pub(crate) mode: BenchMode,
    /// A network of this preset with random weights; `retinanet info` lists them
    #[arg(long, value_name = "NAME", default_value = "torchvision_r50_v1", conflicts_with = "model")]
    pub(crate) preset: String,
    /// This model, or one by name of `retinanet models`
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
    /// Classes of a network with random weights
    #[arg(long, value_name = "K", default_value_t = 91, conflicts_with = "model")]
    pub(crate) num_classes: usize,
    /// Height and width of the images, as 800x1344; the configuration's largest if not given
    #[arg(long, value_name = "HxW", value_parser = parse_size)]
    pub(crate) size: Option<ImageSize>,
    /// Images that are run together
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) batch: usize,
    #[command(flatten)]
    pub(crate) inference: Inference,
    /// Instruction set; the widest of this processor if not given
    #[arg(long, value_enum)]
    pub(crate) isa: Option<IsaArg>,
    #[command(flatten)]
    pub(crate) engine: Engine,
    /// Timed runs, after one that is not
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) repeat: usize,
    /// detect: images, or folders of images, instead of random pixels; a run is all of them
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) images: Vec<PathBuf>,
    /// detect: first move the class bias so that about N locations an image pass the score threshold
    #[arg(long, value_name = "N")]
    pub(crate) candidates: Option<usize>,
    /// detect: evaluate the box subnet everywhere, not only where a class score passes
    #[arg(long)]
    pub(crate) dense: bool,
    /// detect: also time that, in turn with the other
    #[arg(long, conflicts_with = "dense")]
    pub(crate) beside_dense: bool,
    /// data: the data set, a folder or file in COCO, VOC, YOLO, CSV or Open Images form
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// data: the split
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub(crate) split: String,
    /// data: threads that make batches; all cores if not given
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// data: passes over the data; the second finds in the cache what the first left there
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) epochs: usize,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// Write what a timed run gave to this safetensors file
    #[arg(long, value_name = "FILE")]
    pub(crate) dump: Option<PathBuf>,
    /// Any value of a preset, as head.depth=2; may be given several times
    #[arg(long = "set", value_name = "key=value", conflicts_with = "model")]
    pub(crate) set: Vec<String>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

const AFTER_HELP: &str = "\
Times are of a whole run: one batch, or, with --images, all of the images. The
stages are medians, summed over the images of a run. Peak memory is that of the
process since its start, as the system accounts it.

A network with random weights is quantised for --dtype int8 on the images that
it is timed on, or on random ones. --candidates ranks the best logits of all
locations of the images, and moves the bias so that the N best an image pass;
box_tower_share is the share of the box subnet's multiplications that are made.

data takes the preset's image size and augmentation; its times of the stages are
those of a worker, an image. --cache none decodes every image in every epoch.

With --dump, core writes `images`, `class_logits.p3`.. and `box_deltas.p3`..;
detect writes `boxes.0`, `scores.0`, `labels.0`, `boxes.1`.. an image.";

/// `800x1344`, height first.
fn parse_size(text: &str) -> Result<ImageSize, String> {
    let expected = || format!("expected height and width as 800x1344, found {text:?}");
    let (height, width) = text.split_once('x').ok_or_else(expected)?;
    match (height.parse(), width.parse()) {
        (Ok(height), Ok(width)) if height > 0 && width > 0 => Ok(ImageSize::new(width, height)),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_height_times_width() {
        assert_eq!(parse_size("800x1344"), Ok(ImageSize::new(1344, 800)));
        for text in ["800", "800x", "x", "0x5", "-1x5", "8x8x8", "8 x 8"] {
            let error = parse_size(text).expect_err(text);
            assert!(error.contains("800x1344") && error.contains(text), "{error}");
        }
    }
}
