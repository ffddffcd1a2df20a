//! Labels and their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::columns::Columns;
use crate::file::{name_of, quoted};
use crate::problems::ProblemLog;
use crate::table::{Table, cell, first_rows};
use crate::{AnnotationError, Class, Effect, Fields, Place, Problems, SetDetails};

/// What a class's label is called among its fields.
pub(super) const LABEL_FIELD: &str = "label_name";

/// The classes of a set by the labels of its tables.
#[derive(Debug, Default)]
pub(super) struct Labels {
    pub(super) classes: Vec<Class>,
    /// The label of each class.
    labels: Vec<String>,
    positions: HashMap<String, usize>,
}

/// Whether a table is one of labels and names.
pub(super) fn is_descriptions(path: &Path) -> bool {
    let is_named = name_of(path).to_lowercase().contains("class-descriptions");
    first_rows(path).into_iter().any(|(delimiter, row)| {
        let first = cell(&row, 0);
        let is_label = first.starts_with("/m/") || first.starts_with("/g/") || first.eq_ignore_ascii_case("LabelName");
        delimiter == b',' && row.len() == 2 && (is_named || is_label)
    })
}

impl Labels {
    /// In the order of the file.
    pub(super) fn read(path: &Path, problems: &mut Problems) -> Result<Self, AnnotationError> {
        let mut log = ProblemLog::new(path);
        let mut labels = Self::default();
        Table::open(path, b',')?.for_each(&mut |line, row| {
            let mut note = |what: String| log.push(Place::Line(line), Effect::Noted, what);
            let row = match row {
                Ok(row) => row,
                Err(what) => return note(what),
            };
            let (label, name) = (cell(row, 0), cell(row, 1));
            let is_header = line == 1 && label.eq_ignore_ascii_case("LabelName");
            if is_header {
            } else if label.is_empty() || name.is_empty() {
                note(format!(
                    "class left out: expected a label and a name, found {} and {}",
                    quoted(label),
                    quoted(name)
                ));
            } else if !labels.add(label, name) {
                note(format!("class left out: expected labels that differ, found {} again", quoted(label)));
            }
        })?;
        problems.append(log.problems);
        Ok(labels)
    }

    /// Every label of these tables, sorted, is its own name.
    pub(super) fn in_use<'a>(tables: impl Iterator<Item = (&'a Path, &'a Columns)>) -> Result<Self, AnnotationError> {
        let mut names = BTreeSet::new();
        for (path, columns) in tables {
            let mut is_header = true;
            Table::open(path, b',')?.for_each(&mut |_, row| {
                if let Ok(row) = row
                    && !std::mem::take(&mut is_header)
                    && !columns.label_of(row).is_empty()
                    && !names.contains(columns.label_of(row))
                {
                    names.insert(columns.label_of(row).to_owned());
                }
            })?;
        }
        let mut labels = Self::default();
        for name in &names {
            labels.add(name, name);
        }
        Ok(labels)
    }

    fn add(&mut self, label: &str, name: &str) -> bool {
        if self.positions.contains_key(label) {
            return false;
        }
        let idx = self.classes.len();
        self.positions.insert(label.to_owned(), idx);
        self.labels.push(label.to_owned());
        self.classes.push(Class { category_id: idx as i64, name: name.to_owned() });
        true
    }

    pub(super) fn class_idx(&self, label: &str) -> Option<usize> {
        self.positions.get(label).copied()
    }

    /// The label of each class whose name is another.
    pub(super) fn details(&self) -> Option<Box<SetDetails>> {
        let mut class_fields: BTreeMap<String, Fields> = BTreeMap::new();
        for (label, class) in self.labels.iter().zip(&self.classes) {
            if *label != class.name {
                let label = serde_json::Value::from(label.as_str()).to_string();
                class_fields.entry(class.name.clone()).or_insert(Fields::from([(LABEL_FIELD.to_owned(), label)]));
            }
        }
        SetDetails { class_fields, ..SetDetails::default() }.boxed()
    }
}
