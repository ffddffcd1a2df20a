//! The Python environment with the peers, and the folder for what they make.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// What pip installs.
const PACKAGES: &str =
    "torch torchvision onnx onnxruntime openvino nncf safetensors pillow numpy opencv-python-headless";

/// The environment's Python and our scripts for it.
pub(crate) struct Venv {
    python: PathBuf,
    scripts: PathBuf,
    cache: PathBuf,
}

impl Venv {
    /// The environment of this folder, or of the usual one.
    pub(crate) fn find(folder: Option<&Path>, root: &Path) -> Result<Self> {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from);
        let usual = home.map(|home| home.join(".cache").join("peers").join("venv"));
        let folder = folder.map(Path::to_path_buf).or(usual).context("--venv: expected a folder, found no home")?;
        let programs = [folder.join("bin/python"), folder.join("Scripts/python.exe")];
        let Some(python) = programs.into_iter().find(|program| program.is_file()) else {
            let shown = folder.display();
            bail!(
                "{shown}: expected a Python environment with the peers, found none; make one with\n  \
                 python3 -m venv {shown}\n  {shown}/bin/pip install {PACKAGES}\nor name another with --venv"
            );
        };
        let cache = folder.parent().unwrap_or(&folder).join("retinanet");
        Ok(Self { python, scripts: root.join("xtask").join("peers"), cache })
    }

    pub(crate) fn python(&self) -> &Path {
        &self.python
    }

    /// Exported networks and the like, outside of the repository.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// One of our scripts.
    pub(crate) fn command(&self, script: &str, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.python);
        // What Python compiles stays out of the sources.
        command.arg("-B").arg(self.scripts.join(script)).args(arguments);
        command
    }

    /// What a script says last, as JSON.
    pub(crate) fn run(&self, script: &str, arguments: &[String]) -> Result<Value> {
        let text = self.text(script, arguments)?;
        let line = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("{script}: expected a line of JSON, found {line:?}"))
    }

    /// What a script says.
    pub(crate) fn text(&self, script: &str, arguments: &[String]) -> Result<String> {
        let output = self.command(script, arguments).output().with_context(|| format!("{script}: could not start"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.trim_end().lines().last().unwrap_or("no message");
        ensure!(output.status.success(), "{script}: {}: {last}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_none_the_error_says_how_to_make_one() {
        let folder = Path::new("no/such/folder");
        let Err(error) = Venv::find(Some(folder), Path::new(".")) else { panic!("expected an error") };
        let error = error.to_string();
        assert!(error.contains("no/such/folder") && error.contains("pip install torch torchvision"), "{error}");
    }
}
