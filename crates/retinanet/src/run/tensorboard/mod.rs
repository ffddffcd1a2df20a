//! TensorBoard's event files: `tensorboard --logdir runs` shows every run beside the others.

mod messages;
mod records;

use super::append::AppendedFile;
use super::error::{RunError, io_error};
use super::folder::{EVENTS_PREFIX, EVENTS_SUFFIX, RunFolder};
use messages::{Content, Event, Image, Summary, Value, What};
use prost::Message;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// An event file while it grows.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: AppendedFile,
}

/// A picture, encoded.
#[derive(Clone, Copy, Debug)]
pub struct EncodedPicture<'a> {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The bytes of a PNG file.
    pub png: &'a [u8],
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedValue {
    /// The step of the optimiser.
    pub step: usize,
    /// Seconds since 1970.
    pub wall_time: f64,
    /// The name, with parts set off by slashes.
    pub tag: String,
    /// The number; none for a picture.
    pub scalar: Option<f32>,
}

impl EventFile {
    /// An empty event file in a run folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(folder: &RunFolder) -> Result<Self, RunError> {
        let seconds = wall_time();
        let name = format!("{EVENTS_PREFIX}{}.{}{EVENTS_SUFFIX}", seconds as u64, std::process::id());
        let path = folder.path().join(name);
        let file = AppendedFile::create(&path).map_err(io_error(&path))?;
        let mut events = Self { path, file };
        events.append(0, What::FileVersion("brain.Event:2".to_owned()))?;
        Ok(events)
    }

    /// The last event file of a run folder, cut before the first event with a value that is not known; a new one where there
    /// is none that begins as such a file.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(super) fn resume(folder: &RunFolder, is_known: impl Fn(&LoggedValue) -> bool) -> Result<Self, RunError> {
        let Some(path) = folder.events().pop() else { return Self::create(folder) };
        let mut reader = BufReader::new(File::open(&path).map_err(io_error(&path))?);
        let mut length = 0;
        // What cannot be read was being written when the run was killed.
        while let Ok(Some(data)) = records::read(&mut reader) {
            let Ok(event) = Event::decode(data.as_slice()) else { break };
            if !values(event).all(|value| is_known(&value)) {
                break;
            }
            length += records::frame(&data).len() as u64;
        }
        drop(reader);
        if length == 0 {
            return Self::create(folder);
        }
        let file = AppendedFile::resume(&path, length).map_err(io_error(&path))?;
        Ok(Self { path, file })
    }

    /// Waits until all events are on the disk.
    pub(super) fn sync(&self) -> Result<(), RunError> {
        self.file.sync().map_err(io_error(&self.path))
    }

    /// Adds numbers at a step.
    ///
    /// # Errors
    /// The file cannot be written; it keeps what it had.
    pub fn scalars<T: Into<String>>(
        &mut self,
        step: usize,
        scalars: impl IntoIterator<Item = (T, f64)>,
    ) -> Result<(), RunError> {
        let value = |(tag, number): (T, f64)| Value { tag: tag.into(), content: Some(Content::Simple(number as f32)) };
        let values = scalars.into_iter().map(value).collect();
        self.append(step, What::Summary(Summary { values }))
    }

    /// Adds a picture at a step.
    ///
    /// # Errors
    /// The file cannot be written; it keeps what it had.
    pub fn picture(&mut self, step: usize, tag: &str, picture: EncodedPicture<'_>) -> Result<(), RunError> {
        let side = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
        let EncodedPicture { width, height, png } = picture;
        let image = Image { height: side(height), width: side(width), colorspace: 3, encoded: png.to_vec() };
        let values = vec![Value { tag: tag.to_owned(), content: Some(Content::Image(image)) }];
        self.append(step, What::Summary(Summary { values }))
    }

    fn append(&mut self, step: usize, what: What) -> Result<(), RunError> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let event = Event { wall_time: wall_time(), step, what: Some(what) };
        self.file.append(&records::frame(&event.encode_to_vec())).map_err(io_error(&self.path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Reads back the values of an event file, up to a last one that is cut short.
///
/// # Errors
/// The file cannot be read, a check sum differs, or a record is no event.
pub fn read_events(path: &Path) -> Result<Vec<LoggedValue>, RunError> {
    let mut reader = BufReader::new(File::open(path).map_err(io_error(path))?);
    let mut found = Vec::new();
    while let Some(data) = records::read(&mut reader).map_err(io_error(path))? {
        let event = Event::decode(data.as_slice())
            .map_err(|error| io_error(path)(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?;
        found.extend(values(event));
    }
    Ok(found)
}

/// The values of an event; none where it has another use.
fn values(event: Event) -> impl Iterator<Item = LoggedValue> {
    let Event { wall_time, step, what } = event;
    let values = if let Some(What::Summary(summary)) = what { summary.values } else { Vec::new() };
    values.into_iter().map(move |value| LoggedValue {
        step: usize::try_from(step).unwrap_or(0),
        wall_time,
        tag: value.tag,
        scalar: match value.content {
            Some(Content::Simple(scalar)) => Some(scalar),
            Some(Content::Image(_)) | None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let mut events = EventFile::create(&RunFolder::new(folder.path()))?;
        events.scalars(7, [("loss/class", 0.25), ("loss/box", f64::NAN)])?;
        events.picture(7, "first_batch", EncodedPicture { width: 2, height: 1, png: b"PNG" })?;
        events.scalars::<String>(8, [])?;
        let found = read_events(events.path())?;
        let tags: Vec<_> = found.iter().map(|value| (value.step, value.tag.as_str())).collect();
        assert_eq!(tags, [(7, "loss/class"), (7, "loss/box"), (7, "first_batch")]);
        assert_eq!((found[0].scalar, found[2].scalar), (Some(0.25), None));
        assert!(found[1].scalar.is_some_and(f32::is_nan) && found[0].wall_time > 1.6e9);
        Ok(())
    }

    #[test]
    fn a_file_goes_on_before_what_is_not_known() -> Result<(), Box<dyn std::error::Error>> {
        let temporary = tempfile::tempdir()?;
        let folder = RunFolder::new(temporary.path());
        // A folder without events gets some.
        let mut events = EventFile::resume(&folder, |_| true)?;
        for step in 1..=4 {
            events.scalars(step, [("loss/class", 0.5)])?;
        }
        let path = events.path().to_owned();
        drop(events);
        let bytes = std::fs::read(&path)?;
        for cut in [bytes.len(), bytes.len() - 3] {
            std::fs::write(&path, &bytes[..cut])?;
            let mut events = EventFile::resume(&folder, |value| value.step <= 2)?;
            events.scalars(30, [("loss/class", 0.25)])?;
            events.sync()?;
            let steps: Vec<usize> = read_events(&path)?.iter().map(|value| value.step).collect();
            assert_eq!((steps.as_slice(), folder.events().len()), (&[1, 2, 30][..], 1));
        }
        Ok(())
    }
}
