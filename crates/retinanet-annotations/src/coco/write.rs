//! The same JSON, written.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use crate::convert::NamedSplit;
use crate::{
    AnnotatedImage, Annotation, AnnotationError, AnnotationSet, Class, Details, DetectionRecord, Fields, Outline,
    SetDetails, write_atomically,
};

/// What one file holds.
struct File<'a> {
    classes: &'a [Class],
    images: &'a [AnnotatedImage],
    details: Option<&'a SetDetails>,
}

struct Images<'a>(&'a [AnnotatedImage]);

struct Annotations<'a>(&'a File<'a>);

struct Categories<'a>(&'a File<'a>);

struct Image<'a>(&'a AnnotatedImage);

struct Category<'a>(&'a Class, Option<&'a Fields>);

/// One object with the id that it gets.
struct Object<'a> {
    id: i64,
    image: &'a AnnotatedImage,
    category_id: i64,
    annotation: &'a Annotation,
}

#[derive(Serialize)]
struct Detection {
    image_id: i64,
    category_id: i64,
    bbox: [f64; 4],
    score: f64,
}

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(details) = self.details {
            serialize_fields(&mut map, &details.fields)?;
        }
        map.serialize_entry("images", &Images(self.images))?;
        map.serialize_entry("annotations", &Annotations(self))?;
        map.serialize_entry("categories", &Categories(self))?;
        map.end()
    }
}

impl Serialize for Images<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Image))
    }
}

impl Serialize for Image<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        serialize_id(&mut map, "id", self.0)?;
        map.serialize_entry("file_name", &self.0.file_name)?;
        if let Some(size) = self.0.size {
            map.serialize_entry("width", &size.width)?;
            map.serialize_entry("height", &size.height)?;
        }
        if let Some(details) = &self.0.details {
            serialize_fields(&mut map, &details.fields)?;
        }
        map.end()
    }
}

/// The id as it was, as text where it was text.
fn serialize_id<M: SerializeMap>(map: &mut M, key: &str, image: &AnnotatedImage) -> Result<(), M::Error> {
    match image.details.as_ref().and_then(|details| details.text_id.as_ref()) {
        Some(text) => map.serialize_entry(key, text),
        None => map.serialize_entry(key, &image.id),
    }
}

/// Fields hold JSON; what is none, in a set made by hand, is written as text.
fn serialize_fields<M: SerializeMap>(map: &mut M, fields: &Fields) -> Result<(), M::Error> {
    fields.iter().try_for_each(|(name, json)| map.serialize_entry(name, &value(json)))
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| Value::from(json))
}

/// The ids that the annotations had, where each has one of its own.
///
/// pycocotools takes a match with annotation 0 for none, so that none may be 0.
pub(crate) fn annotation_ids(images: &[AnnotatedImage]) -> Option<Vec<i64>> {
    let mut used = HashSet::new();
    let ids = images.iter().flat_map(|image| &image.annotations).map(|annotation| {
        let id = annotation.details.as_ref()?.id?;
        (id > 0 && used.insert(id)).then_some(id)
    });
    ids.collect()
}

impl Serialize for Annotations<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let ids = annotation_ids(self.0.images);
        let mut number = 0;
        for image in self.0.images {
            for annotation in &image.annotations {
                let id = ids.as_ref().map_or(number as i64 + 1, |ids| ids[number]);
                number += 1;
                let category_id = self.0.classes[annotation.class_idx].category_id;
                list.serialize_element(&Object { id, image, category_id, annotation })?;
            }
        }
        list.end()
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        serialize_id(&mut map, "image_id", self.image)?;
        map.serialize_entry("category_id", &self.category_id)?;
        map.serialize_entry("bbox", &self.annotation.xywh)?;
        map.serialize_entry("area", &self.annotation.area)?;
        map.serialize_entry("iscrowd", &u8::from(self.annotation.is_crowd))?;
        if self.annotation.is_difficult {
            map.serialize_entry("difficult", &1)?;
        }
        if let Some(details) = &self.annotation.details {
            serialize_details(&mut map, details)?;
        }
        map.end()
    }
}

fn serialize_details<M: SerializeMap>(map: &mut M, details: &Details) -> Result<(), M::Error> {
    match &details.outline {
        None => {}
        Some(Outline::Mask(json)) => map.serialize_entry("segmentation", &value(json))?,
        Some(Outline::Polygons(polygons)) => {
            let flat: Vec<Vec<f64>> =
                polygons.iter().map(|points| points.iter().flatten().copied().collect()).collect();
            map.serialize_entry("segmentation", &flat)?;
        }
    }
    let flags = [
        ("truncated", details.is_truncated),
        ("occluded", details.is_occluded),
        ("depiction", details.is_depiction),
        ("inside", details.is_inside),
    ];
    for (name, value) in flags.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        map.serialize_entry(name, &u8::from(value))?;
    }
    for (name, text) in [("pose", &details.pose), ("source", &details.source)] {
        if let Some(text) = text {
            map.serialize_entry(name, text)?;
        }
    }
    if let Some(confidence) = details.confidence {
        map.serialize_entry("confidence", &confidence)?;
    }
    serialize_fields(map, &details.fields)
}

impl Serialize for Categories<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = |class: &Class| self.0.details.and_then(|details| details.class_fields.get(&class.name));
        serializer.collect_seq(self.0.classes.iter().map(|class| Category(class, fields(class))))
    }
}

impl Serialize for Category<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.0.category_id)?;
        map.serialize_entry("name", &self.0.name)?;
        if let Some(fields) = self.1 {
            serialize_fields(&mut map, fields)?;
        }
        map.end()
    }
}

pub(super) fn ground_truth(path: &Path, set: &AnnotationSet) -> Result<(), AnnotationError> {
    for image in &set.images {
        for annotation in &image.annotations {
            if annotation.class_idx >= set.classes.len() {
                let what = format!("image {}: class index", image.id);
                let expected = format!("less than {}", set.classes.len());
                return Err(AnnotationError::content(path, &what, expected, annotation.class_idx));
            }
            let numbers = annotation.xywh.iter().chain([&annotation.area]);
            all_finite(path, || format!("image {}: box and area", image.id), numbers)?;
        }
    }
    file(path, &File { classes: &set.classes, images: &set.images, details: set.details.as_deref() })
}

/// Writes `annotations/instances_<split>.json` for each split.
pub(crate) fn write_splits(
    root: &Path,
    classes: &[Class],
    details: Option<&SetDetails>,
    splits: &[NamedSplit],
) -> Result<(), AnnotationError> {
    let folder = root.join("annotations");
    fs::create_dir_all(&folder).map_err(|source| AnnotationError::Io { path: folder.clone(), source })?;
    for split in splits {
        let name =
            if split.name.is_empty() { "instances.json".to_owned() } else { format!("instances_{}.json", split.name) };
        file(&folder.join(name), &File { classes, images: split.images, details })?;
    }
    Ok(())
}

fn file(path: &Path, file: &File) -> Result<(), AnnotationError> {
    write(path, |output| serde_json::to_writer(output, file).map_err(io::Error::from))
}

pub(super) fn detections(path: &Path, detections: &[DetectionRecord]) -> Result<(), AnnotationError> {
    for (idx, detection) in detections.iter().enumerate() {
        let numbers = detection.xywh.iter().chain([&detection.score]);
        all_finite(path, || format!("detections[{idx}]: box and score"), numbers)?;
    }
    let entries = detections.iter().map(|detection| Detection {
        image_id: detection.image_id,
        category_id: detection.category_id,
        bbox: detection.xywh,
        score: detection.score,
    });
    write(path, |output| serde_json::Serializer::new(output).collect_seq(entries).map_err(io::Error::from))
}

/// JSON has no word for the others.
fn all_finite<'a>(
    path: &Path,
    what: impl FnOnce() -> String,
    numbers: impl Iterator<Item = &'a f64> + Clone,
) -> Result<(), AnnotationError> {
    match numbers.clone().find(|number| !number.is_finite()) {
        Some(found) => Err(AnnotationError::content(path, &what(), "finite numbers", found)),
        None => Ok(()),
    }
}

fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), AnnotationError> {
    let with_end = |output: &mut dyn Write| {
        content(output)?;
        output.write_all(b"\n")
    };
    write_atomically(path, with_end).map_err(|source| AnnotationError::Io { path: path.to_owned(), source })
}
