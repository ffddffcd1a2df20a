//! The arguments of `retinanet compare`.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Run folders, the first to compare the others with
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    pub(crate) runs: Vec<PathBuf>,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the curves of all runs over each other (.png), or everything on one page (.html)
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
