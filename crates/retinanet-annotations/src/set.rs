//! The vocabulary: classes, images, boxes, detections.

use std::collections::HashMap;
use std::path::PathBuf;

use retinanet_anchors::{BBox, ImageSize};
use serde::{Deserialize, Serialize};

use crate::{AnnotationError, Problem};

/// A kind of object. Its position in [`AnnotationSet::classes`] is the network's class index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// The id that files use: COCO's sparse category id, YOLO's index, the class index for Pascal VOC.
    pub category_id: i64,
    /// The name, as written in the files.
    pub name: String,
}

/// One box of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Annotation {
    /// Position in [`AnnotationSet::classes`].
    pub class_idx: usize,
    /// Left, top, width, height in pixels of the image, half-open, as the format gives them.
    pub xywh: [f64; 4],
    /// Square pixels, as the file says: COCO's is that of the segmentation, elsewhere width times height.
    pub area: f64,
    /// A region of many objects that no detection need find one by one (COCO).
    pub is_crowd: bool,
    /// Hard to tell for a person, too (Pascal VOC).
    pub is_difficult: bool,
}

impl Annotation {
    /// The corners in f32, as networks use them.
    #[must_use]
    pub fn bbox(&self) -> BBox {
        let [x, y, width, height] = self.xywh;
        BBox::new(x as f32, y as f32, (x + width) as f32, (y + height) as f32)
    }

    /// Whether the box has finite sides above 0 in f32, too, so that a network can be trained on it.
    ///
    /// COCO ground truth keeps boxes without extent, since scoring counts them; training leaves them out.
    #[must_use]
    pub fn has_extent(&self) -> bool {
        let bbox = self.bbox();
        bbox.is_finite() && bbox.width() > 0.0 && bbox.height() > 0.0
    }
}

/// One image and its boxes; none is data, too.
#[derive(Clone, Debug, PartialEq)]
pub struct AnnotatedImage {
    /// The id that detections refer to: COCO's, elsewhere counted from 1 in order.
    pub id: i64,
    /// The file to open. It is looked for, but it need not exist.
    pub path: PathBuf,
    /// The name that the annotation file gives, or the file's own.
    pub file_name: String,
    /// The size that the annotation file states, or for relative boxes the one measured; none where it says none or 0.
    pub size: Option<ImageSize>,
    /// Boxes in the order of the file.
    pub annotations: Vec<Annotation>,
}

/// All that is known of a set of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnnotationSet {
    /// Classes by class index; the same for every split of a set.
    pub classes: Vec<Class>,
    /// Images in the order of the file, list or folder.
    pub images: Vec<AnnotatedImage>,
    /// What was left out or looks wrong.
    pub problems: Vec<Problem>,
}

impl AnnotationSet {
    /// How many boxes all images have together.
    #[must_use]
    pub fn num_annotations(&self) -> usize {
        self.images.iter().map(|image| image.annotations.len()).sum()
    }

    /// How many boxes were left out; each has an entry in [`problems`](Self::problems).
    #[must_use]
    pub fn num_dropped_boxes(&self) -> usize {
        let dropped = |problem: &&Problem| problem.effect == crate::Effect::BoxDropped;
        self.problems.iter().filter(dropped).count()
    }

    /// The class index of a category id.
    #[must_use]
    pub fn class_idx(&self, category_id: i64) -> Option<usize> {
        self.classes.iter().position(|class| class.category_id == category_id)
    }

    /// Adds the images of another split behind those of this one.
    ///
    /// Categories of the other set that this one lacks are added, and the class indices follow. Image ids that this set
    /// uses already are replaced by new ones above all others.
    ///
    /// # Errors
    /// One category id has two names.
    pub fn append(&mut self, other: Self) -> Result<(), AnnotationError> {
        let mut merged = self.classes.clone();
        for class in &other.classes {
            match merged.iter().find(|known| known.category_id == class.category_id) {
                Some(known) if known.name != class.name => {
                    return Err(AnnotationError::ClassConflict {
                        category_id: class.category_id,
                        names: [known.name.clone(), class.name.clone()],
                    });
                }
                Some(_) => {}
                None => merged.push(class.clone()),
            }
        }
        merged.sort_by_key(|class| class.category_id);
        let positions: HashMap<i64, usize> =
            merged.iter().enumerate().map(|(idx, class)| (class.category_id, idx)).collect();
        let renumber = |classes: &[Class], images: &mut [AnnotatedImage]| {
            let map: Vec<usize> = classes.iter().map(|class| positions[&class.category_id]).collect();
            for annotation in images.iter_mut().flat_map(|image| &mut image.annotations) {
                // An index past the classes, in a set made by hand, stays past them.
                annotation.class_idx = map.get(annotation.class_idx).copied().unwrap_or(usize::MAX);
            }
        };
        let mut images = other.images;
        renumber(&self.classes, &mut self.images);
        renumber(&other.classes, &mut images);

        let used: std::collections::HashSet<i64> = self.images.iter().map(|image| image.id).collect();
        if images.iter().any(|image| used.contains(&image.id)) {
            let mut unused = UnusedIds::above(self.images.iter().chain(&images).map(|i| i.id));
            for image in &mut images {
                if used.contains(&image.id) {
                    image.id = unused.next();
                }
            }
        }
        self.classes = merged;
        self.images.append(&mut images);
        self.problems.extend(other.problems);
        Ok(())
    }
}

/// Hands out ids that nobody has, upward from the highest, or from the lowest free one where that is the last number.
pub(crate) struct UnusedIds {
    next: i64,
    used: std::collections::HashSet<i64>,
}

impl UnusedIds {
    pub(crate) fn above(ids: impl Iterator<Item = i64>) -> Self {
        let used: std::collections::HashSet<i64> = ids.collect();
        let next = used.iter().max().map_or(1, |&max| max.checked_add(1).unwrap_or(1).max(1));
        Self { next, used }
    }

    pub(crate) fn next(&mut self) -> i64 {
        while !self.used.insert(self.next) {
            self.next = self.next.checked_add(1).unwrap_or(1);
        }
        self.next
    }
}

/// One detection in COCO's form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectionRecord {
    /// [`AnnotatedImage::id`].
    pub image_id: i64,
    /// [`Class::category_id`].
    pub category_id: i64,
    /// Left, top, width, height in pixels.
    pub xywh: [f64; 4],
    /// Confidence; only its order matters to scoring.
    pub score: f64,
}
