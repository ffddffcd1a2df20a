//! The configuration of a command: a preset or a file, and values set on the command line.

use anyhow::Context;
use clap::Args;
use retinanet::Config;
use std::path::PathBuf;

/// Where the configuration of a command comes from.
#[derive(Debug, Args)]
pub(crate) struct ConfigurationArgs {
    /// Start from this preset; `retinanet info` lists them
    #[arg(long, value_name = "NAME", default_value = "small_r18", conflicts_with = "config")]
    pub(crate) preset: String,
    /// Start from this file; `retinanet info --preset NAME` prints one to begin with
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any value of the configuration, as loss.class.focal.gamma=1.5; may be given several times
    #[arg(long = "set", value_name = "key=value")]
    pub(crate) set: Vec<String>,
}

impl ConfigurationArgs {
    /// The preset or file with what is set merged in, then `more`.
    pub(crate) fn read(&self, more: impl IntoIterator<Item = String>) -> anyhow::Result<Config> {
        let text = match &self.config {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?,
            None => Config::preset_text(&self.preset)?.to_owned(),
        };
        let assignments: Vec<String> = self.set.iter().cloned().chain(more).collect();
        let source = self.config.as_ref().map_or_else(|| self.preset.clone(), |path| path.display().to_string());
        Config::parse(&text, &assignments).with_context(|| source)
    }
}
