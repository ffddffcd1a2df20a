//! `cargo xtask onnx`: exported detectors in other runtimes, beside our own output, and beside what torch exports.

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
    let mut export = workspace.example("onnx_parity")?;
    export.arg(&shown).args(models);
    run_shown(export)?;
    let run = |script: &str| {
        let status = venv.command(script, std::slice::from_ref(&shown)).status();
        Ok::<_, anyhow::Error>(status.with_context(|| format!("{script}: could not start"))?.success())
    };
    let (parity, beside_torch) = (run("onnx_parity.py")?, run("onnx_export.py")?);
    std::fs::remove_dir_all(&folder).with_context(|| format!("{shown}: could not remove"))?;
    ensure!(parity, "onnx: expected outputs that are ours, found others: see the lines with \"passed\": false");
    ensure!(beside_torch, "onnx_export.py: expected exports of torch, found a failure");
    Ok(())
}
