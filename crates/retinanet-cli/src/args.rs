//! The arguments of every command.

mod bench;
mod cache;
mod check;
mod compare;
mod completions;
mod configuration;
mod convert;
mod data;
mod detect;
mod export;
mod losses;
mod models;
mod quantize;
mod selection;

pub(crate) use bench::{BenchArgs, BenchMode, IsaArg};
pub(crate) use cache::{CacheArgs, CachePlace};
pub(crate) use check::CheckArgs;
pub(crate) use compare::CompareArgs;
pub(crate) use completions::{CompletionsArgs, ManualArgs};
pub(crate) use configuration::ConfigurationArgs;
pub(crate) use convert::{ConvertArgs, Form};
pub(crate) use data::{DataCommand, DataConvertArgs, PreviewArgs};
pub(crate) use detect::{DetectArgs, ResultFormat};
pub(crate) use export::{ExportArgs, InputArg};
pub(crate) use losses::LossesArgs;
pub(crate) use models::{ModelsArgs, ModelsCommand, ZooArgs};
pub(crate) use quantize::QuantizeArgs;
pub(crate) use selection::{DataArgs, OptionalDataArgs, SelectionArgs};

use crate::device::DeviceArgs;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use retinanet::{CheckpointInterval, ComputeDevice, Detector, InferenceOptions, Precision};
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
    /// Find objects in images: annotated pictures, crops, JSON, COCO, CSV, YOLO
    Detect(DetectArgs),
    /// Train a detector on a data set (COCO, VOC, YOLO, CSV or Open Images)
    Train(TrainArgs),
    /// Run a model on a split and score it with COCO's twelve numbers
    Eval(EvalArgs),
    /// Make a model of 8-bit integers, calibrated on images: a quarter of the size, and faster
    Quantize(QuantizeArgs),
    /// Look at data sets before training on them, and convert them
    #[command(subcommand)]
    Data(DataCommand),
    /// Write a model as ONNX, for other programs to run
    Export(ExportArgs),
    /// Write a model in another form: ours of torchvision's, Detectron2's or MMDetection's, or torchvision's of ours
    Convert(ConvertArgs),
    /// Score a file of detections against a file of ground truth, both COCO JSON
    Score(ScoreArgs),
    /// Show which examples a model's class loss comes from, easy or hard
    Losses(LossesArgs),
    /// Show runs beside each other: what was different, and what came of it
    Compare(CompareArgs),
    /// Show what is in a model, or the presets
    Info(InfoArgs),
    /// List, fetch and check published models, which every command takes by name
    Models(ModelsArgs),
    /// Train, score and draw on a generated data set: a minute or two, no files needed
    Demo(DemoArgs),
    /// Time the network, detection or a training step, and report memory
    Bench(BenchArgs),
    /// Print a script that completes commands and options in a shell
    Completions(CompletionsArgs),
    /// Write manual pages, one a command
    Manual(ManualArgs),
}

impl Command {
    /// What a command that runs a network computes with.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        match self {
            Self::Detect(args) => Some(&args.engine),
            Self::Train(args) => Some(&args.engine),
            Self::Eval(args) => Some(&args.engine),
            Self::Losses(args) => Some(&args.engine),
            Self::Demo(args) => Some(&args.engine),
            Self::Bench(args) => Some(&args.engine),
            Self::Quantize(args) => Some(&args.engine),
            _ => None,
        }
    }

    /// Whether the command trains a network, or loads images as a training does.
    pub(crate) fn trains(&self) -> bool {
        match self {
            Self::Train(_) | Self::Demo(_) => true,
            Self::Bench(args) => matches!(args.mode, BenchMode::Train | BenchMode::Data),
            _ => false,
        }
    }
}

/// What every command that runs a network takes.
#[derive(Debug, Args)]
pub(crate) struct Engine {
    /// Threads to compute with; all cores if not given
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    #[command(flatten)]
    pub(crate) place: DeviceArgs,
}

/// What convolutions multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    /// Single precision
    F32,
    /// bfloat16, on processors with AVX512-BF16 and GPUs of compute capability 8.0
    Bf16,
    /// Half precision, on GPUs
    F16,
    /// 8 bits, of quantised models
    Int8,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// A bar on a terminal, lines elsewhere
    Auto,
    /// A bar, even where NO_COLOR, CI or TERM=dumb ask for none; lines where there is no terminal
    Bar,
    /// A line every 30 seconds and one an epoch
    Plain,
    /// Nothing but failures and warnings
    None,
}

/// What every command that trains takes for its run folder.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Replace the run that the folder holds
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) progress: ProgressArg,
    /// Time or steps between two checkpoints, as 10m, 90s or 500; there is one after each epoch in any case
    #[arg(long, value_name = "TIME|STEPS", default_value = "10m", value_parser = parse_interval)]
    pub(crate) checkpoint_every: CheckpointInterval,
}

/// `10m`, `90s`, or a plain number of steps.
fn parse_interval(text: &str) -> Result<CheckpointInterval, String> {
    let steps = text.parse().ok().filter(|&steps| steps > 0).map(CheckpointInterval::Steps);
    let time = || humantime::parse_duration(text).ok().filter(|time| !time.is_zero()).map(CheckpointInterval::Time);
    steps.or_else(time).ok_or_else(|| format!("expected a time as 10m or 90s, or a number of steps, found {text:?}"))
}

/// What every command that detects takes.
#[derive(Debug, Args)]
pub(crate) struct Inference {
    /// What to multiply; int8 if the model is quantised and runs on the processor, else f32, if not given
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<Dtype>,
}

impl Dtype {
    /// As the engine calls it.
    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::F16 => Precision::F16,
            Self::Int8 => Precision::Int8,
        }
    }
}

impl Inference {
    /// What a plan of this detector multiplies.
    pub(crate) fn precision(&self, detector: &Detector, device: &ComputeDevice) -> Precision {
        match self.dtype {
            Some(dtype) => dtype.precision(),
            None if detector.quantization.is_some() && *device == ComputeDevice::Cpu => Precision::Int8,
            None => Precision::F32,
        }
    }

    /// The options of a plan of this detector.
    pub(crate) fn options(&self, detector: &Detector, device: ComputeDevice) -> InferenceOptions {
        let precision = self.precision(detector, &device);
        // The threads are those of the process, set at its start.
        InferenceOptions { device, precision, ..InferenceOptions::default() }
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("beginning").args(["paths", "resume"]).required(true).multiple(true))]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) data: OptionalDataArgs,
    /// Go on with the run in this folder, to the same weights as if it had never stopped; all else comes from the folder.
    /// --data says where the same data lies now, --epochs asks for more where the learning rate is constant
    #[arg(long, value_name = "DIR", conflicts_with_all = NOT_WITH_RESUME)]
    pub(crate) resume: Option<PathBuf>,
    /// Split to train on; several joined with +, as train+val
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub(crate) split: String,
    /// Split to score while training; none if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) val_split: Option<String>,
    #[command(flatten)]
    pub(crate) configuration: ConfigurationArgs,
    /// Start from the weights of this detector; its class layer starts anew if the classes differ
    #[arg(long, value_name = "FILE|NAME", conflicts_with = "backbone_weights")]
    pub(crate) weights: Option<PathBuf>,
    /// Start from the backbone of this model, such as an ImageNet ResNet of torchvision, Caffe2 or Detectron2
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) backbone_weights: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
    /// Passes over the data
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Images a step; the learning rate is scaled with it
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,
    /// Start of everything that is drawn
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// What convolutions multiply: f32, or bf16 with weights, sums and losses in f32
    #[arg(long, value_name = "DTYPE")]
    pub(crate) dtype: Option<String>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) engine: Engine,
    /// Folder of the run: configuration, metrics, checkpoints, pictures, report
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What the folder of a run says, and nobody else.
const NOT_WITH_RESUME: [&str; 14] = [
    "split",
    "val_split",
    "include_class",
    "exclude_class",
    "rename_class",
    "val_fraction",
    "split_seed",
    "expand_hierarchy",
    "preset",
    "config",
    "weights",
    "backbone_weights",
    "output",
    "overwrite",
];

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// A checkpoint of `retinanet train`, RetinaNet weights of torchvision, Detectron2 or MMDetection, or a name of `retinanet models`
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
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
    /// A model file or a name of `retinanet models`; without one, the presets and this machine
    #[arg(value_name = "FILE|NAME")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
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
    #[command(flatten)]
    pub(crate) run: RunArgs,
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
