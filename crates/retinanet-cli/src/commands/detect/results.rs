//! Where what is found goes: standard output as it comes, or a file that is whole or not there.

use super::entry::Entry;
use super::format::{ImageIds, Writer, write_class_names, write_yolo};
use super::journal::Journal;
use crate::args::{DetectArgs, ResultFormat};
use crate::inputs::ErrorEntry;
use anyhow::{Context, bail};
use retinanet_annotations::{Class, remove_abandoned, write_atomically};
use serde_json::Value;
use std::io::{Stdout, Write};
use std::path::{Path, PathBuf};

/// The results of a run.
pub(crate) enum Results<'a> {
    /// A line an image, for a person.
    Lines,
    /// In a form for programs, on standard output.
    Stream(Writer<'a, Stdout>),
    /// In a file, made of the journal when all is done.
    File { journal: Journal, format: ResultFormat, path: PathBuf },
}

/// The form that was asked for, by name or by the ending of the file.
pub(crate) fn format(args: &DetectArgs) -> anyhow::Result<Option<ResultFormat>> {
    let asked = if args.json { Some(ResultFormat::Json) } else { args.format };
    match (asked, &args.results) {
        (Some(ResultFormat::Yolo), None) => bail!("--format yolo: expected --results with a folder, found none"),
        (Some(format), _) => Ok(Some(format)),
        (None, None) => Ok(None),
        (None, Some(path)) => match path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).as_deref() {
            Some("json") => Ok(Some(ResultFormat::Json)),
            Some("jsonl" | "ndjson") => Ok(Some(ResultFormat::Jsonl)),
            Some("csv") => Ok(Some(ResultFormat::Csv)),
            _ => bail!(
                "{}: form of the results: expected --format, or the ending .json, .jsonl or .csv, found neither",
                path.display()
            ),
        },
    }
}

impl<'a> Results<'a> {
    /// None where the results of an interrupted run turn out to be complete already.
    pub(crate) fn open(
        args: &DetectArgs,
        format: Option<ResultFormat>,
        ids: &'a ImageIds,
        settings: &Value,
    ) -> anyhow::Result<Option<Self>> {
        let Some(format) = format else { return Ok(Some(Self::Lines)) };
        let Some(path) = &args.results else {
            let model = args.model.as_deref().unwrap_or_default();
            return Ok(Some(Self::Stream(Writer::begin(format, ids, model, std::io::stdout())?)));
        };
        let partial = Journal::path_of(path);
        let (is_done, is_begun) = (path.exists(), partial.exists());
        let journal = match (args.resume, args.overwrite) {
            (true, _) if is_begun => Journal::open(&partial, settings)?,
            (true, _) if is_done => return Ok(None),
            (false, false) if is_done => {
                bail!("{}: results: expected a new file, found one; replace it with --overwrite", path.display())
            }
            (false, false) if is_begun => bail!(
                "{}: results: an interrupted run left these; go on with --resume, or start anew with --overwrite",
                partial.display()
            ),
            _ => Journal::create(&partial, settings)?,
        };
        Ok(Some(Self::File { journal, format, path: path.clone() }))
    }

    /// Whether an interrupted run has looked at this image.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        matches!(self, Self::File { journal, .. } if journal.holds(&path.display().to_string()))
    }

    /// How many images an interrupted run has looked at.
    pub(crate) fn num_held(&self) -> usize {
        if let Self::File { journal, .. } = self { journal.len() } else { 0 }
    }

    /// Whether standard output is free for lines that a person reads.
    pub(crate) fn leaves_stdout(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }

    pub(crate) fn push(&mut self, position: usize, entry: &Entry) -> anyhow::Result<()> {
        match self {
            Self::Lines => Ok(()),
            Self::Stream(writer) => writer.entry(position, entry).context("standard output: cannot write"),
            Self::File { journal, .. } => journal.push(entry),
        }
    }

    /// Ends the output. Of an interrupted run the journal stays, and its path is given.
    pub(crate) fn finish(
        self,
        items: &[Result<PathBuf, ErrorEntry>],
        stems: &[String],
        is_complete: bool,
        labels: &Labels<'_>,
    ) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::Lines => Ok(None),
            Self::Stream(writer) => writer.finish().map(|()| None).context("standard output: cannot write"),
            Self::File { path, .. } if !is_complete => Ok(Some(Journal::path_of(&path))),
            Self::File { mut journal, format: ResultFormat::Yolo, path } => {
                std::fs::create_dir_all(&path)
                    .with_context(|| format!("{}: cannot make the folder", path.display()))?;
                for (item, stem) in items.iter().zip(stems) {
                    let Ok(image) = item else { continue };
                    if let Entry::Image(image) = journal.read(&image.display().to_string())? {
                        write_yolo(&path.join(format!("{stem}.txt")), &image, labels.classes)?;
                    }
                }
                write_class_names(&path, labels.classes)?;
                journal.remove().map(|()| None)
            }
            Self::File { mut journal, format, path } => {
                remove_abandoned(&path);
                let mut failure = None;
                let written = write_atomically(&path, |out| {
                    write_entries(&mut journal, format, items, labels, out).map_err(|error| {
                        let text = error.to_string();
                        failure = Some(error);
                        std::io::Error::other(text)
                    })
                });
                match (written, failure) {
                    (Err(_), Some(failure)) => return Err(failure),
                    (Err(error), None) => {
                        return Err(error).with_context(|| format!("{}: cannot write", path.display()));
                    }
                    (Ok(()), _) => {}
                }
                journal.remove().map(|()| None)
            }
        }
    }
}

/// What results say beside what was found.
pub(crate) struct Labels<'a> {
    pub(crate) model: &'a str,
    pub(crate) classes: &'a [Class],
    pub(crate) ids: &'a ImageIds,
}

fn write_entries(
    journal: &mut Journal,
    format: ResultFormat,
    items: &[Result<PathBuf, ErrorEntry>],
    labels: &Labels<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut writer = Writer::begin(format, labels.ids, labels.model, out)?;
    for (position, item) in items.iter().enumerate() {
        let entry = match item {
            Ok(path) => journal.read(&path.display().to_string())?,
            Err(error) => Entry::Error(error.clone()),
        };
        writer.entry(position, &entry)?;
    }
    writer.finish()
}
