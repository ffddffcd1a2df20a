//! What some formats know besides boxes, kept where it is asked for so that it can be written again.

use std::collections::BTreeMap;

/// Fields that only one format has: names, and values as JSON text.
pub type Fields = BTreeMap<String, String>;

/// What is known of one object besides its box; only read where [`DataRequest::details`](crate::DataRequest::details) asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The annotation's own id (COCO).
    pub id: Option<i64>,
    /// The outline (COCO, YOLO).
    pub outline: Option<Outline>,
    /// Whether the object goes on outside of the image (Pascal VOC, Open Images).
    pub is_truncated: Option<bool>,
    /// Whether something else hides a part of it (Pascal VOC, Open Images).
    pub is_occluded: Option<bool>,
    /// Whether it is a drawing or the like, not the thing itself (Open Images).
    pub is_depiction: Option<bool>,
    /// Whether the picture is taken from the inside of it (Open Images).
    pub is_inside: Option<bool>,
    /// From where it is seen (Pascal VOC).
    pub pose: Option<String>,
    /// Who or what drew the box (Open Images).
    pub source: Option<String>,
    /// How sure the label is (Open Images).
    pub confidence: Option<f64>,
    /// All else (COCO).
    pub fields: Fields,
}

/// The outline of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Outline {
    /// The corners (x, y) of each part, in pixels.
    Polygons(Vec<Vec<[f64; 2]>>),
    /// COCO's run lengths, as the JSON object that the file has.
    Mask(String),
}

/// What is known of an image besides its size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageDetails {
    /// The id where it is no number (COCO).
    pub text_id: Option<String>,
    /// All else (COCO).
    pub fields: Fields,
}

/// What is known of a set as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SetDetails {
    /// All besides the lists of images, annotations and categories (COCO): info, licences.
    pub fields: Fields,
    /// What is known of each class by its name, such as `supercategory` (COCO).
    pub class_fields: BTreeMap<String, Fields>,
}

impl Details {
    /// The details, or none where they say nothing.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

impl ImageDetails {
    /// The details, or none where they say nothing.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

impl SetDetails {
    /// The details, or none where they say nothing.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// Takes what `other` has and this lacks, and gives the names of fields that both have with different values.
    pub(crate) fn merge(&mut self, other: Self) -> Vec<String> {
        let mut differing = Vec::new();
        for (name, value) in other.fields {
            match self.fields.get(&name) {
                Some(known) if *known != value => differing.push(name),
                Some(_) => {}
                None => drop(self.fields.insert(name, value)),
            }
        }
        for (class, fields) in other.class_fields {
            self.class_fields.entry(class).or_insert(fields);
        }
        differing
    }
}
