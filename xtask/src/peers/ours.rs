//! Our own programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The folder that the programs were built into.
pub(crate) struct Ours {
    folder: PathBuf,
}

impl Ours {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `retinanet` with arguments.
    pub(crate) fn retinanet(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(self.folder.join(format!("retinanet{}", std::env::consts::EXE_SUFFIX)));
        command.args(arguments);
        command
    }

    /// What `retinanet` says, as JSON.
    pub(crate) fn json(&self, arguments: &[String]) -> Result<Value> {
        json(self.retinanet(arguments))
    }

    /// Matching and the focal loss, timed.
    pub(crate) fn around(&self) -> Result<Value> {
        json(self.example("around"))
    }

    /// The focal loss on a GPU and the bandwidth of copies, timed.
    pub(crate) fn cuda_focal(&self) -> Result<Value> {
        json(self.example("cuda_focal"))
    }

    /// Decoding, timed.
    pub(crate) fn decode(&self, arguments: &[String]) -> Result<Value> {
        let mut command = self.example("decode");
        command.args(arguments);
        json(command)
    }

    fn example(&self, name: &str) -> Command {
        Command::new(self.folder.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
    }
}

fn json(mut command: Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("{}: could not start", command.get_program().display()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let first = errors.lines().find(|line| line.starts_with("error")).unwrap_or("no message");
        bail!("{}: {}: {first}", text(&command), output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{}: not JSON", text(&command)))
}

/// A command as it would be typed, with the variables that are set for it.
pub(crate) fn text(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy())));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.filter(|word| *word != "-B").map(|word| word.to_string_lossy().into_owned());
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// Arguments from words.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("python");
        command.arg("-B").args(words(" a.py  800 1344 ")).env("LIMIT", "AVX2");
        assert_eq!(text(&command), "LIMIT=AVX2 python a.py 800 1344");
    }
}
