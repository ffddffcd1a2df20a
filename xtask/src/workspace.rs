//! Where the workspace is, and commands run in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The workspace this program was built from.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    pub(crate) fn of_this_program() -> Self {
        // Cargo sets the variable for programs that it runs; the folder of the build stands in without it.
        let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let package = PathBuf::from(package);
        let root = package.parent().map_or_else(|| package.clone(), Path::to_path_buf);
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The cargo that runs this program, in the workspace's root.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(arguments);
        command
    }

    /// An example of this name, built with what the tests are built with.
    pub(crate) fn example(&self, name: &str) -> Result<Command> {
        run_shown(self.cargo(&["build", "--release", "--workspace", "--example", name]))?;
        let metadata = self.metadata()?;
        let target = metadata["target_directory"].as_str().context("cargo metadata: no `target_directory`")?;
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        let mut command = Command::new(Path::new(target).join("release").join("examples").join(file));
        command.current_dir(&self.root);
        Ok(command)
    }

    /// The members and where they build, as `cargo metadata` tells.
    pub(crate) fn metadata(&self) -> Result<Value> {
        let mut command = self.cargo(&["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.output().context("cargo metadata: could not start")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("cargo metadata: not JSON")
    }
}

/// Runs a command with its output shown.
pub(crate) fn run_shown(mut command: Command) -> Result<()> {
    let shown = shown(&command);
    let status = command.status().with_context(|| format!("{shown}: could not start"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// What a command prints, without the line end; `None` where it does not exist or fails.
pub(crate) fn printed(mut command: Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim_end().to_string())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
