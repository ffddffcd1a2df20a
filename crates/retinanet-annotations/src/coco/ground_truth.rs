//! Images, categories and annotations of one JSON file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use retinanet_anchors::ImageSize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::entry::{AnnotationFields, CategoryFields, Entry, ImageFields, Kept, Key, Rest, SegmentationField, Skipped};
use super::field::Scalar;
use super::syntax_error;
use crate::file::{JSON_LIMIT, quoted, read_bytes, refuse_utf16, without_mark};
use crate::geometry::{defect, is_finite, outside};
use crate::images::Located;
use crate::join::UnusedIds;
use crate::problems::ProblemLog;
use crate::{
    AnnotatedImage, Annotation, AnnotationError, AnnotationSet, Class, Details, Effect, Fields, ImageDetails, Place,
    SetDetails,
};

/// The lists of a file, and what else is in it.
struct File<R> {
    images: Option<Vec<Entry<ImageFields, R>>>,
    annotations: Option<Vec<Entry<AnnotationFields, R>>>,
    categories: Option<Vec<Entry<CategoryFields, R>>>,
    rest: R,
}

/// What is kept of an object besides the fields that every reading wants.
trait Remains: Rest {
    /// Whether anything is kept at all.
    const KEEPS: bool;

    fn into_fields(self) -> Fields;

    fn into_details(self, log: &mut ProblemLog, place: Place) -> Option<Box<Details>>;
}

impl Remains for Skipped {
    const KEEPS: bool = false;

    fn into_fields(self) -> Fields {
        Fields::new()
    }

    fn into_details(self, _: &mut ProblemLog, _: Place) -> Option<Box<Details>> {
        None
    }
}

impl Remains for Kept {
    const KEEPS: bool = true;

    fn into_fields(self) -> Fields {
        self.fields
    }

    fn into_details(mut self, log: &mut ProblemLog, place: Place) -> Option<Box<Details>> {
        let outline = match self.segmentation {
            SegmentationField::Missing => None,
            SegmentationField::Outline(outline) => Some(outline),
            SegmentationField::Wrong(what) => {
                log.push(place, Effect::Noted, format!("segmentation is left out: {what}"));
                None
            }
        };
        let details = Details {
            id: None,
            outline,
            is_truncated: take_json(&mut self.fields, "truncated", flag),
            is_occluded: take_json(&mut self.fields, "occluded", flag),
            is_depiction: take_json(&mut self.fields, "depiction", flag),
            is_inside: take_json(&mut self.fields, "inside", flag),
            pose: take_json(&mut self.fields, "pose", |value| value.as_str().map(str::to_owned)),
            source: take_json(&mut self.fields, "source", |value| value.as_str().map(str::to_owned)),
            confidence: take_json(&mut self.fields, "confidence", serde_json::Value::as_f64),
            fields: self.fields,
        };
        details.boxed()
    }
}

/// Takes a field out where its value is what is expected; it stays otherwise.
fn take_json<T>(fields: &mut Fields, name: &str, parse: impl Fn(&serde_json::Value) -> Option<T>) -> Option<T> {
    let parsed = parse(&serde_json::from_str(fields.get(name)?).ok()?)?;
    fields.remove(name);
    Some(parsed)
}

fn flag(value: &serde_json::Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_u64().filter(|&value| value <= 1).map(|value| value == 1))
}

struct FileVisitor<R>(PhantomData<R>);

impl<'de, R: Rest> Visitor<'de> for FileVisitor<R> {
    type Value = File<R>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with images, annotations and categories")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File<R>, A::Error> {
        let mut file = File { images: None, annotations: None, categories: None, rest: R::default() };
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "images" => file.images = map.next_value()?,
                "annotations" => file.annotations = map.next_value()?,
                "categories" => file.categories = map.next_value()?,
                other => file.rest.take(other, &mut map)?,
            }
        }
        Ok(file)
    }
}

impl<'de, R: Rest> Deserialize<'de> for File<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FileVisitor(PhantomData))
    }
}

/// Reads one file; `locate` says which file an image's name means.
pub(super) fn read(
    path: &Path,
    with_details: bool,
    locate: &mut dyn FnMut(&str) -> Located,
) -> Result<AnnotationSet, AnnotationError> {
    let bytes = read_bytes(path, JSON_LIMIT)?;
    refuse_utf16(path, &bytes)?;
    if with_details {
        parse::<Kept>(path, without_mark(&bytes), locate)
    } else {
        parse::<Skipped>(path, without_mark(&bytes), locate)
    }
}

fn parse<R: Remains>(
    path: &Path,
    bytes: &[u8],
    locate: &mut dyn FnMut(&str) -> Located,
) -> Result<AnnotationSet, AnnotationError> {
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(AnnotationError::content(
            path,
            "ground truth",
            "an object with images, annotations and categories",
            "a list, as detections are written",
        ));
    }
    let file: File<R> = serde_json::from_slice(bytes).map_err(|error| syntax_error(path, &error))?;
    let Some(image_entries) = file.images else {
        return Err(AnnotationError::content(path, "images", "a list", "nothing"));
    };
    let mut log = ProblemLog::new(path);
    let mut details = SetDetails { fields: file.rest.into_fields(), class_fields: BTreeMap::new() };
    let classes = read_categories(file.categories.unwrap_or_default(), &mut details, &mut log);
    let (mut images, positions) = read_images(image_entries, locate, &mut log);
    let context = Context {
        class_positions: classes.iter().enumerate().map(|(idx, class)| (class.category_id, idx)).collect(),
        image_positions: positions,
    };
    context.read_annotations(file.annotations.unwrap_or_default(), &mut images, &mut log);
    Ok(AnnotationSet { classes, images, problems: log.problems, details: details.boxed() })
}

/// Sorted by id; the ids may have gaps.
fn read_categories<R: Remains>(
    entries: Vec<Entry<CategoryFields, R>>,
    details: &mut SetDetails,
    log: &mut ProblemLog,
) -> Vec<Class> {
    let mut classes = Vec::new();
    let mut used = HashSet::new();
    for Entry { known: entry, rest } in entries {
        let Some(category_id) = entry.id.integer() else {
            log.push(Place::File, Effect::Noted, format!("category left out: expected an id, found {}", entry.id));
            continue;
        };
        if !used.insert(category_id) {
            log.push(
                Place::Category(category_id),
                Effect::Noted,
                "id is used again, the first is kept: expected ids that differ, found the same",
            );
            continue;
        }
        let name = entry.name.text().unwrap_or_else(|| category_id.to_string());
        let fields = rest.into_fields();
        if !fields.is_empty() {
            details.class_fields.entry(name.clone()).or_insert(fields);
        }
        classes.push(Class { category_id, name });
    }
    classes.sort_by_key(|class| class.category_id);
    classes
}

/// Where each image's annotations belong, by the two kinds of id.
#[derive(Default)]
struct ImagePositions {
    by_number: HashMap<i64, usize>,
    by_text: HashMap<String, usize>,
}

impl ImagePositions {
    fn find(&self, id: &Scalar) -> Option<usize> {
        match (id.integer(), id) {
            (Some(number), _) => self.by_number.get(&number).copied(),
            (None, Scalar::Text(text)) => self.by_text.get(text).copied(),
            _ => None,
        }
    }
}

fn read_images<R: Remains>(
    entries: Vec<Entry<ImageFields, R>>,
    locate: &mut dyn FnMut(&str) -> Located,
    log: &mut ProblemLog,
) -> (Vec<AnnotatedImage>, ImagePositions) {
    let mut unused = UnusedIds::above(entries.iter().filter_map(|entry| entry.known.id.integer()));
    let mut positions = ImagePositions::default();
    let mut images: Vec<AnnotatedImage> = Vec::with_capacity(entries.len());
    for (idx, Entry { known: entry, rest }) in entries.into_iter().enumerate() {
        let mut text_id = None;
        let id = match (entry.id.integer(), &entry.id) {
            (Some(id), _) => id,
            (None, Scalar::Text(text)) if !positions.by_text.contains_key(text) => {
                let id = unused.next();
                positions.by_text.insert(text.clone(), images.len());
                text_id = Some(text.clone());
                id
            }
            (None, Scalar::Text(text)) => {
                log.push(
                    Place::ImageAt(idx),
                    Effect::ImageDropped,
                    format!("id is used again, the first is kept: expected ids that differ, found {}", quoted(text)),
                );
                continue;
            }
            (None, other) => {
                log.push(
                    Place::ImageAt(idx),
                    Effect::ImageDropped,
                    format!("id: expected a whole number or text, found {other}"),
                );
                continue;
            }
        };
        if positions.by_number.contains_key(&id) {
            log.push(
                Place::Image(id),
                Effect::ImageDropped,
                "id is used again, the first is kept: expected ids that differ, found the same",
            );
            continue;
        }
        let file_name = entry.file_name.text().unwrap_or_else(|| {
            log.push(Place::Image(id), Effect::Noted, format!("file_name: expected text, found {}", entry.file_name));
            id.to_string()
        });
        positions.by_number.insert(id, images.len());
        let Located { path, note } = locate(&file_name);
        if let Some(note) = note {
            log.push(Place::Image(id), Effect::Noted, note);
        }
        images.push(AnnotatedImage {
            id,
            path,
            file_name,
            size: size(&entry.width, &entry.height),
            annotations: Vec::new(),
            details: details_of(text_id, rest),
        });
    }
    (images, positions)
}

/// The id as text is only kept together with all else.
fn details_of<R: Remains>(text_id: Option<String>, rest: R) -> Option<Box<ImageDetails>> {
    R::KEEPS.then(|| ImageDetails { text_id, fields: rest.into_fields() })?.boxed()
}

fn size(width: &Scalar, height: &Scalar) -> Option<ImageSize> {
    let side = |value: &Scalar| {
        let side = u32::try_from(value.integer()?).ok()?;
        (side > 0).then_some(side as usize)
    };
    Some(ImageSize::new(side(width)?, side(height)?))
}

struct Context {
    class_positions: HashMap<i64, usize>,
    image_positions: ImagePositions,
}

impl Context {
    fn read_annotations<R: Remains>(
        &self,
        entries: Vec<Entry<AnnotationFields, R>>,
        images: &mut [AnnotatedImage],
        log: &mut ProblemLog,
    ) {
        let mut used = HashSet::new();
        for (idx, Entry { known: entry, rest }) in entries.into_iter().enumerate() {
            let id = entry.id.integer();
            let place = id.map_or(Place::AnnotationAt(idx), Place::Annotation);
            if id.is_some_and(|id| !used.insert(id)) {
                log.push(
                    Place::AnnotationAt(idx),
                    Effect::Noted,
                    format!("id is used again: expected ids that differ, found {} again", entry.id),
                );
            }
            match self.read_annotation(&entry) {
                Err(what) => log.push(place, Effect::BoxDropped, what),
                Ok((image_idx, mut annotation)) => {
                    let image = &mut images[image_idx];
                    // Scoring counts such boxes as objects that are never found, as the reference does, so they stay.
                    if let Some(what) = defect(annotation.xywh).or_else(|| outside(annotation.xywh, image.size)) {
                        log.push(place, Effect::Noted, format!("{what} (kept for scoring)"));
                    }
                    annotation.details = rest.into_details(log, place);
                    if R::KEEPS && id.is_some() {
                        annotation.details.get_or_insert_default().id = id;
                    }
                    image.annotations.push(annotation);
                }
            }
        }
    }

    fn read_annotation(&self, entry: &AnnotationFields) -> Result<(usize, Annotation), String> {
        let image_idx = self
            .image_positions
            .find(&entry.image_id)
            .ok_or_else(|| format!("image_id: expected the id of an image, found {}", entry.image_id))?;
        let class_idx = entry.category_id.integer().and_then(|id| self.class_positions.get(&id).copied());
        let class_idx = class_idx
            .ok_or_else(|| format!("category_id: expected the id of a category, found {}", entry.category_id))?;
        let xywh = *entry.bbox.0.as_ref().map_err(|found| format!("bbox: expected four numbers, found {found}"))?;
        // No scoring can count with infinite areas.
        if let Some(what) = defect(xywh).filter(|_| !is_finite(xywh)) {
            return Err(what);
        }
        let mut annotation = Annotation::new(class_idx, xywh);
        annotation.area = entry.area.number().unwrap_or(annotation.area);
        annotation.is_crowd = entry.iscrowd.is_set();
        annotation.is_difficult = entry.difficult.is_set();
        Ok((image_idx, annotation))
    }
}
