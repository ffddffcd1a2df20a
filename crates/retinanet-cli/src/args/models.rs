//! The arguments of `retinanet models`, and what every command that takes a model by name has of them.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What every command that takes a model by name takes.
#[derive(Debug, Args)]
pub(crate) struct ZooArgs {
    /// Folder that models by name are kept in; the user's cache folder if not given
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) models_dir: Option<PathBuf>,
    /// More models by name, listed as in weights/manifest.toml; they come before those built in
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ModelsCommand>,
    #[command(flatten)]
    pub(crate) zoo: ZooArgs,
    /// Print one JSON document instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List them, as without a word
    List,
    /// Fetch them into the cache folder
    Fetch {
        /// Names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Read their files and compare the digests
    Verify {
        /// Names; all that are here if not given
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

const AFTER_HELP: &str = "\
A name stands wherever a model file does, and is fetched the first time. A file
of that name comes first. What was cut off goes on where it ended.

Proxies are taken from https_proxy, http_proxy, all_proxy and no_proxy, and
certificates to trust from SSL_CERT_FILE, where these are set.";
