//! Detections: a list of objects, or an object that holds it under `annotations`.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::field::{BoxField, Scalar};
use super::syntax_error;
use crate::file::without_mark;
use crate::{AnnotationError, DetectionRecord};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    image_id: Scalar,
    category_id: Scalar,
    bbox: BoxField,
    score: Scalar,
}

impl Entry {
    /// The part that is wrong, what it should be and what it is.
    fn record(&self) -> Result<DetectionRecord, (&'static str, &'static str, String)> {
        let id = |what, value: &Scalar| value.integer().ok_or_else(|| (what, "a whole number", value.to_string()));
        Ok(DetectionRecord {
            image_id: id("image_id", &self.image_id)?,
            category_id: id("category_id", &self.category_id)?,
            xywh: self.bbox.0.clone().map_err(|found| ("bbox", "four numbers", found))?,
            score: self.score.number().ok_or_else(|| ("score", "a number", self.score.to_string()))?,
        })
    }
}

struct Entries(Option<Vec<Entry>>);

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of detections")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = values.next_element()? {
            entries.push(entry);
        }
        Ok(Entries(Some(entries)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Entries, A::Error> {
        let mut entries = None;
        while let Some(key) = values.next_key::<String>()? {
            if key == "annotations" {
                entries = Some(values.next_value()?);
            } else {
                values.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Entries(entries))
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor)
    }
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<DetectionRecord>, AnnotationError> {
    let entries: Entries = serde_json::from_slice(without_mark(bytes)).map_err(|error| syntax_error(path, &error))?;
    let Some(entries) = entries.0 else {
        return Err(AnnotationError::content(
            path,
            "detections",
            "a list, or an object with a list under \"annotations\"",
            "an object without it",
        ));
    };
    let record = |(idx, entry): (usize, &Entry)| {
        entry.record().map_err(|(what, expected, found)| {
            AnnotationError::content(path, &format!("detections[{idx}]: {what}"), expected, found)
        })
    };
    entries.iter().enumerate().map(record).collect()
}
