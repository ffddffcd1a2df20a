//! Pascal VOC: one XML file an image.
//!
//! Corners are counted from 1 and inclusive; they become half-open (xmin - 1, ymin - 1, xmax, ymax). A box whose xmax is
//! its xmin has no extent for those who draw it, though a pixel by the letter; it is left out and reported. Classes are
//! the names in all XML files of the set, whatever the split, sorted; the category id is the class index.
//!
//! An XML file that cannot be read costs its image and is reported, unless none can be read. Sizes are often wrong in
//! such files, so boxes outside of the size stated are reported and kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::file::{first_bytes, folders, is_image, list, name_of, quoted, read_text, stem_of, with_extension};
use crate::geometry::{defect, outside};
use crate::problem::ProblemLog;
use crate::{AnnotatedImage, Annotation, AnnotationError, AnnotationSet, Class, Effect, Place, Problem, split};

mod xml;

use xml::{Object, XmlFile};

/// A folder of XML files.
#[derive(Debug)]
pub(crate) struct VocFolder {
    root: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// `Annotations/*.xml`, and lists of names where there are some.
    Lists { annotations: PathBuf, lists: Vec<(String, PathBuf)> },
    /// `<split>/*.xml` with the images beside, as Roboflow exports.
    Folders(Vec<(String, PathBuf)>),
}

impl VocFolder {
    pub(crate) fn find(root: &Path) -> Option<Self> {
        let subfolders = folders(root);
        let is_annotations =
            |folder: &&PathBuf| name_of(folder).eq_ignore_ascii_case("annotations") && holds_annotations(folder);
        let kind = if let Some(annotations) = subfolders.iter().find(is_annotations) {
            Kind::Lists { annotations: annotations.clone(), lists: find_lists(root) }
        } else if holds_annotations(root) {
            Kind::Lists { annotations: root.to_owned(), lists: find_lists(root) }
        } else {
            let splits: Vec<_> =
                subfolders.into_iter().filter(|folder| holds_annotations(folder)).map(|f| (name_of(&f), f)).collect();
            if splits.is_empty() {
                return None;
            }
            Kind::Folders(splits)
        };
        Some(Self { root: root.to_owned(), kind })
    }

    pub(crate) fn splits(&self) -> Vec<String> {
        let (Kind::Lists { lists: splits, .. } | Kind::Folders(splits)) = &self.kind;
        splits.iter().map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn read(&self, request: Option<&[&str]>) -> Result<AnnotationSet, AnnotationError> {
        let mut problems = Vec::new();
        let mut files = BTreeMap::new();
        let mut selected = Vec::new();
        match &self.kind {
            Kind::Lists { annotations, lists } => {
                read_folder(annotations, &mut files, &mut problems)?;
                if lists.is_empty() || request.is_none() {
                    selected = files.keys().cloned().collect();
                    if let Some(parts) = request {
                        let what = format!(
                            "split: expected ImageSets/Main/{}.txt, found no lists; all XML files are taken",
                            parts.join("+")
                        );
                        note(&self.root, what, &mut problems);
                    }
                } else {
                    for idx in split::choose(&self.root, request, &self.splits())? {
                        selected.extend(read_list(&lists[idx].1, annotations, &files, &mut problems)?);
                    }
                }
            }
            Kind::Folders(splits) => {
                let chosen = split::choose(&self.root, request, &self.splits())?;
                for (_, folder) in splits {
                    read_folder(folder, &mut files, &mut problems)?;
                }
                for idx in chosen {
                    selected.extend(files.keys().filter(|path| path.parent() == Some(&splits[idx].1)).cloned());
                }
            }
        }
        let mut seen = HashSet::new();
        selected.retain(|path| seen.insert(path.clone()));
        let names: BTreeSet<&str> =
            files.values().flat_map(|file| &file.objects).filter_map(|object| object.name.as_deref()).collect();
        let classes: Vec<Class> = names
            .into_iter()
            .zip(0..)
            .map(|(name, category_id)| Class { category_id, name: name.to_owned() })
            .collect();
        let positions: HashMap<&str, usize> =
            classes.iter().enumerate().map(|(idx, class)| (class.name.as_str(), idx)).collect();
        let finder = ImageFinder::new(&self.root, &self.kind);
        let images = selected
            .iter()
            .zip(1..)
            .map(|(path, id)| read_image(id, path, &files[path], &positions, &finder, &mut problems))
            .collect();
        Ok(AnnotationSet { classes, images, problems })
    }
}

/// Whether the first XML file in a folder is of this format; other tools write XML, too.
fn holds_annotations(folder: &Path) -> bool {
    let tag = b"<annotation";
    with_extension(folder, "xml")
        .iter()
        .take(8)
        .any(|path| first_bytes(path).windows(tag.len()).any(|window| window == tag))
}

/// The lists in `ImageSets/Main`, or in `ImageSets` itself.
fn find_lists(root: &Path) -> Vec<(String, PathBuf)> {
    let sets = root.join("ImageSets");
    [sets.join("Main"), sets]
        .iter()
        .map(|folder| with_extension(folder, "txt"))
        .find(|lists| !lists.is_empty())
        .unwrap_or_default()
        .into_iter()
        .map(|path| (stem_of(&path), path))
        .collect()
}

fn note(path: &Path, what: String, problems: &mut Vec<Problem>) {
    problems.push(Problem { path: path.into(), place: Place::File, what, effect: Effect::Noted });
}

/// Reads all XML files of a folder; those that are none are reported.
fn read_folder(
    folder: &Path,
    files: &mut BTreeMap<PathBuf, XmlFile>,
    problems: &mut Vec<Problem>,
) -> Result<(), AnnotationError> {
    let paths = with_extension(folder, "xml");
    let mut first_error = None;
    let before = files.len();
    for path in paths {
        match read_xml(&path) {
            Ok(file) => {
                files.insert(path, file);
            }
            Err(error) => {
                let (place, what) = match &error {
                    AnnotationError::Syntax { line, message, .. } => (Place::Line(*line), message.clone()),
                    AnnotationError::Io { source, .. } => (Place::File, source.to_string()),
                    AnnotationError::Content { what, expected, found, .. } => {
                        (Place::File, format!("{what}: expected {expected}, found {found}"))
                    }
                    other => (Place::File, other.to_string()),
                };
                problems.push(Problem { path: path.into(), place, what, effect: Effect::ImageDropped });
                first_error = first_error.or(Some(error));
            }
        }
    }
    match first_error {
        Some(error) if files.len() == before => Err(error),
        _ => Ok(()),
    }
}

fn read_xml(path: &Path) -> Result<XmlFile, AnnotationError> {
    xml::parse(&read_text(path)?).map_err(|(line, column, message)| AnnotationError::Syntax {
        path: path.to_owned(),
        line,
        column,
        message,
    })
}

/// The XML files that a list names, in its order.
fn read_list(
    list: &Path,
    annotations: &Path,
    files: &BTreeMap<PathBuf, XmlFile>,
    problems: &mut Vec<Problem>,
) -> Result<Vec<PathBuf>, AnnotationError> {
    let text = read_text(list)?;
    let known: HashMap<String, &PathBuf> = files.keys().map(|path| (stem_of(path), path)).collect();
    // Reported once already, as files that cannot be read.
    let broken: HashSet<String> = problems
        .iter()
        .filter(|problem| problem.effect == Effect::ImageDropped)
        .map(|problem| stem_of(&problem.path))
        .collect();
    let mut log = ProblemLog::new(list);
    let mut selected = Vec::new();
    let mut seen = HashSet::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // A class's own lists have -1, 0 or 1 behind the name: not there, hard to tell, there. All are images of the set.
        let first = line.split_whitespace().next().unwrap_or(line);
        let name = if known.contains_key(line) { line } else { first };
        if !seen.insert(name.to_owned()) {
            let what = format!("image is listed again: expected each once, found {} again", quoted(name));
            log.push(Place::Line(number), Effect::Noted, what);
        } else if let Some(path) = known.get(name) {
            selected.push((*path).clone());
        } else if !broken.contains(name) {
            let what = format!("image: expected {name}.xml in {}, found nothing", annotations.display());
            log.push(Place::Line(number), Effect::ImageDropped, what);
        }
    }
    problems.append(&mut log.problems);
    Ok(selected)
}

fn read_image(
    id: i64,
    path: &Path,
    file: &XmlFile,
    positions: &HashMap<&str, usize>,
    finder: &ImageFinder,
    problems: &mut Vec<Problem>,
) -> AnnotatedImage {
    let mut log = ProblemLog::new(path);
    let mut annotations = Vec::with_capacity(file.objects.len());
    for object in &file.objects {
        let place = Place::Line(object.line);
        match read_object(object, positions) {
            Err(what) => log.push(place, Effect::BoxDropped, what),
            Ok(annotation) => {
                if let Some(what) = outside(annotation.xywh, file.size) {
                    log.push(place, Effect::Noted, what);
                }
                annotations.push(annotation);
            }
        }
    }
    problems.append(&mut log.problems);
    let image = finder.find(path, file.file_name.as_deref());
    AnnotatedImage { id, file_name: name_of(&image), path: image, size: file.size, annotations }
}

fn read_object(object: &Object, positions: &HashMap<&str, usize>) -> Result<Annotation, String> {
    let [x_min, y_min, x_max, y_max] = object.corners.clone()?;
    // The distance of the corners, as drawn: 0 is a click without a drag.
    if let Some(what) = defect([x_min, y_min, x_max - x_min, y_max - y_min]) {
        return Err(what);
    }
    let class_idx = object.name.as_deref().and_then(|name| positions.get(name).copied());
    let xywh = [x_min - 1.0, y_min - 1.0, x_max - x_min + 1.0, y_max - y_min + 1.0];
    Ok(Annotation {
        class_idx: class_idx.ok_or("name: expected text, found nothing")?,
        xywh,
        area: xywh[2] * xywh[3],
        is_crowd: false,
        is_difficult: object.is_difficult,
    })
}

/// Image files by name: the XML's own name counts more than the `<filename>` in it, which is often stale.
struct ImageFinder {
    by_stem: HashMap<(PathBuf, String), PathBuf>,
    folders: Vec<PathBuf>,
}

impl ImageFinder {
    fn new(root: &Path, kind: &Kind) -> Self {
        let folders: Vec<PathBuf> = match kind {
            Kind::Lists { annotations, .. } => {
                let names = ["JPEGImages", "images", "Images", "imgs", ""];
                names.iter().map(|name| root.join(name)).chain([annotations.clone()]).filter(|f| f.is_dir()).collect()
            }
            Kind::Folders(splits) => splits.iter().map(|(_, folder)| folder.clone()).collect(),
        };
        let mut by_stem = HashMap::new();
        for folder in &folders {
            for path in list(folder).unwrap_or_default() {
                if is_image(&path) {
                    by_stem.entry((folder.clone(), stem_of(&path))).or_insert(path);
                }
            }
        }
        Self { by_stem, folders }
    }

    /// The file where there is one; else the most likely place.
    fn find(&self, xml: &Path, file_name: Option<&str>) -> PathBuf {
        let beside = xml.parent().unwrap_or(Path::new(""));
        // Only the name: a stale path often stands in front of it.
        let bare = file_name.map(|name| name.rsplit(['/', '\\']).next().unwrap_or(name));
        let stems = [Some(stem_of(xml)), bare.map(|name| stem_of(Path::new(name)))];
        for stem in stems.into_iter().flatten() {
            for folder in std::iter::once(beside).chain(self.folders.iter().map(PathBuf::as_path)) {
                if let Some(path) = self.by_stem.get(&(folder.to_owned(), stem.clone())) {
                    return path.clone();
                }
            }
        }
        let folder = self.folders.first().map_or(beside, PathBuf::as_path);
        folder.join(bare.map_or_else(|| format!("{}.jpg", stem_of(xml)), str::to_owned))
    }
}
