//! Long source files, named but not refused.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Files with more lines than this are named.
pub(crate) const LONG_FILE: usize = 500;

/// Rust files under a folder that are longer than [`LONG_FILE`], with their lines.
pub(crate) fn long_files(folder: &Path) -> Result<Vec<(PathBuf, usize)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("{}: could not list", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("{}: could not list", folder.display()))?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).with_context(|| format!("{}: could not read", path.display()))?;
                let lines = text.lines().count();
                if lines > LONG_FILE {
                    found.push((path, lines));
                }
            }
        }
    }
    found.sort();
    Ok(found)
}
