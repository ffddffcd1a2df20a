//! The vocabulary: classes, images, boxes, detections.

use std::path::PathBuf;

use retinanet_anchors::{BBox, ImageSize};
use serde::{Deserialize, Serialize};

use crate::{Details, Effect, ImageDetails, Problems, SetDetails};

/// A kind of object. Its position in [`AnnotationSet::classes`] is the network's class index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// The id that files use: COCO's sparse category id, YOLO's index, the class index for Pascal VOC.
    pub category_id: i64,
    /// The name, as written in the files.
    pub name: String,
}

/// One box of one image.
#[derive(Clone, Debug, PartialEq)]
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
    /// What else is known, where it was asked for.
    pub details: Option<Box<Details>>,
}

impl Annotation {
    /// A plain box: its area is width times height, and nothing else is known of it.
    #[must_use]
    pub fn new(class_idx: usize, xywh: [f64; 4]) -> Self {
        let area = xywh[2] * xywh[3];
        Self { class_idx, xywh, area, is_crowd: false, is_difficult: false, details: None }
    }

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
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// What else is known, where it was asked for.
    pub details: Option<Box<ImageDetails>>,
}

/// All that is known of a set of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnnotationSet {
    /// Classes by class index; the same for every split of a set.
    pub classes: Vec<Class>,
    /// Images in the order of the file, list or folder.
    pub images: Vec<AnnotatedImage>,
    /// What was left out or looks wrong.
    pub problems: Problems,
    /// What else is known, where it was asked for.
    pub details: Option<Box<SetDetails>>,
}

impl AnnotationSet {
    /// How many boxes all images have together.
    #[must_use]
    pub fn num_annotations(&self) -> usize {
        self.images.iter().map(|image| image.annotations.len()).sum()
    }

    /// How many boxes were left out; each is counted in [`problems`](Self::problems).
    #[must_use]
    pub fn num_dropped_boxes(&self) -> usize {
        self.problems.count(Effect::BoxDropped)
    }

    /// The class index of a category id.
    #[must_use]
    pub fn class_idx(&self, category_id: i64) -> Option<usize> {
        self.classes.iter().position(|class| class.category_id == category_id)
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
