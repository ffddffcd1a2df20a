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

use crate::file::{first_bytes, folders, name_of, quoted, read_text, short, stem_of, with_extension};
use crate::geometry::{defect, outside};
use crate::images::ImagesByStem;
use crate::names::{bare, folded, leads_out};
use crate::problems::ProblemLog;
use crate::recognise::Reading;
use crate::{
    AnnotatedImage, Annotation, AnnotationError, AnnotationSet, Class, Details, Effect, Place, Problem, Problems, split,
};

mod write;
mod xml;

pub(crate) use write::write;
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

    pub(crate) fn read(&self, request: Option<&[&str]>, reading: &Reading) -> Result<AnnotationSet, AnnotationError> {
        let mut problems = Problems::default();
        let mut files = XmlFiles::default();
        let mut selected = Vec::new();
        match &self.kind {
            Kind::Lists { annotations, lists } => {
                read_folder(annotations, &mut files, &mut problems)?;
                if lists.is_empty() || request.is_none() {
                    selected = files.read.keys().cloned().collect();
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
                    selected.extend(files.read.keys().filter(|path| path.parent() == Some(&splits[idx].1)).cloned());
                }
            }
        }
        let mut seen = HashSet::new();
        selected.retain(|path| seen.insert(path.clone()));
        let names: BTreeSet<&str> =
            files.read.values().flat_map(|file| &file.objects).filter_map(|object| object.name.as_deref()).collect();
        let classes: Vec<Class> = names
            .into_iter()
            .zip(0..)
            .map(|(name, category_id)| Class { category_id, name: name.to_owned() })
            .collect();
        let positions: HashMap<&str, usize> =
            classes.iter().enumerate().map(|(idx, class)| (class.name.as_str(), idx)).collect();
        let finder = ImageFinder::new(&self.root, &self.kind);
        let context = Context { positions: &positions, finder: &finder, details: reading.details };
        let images = selected
            .iter()
            .zip(1..)
            .map(|(path, id)| context.read_image(id, path, &files.read[path], &mut problems))
            .collect();
        Ok(AnnotationSet { classes, images, problems, details: None })
    }
}

/// What the XML files of a set say.
#[derive(Default)]
struct XmlFiles {
    read: BTreeMap<PathBuf, XmlFile>,
    /// Names of files that cannot be read, without extension.
    broken: HashSet<String>,
}

/// Whether the first XML file in a folder is of this format; other tools write XML, too.
fn holds_annotations(folder: &Path) -> bool {
    let tag = b"<annotation";
    with_extension(folder, "xml").iter().take(8).any(|path| {
        let mut bytes = first_bytes(path);
        // UTF-16 is refused with its name where it is read.
        bytes.retain(|&byte| byte != 0);
        bytes.windows(tag.len()).any(|window| window == tag)
    })
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

/// Reads all XML files of a folder; those that are none are reported.
fn read_folder(folder: &Path, files: &mut XmlFiles, problems: &mut Problems) -> Result<(), AnnotationError> {
    let paths = with_extension(folder, "xml");
    let mut first_error = None;
    let before = files.read.len();
    for path in paths {
        match read_xml(&path) {
            Ok(file) => {
                files.read.insert(path, file);
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
                files.broken.insert(folded(&stem_of(&path)));
                problems.push(Problem { path: path.into(), place, what, effect: Effect::ImageDropped });
                first_error = first_error.or(Some(error));
            }
        }
    }
    match first_error {
        Some(error) if files.read.len() == before => Err(error),
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
    files: &XmlFiles,
    problems: &mut Problems,
) -> Result<Vec<PathBuf>, AnnotationError> {
    let text = read_text(list)?;
    let mut known: HashMap<String, &PathBuf> = HashMap::new();
    for path in files.read.keys() {
        known.insert(folded(&stem_of(path)), path);
    }
    // Exact names count more than those of another case or composition.
    for path in files.read.keys() {
        known.insert(stem_of(path), path);
    }
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
        let name = if known.contains_key(line) || known.contains_key(&folded(line)) { line } else { first };
        if !seen.insert(name.to_owned()) {
            let what = format!("image is listed again: expected each once, found {} again", quoted(name));
            log.push(Place::Line(number), Effect::Noted, what);
        } else if let Some(path) = known.get(name).or_else(|| known.get(&folded(name))) {
            selected.push((*path).clone());
        } else if !files.broken.contains(&folded(name)) {
            let what = format!("image: expected {}.xml in {}, found nothing", short(name), annotations.display());
            log.push(Place::Line(number), Effect::ImageDropped, what);
        }
    }
    problems.append(log.problems);
    Ok(selected)
}

/// What each image is read with.
struct Context<'a> {
    positions: &'a HashMap<&'a str, usize>,
    finder: &'a ImageFinder,
    details: bool,
}

impl Context<'_> {
    fn read_image(&self, id: i64, path: &Path, file: &XmlFile, problems: &mut Problems) -> AnnotatedImage {
        let mut log = ProblemLog::new(path);
        let mut annotations = Vec::with_capacity(file.objects.len());
        for object in &file.objects {
            let place = Place::Line(object.line);
            match self.read_object(object) {
                Err(what) => log.push(place, Effect::BoxDropped, what),
                Ok(annotation) => {
                    if let Some(what) = outside(annotation.xywh, file.size) {
                        log.push(place, Effect::Noted, what);
                    }
                    annotations.push(annotation);
                }
            }
        }
        problems.append(log.problems);
        let image = self.finder.find(path, file.file_name.as_deref());
        AnnotatedImage { id, file_name: name_of(&image), path: image, size: file.size, annotations, details: None }
    }

    fn read_object(&self, object: &Object) -> Result<Annotation, String> {
        let [x_min, y_min, x_max, y_max] = object.corners.clone()?;
        // The distance of the corners, as drawn: 0 is a click without a drag.
        if let Some(what) = defect([x_min, y_min, x_max - x_min, y_max - y_min]) {
            return Err(what);
        }
        let class_idx = object.name.as_deref().and_then(|name| self.positions.get(name).copied());
        let class_idx = class_idx.ok_or("name: expected text, found nothing")?;
        let mut annotation =
            Annotation::new(class_idx, [x_min - 1.0, y_min - 1.0, x_max - x_min + 1.0, y_max - y_min + 1.0]);
        annotation.is_difficult = object.is_difficult;
        if self.details {
            let details = Details {
                is_truncated: object.is_truncated,
                is_occluded: object.is_occluded,
                pose: object.pose.clone(),
                ..Details::default()
            };
            annotation.details = details.boxed();
        }
        Ok(annotation)
    }
}

/// Image files by name: the XML's own name counts more than the `<filename>` in it, which is often stale.
struct ImageFinder(ImagesByStem);

impl ImageFinder {
    fn new(root: &Path, kind: &Kind) -> Self {
        Self(match kind {
            Kind::Lists { annotations, .. } => {
                let names = ["JPEGImages", "images", "Images", "imgs", ""];
                ImagesByStem::new(names.iter().map(|name| root.join(name)).chain([annotations.clone()]))
            }
            Kind::Folders(splits) => ImagesByStem::new(splits.iter().map(|(_, folder)| folder.clone())),
        })
    }

    /// The file where there is one; else the most likely place.
    fn find(&self, xml: &Path, file_name: Option<&str>) -> PathBuf {
        let beside = xml.parent().unwrap_or(Path::new(""));
        // Only the name: a stale path often stands in front of it.
        let bare = file_name.map(bare).filter(|name| !name.is_empty() && !leads_out(name));
        let stems = [Some(stem_of(xml)), bare.map(|name| stem_of(Path::new(name)))];
        let found = stems.iter().flatten().find_map(|stem| self.0.find(Some(beside), stem));
        found.cloned().unwrap_or_else(|| {
            let folder = self.0.first_folder().unwrap_or(beside);
            folder.join(bare.map_or_else(|| format!("{}.jpg", stem_of(xml)), str::to_owned))
        })
    }
}
