//! The arguments of every command.

mod bench;
mod check;
mod data;
mod quantize;
mod selection;

pub(crate) use bench::{BenchArgs, BenchMode, IsaArg};
pub(crate) use check::CheckArgs;
pub(crate) use data::{ConvertArgs, DataCommand};
pub(crate) use quantize::QuantizeArgs;
pub(crate) use selection::{DataArgs, OptionalDataArgs, SelectionArgs};

use clap::{Args, Parser, Subcommand, ValueEnum};
use retinanet::{Detector, InferenceOptions, Precision};
use std::path::PathBuf;

/// RetinaNet: train a detector on your images, run it, score it.
#[derive(Debug, Parser)]
#[command(name = "retinanet", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find objects in images: annotated pictures, or JSON
    Detect(DetectArgs),
    /// Train a detector on a data set (COCO, VOC, YOLO, CSV or Open Images)
    Train(TrainArgs),
    /// Run a model on a split and score it with COCO's twelve numbers
    Eval(EvalArgs),
    /// Make a model of 8-bit integers, calibrated on images: a quarter of the size, and faster
    Quantize(QuantizeArgs),
    /// Convert data sets, and look them over
    #[command(subcommand)]
    Data(DataCommand),
    /// Score a file of detections against a file of ground truth, both COCO JSON
    Score(ScoreArgs),
    /// Show what is in a model, or the presets
    Info(InfoArgs),
    /// Train, score and draw on a generated data set: about a minute, no files needed
    Demo(DemoArgs),
    /// Time the network, detection or a training step, and report memory
    Bench(BenchArgs),
}

impl Command {
    /// What a command that runs a network computes with.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        match self {
            Self::Detect(args) => Some(&args.engine),
            Self::Train(args) => Some(&args.engine),
            Self::Eval(args) => Some(&args.engine),
            Self::Demo(args) => Some(&args.engine),
            Self::Bench(args) => Some(&args.engine),
            Self::Quantize(args) => Some(&args.engine),
            Self::Data(_) | Self::Score(_) | Self::Info(_) => None,
        }
    }

    /// Whether the command trains a network.
    pub(crate) fn trains(&self) -> bool {
        match self {
            Self::Train(_) | Self::Demo(_) => true,
            Self::Bench(args) => args.mode == BenchMode::Train,
            Self::Detect(_) | Self::Eval(_) | Self::Quantize(_) => false,
            Self::Data(_) | Self::Score(_) | Self::Info(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceArg {
    /// The processor
    Cpu,
}

/// What every command that runs a network takes.
#[derive(Debug, Args)]
pub(crate) struct Engine {
    /// Threads to compute with; all cores if not given
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Where to compute
    #[arg(long, value_enum, default_value = "cpu")]
    pub(crate) device: DeviceArg,
}

/// What convolutions multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    /// Single precision
    F32,
    /// bfloat16, on processors with AVX512-BF16
    Bf16,
    /// 8 bits, of quantised models
    Int8,
}

/// What every command that detects takes.
#[derive(Debug, Args)]
pub(crate) struct Inference {
    /// What to multiply; int8 if the model is quantised, else f32, if not given
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<Dtype>,
}

impl Dtype {
    /// As the engine calls it.
    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::Int8 => Precision::Int8,
        }
    }
}

impl Inference {
    /// The options of a plan of this detector.
    pub(crate) fn options(&self, detector: &Detector) -> InferenceOptions {
        let precision = match self.dtype {
            Some(dtype) => dtype.precision(),
            None if detector.quantization.is_some() => Precision::Int8,
            None => Precision::F32,
        };
        // The threads are those of the process, set at its start.
        InferenceOptions { precision, ..InferenceOptions::default() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DetectArgs {
    /// A checkpoint of `retinanet train`, or torchvision's RetinaNet weights
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) model: Option<String>,
    /// Lowest score to report; .05 in JSON and .3 on pictures if not given
    #[arg(long, value_name = "X")]
    pub(crate) score_threshold: Option<f32>,
    /// Most detections an image; the model's own limit if not given
    #[arg(long, value_name = "N")]
    pub(crate) max_detections: Option<usize>,
    /// Shorter side that images are resized to, in pixels; the model's own if not given
    #[arg(long, value_name = "N")]
    pub(crate) min_size: Option<usize>,
    /// Limit of the longer side, in pixels; the model's own if not given
    #[arg(long, value_name = "N")]
    pub(crate) max_size: Option<usize>,
    #[command(flatten)]
    pub(crate) engine: Engine,
    #[command(flatten)]
    pub(crate) inference: Inference,
    /// Folder for the annotated pictures
    #[arg(long, value_name = "DIR", default_value = "detections")]
    pub(crate) output: PathBuf,
    /// Draw no pictures
    #[arg(long)]
    pub(crate) no_pictures: bool,
    /// Print one JSON document instead of a line an image
    #[arg(long)]
    pub(crate) json: bool,
    /// Images, or folders of images
    #[arg(value_name = "IMAGE|DIR", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Split to train on; several joined with +, as train+val
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub(crate) split: String,
    /// Split to score while training; none if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) val_split: Option<String>,
    /// Start from this preset; `retinanet info` lists them
    #[arg(long, value_name = "NAME", default_value = "small_r18", conflicts_with = "config")]
    pub(crate) preset: String,
    /// Start from this file; `retinanet info --preset NAME` prints one to begin with
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Start from the weights of this detector; its class layer starts anew if the classes differ
    #[arg(long, value_name = "FILE", conflicts_with = "backbone_weights")]
    pub(crate) weights: Option<PathBuf>,
    /// Start from the backbone of this file, such as torchvision's ImageNet ResNet
    #[arg(long, value_name = "FILE")]
    pub(crate) backbone_weights: Option<PathBuf>,
    /// Passes over the data
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Images a step; the learning rate is scaled with it
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,
    /// Start of everything that is drawn
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) engine: Engine,
    /// Any value of the configuration, as loss.class.focal.gamma=1.5; may be given several times
    #[arg(long = "set", value_name = "key=value")]
    pub(crate) set: Vec<String>,
    /// Folder of the run: configuration, metrics, checkpoints, pictures
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// A checkpoint of `retinanet train`, or torchvision's RetinaNet weights
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Split to score, or all; test if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) split: Option<String>,
    #[command(flatten)]
    pub(crate) engine: Engine,
    #[command(flatten)]
    pub(crate) inference: Inference,
    /// Also write every detection to this file, in COCO's results form
    #[arg(long, value_name = "FILE")]
    pub(crate) detections: Option<PathBuf>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    /// COCO ground truth
    #[arg(long, value_name = "GT.json")]
    pub(crate) ground_truth: PathBuf,
    /// COCO results: a list of image_id, category_id, bbox, score
    #[arg(long, value_name = "DT.json")]
    pub(crate) detections: PathBuf,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// A model file; without one, the presets and this machine
    pub(crate) model: Option<PathBuf>,
    /// Print this preset's complete configuration
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub(crate) preset: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the model and the pictures
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    pub(crate) output: PathBuf,
    /// Start of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) engine: Engine,
    /// Any value of the configuration, as train.epochs=2; may be given several times
    #[arg(long = "set", value_name = "key=value")]
    pub(crate) set: Vec<String>,
}

impl Engine {
    /// Sets the number of threads of the process.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.threads != Some(0), "--threads: expected at least 1, found 0");
        let threads = self.threads.unwrap_or(0);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        Ok(())
    }
}
