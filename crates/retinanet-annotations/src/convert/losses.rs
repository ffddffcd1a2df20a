//! What a format cannot hold.

use std::collections::BTreeMap;
use std::fmt;

use crate::geometry::{defect, outside};
use crate::{AnnotatedImage, Annotation, Class, Details, Format, Outline, SetDetails, yolo};

/// A kind of thing that is left out, or replaced by what a reader of the format takes instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// Boxes with a side of 0 or less.
    BoxesWithoutExtent,
    /// Boxes with a side of at most a pixel: Pascal VOC's corners have no distance.
    ThinBoxes,
    /// Boxes that have no point in common with their image, in formats relative to it.
    BoxesOutside,
    /// Outlines of polygons.
    Polygons,
    /// Outlines of run lengths.
    Masks,
    /// That a box stands for many objects; it becomes an ordinary one.
    CrowdFlags,
    /// That an object is hard to tell.
    DifficultFlags,
    /// Whether an object goes on outside of the image.
    TruncatedFlags,
    /// Whether something hides a part of an object.
    OccludedFlags,
    /// Whether an object is a drawing, or seen from the inside.
    OtherFlags,
    /// From where an object is seen.
    Poses,
    /// Who drew a box, and how sure its label is.
    Sources,
    /// Areas that are not width times height.
    Areas,
    /// Ids of annotations.
    AnnotationIds,
    /// Ids of images; they are counted anew.
    ImageIds,
    /// Ids of classes; they are counted anew.
    CategoryIds,
    /// Classes that no box has.
    UnusedClasses,
    /// Fields that only one format has.
    Fields,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BoxesWithoutExtent => "boxes without extent",
            Self::ThinBoxes => "boxes of at most a pixel in width or height",
            Self::BoxesOutside => "boxes outside of their image",
            Self::Polygons => "polygons",
            Self::Masks => "masks",
            Self::CrowdFlags => "crowd flags",
            Self::DifficultFlags => "difficult flags",
            Self::TruncatedFlags => "truncated flags",
            Self::OccludedFlags => "occluded flags",
            Self::OtherFlags => "depiction and inside flags",
            Self::Poses => "poses",
            Self::Sources => "sources and confidences",
            Self::Areas => "areas other than width times height",
            Self::AnnotationIds => "annotation ids",
            Self::ImageIds => "image ids",
            Self::CategoryIds => "category ids",
            Self::UnusedClasses => "classes without boxes",
            Self::Fields => "further fields",
        })
    }
}

/// How much was left out, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(BTreeMap<Loss, usize>);

impl Losses {
    /// How often this was left out.
    #[must_use]
    pub fn count(&self, loss: Loss) -> usize {
        self.0.get(&loss).copied().unwrap_or(0)
    }

    /// All that was left out.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, usize)> {
        self.0.iter().map(|(&loss, &count)| (loss, count))
    }

    /// Whether all was kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, loss: Loss, count: usize) {
        if count > 0 {
            *self.0.entry(loss).or_default() += count;
        }
    }

    /// Counts what is lost of the classes and of the set as a whole, and gives the classes as they are written.
    pub(super) fn of_classes(
        &mut self,
        format: Format,
        classes: Vec<Class>,
        splits: &[(String, Vec<AnnotatedImage>)],
        details: Option<&SetDetails>,
    ) -> Vec<Class> {
        if format != Format::Coco {
            let set = details.map_or(0, |details| details.fields.len());
            let class_fields = details.into_iter().flat_map(|details| details.class_fields.values()).flatten();
            let lost = class_fields.filter(|(name, _)| format != Format::OpenImages || *name != "label_name");
            self.add(Loss::Fields, set + lost.count());
        }
        match format {
            Format::Coco | Format::Csv => {}
            Format::Yolo | Format::OpenImages => {
                let changed = classes.iter().zip(0..).filter(|(class, idx)| class.category_id != *idx).count();
                self.add(Loss::CategoryIds, changed);
            }
            Format::Voc => {
                let mut is_used = vec![false; classes.len()];
                let boxes = splits.iter().flat_map(|(_, images)| images).flat_map(|image| &image.annotations);
                boxes
                    .filter(|annotation| !is_thin(annotation))
                    .for_each(|annotation| is_used[annotation.class_idx] = true);
                self.add(Loss::UnusedClasses, is_used.iter().filter(|&&is_used| !is_used).count());
                let mut used: Vec<&Class> =
                    classes.iter().zip(&is_used).filter(|(_, is_used)| **is_used).map(|(class, _)| class).collect();
                used.sort_by_key(|class| &class.name);
                self.add(
                    Loss::CategoryIds,
                    used.iter().zip(0..).filter(|(class, idx)| class.category_id != *idx).count(),
                );
            }
        }
        classes
    }
}

/// Whether the corners of a box are the same by Pascal VOC's count, or in the wrong order.
fn is_thin(annotation: &Annotation) -> bool {
    let [x, y, width, height] = annotation.xywh;
    // As they are read again, after rounding.
    let distance = |start: f64, length: f64| (start + length) - (start + 1.0);
    distance(x, width) <= 0.0 || distance(y, height) <= 0.0
}

/// Takes out of images what a format cannot hold, and counts it.
pub(super) struct Holding<'a> {
    format: Format,
    losses: &'a mut Losses,
    keeps_annotation_ids: bool,
}

impl<'a> Holding<'a> {
    pub(super) fn new(format: Format, losses: &'a mut Losses, splits: &[(String, Vec<AnnotatedImage>)]) -> Self {
        let keeps_annotation_ids =
            format == Format::Coco && splits.iter().all(|(_, images)| crate::coco::annotation_ids(images).is_some());
        Self { format, losses, keeps_annotation_ids }
    }

    /// `number` is the image's place among those of its split, from 1.
    pub(super) fn of_image(&mut self, image: &mut AnnotatedImage, number: i64) {
        if self.format != Format::Coco {
            let details = image.details.take().unwrap_or_default();
            let is_changed = image.id != number || details.text_id.is_some();
            self.losses.add(Loss::ImageIds, usize::from(is_changed));
            self.losses.add(Loss::Fields, details.fields.len());
        }
        let size = image.size;
        image.annotations.retain(|annotation| {
            let lost = match self.format {
                Format::Coco => None,
                _ if defect(annotation.xywh).is_some() => Some(Loss::BoxesWithoutExtent),
                Format::Voc => is_thin(annotation).then_some(Loss::ThinBoxes),
                Format::Csv => None,
                _ => outside(annotation.xywh, size).map(|_| Loss::BoxesOutside),
            };
            lost.is_none_or(|lost| {
                self.losses.add(lost, 1);
                false
            })
        });
        image.annotations.iter_mut().for_each(|annotation| self.of_annotation(annotation));
    }

    fn of_annotation(&mut self, annotation: &mut Annotation) {
        use Format::{Coco, OpenImages, Voc};
        let format = self.format;
        let mut lose = |loss: Loss, is_there: bool, holders: &[Format]| {
            let is_lost = is_there && !holders.contains(&format);
            self.losses.add(loss, usize::from(is_lost));
            is_lost
        };
        if lose(Loss::CrowdFlags, annotation.is_crowd, &[Coco, OpenImages]) {
            annotation.is_crowd = false;
        }
        if lose(Loss::DifficultFlags, annotation.is_difficult, &[Coco, Voc]) {
            annotation.is_difficult = false;
        }
        let area = annotation.xywh[2] * annotation.xywh[3];
        lose(Loss::Areas, (annotation.area - area).abs() > 1e-9 * area.abs(), &[Coco]);
        let Some(details) = annotation.details.as_deref() else { return };
        let Details {
            id,
            outline,
            is_truncated,
            is_occluded,
            is_depiction,
            is_inside,
            pose,
            source,
            confidence,
            fields,
        } = details;
        lose(Loss::TruncatedFlags, is_truncated.is_some(), &[Coco, Voc, OpenImages]);
        lose(Loss::OccludedFlags, is_occluded.is_some(), &[Coco, Voc, OpenImages]);
        lose(Loss::OtherFlags, is_depiction.is_some() || is_inside.is_some(), &[Coco, OpenImages]);
        lose(Loss::Poses, pose.is_some(), &[Coco, Voc]);
        lose(Loss::Sources, source.is_some() || confidence.is_some(), &[Coco, OpenImages]);
        lose(Loss::Masks, matches!(outline, Some(Outline::Mask(_))), &[Coco]);
        let holds_polygon = format == Coco || (format == Format::Yolo && yolo::polygon(annotation).is_some());
        let is_polygon = matches!(outline, Some(Outline::Polygons(_)));
        lose(Loss::Polygons, is_polygon && !holds_polygon, &[]);
        lose(Loss::AnnotationIds, id.is_some() && !self.keeps_annotation_ids, &[]);
        let num_fields = if format == Coco { 0 } else { fields.len() };
        self.losses.add(Loss::Fields, num_fields);
    }
}
