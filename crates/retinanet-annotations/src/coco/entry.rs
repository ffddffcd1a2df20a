//! One object of a JSON file: the keys that are known, and the rest, which is kept or skipped.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::field::{BoxField, Scalar};
use crate::{Fields, Outline};

/// Fields that every reading wants.
pub(super) trait Known: Default {
    /// Takes the value of a key that it knows, and says whether it does.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// What becomes of all other fields.
pub(super) trait Rest: Default {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// An object.
#[derive(Default)]
pub(super) struct Entry<K, R> {
    pub(super) known: K,
    pub(super) rest: R,
}

/// Nothing else is kept.
#[derive(Default)]
pub(super) struct Skipped;

/// All else is kept, outlines apart.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) fields: Fields,
    pub(super) segmentation: SegmentationField,
}

#[derive(Default)]
pub(super) struct ImageFields {
    pub(super) id: Scalar,
    pub(super) file_name: Scalar,
    pub(super) width: Scalar,
    pub(super) height: Scalar,
}

#[derive(Default)]
pub(super) struct AnnotationFields {
    pub(super) id: Scalar,
    pub(super) image_id: Scalar,
    pub(super) category_id: Scalar,
    pub(super) bbox: BoxField,
    pub(super) area: Scalar,
    pub(super) iscrowd: Scalar,
    pub(super) difficult: Scalar,
}

#[derive(Default)]
pub(super) struct CategoryFields {
    pub(super) id: Scalar,
    pub(super) name: Scalar,
}

/// What stands under `segmentation`.
#[derive(Debug, Default, PartialEq)]
pub(super) enum SegmentationField {
    #[default]
    Missing,
    Outline(Outline),
    /// What is wrong with it.
    Wrong(String),
}

impl Known for ImageFields {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        let field = match key {
            "id" => &mut self.id,
            "file_name" => &mut self.file_name,
            "width" => &mut self.width,
            "height" => &mut self.height,
            _ => return Ok(false),
        };
        *field = map.next_value()?;
        Ok(true)
    }
}

impl Known for AnnotationFields {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        let field = match key {
            "id" => &mut self.id,
            "image_id" => &mut self.image_id,
            "category_id" => &mut self.category_id,
            "area" => &mut self.area,
            "iscrowd" => &mut self.iscrowd,
            "difficult" => &mut self.difficult,
            "bbox" => {
                self.bbox = map.next_value()?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        *field = map.next_value()?;
        Ok(true)
    }
}

impl Known for CategoryFields {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        let field = match key {
            "id" => &mut self.id,
            "name" => &mut self.name,
            _ => return Ok(false),
        };
        *field = map.next_value()?;
        Ok(true)
    }
}

impl Rest for Skipped {
    fn take<'de, A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<IgnoredAny>().map(drop)
    }
}

impl Rest for Kept {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key == "segmentation" {
            self.segmentation = map.next_value()?;
        } else {
            let value: Value = map.next_value()?;
            self.fields.insert(key.to_owned(), value.to_string());
        }
        Ok(())
    }
}

struct EntryVisitor<K, R>(PhantomData<(K, R)>);

impl<'de, K: Known, R: Rest> Visitor<'de> for EntryVisitor<K, R> {
    type Value = Entry<K, R>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut known, mut rest) = (K::default(), R::default());
        while let Some(Key(key)) = map.next_key()? {
            if !known.take(&key, &mut map)? {
                rest.take(&key, &mut map)?;
            }
        }
        Ok(Entry { known, rest })
    }
}

impl<'de, K: Known, R: Rest> Deserialize<'de> for Entry<K, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor(PhantomData))
    }
}

/// A key, borrowed from the file where it can be.
pub(super) struct Key<'a>(pub(super) Cow<'a, str>);

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct SegmentationVisitor;

impl<'de> Visitor<'de> for SegmentationVisitor {
    type Value = SegmentationField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("polygons or run lengths")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<SegmentationField, A::Error> {
        let mut polygons = Vec::new();
        let mut wrong = None;
        while let Some(part) = parts.next_element::<Value>()? {
            match polygon(&part) {
                Ok(polygon) => polygons.push(polygon),
                Err(found) => wrong = wrong.or(Some(found)),
            }
        }
        Ok(match wrong {
            Some(found) => SegmentationField::Wrong(format!("expected at least 3 pairs of numbers, found {found}")),
            None if polygons.is_empty() => SegmentationField::Missing,
            None => SegmentationField::Outline(Outline::Polygons(polygons)),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SegmentationField, A::Error> {
        let value = Value::deserialize(MapAccessDeserializer::new(map))?;
        Ok(SegmentationField::Outline(Outline::Mask(value.to_string())))
    }

    fn visit_unit<E>(self) -> Result<SegmentationField, E> {
        Ok(SegmentationField::Missing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<SegmentationField, E> {
        Ok(wrong(&value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<SegmentationField, E> {
        Ok(wrong(&value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<SegmentationField, E> {
        Ok(wrong(&value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<SegmentationField, E> {
        Ok(wrong(&value))
    }

    fn visit_str<E>(self, value: &str) -> Result<SegmentationField, E> {
        Ok(wrong(&crate::file::quoted(value)))
    }
}

fn wrong(found: &dyn fmt::Display) -> SegmentationField {
    SegmentationField::Wrong(format!("expected a list or an object, found {found}"))
}

/// The pairs of a flat list, or what is there instead.
fn polygon(part: &Value) -> Result<Vec<[f64; 2]>, String> {
    let Value::Array(values) = part else { return Err("no list".to_owned()) };
    let numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
    if numbers.len() != values.len() {
        return Err("other values among them".to_owned());
    }
    if numbers.len() < 6 || !numbers.len().is_multiple_of(2) {
        return Err(format!("{} numbers", numbers.len()));
    }
    Ok(numbers.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect())
}

impl<'de> Deserialize<'de> for SegmentationField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SegmentationVisitor)
    }
}
