//! The arguments of `retinanet detect`.

use super::{Engine, Inference, ZooArgs};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The form of what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResultFormat {
    /// One JSON document: model, images, errors
    Json,
    /// JSON lines: an object an image, also for one that cannot be read
    Jsonl,
    /// COCO's results: a list of image_id, category_id, bbox, score
    Coco,
    /// A row a detection: path, image_width, image_height, x0, y0, x1, y1, category_id, name, score
    Csv,
    /// A folder of text files, one an image: class, centre, width, height (relative) and score; needs --results
    Yolo,
}

#[derive(Debug, Args)]
pub(crate) struct DetectArgs {
    /// A checkpoint of `retinanet train`, RetinaNet weights of torchvision, Detectron2 or MMDetection, or a name of `retinanet models`
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
    /// Lowest score to report; .05 in files and JSON, .3 on pictures, if not given
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
    /// Images that run through the network together; they may differ in size
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) batch: usize,
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
    /// Cut every detection that a picture would show out of its image, into DIR/CLASS/
    #[arg(long, value_name = "DIR")]
    pub(crate) crops: Option<PathBuf>,
    /// Print what is found in this form instead of a line an image
    #[arg(long, value_enum)]
    pub(crate) format: Option<ResultFormat>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Write what is found to this file (or folder, for YOLO) when all is done; by its ending, if --format is not given
    #[arg(long, value_name = "PATH")]
    pub(crate) results: Option<PathBuf>,
    /// Go on where an interrupted run with the same --results stopped
    #[arg(long, requires = "results")]
    pub(crate) resume: bool,
    /// Replace results that are there already
    #[arg(long, requires = "results", conflicts_with = "resume")]
    pub(crate) overwrite: bool,
    /// COCO ground truth whose image ids the results use, by file name; ids count from 1 if not given
    #[arg(long, value_name = "GT.json")]
    pub(crate) image_ids: Option<PathBuf>,
    /// Search folders within folders, too
    #[arg(long)]
    pub(crate) recursive: bool,
    /// A text file of images, one path a line
    #[arg(long, value_name = "FILE")]
    pub(crate) list: Vec<PathBuf>,
    /// Images, folders, or patterns in quotes; - reads paths from standard input, one a line
    #[arg(value_name = "IMAGE|DIR|PATTERN|-", required_unless_present = "list")]
    pub(crate) inputs: Vec<PathBuf>,
}
