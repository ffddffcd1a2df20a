//! Open Images: a row for each box, relative to the size of its image.
//!
//! A table of boxes has a header with `ImageID`, `LabelName`, `XMin`, `XMax`, `YMin` and `YMax`, and often `Source`,
//! `Confidence` and flags. `class-descriptions-boxable.csv` gives labels such as `/m/0bt9lr` their names. A group of
//! objects in one box (`IsGroupOf`) is a crowd.
//!
//! Most have a part of the images only: where some image files of a table are there, the others are left out, which is
//! noted. A table of images (`ImageID` without boxes) adds those that have none.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::file::{has_extension, name_of, quoted, stem_of, with_extension};
use crate::images::ImagesByStem;
use crate::problems::ProblemLog;
use crate::recognise::Reading;
use crate::split::{self, spellings};
use crate::table::{Table, cell};
use crate::{AnnotatedImage, AnnotationError, AnnotationSet, Effect, Place, Problem, Problems};

mod classes;
mod columns;
mod hierarchy;
mod write;

use classes::Labels;
use columns::Columns;
pub(crate) use write::write;

/// Tables of boxes in a folder, or one of them.
#[derive(Debug)]
pub(crate) struct OpenImagesFolder {
    path: PathBuf,
    root: PathBuf,
    tables: Vec<(String, PathBuf, Columns)>,
    /// Tables of images without boxes, with the split that each belongs to.
    image_lists: Vec<(String, PathBuf)>,
    descriptions: Option<PathBuf>,
    hierarchy: Option<PathBuf>,
}

impl OpenImagesFolder {
    /// A single table of boxes; classes, images and hierarchy lie beside it.
    pub(crate) fn file(path: &Path) -> Option<Self> {
        let columns = Columns::of(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut found = Self::with_tables(path, folder, vec![(path.to_owned(), columns)]);
        found.look_beside(&with_extension(folder, "csv"), folder);
        Some(found)
    }

    /// Tables in a folder, or in the folders in it that are not of images.
    pub(crate) fn find(root: &Path) -> Option<Self> {
        let mut csv = with_extension(root, "csv");
        for name in ["annotations", "labels", "boxes", "csv", "csv_folder", "metadata"] {
            csv.extend(with_extension(&root.join(name), "csv"));
        }
        let tables: Vec<_> = csv.iter().filter_map(|path| Some((path.clone(), Columns::of(path)?))).collect();
        if tables.is_empty() {
            return None;
        }
        let mut found = Self::with_tables(root, root, tables);
        found.look_beside(&csv, root);
        Some(found)
    }

    fn with_tables(path: &Path, root: &Path, tables: Vec<(PathBuf, Columns)>) -> Self {
        let mut names: Vec<String> = tables.iter().map(|(table, _)| split_name(table)).collect();
        // Where two tables are of one split, their whole names tell them apart.
        let is_shared: Vec<bool> =
            names.iter().map(|name| names.iter().filter(|other| *other == name).count() > 1).collect();
        for ((name, is_shared), (table, _)) in names.iter_mut().zip(is_shared).zip(&tables) {
            if is_shared {
                *name = stem_of(table);
            }
        }
        let tables = names.into_iter().zip(tables).map(|(name, (table, columns))| (name, table, columns)).collect();
        let (path, root) = (path.to_owned(), root.to_owned());
        Self { path, root, tables, image_lists: Vec::new(), descriptions: None, hierarchy: None }
    }

    /// Finds the other files of a set among the tables beside it, and the hierarchy in the folder.
    fn look_beside(&mut self, csv: &[PathBuf], folder: &Path) {
        let is_table = |path: &PathBuf| self.tables.iter().any(|(_, table, _)| table == path);
        let others: Vec<&PathBuf> = csv.iter().filter(|path| !is_table(path)).collect();
        // The classes with boxes before those of the whole set, which are thousands.
        let descriptions = others.iter().filter(|path| classes::is_descriptions(path));
        self.descriptions =
            descriptions.min_by_key(|path| !name_of(path).contains("boxable")).map(|path| (*path).clone());
        let lists = others.iter().filter(|path| Columns::is_image_list(path));
        self.image_lists = lists.map(|path| (split_name(path), (*path).clone())).collect();
        let mut json: Vec<PathBuf> =
            csv.iter().filter_map(|path| path.parent()).flat_map(|f| with_extension(f, "json")).collect();
        json.extend(with_extension(folder, "json"));
        self.hierarchy = json.into_iter().find(|path| name_of(path).to_lowercase().contains("hierarchy"));
    }

    pub(crate) fn splits(&self) -> Vec<String> {
        self.tables.iter().map(|(name, _, _)| name.clone()).collect()
    }

    pub(crate) fn read(&self, request: Option<&[&str]>, reading: &Reading) -> Result<AnnotationSet, AnnotationError> {
        let chosen = split::choose(&self.path, request, &self.splits())?;
        let mut problems = Problems::default();
        let labels = match &self.descriptions {
            Some(path) => Labels::read(path, &mut problems)?,
            None => Labels::in_use(self.tables.iter().map(|(_, path, columns)| (path.as_path(), columns)))?,
        };
        let ancestors = match &self.hierarchy {
            Some(path) if reading.expand_hierarchy => hierarchy::ancestors(path, &labels, &mut problems)?,
            None if reading.expand_hierarchy => {
                let expected = "a file whose name has hierarchy in it";
                return Err(AnnotationError::content(&self.path, "hierarchy", expected, "none"));
            }
            _ => HashMap::new(),
        };
        let mut images = Vec::new();
        for idx in chosen {
            let (name, path, columns) = &self.tables[idx];
            let files = ImagesByStem::new(self.image_folders(path, name));
            let mut split = Split {
                reading,
                columns,
                labels: &labels,
                ancestors: &ancestors,
                files,
                images: Vec::new(),
                positions: HashMap::new(),
            };
            for (_, list) in
                self.image_lists.iter().filter(|(list, _)| self.tables.len() == 1 || split::is_same(list, name))
            {
                split.read_list(list, &mut problems)?;
            }
            split.read_boxes(path, &mut problems)?;
            images.append(&mut split.images);
        }
        for (image, id) in images.iter_mut().zip(1..) {
            image.id = id;
        }
        let details = if reading.details { labels.details() } else { None };
        Ok(AnnotationSet { classes: labels.classes, images, problems, details })
    }

    /// Where the images of a split usually lie.
    fn image_folders(&self, table: &Path, split: &str) -> Vec<PathBuf> {
        let beside = table.parent().unwrap_or(Path::new(""));
        let mut found = Vec::new();
        for root in [self.root.as_path(), beside] {
            for base in [root.to_owned(), root.join("images"), root.join("data")] {
                let names = spellings(split)
                    .into_iter()
                    .flat_map(|name| [base.join(name), base.join(name).join("data"), base.join(name).join("images")]);
                found.extend(names);
            }
            found.extend([root.join("images"), root.join("data"), root.to_owned()]);
        }
        let mut unique: Vec<PathBuf> = Vec::new();
        for folder in found {
            if !unique.contains(&folder) {
                unique.push(folder);
            }
        }
        unique
    }
}

/// The usual split that a file's name has among its words, else the name without what all such files are called.
fn split_name(table: &Path) -> String {
    let stem = stem_of(table);
    let usual = ["train", "validation", "val", "test"]
        .into_iter()
        .find(|name| split::words(&stem).any(|word| split::is_same(word, name)));
    let own = ["-annotations-bbox", "-images"].into_iter().find_map(|end| stem.strip_suffix(end)).unwrap_or(&stem);
    usual.unwrap_or(own).to_owned()
}

/// One split while it is read.
struct Split<'a> {
    reading: &'a Reading<'a>,
    columns: &'a Columns,
    labels: &'a Labels,
    ancestors: &'a HashMap<usize, BTreeSet<usize>>,
    files: ImagesByStem,
    images: Vec<AnnotatedImage>,
    /// By image id; none for an image that is left out.
    positions: HashMap<String, Option<usize>>,
}

impl Split<'_> {
    fn read_list(&mut self, list: &Path, problems: &mut Problems) -> Result<(), AnnotationError> {
        let Some((column, _)) = Columns::image_id(list) else { return Ok(()) };
        let mut log = ProblemLog::new(list);
        let mut is_header = true;
        Table::open(list, b',')?.for_each(&mut |line, row| match row {
            _ if std::mem::take(&mut is_header) => {}
            Err(what) => log.push(Place::Line(line), Effect::Noted, what),
            Ok(row) if cell(row, column).is_empty() => {
                log.push(Place::Line(line), Effect::Noted, "ImageID: expected one, found nothing");
            }
            Ok(row) => drop(self.image(cell(row, column), line, &mut log)),
        })?;
        problems.append(log.problems);
        Ok(())
    }

    fn read_boxes(&mut self, path: &Path, problems: &mut Problems) -> Result<(), AnnotationError> {
        let mut log = ProblemLog::new(path);
        let mut is_header = true;
        Table::open(path, b',')?.for_each(&mut |line, row| match row {
            _ if std::mem::take(&mut is_header) => {}
            Err(what) => log.push(Place::Line(line), Effect::BoxDropped, what),
            Ok(row) => {
                let image_id = self.columns.image_id_of(row);
                if image_id.is_empty() {
                    log.push(Place::Line(line), Effect::BoxDropped, "ImageID: expected one, found nothing");
                    return;
                }
                let Some(idx) = self.image(image_id, line, &mut log) else { return };
                let size = self.images[idx].size;
                match self.columns.annotation(row, size, self.labels, self.reading.details) {
                    Err(what) => log.push(Place::Line(line), Effect::BoxDropped, what),
                    Ok(annotation) => {
                        let own = annotation.class_idx;
                        for &class_idx in self.ancestors.get(&own).into_iter().flatten() {
                            let mut expanded = annotation.clone();
                            expanded.class_idx = class_idx;
                            self.images[idx].annotations.push(expanded);
                        }
                        self.images[idx].annotations.push(annotation);
                    }
                }
            }
        })?;
        problems.append(log.problems);
        Ok(())
    }

    /// The position of an image, which is measured when it first comes.
    fn image(&mut self, image_id: &str, line: usize, log: &mut ProblemLog) -> Option<usize> {
        if let Some(known) = self.positions.get(image_id) {
            return *known;
        }
        let position = self.new_image(image_id, line, log);
        self.positions.insert(image_id.to_owned(), position);
        position
    }

    fn new_image(&mut self, image_id: &str, line: usize, log: &mut ProblemLog) -> Option<usize> {
        let found = self.files.find(None, image_id).cloned();
        if found.is_none() && !self.files.is_empty() {
            let what = format!("image left out: expected a file {}.jpg or the like, found nothing", quoted(image_id));
            log.push(Place::Line(line), Effect::Noted, what);
            return None;
        }
        // An id is a name, never a path.
        let bare = crate::names::bare(image_id);
        let folder = self.files.first_folder().unwrap_or(Path::new(""));
        let path = found.unwrap_or_else(|| folder.join(format!("{bare}.jpg")));
        let reason = match (self.reading.image_size)(&path) {
            Ok(size) if size.width > 0 && size.height > 0 => {
                let file_name = name_of(&path);
                let id = self.images.len() as i64 + 1;
                self.images.push(AnnotatedImage { id, path, file_name, size: Some(size), ..AnnotatedImage::default() });
                return Some(self.images.len() - 1);
            }
            Ok(size) => format!("image size: expected more than 0 pixels, found {size}"),
            Err(reason) => format!("image size: expected a readable image, found {reason}"),
        };
        log.problems.push(Problem {
            path: path.into(),
            place: Place::File,
            what: reason,
            effect: Effect::ImageDropped,
        });
        None
    }
}

/// Whether a file may be a table.
pub(crate) fn is_csv(path: &Path) -> bool {
    has_extension(path, "csv")
}
