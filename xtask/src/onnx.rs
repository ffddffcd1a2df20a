//! `cargo xtask onnx`: exported detectors in other runtimes, beside our own output.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::peers::Venv;
use crate::workspace::{Workspace, run_shown};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The Python environment that has the runtimes [default: ~/.cache/peers/venv].
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    /// Another detector to export beside torchvision's two and the one of the repository; may be given several times.
    #[arg(long, value_name = "NAME=MODEL")]
    model: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let root = workspace.root();
    let venv = Venv::find(arguments.venv.as_deref(), root)?;
    let folder = venv.cache().join("onnx");
    let shown = folder.display().to_string();
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("{shown}: could not remove"))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("{shown}: could not create"))?;
    let own = root.join("weights").join("blood_cells_r18.safetensors");
    let models = std::iter::once(format!("blood_cells_r18={}", own.display())).chain(arguments.model.iter().cloned());
    let example = ["run", "--release", "-p", "retinanet-benches", "--example", "onnx_parity", "--", &shown];
    let mut export = workspace.cargo(&example);
    export.args(models);
    run_shown(export)?;
    let status = venv.command("onnx_parity.py", std::slice::from_ref(&shown)).status();
    let status = status.context("onnx_parity.py: could not start")?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("{shown}: could not remove"))?;
    ensure!(
        status.success(),
        "onnx: expected outputs that are ours, found others: see the lines with \"passed\": false"
    );
    Ok(())
}
