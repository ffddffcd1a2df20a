//! The arguments of `retinanet data check`.

use super::{ConfigurationArgs, SelectionArgs};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CheckArgs {
    /// Data sets: folders or files in COCO, VOC, YOLO, CSV or Open Images form, or of images alone; several are
    /// checked together
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Splits to check, as train+val; all if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) split: Option<String>,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) configuration: ConfigurationArgs,
    /// Most examples of a finding
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub(crate) examples: usize,
    /// Threads to decode with; all cores if not given
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report with its pictures to this HTML file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Folder for report.html, report.json and a contact sheet (PNG) of each finding
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Every image is decoded once, and the boxes should fit the image size and the
anchors of the configuration. Findings are notes (nothing to do), warnings
(a person should look) and errors (training or scores are wrong until mended).

Exit codes: 0 notes at most; 1 there are warnings or errors, or the check was
interrupted; 2 could not run.";
