//! How well anchors fit boxes once their images are resized.

use rayon::prelude::*;
use retinanet_anchors::{AnchorConfig, AnchorGenerator, BBox, ImageSize, Pyramid, PyramidLevel, best_ious};
use retinanet_annotations::{AnnotatedImage, Annotation, AnnotationSet};

use super::CheckError;
use super::boxes::ratios;
use crate::Preprocessing;

/// The anchors of a network beside boxes as it sees them.
///
/// ```
/// use retinanet_data::check::AnchorFit;
/// use retinanet_data::retinanet_anchors::{AnchorConfig, BBox, ImageSize, PyramidLevel};
/// use retinanet_data::Preprocessing;
///
/// let preprocessing = Preprocessing { min_size: 64, max_size: 64, ..Preprocessing::default() };
/// let fit = AnchorFit::new(preprocessing, &AnchorConfig::default(), PyramidLevel::P3)?;
/// // A square of 16 pixels, one of 32 once the image is resized, around a corner of the cells of P3; and a speck.
/// let boxes = [BBox::new(8.0, 8.0, 24.0, 24.0), BBox::new(3.0, 3.0, 4.0, 4.0)];
/// let ious = fit.best_ious(ImageSize::new(32, 32), &fit.resized(ImageSize::new(32, 32), &boxes));
/// assert!(ious[0] == 1.0 && ious[1] < 0.1);
/// # Ok::<(), retinanet_data::check::CheckError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AnchorFit {
    preprocessing: Preprocessing,
    anchors: AnchorGenerator,
}

/// Boxes that no anchor fits, among those of a split.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnmatchedBoxes {
    /// Images whose boxes were looked at.
    pub images: usize,
    /// Their boxes.
    pub boxes: usize,
    /// Those whose best anchor has a lower IoU than is asked for.
    pub unmatched: usize,
    /// The least and the greatest root of their area, in pixels of the resized image; 0 where there are none.
    pub sides: [f32; 2],
    /// The least and the greatest height over width; 0 where there are none.
    pub aspect_ratios: [f32; 2],
}

impl AnchorFit {
    /// The anchors of a network whose finest level is `finest`.
    ///
    /// # Errors
    /// The preprocessing or the anchors cannot be worked with.
    pub fn new(preprocessing: Preprocessing, anchors: &AnchorConfig, finest: PyramidLevel) -> Result<Self, CheckError> {
        preprocessing.validate()?;
        Ok(Self { preprocessing, anchors: AnchorGenerator::new(anchors, finest)? })
    }

    /// Boxes of an image of this size, in pixels of the resized image and cut at its border.
    #[must_use]
    pub fn resized(&self, size: ImageSize, boxes: &[BBox]) -> Vec<BBox> {
        let (across, down) = ratios(&self.preprocessing, size);
        boxes.iter().map(|bbox| bbox.clip(size).scale(across as f32, down as f32)).collect()
    }

    /// The IoU of each resized box with its best anchor, against the anchors of the image by itself, padded as the network
    /// sees it.
    #[must_use]
    pub fn best_ious(&self, size: ImageSize, resized: &[BBox]) -> Vec<f32> {
        let padded = self.preprocessing.sizes(size).padded;
        let grid = |stride: usize| ImageSize::new(padded.width.div_ceil(stride), padded.height.div_ceil(stride));
        let grids: Vec<ImageSize> = self.anchors.levels().map(|level| grid(level.stride())).collect();
        let anchors = self
            .anchors
            .levels()
            .next()
            .and_then(|finest| Pyramid::new(finest, grids).ok())
            .and_then(|grids| self.anchors.generate(padded, &grids).ok());
        match anchors {
            Some(anchors) => best_ious(&anchors.into_values().concat(), resized),
            // A picture so narrow that a level has more cells than it has pixels.
            None => vec![0.0; resized.len()],
        }
    }

    /// Counts the boxes of a split whose best anchor has an IoU below `foreground_iou`, so that none learns them but where a
    /// matcher gives each box its best. No file is read: images of unknown size are left out, and of more than `most` images
    /// so many, spread evenly, are looked at.
    #[must_use]
    pub fn unmatched(&self, set: &AnnotationSet, foreground_iou: f32, most: usize) -> UnmatchedBoxes {
        let count = set.images.len().min(most);
        let image = |number: usize| &set.images[number * set.images.len() / count];
        let of_image = |number: usize| self.unmatched_of_image(image(number), foreground_iou);
        (0..count).into_par_iter().map(of_image).reduce(UnmatchedBoxes::default, UnmatchedBoxes::and)
    }

    fn unmatched_of_image(&self, image: &AnnotatedImage, foreground_iou: f32) -> UnmatchedBoxes {
        let Some(size) = image.size else { return UnmatchedBoxes::default() };
        let boxes: Vec<BBox> = image.annotations.iter().filter(|a| is_trained(a)).map(Annotation::bbox).collect();
        let mut found = UnmatchedBoxes { images: 1, ..UnmatchedBoxes::default() };
        // With no boxes there is nothing to do, and anchors take time.
        if boxes.is_empty() {
            return found;
        }
        let resized = self.resized(size, &boxes);
        for (bbox, iou) in resized.iter().zip(self.best_ious(size, &resized)) {
            // What lies outside of its image is left out of a training.
            if bbox.area() <= 0.0 {
                continue;
            }
            found.boxes += 1;
            if iou < foreground_iou {
                let (side, ratio) = (bbox.area().sqrt(), bbox.height() / bbox.width());
                let one =
                    UnmatchedBoxes { unmatched: 1, sides: [side; 2], aspect_ratios: [ratio; 2], ..Default::default() };
                found = found.and(one);
            }
        }
        found
    }
}

impl UnmatchedBoxes {
    /// Of two parts of a split.
    fn and(self, other: Self) -> Self {
        let joined = |[low, high]: [f32; 2], [other_low, other_high]: [f32; 2]| match (self.unmatched, other.unmatched)
        {
            (_, 0) => [low, high],
            (0, _) => [other_low, other_high],
            _ => [low.min(other_low), high.max(other_high)],
        };
        Self {
            images: self.images + other.images,
            boxes: self.boxes + other.boxes,
            unmatched: self.unmatched + other.unmatched,
            sides: joined(self.sides, other.sides),
            aspect_ratios: joined(self.aspect_ratios, other.aspect_ratios),
        }
    }
}

/// Whether a network is trained on a box.
pub(super) fn is_trained(annotation: &Annotation) -> bool {
    !annotation.is_crowd && annotation.has_extent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_that_no_anchor_fits_are_counted_with_their_shapes() -> Result<(), CheckError> {
        let preprocessing = Preprocessing { min_size: 256, max_size: 256, ..Preprocessing::default() };
        let fit = AnchorFit::new(preprocessing, &AnchorConfig::default(), PyramidLevel::P3)?;
        let image = |boxes: &[[f64; 4]]| AnnotatedImage {
            size: Some(ImageSize::new(128, 128)),
            annotations: boxes.iter().map(|&xywh| Annotation::new(0, xywh)).collect(),
            ..AnnotatedImage::default()
        };
        // Twice as large once resized: 64 x 64 fits, 4 x 4 and 200 x 8 do not.
        let (fits, small, long) = ([32.0, 32.0, 32.0, 32.0], [50.0, 50.0, 2.0, 2.0], [10.0, 60.0, 100.0, 4.0]);
        let mut crowd = image(&[small]);
        crowd.annotations[0].is_crowd = true;
        let unmeasured = AnnotatedImage { size: None, ..image(&[small]) };
        let images = vec![image(&[fits, small]), image(&[]), crowd, unmeasured, image(&[long])];
        let set = AnnotationSet { images, ..AnnotationSet::default() };
        let found = fit.unmatched(&set, 0.5, 100);
        assert_eq!((found.images, found.boxes, found.unmatched), (4, 3, 2));
        assert_eq!(found.sides, [4.0, 40.0]);
        assert_eq!(found.aspect_ratios, [0.04, 1.0]);
        let first = fit.unmatched(&set, 0.5, 1);
        assert_eq!((first.images, first.boxes, first.sides), (1, 2, [4.0, 4.0]));
        assert_eq!(fit.unmatched(&AnnotationSet::default(), 0.5, 10), UnmatchedBoxes::default());
        Ok(())
    }
}
