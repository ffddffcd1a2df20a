//! Rows of a table of text, with bounds.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use csv::StringRecord;

use crate::file::{JSON_LIMIT, first_bytes, refuse_utf16, without_mark};
use crate::{AnnotationError, write_atomically};

/// No row of boxes is longer; a quote without its end would take the rest of the file for one.
const LONGEST_ROW: u64 = 1 << 20;

/// What may stand between the columns.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// A table that is read row by row.
pub(crate) struct Table {
    path: PathBuf,
    reader: csv::Reader<Bounded<BufReader<File>>>,
    since_row: Rc<Cell<u64>>,
}

/// Fails where a row has no end.
struct Bounded<R> {
    inner: R,
    since_row: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.since_row.set(self.since_row.get() + count as u64);
        if self.since_row.get() > LONGEST_ROW + (1 << 16) {
            let what = format!("row: expected at most {LONGEST_ROW} bytes, found more");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(count)
    }
}

impl Table {
    pub(crate) fn open(path: &Path, delimiter: u8) -> Result<Self, AnnotationError> {
        let io = |source| AnnotationError::Io { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => AnnotationError::NotFound { path: path.to_owned() },
            _ => io(error),
        })?;
        if !metadata.is_file() {
            return Err(AnnotationError::content(path, "kind", "a file", "something else"));
        }
        if metadata.len() > JSON_LIMIT {
            let expected = format!("at most {JSON_LIMIT} bytes");
            return Err(AnnotationError::content(path, "length", expected, metadata.len()));
        }
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let start = file.fill_buf().map_err(io)?;
        refuse_utf16(path, start)?;
        let mark = start.len() - without_mark(start).len();
        file.consume(mark);
        let since_row = Rc::new(Cell::new(0));
        let bounded = Bounded { inner: file, since_row: Rc::clone(&since_row) };
        let reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bounded);
        Ok(Self { path: path.to_owned(), reader, since_row })
    }

    /// Calls `on_row` with each row and its line, from 1; an error of the row is one of the text: it is not UTF-8.
    pub(crate) fn for_each(
        mut self,
        on_row: &mut dyn FnMut(usize, Result<&StringRecord, String>),
    ) -> Result<(), AnnotationError> {
        let mut record = csv::ByteRecord::new();
        loop {
            self.since_row.set(0);
            match self.reader.read_byte_record(&mut record) {
                Ok(false) => return Ok(()),
                Ok(true) => {
                    let line = record.position().map_or(0, csv::Position::line) as usize;
                    match StringRecord::from_byte_record(record) {
                        Ok(text) => {
                            on_row(line, Ok(&text));
                            record = text.into_byte_record();
                        }
                        Err(error) => {
                            on_row(line, Err("text: expected UTF-8, found other bytes".to_owned()));
                            record = error.into_byte_record();
                        }
                    }
                }
                Err(error) => {
                    let line = self.reader.position().line() as usize;
                    return Err(AnnotationError::Syntax {
                        path: self.path,
                        line,
                        column: 0,
                        message: match error.into_kind() {
                            csv::ErrorKind::Io(error) => error.to_string(),
                            _ => "CSV: expected a row, found none".to_owned(),
                        },
                    });
                }
            }
        }
    }
}

/// The first row of a table, by each of the usual delimiters; none where it is no text.
pub(crate) fn first_rows(path: &Path) -> Vec<(u8, StringRecord)> {
    let bytes = first_bytes(path);
    let text = without_mark(&bytes);
    // What was read may end in the middle of a character.
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default(),
    };
    let first = |delimiter| {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(text.as_bytes());
        let mut record = StringRecord::new();
        reader.read_record(&mut record).ok()?.then_some((delimiter, record))
    };
    DELIMITERS.into_iter().filter_map(first).collect()
}

/// The column of the first of these names, in any case.
pub(crate) fn column(header: &StringRecord, names: &[&str]) -> Option<usize> {
    let is_called = |name: &&str| header.iter().position(|found| found.trim().eq_ignore_ascii_case(name));
    names.iter().find_map(is_called)
}

/// The text of a column without blanks around it; empty where the row is too short.
///
/// Where files were put together, the mark before the text of one stands in the middle, and is no part of a name.
pub(crate) fn cell(row: &StringRecord, column: usize) -> &str {
    let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    row.get(column).unwrap_or_default().trim_matches(is_blank)
}

/// Writes a file of rows, whole or not at all.
pub(crate) fn write_rows(
    path: &Path,
    write: &mut dyn FnMut(&mut csv::Writer<&mut dyn io::Write>) -> csv::Result<()>,
) -> Result<(), AnnotationError> {
    let written = write_atomically(path, |output| {
        let mut writer = csv::Writer::from_writer(output);
        write(&mut writer).map_err(io::Error::from)?;
        writer.flush()
    });
    written.map_err(|source| AnnotationError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_no_blanks_and_no_marks_around_them() {
        let row = StringRecord::from(vec!["\u{feff}dog ", "\t\u{feff}", "a\u{feff}b"]);
        assert_eq!([0, 1, 2, 3].map(|column| cell(&row, column)), ["dog", "", "a\u{feff}b", ""]);
    }
}
