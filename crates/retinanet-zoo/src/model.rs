//! What a manifest says of a model.

use crate::digest::Digest;
use serde::Deserialize;

/// A published model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is called: lower-case letters, digits, `_` and `-`.
    pub name: String,
    /// A whole detector, or a backbone to train one from.
    pub task: Task,
    /// Whose names and layout the file has.
    pub format: Format,
    /// The residual network in it.
    pub backbone: Backbone,
    /// The preset that describes it, where there is one.
    pub preset: Option<String>,
    /// Where the file comes from.
    pub source: Source,
    /// The file's name, in the cache too.
    pub file: String,
    /// What the file's bytes hash to.
    pub digest: Digest,
    /// How large the file is, where that was published.
    pub size: Option<Size>,
    /// Under which terms it was published.
    pub licence: String,
    /// The page that speaks of it.
    pub page: String,
    /// What its outputs stand for.
    pub classes: ClassList,
    /// How pictures come in.
    pub preprocessing: Preprocessing,
    /// What it was published to reach.
    pub metric: Metric,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Finds objects.
    Detector,
    /// Classifies; a training starts from its features.
    Backbone,
}

/// Whose names and layout a file has, and so who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A checkpoint of this workspace, which carries its configuration and classes.
    Retinanet,
    /// torchvision's state dict.
    Torchvision,
    /// Detectron2's pickle.
    Detectron2,
    /// MMDetection's checkpoint.
    Mmdetection,
}

/// A residual network, by torchvision's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backbone {
    /// ResNet-18.
    Resnet18,
    /// ResNet-34.
    Resnet34,
    /// ResNet-50.
    Resnet50,
    /// ResNet-101.
    Resnet101,
    /// ResNet-152.
    Resnet152,
    /// ResNeXt-50, 32 groups of 4.
    #[serde(rename = "resnext50_32x4d")]
    Resnext50Of32x4,
    /// ResNeXt-101, 32 groups of 4.
    #[serde(rename = "resnext101_32x4d")]
    Resnext101Of32x4,
    /// ResNeXt-101, 32 groups of 8.
    #[serde(rename = "resnext101_32x8d")]
    Resnext101Of32x8,
    /// ResNeXt-101, 64 groups of 4.
    #[serde(rename = "resnext101_64x4d")]
    Resnext101Of64x4,
}

impl Backbone {
    /// As it is written: `ResNet-50`, `ResNeXt-101 32x8d`.
    pub fn title(self) -> &'static str {
        match self {
            Self::Resnet18 => "ResNet-18",
            Self::Resnet34 => "ResNet-34",
            Self::Resnet50 => "ResNet-50",
            Self::Resnet101 => "ResNet-101",
            Self::Resnet152 => "ResNet-152",
            Self::Resnext50Of32x4 => "ResNeXt-50 32x4d",
            Self::Resnext101Of32x4 => "ResNeXt-101 32x4d",
            Self::Resnext101Of32x8 => "ResNeXt-101 32x8d",
            Self::Resnext101Of64x4 => "ResNeXt-101 64x4d",
        }
    }
}

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// It is fetched from this address.
    Url(String),
    /// It ships with the program, at this path below a folder that the caller names.
    Shipped(String),
}

/// How large a file is.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// To the byte.
    Bytes(u64),
    /// In MiB, rounded to three decimals, as torchvision publishes it.
    Mib(f64),
}

/// Bytes of a MiB.
const MIB: f64 = 1_048_576.0;

impl Size {
    /// Whether a file of this many bytes has this size.
    pub fn fits(self, bytes: u64) -> bool {
        match self {
            Self::Bytes(expected) => expected == bytes,
            Self::Mib(expected) => ((bytes as f64 / MIB * 1e3).round() - expected * 1e3).abs() < 0.5,
        }
    }

    /// The bytes, as near as the size tells.
    pub fn approximate_bytes(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Mib(mib) => (mib * MIB).round() as u64,
        }
    }

    /// The most bytes that [`Self::fits`].
    pub(crate) fn upper_bound(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Mib(mib) => ((mib + 0.001) * MIB) as u64,
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Mib(mib) => write!(f, "{mib} MiB"),
        }
    }
}

/// A known list of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassList {
    /// COCO's 80 objects at their category ids, 1 to 90; 0 and eleven others are never used. As torchvision has them.
    Coco91,
    /// COCO's 80 objects, 0 to 79 in the order of their category ids.
    Coco80,
    /// ImageNet's 1000.
    Imagenet1k,
    /// The file itself names them.
    InFile,
}

impl ClassList {
    /// How many outputs, where the list says.
    pub fn num_classes(self) -> Option<usize> {
        match self {
            Self::Coco91 => Some(91),
            Self::Coco80 => Some(80),
            Self::Imagenet1k => Some(1000),
            Self::InFile => None,
        }
    }
}

/// How pictures come in.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// The order of the channels.
    pub channels: Channels,
    /// The value of a full channel, which `mean` and `std` are for: 1 or 255.
    pub pixel_max: f64,
    /// Subtracted from each channel.
    pub mean: [f64; 3],
    /// Then divided by this.
    pub std: [f64; 3],
    /// Pixels of the shorter side, of a detector.
    pub min_size: Option<usize>,
    /// Most pixels of the longer side, of a detector.
    pub max_size: Option<usize>,
}

/// The order of a pixel's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// Red first.
    Rgb,
    /// Blue first, as OpenCV reads.
    Bgr,
}

/// A published measurement.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// What was measured.
    pub kind: MetricKind,
    /// In percent.
    pub percent: f64,
    /// On what.
    pub data: String,
}

/// What is measured of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// COCO's average precision of boxes.
    BoxAp,
    /// Share of pictures whose first guess is right.
    Top1,
}
