//! What a run has found so far, on disk, so that one that is interrupted goes on where it stopped.

use super::entry::Entry;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file of JSON lines beside the results: the settings of the run, then an entry an image.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Where the line of each path begins; the later of two.
    offsets: HashMap<String, u64>,
    end: u64,
}

impl Journal {
    /// Where the journal of these results lies.
    pub(crate) fn path_of(results: &Path) -> PathBuf {
        let mut name = results.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    }

    /// An empty journal, replacing one that is there.
    pub(crate) fn create(path: &Path, settings: &Value) -> anyhow::Result<Self> {
        let cannot = || format!("{}: cannot write", path.display());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let mut journal =
            Self { path: path.to_owned(), file: file.with_context(cannot)?, offsets: HashMap::new(), end: 0 };
        journal.append(&settings.to_string())?;
        Ok(journal)
    }

    /// The journal of an interrupted run with the same settings. Lines that the end of that run cut off are dropped, and so are
    /// failures: they are tried again.
    pub(crate) fn open(path: &Path, settings: &Value) -> anyhow::Result<Self> {
        let cannot = || format!("{}: cannot read", path.display());
        let file = OpenOptions::new().read(true).write(true).open(path).with_context(cannot)?;
        let mut reader = BufReader::new(&file);
        let mut line = String::new();
        let mut offsets = HashMap::new();
        let mut end = reader.read_line(&mut line).with_context(cannot)? as u64;
        let found: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        ensure!(
            found == *settings,
            "{}: settings of the interrupted run: expected {settings}, found {found}; resume with the same, or start anew with --overwrite",
            path.display()
        );
        loop {
            line.clear();
            // A line that is no text was torn, and is the last.
            let Ok(length) = reader.read_line(&mut line) else { break };
            let Ok(entry) = serde_json::from_str::<Entry>(&line) else { break };
            if !line.ends_with('\n') {
                break;
            }
            if let Entry::Image(image) = entry {
                offsets.insert(image.path, end);
            }
            end += length as u64;
        }
        file.set_len(end).with_context(cannot)?;
        Ok(Self { path: path.to_owned(), file, offsets, end })
    }

    /// Whether this image has been looked at.
    pub(crate) fn holds(&self, path: &str) -> bool {
        self.offsets.contains_key(path)
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Keeps an entry; once this returns, the end of the process does not lose it.
    pub(crate) fn push(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let (Entry::Image(super::entry::ImageEntry { path, .. })
        | Entry::Error(crate::inputs::ErrorEntry { path, .. })) = entry;
        let (path, offset) = (path.clone(), self.end);
        self.append(&serde_json::to_string(entry)?)?;
        self.offsets.insert(path, offset);
        Ok(())
    }

    fn append(&mut self, line: &str) -> anyhow::Result<()> {
        let cannot = || format!("{}: cannot write", self.path.display());
        self.file.seek(SeekFrom::Start(self.end)).with_context(cannot)?;
        self.file.write_all(format!("{line}\n").as_bytes()).with_context(cannot)?;
        self.end += line.len() as u64 + 1;
        Ok(())
    }

    /// The entry of an image.
    pub(crate) fn read(&mut self, path: &str) -> anyhow::Result<Entry> {
        let offset = *self.offsets.get(path).with_context(|| format!("{path}: expected an entry, found none"))?;
        let cannot = || format!("{}: cannot read", self.path.display());
        self.file.seek(SeekFrom::Start(offset)).with_context(cannot)?;
        let mut line = String::new();
        BufReader::new(&self.file).read_line(&mut line).with_context(cannot)?;
        serde_json::from_str(&line).with_context(cannot)
    }

    /// Removes the file once the results are written.
    pub(crate) fn remove(self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path).with_context(|| format!("{}: cannot remove", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::ImageEntry;
    use super::*;
    use crate::inputs::ErrorEntry;
    use serde_json::json;

    fn image(path: &str, width: usize) -> Entry {
        Entry::Image(ImageEntry { path: path.to_owned(), width, height: 1, detections: Vec::new() })
    }

    #[test]
    fn a_torn_line_and_a_failure_are_done_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = Journal::path_of(&folder.path().join("out.json"));
        let settings = json!({ "model": "m" });
        let mut journal = Journal::create(&path, &settings).expect("a journal");
        journal.push(&image("a", 1)).expect("room");
        let error = ErrorEntry { path: "b".to_owned(), error: "b: torn".to_owned() };
        journal.push(&Entry::Error(error)).expect("room");
        journal.push(&image("c", 2)).expect("room");
        assert!(matches!(journal.read("b").expect("an entry"), Entry::Error(_)));
        let whole = std::fs::read(&path).expect("a file");
        for cut in 1..=3 {
            std::fs::write(&path, &whole[..whole.len() - cut]).expect("a file");
            let journal = Journal::open(&path, &settings).expect("a journal");
            assert_eq!((journal.holds("a"), journal.holds("b"), journal.holds("c")), (true, false, false), "{cut}");
        }
        let mut journal = Journal::open(&path, &settings).expect("a journal");
        journal.push(&image("c", 3)).expect("room");
        let mut journal = Journal::open(&path, &settings).expect("a journal");
        assert!(matches!(journal.read("c").expect("an entry"), Entry::Image(image) if image.width == 3));
        let message =
            Journal::open(&path, &json!({ "model": "n" })).map(|_| ()).expect_err("other settings").to_string();
        assert!(message.contains("expected {\"model\":\"n\"}, found {\"model\":\"m\"}"), "{message}");
        journal.remove().expect("a file");
        assert!(!path.exists());
    }
}
