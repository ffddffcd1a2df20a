//! The same JSON, written.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::{AnnotationError, AnnotationSet, DetectionRecord, write_atomically};

#[derive(Serialize)]
struct File<'a> {
    images: Images<'a>,
    annotations: Annotations<'a>,
    categories: Vec<Category<'a>>,
}

struct Images<'a>(&'a AnnotationSet);

struct Annotations<'a>(&'a AnnotationSet);

#[derive(Serialize)]
struct Image<'a> {
    id: i64,
    file_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<usize>,
}

#[derive(Serialize)]
struct Annotation {
    id: usize,
    image_id: i64,
    category_id: i64,
    bbox: [f64; 4],
    area: f64,
    iscrowd: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    difficult: Option<u8>,
}

#[derive(Serialize)]
struct Category<'a> {
    id: i64,
    name: &'a str,
}

#[derive(Serialize)]
struct Detection {
    image_id: i64,
    category_id: i64,
    bbox: [f64; 4],
    score: f64,
}

impl Serialize for Images<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.images.iter().map(|image| Image {
            id: image.id,
            file_name: &image.file_name,
            width: image.size.map(|size| size.width),
            height: image.size.map(|size| size.height),
        }))
    }
}

impl Serialize for Annotations<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        // pycocotools takes a match with annotation 0 for none, so that ids start at 1.
        let mut id = 0;
        for image in &self.0.images {
            for annotation in &image.annotations {
                id += 1;
                list.serialize_element(&Annotation {
                    id,
                    image_id: image.id,
                    category_id: self.0.classes[annotation.class_idx].category_id,
                    bbox: annotation.xywh,
                    area: annotation.area,
                    iscrowd: annotation.is_crowd.into(),
                    difficult: annotation.is_difficult.then_some(1),
                })?;
            }
        }
        list.end()
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
    let categories = set.classes.iter().map(|class| Category { id: class.category_id, name: &class.name });
    let file = File { images: Images(set), annotations: Annotations(set), categories: categories.collect() };
    write(path, |output| serde_json::to_writer(output, &file).map_err(io::Error::from))
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
