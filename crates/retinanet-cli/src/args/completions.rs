//! The arguments of `retinanet completions` and `retinanet manual`.

use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Whose script
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManualArgs {
    /// Folder for the pages
    #[arg(long, value_name = "DIR", default_value = "man")]
    pub(crate) output: PathBuf,
}
