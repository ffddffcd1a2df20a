//! CSV: a row for each box, as keras-retinanet reads them, and tables with a header.
//!
//! A row is `path,x1,y1,x2,y2,class_name`, in pixels; one with all but the path empty is an image without boxes. A second
//! file may give the ids, `class_name,id`. A table with a header has its columns found by their names, in any order.
//! Paths are relative to the table.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use retinanet_anchors::ImageSize;

use crate::file::{folders, name_of, quoted, stem_of, with_extension};
use crate::geometry::{defect, outside};
use crate::images::{ImagesByName, Located};
use crate::problems::ProblemLog;
use crate::recognise::Reading;
use crate::split::{self, spellings, words};
use crate::table::Table;
use crate::{AnnotatedImage, Annotation, AnnotationError, AnnotationSet, Class, Effect, Place, Problems};

mod classes;
mod layout;
mod write;

use layout::{Layout, Row};
pub(crate) use write::write;

/// Tables of a folder, or one table.
#[derive(Debug)]
pub(crate) struct CsvFolder {
    path: PathBuf,
    /// Name of the split, its table and how that is laid out.
    tables: Vec<(String, PathBuf, Layout)>,
    /// The file that gives the ids of the classes.
    classes: Option<PathBuf>,
}

impl CsvFolder {
    /// A single table, which is one split.
    pub(crate) fn file(path: &Path) -> Option<Self> {
        let layout = Layout::of(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let classes = with_extension(folder, "csv").into_iter().find(|path| classes::is_mapping(path));
        Some(Self { path: path.to_owned(), tables: vec![(split_name(path), path.to_owned(), layout)], classes })
    }

    /// `*.csv` in a folder, or one table in each folder of a split.
    pub(crate) fn find(root: &Path) -> Option<Self> {
        let beside = with_extension(root, "csv");
        let with_layout = |path: PathBuf| Layout::of(&path).map(|layout| (split_name(&path), path, layout));
        let mut tables: Vec<_> = beside.iter().cloned().filter_map(with_layout).collect();
        if tables.is_empty() {
            tables = folders(root)
                .iter()
                .filter_map(|f| with_extension(f, "csv").into_iter().find_map(with_layout))
                .collect();
        }
        let classes = beside.into_iter().find(|path| classes::is_mapping(path));
        (!tables.is_empty()).then(|| Self { path: root.to_owned(), tables, classes })
    }

    pub(crate) fn splits(&self) -> Vec<String> {
        self.tables.iter().map(|(name, _, _)| name.clone()).collect()
    }

    pub(crate) fn read(&self, request: Option<&[&str]>, _: &Reading) -> Result<AnnotationSet, AnnotationError> {
        let chosen = split::choose(&self.path, request, &self.splits())?;
        let mut problems = Problems::default();
        let classes = match &self.classes {
            Some(path) => classes::read(path, &mut problems)?,
            None => self.classes_in_use()?,
        };
        let positions: HashMap<&str, usize> = classes.iter().map(|class| class.name.as_str()).zip(0..).collect();
        let mut images = Images::default();
        for idx in chosen {
            let (name, path, layout) = &self.tables[idx];
            let mut finder = finder(path, name);
            let mut log = ProblemLog::new(path);
            layout.for_each(path, &mut |line, row| match row {
                Err(what) => log.push(Place::Line(line), Effect::BoxDropped, what),
                Ok(row) => images.add(&row, line, &positions, &mut finder, &mut log),
            })?;
            problems.append(log.problems);
        }
        Ok(AnnotationSet { images: images.images, classes, problems, details: None })
    }

    /// The names in all tables, whatever the split, sorted.
    fn classes_in_use(&self) -> Result<Vec<Class>, AnnotationError> {
        let mut names = BTreeSet::new();
        for (_, path, layout) in &self.tables {
            layout.for_each(path, &mut |_, row| {
                if let Ok(Row { class, corners: Ok(Some(_)), .. }) = row
                    && !class.is_empty()
                    && !names.contains(class)
                {
                    names.insert(class.to_owned());
                }
            })?;
        }
        Ok(names.into_iter().zip(0..).map(|(name, category_id)| Class { category_id, name }).collect())
    }
}

/// Roboflow names a split by its folder; elsewhere the file's name has it.
fn split_name(table: &Path) -> String {
    let stem = stem_of(table);
    let is_general = words(&stem).all(|word| word.eq_ignore_ascii_case("annotations"));
    match table.parent().map(name_of) {
        Some(folder) if is_general && stem.starts_with('_') && !folder.is_empty() => folder,
        _ => stem,
    }
}

/// Images lie beside the table, or in the folders where they usually lie.
fn finder(table: &Path, split: &str) -> ImagesByName {
    let beside = table.parent().unwrap_or(Path::new(""));
    let mut candidates = vec![beside.to_owned()];
    for base in [beside.join("images"), beside.to_owned(), beside.join("JPEGImages")] {
        candidates.extend(std::iter::once(split).chain(words(split)).flat_map(spellings).map(|name| base.join(name)));
        candidates.push(base);
    }
    for folder in folders(beside) {
        candidates.extend(["JPEGImages", "images", ""].map(|name| folder.join(name)));
    }
    ImagesByName::new(beside, candidates)
}

/// Images in the order in which they first come.
#[derive(Default)]
struct Images {
    images: Vec<AnnotatedImage>,
    positions: HashMap<PathBuf, usize>,
    /// Saves looking for the file again where an image's rows follow each other.
    last: Option<(String, usize)>,
}

impl Images {
    fn add(
        &mut self,
        row: &Row,
        line: usize,
        classes: &HashMap<&str, usize>,
        finder: &mut ImagesByName,
        log: &mut ProblemLog,
    ) {
        if row.path.is_empty() {
            log.push(Place::Line(line), Effect::BoxDropped, "path: expected one, found nothing");
            return;
        }
        let idx = self.image(row, line, finder, log);
        let image = &mut self.images[idx];
        image.size = image.size.or(row.size);
        match annotation(row, classes, image.size) {
            Err(what) => log.push(Place::Line(line), Effect::BoxDropped, what),
            Ok(None) => {}
            Ok(Some((annotation, note))) => {
                if let Some(note) = note {
                    log.push(Place::Line(line), Effect::Noted, note);
                }
                image.annotations.push(annotation);
            }
        }
    }

    fn image(&mut self, row: &Row, line: usize, finder: &mut ImagesByName, log: &mut ProblemLog) -> usize {
        if let Some((name, idx)) = &self.last
            && name == row.path
        {
            return *idx;
        }
        let Located { path, note } = finder.locate(row.path);
        let idx = *self.positions.entry(path.clone()).or_insert_with(|| {
            if let Some(note) = note {
                log.push(Place::Line(line), Effect::Noted, note);
            }
            let id = self.images.len() as i64 + 1;
            let file_name = row.path.to_owned();
            self.images.push(AnnotatedImage { id, path, file_name, ..AnnotatedImage::default() });
            self.images.len() - 1
        });
        self.last = Some((row.path.to_owned(), idx));
        idx
    }
}

/// The box of a row and what is to be said of it, or none for an image without boxes.
fn annotation(
    row: &Row,
    classes: &HashMap<&str, usize>,
    size: Option<ImageSize>,
) -> Result<Option<(Annotation, Option<String>)>, String> {
    let Some([left, top, right, bottom]) = row.corners.clone()? else {
        return match row.class {
            "" => Ok(None),
            class => Err(format!("box: expected four numbers for the class, found only {}", quoted(class))),
        };
    };
    let class_idx = classes.get(row.class).copied().ok_or_else(|| match row.class {
        "" => "class: expected a name, found nothing".to_owned(),
        class => format!("class: expected one of the class file, found {}", quoted(class)),
    })?;
    let xywh = [left, top, right - left, bottom - top];
    match defect(xywh) {
        Some(what) => Err(what),
        None => Ok(Some((Annotation::new(class_idx, xywh), outside(xywh, size)))),
    }
}

/// Calls `on_row` with what each row says, but for the header.
impl Layout {
    fn for_each(&self, path: &Path, on_row: &mut dyn FnMut(usize, Result<Row, String>)) -> Result<(), AnnotationError> {
        let mut is_header = self.has_header;
        Table::open(path, self.delimiter)?.for_each(&mut |line, record| {
            if std::mem::take(&mut is_header) {
                return;
            }
            on_row(line, record.map(|record| self.row(record)));
        })
    }
}
