//! Compiled kernels, kept in a folder from run to run: the compiler takes seconds for some files.

use super::nvrtc::Target;
use crate::device::Source;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A folder of code, named by what it was made of. One that cannot be read or written holds nothing, and that is no error: all that
/// is lost is time.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: Option<PathBuf>,
    compiler: (u32, u32),
}

impl Cache {
    /// Of code of this version of the compiler; none without a folder.
    pub(super) fn new(folder: Option<PathBuf>, compiler: (u32, u32)) -> Self {
        Self { folder, compiler }
    }

    /// Where the code of a source is, or would be.
    fn path(&self, source: &Source, target: Target) -> Option<PathBuf> {
        let (major, minor) = self.compiler;
        let mut hash = Sha256::new();
        for part in [source.name, source.text, &format!("{target:?} {major}.{minor}")] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.folder.as_ref()?.join(format!("{}-{name}.bin", source.name.trim_end_matches(".cu"))))
    }

    /// What was kept.
    pub(super) fn get(&self, source: &Source, target: Target) -> Option<Vec<u8>> {
        fs::read(self.path(source, target)?).ok().filter(|code| !code.is_empty())
    }

    /// Keeps code.
    pub(super) fn put(&self, source: &Source, target: Target, code: &[u8]) {
        if let Some(path) = self.path(source, target) {
            // Nothing but time is lost.
            _ = write(&path, code);
        }
    }
}

/// The whole file or none, whoever else writes it.
fn write(path: &Path, code: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(code)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    static SOURCE: Source = Source { name: "a.cu", text: "text" };

    #[test]
    fn code_is_kept_for_the_same_source_target_and_compiler_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::new(Some(folder.path().join("kernels")), (13, 0));
        assert_eq!(cache.get(&SOURCE, Target::Machine(90)), None);
        cache.put(&SOURCE, Target::Machine(90), b"code");
        assert_eq!(cache.get(&SOURCE, Target::Machine(90)).as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.get(&SOURCE, Target::Virtual(90)), None);
        assert_eq!(cache.get(&SOURCE, Target::Machine(80)), None);
        assert_eq!(cache.get(&Source { name: "a.cu", text: "texts" }, Target::Machine(90)), None);
        let newer = Cache::new(Some(folder.path().join("kernels")), (13, 1));
        assert_eq!(newer.get(&SOURCE, Target::Machine(90)), None);
    }

    #[test]
    fn a_folder_that_cannot_be_used_holds_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("file"), "").expect("a file");
        for folder in [Some(folder.path().join("file/kernels")), None] {
            let cache = Cache::new(folder, (13, 0));
            cache.put(&SOURCE, Target::Machine(90), b"code");
            assert_eq!(cache.get(&SOURCE, Target::Machine(90)), None);
        }
    }
}
