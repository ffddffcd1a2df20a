//! Whether a file can be written, found out before the work.

use std::path::Path;

/// Checks that this can be a file, in a folder that is there.
pub(crate) fn check_target(output: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(!output.is_dir(), "{}: expected a file to write, found a folder", output.display());
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    anyhow::ensure!(folder.is_dir(), "{}: expected a folder to write into, found none", folder.display());
    Ok(())
}

/// Checks that a file made from a model can be written where this option says, and replaces no model.
pub(crate) fn check_file(model: &Path, output: &Path, option: &str) -> anyhow::Result<()> {
    check_target(output)?;
    let is_model = output.exists() && model.exists() && std::fs::canonicalize(output)? == std::fs::canonicalize(model)?;
    anyhow::ensure!(!is_model, "{}: it would replace the model; give another {option}", output.display());
    Ok(())
}
