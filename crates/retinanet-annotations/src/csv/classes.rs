//! The file that gives each class its id: `name,id`.

use std::collections::HashSet;
use std::path::Path;

use crate::file::quoted;
use crate::problems::ProblemLog;
use crate::table::{Table, cell, first_rows};
use crate::{AnnotationError, Class, Effect, Place, Problems};

/// Whether the first row is a name and a whole number, or the names of such columns.
pub(super) fn is_mapping(path: &Path) -> bool {
    first_rows(path).into_iter().any(|(delimiter, row)| {
        let is_id = |text: &str| text.parse::<i64>().is_ok();
        delimiter == b','
            && row.len() == 2
            && !cell(&row, 0).is_empty()
            && (is_id(cell(&row, 1)) || is_header(cell(&row, 1)))
    })
}

fn is_header(text: &str) -> bool {
    ["id", "class_id", "category_id", "index"].iter().any(|name| text.eq_ignore_ascii_case(name))
}

/// Sorted by id.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Result<Vec<Class>, AnnotationError> {
    let mut log = ProblemLog::new(path);
    let mut classes: Vec<Class> = Vec::new();
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    Table::open(path, b',')?.for_each(&mut |line, row| {
        let mut note = |what: String| log.push(Place::Line(line), Effect::Noted, what);
        let row = match row {
            Ok(row) => row,
            Err(what) => return note(what),
        };
        let (name, id) = (cell(row, 0), cell(row, 1));
        if line == 1 && is_header(id) {
            return;
        }
        let Some(category_id) = id.parse::<i64>().ok().filter(|_| !name.is_empty()) else {
            return note(format!(
                "class left out: expected a name and a whole number, found {} and {}",
                quoted(name),
                quoted(id)
            ));
        };
        if !ids.insert(category_id) || !names.insert(name.to_owned()) {
            return note(format!(
                "class left out: expected names and ids that differ, found {},{category_id} again",
                quoted(name)
            ));
        }
        classes.push(Class { category_id, name: name.to_owned() });
    })?;
    problems.append(log.problems);
    classes.sort_by_key(|class| class.category_id);
    Ok(classes)
}
