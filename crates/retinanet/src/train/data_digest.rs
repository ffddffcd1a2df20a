//! What tells the data of a training from other data.

use crate::weights::hexadecimal;
use rayon::prelude::*;
use retinanet_annotations::{AnnotatedImage, AnnotationSet};
use retinanet_data::Dataset;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;

/// What tells a split from others: its images by name, size and length of the file, in order, and their boxes.
///
/// Folders are not part of it, so that data may be moved; neither is what lies in the files, which would have to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SplitDigest {
    images: usize,
    boxes: usize,
    images_sha256: String,
    boxes_sha256: String,
}

/// What tells the data of a training from other data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DataDigest {
    train: SplitDigest,
    validation: Option<SplitDigest>,
}

impl DataDigest {
    pub(super) fn new(train: &dyn Dataset, validation: Option<&dyn Dataset>) -> Self {
        Self {
            train: SplitDigest::new(train.annotations()),
            validation: validation.map(|dataset| SplitDigest::new(dataset.annotations())),
        }
    }

    /// One line for each thing in which the data is not what it was.
    pub(super) fn differences(&self, found: &Self) -> Vec<String> {
        let mut lines = self.train.differences("train", &found.train);
        match (&self.validation, &found.validation) {
            (Some(expected), Some(found)) => lines.extend(expected.differences("validation", found)),
            (None, None) => {}
            (Some(_), None) => lines.push("validation data: expected a split, found none".to_owned()),
            (None, Some(_)) => lines.push("validation data: expected none, found a split".to_owned()),
        }
        lines
    }
}

impl SplitDigest {
    fn new(set: &AnnotationSet) -> Self {
        // Of images that are no files, such as drawn ones, the name is all there is.
        let length = |image: &AnnotatedImage| fs::metadata(&image.path).map_or(0, |metadata| metadata.len());
        let lengths: Vec<u64> = set.images.par_iter().map(length).collect();
        let (mut images, mut boxes) = (Sha256::new(), Sha256::new());
        for (image, length) in set.images.iter().zip(lengths) {
            let (width, height) = image.size.map_or((0, 0), |size| (size.width as u64, size.height as u64));
            // With its length, so that names cannot run into each other.
            images.update((image.file_name.len() as u64).to_le_bytes());
            images.update(image.file_name.as_bytes());
            [width, height, length].iter().for_each(|number| images.update(number.to_le_bytes()));
            boxes.update((image.annotations.len() as u64).to_le_bytes());
            for annotation in &image.annotations {
                boxes.update((annotation.class_idx as u64).to_le_bytes());
                annotation.xywh.iter().for_each(|side| boxes.update(side.to_bits().to_le_bytes()));
                boxes.update([u8::from(annotation.is_crowd), u8::from(annotation.is_difficult)]);
            }
        }
        Self {
            images: set.images.len(),
            boxes: set.num_annotations(),
            images_sha256: hexadecimal(images),
            boxes_sha256: hexadecimal(boxes),
        }
    }

    fn differences(&self, split: &str, found: &Self) -> Vec<String> {
        let difference = |what: &str, by: &str, expected: usize, found: usize, is_same: bool| {
            let others = if expected == found { format!("{found} others (by {by})") } else { found.to_string() };
            (!is_same).then(|| format!("{split} data: {what}: expected {expected}, found {others}"))
        };
        let is_same_images = self.images_sha256 == found.images_sha256;
        let images = difference("images", "name, size or length", self.images, found.images, is_same_images);
        let is_same_boxes = self.boxes_sha256 == found.boxes_sha256;
        let boxes = difference("boxes", "place or class", self.boxes, found.boxes, is_same_boxes);
        images.into_iter().chain(boxes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retinanet_annotations::Annotation;

    fn set(images: &[(&str, &[[f64; 4]])]) -> AnnotationSet {
        let image = |(name, boxes): &(&str, &[[f64; 4]])| AnnotatedImage {
            file_name: (*name).to_owned(),
            annotations: boxes.iter().map(|&xywh| Annotation::new(0, xywh)).collect(),
            ..AnnotatedImage::default()
        };
        AnnotationSet { images: images.iter().map(image).collect(), ..AnnotationSet::default() }
    }

    #[track_caller]
    fn check(found: &AnnotationSet, expected: &[&str]) {
        let then = SplitDigest::new(&set(&[("a", &[[1.0, 2.0, 3.0, 4.0]]), ("b", &[])]));
        assert_eq!(then.differences("train", &SplitDigest::new(found)), expected);
    }

    #[test]
    fn what_differs_is_named() {
        let bbox = [1.0, 2.0, 3.0, 4.0];
        check(&set(&[("a", &[bbox]), ("b", &[])]), &[]);
        let moved = "train data: boxes: expected 1, found 1 others (by place or class)";
        check(&set(&[("a", &[]), ("b", &[bbox])]), &[moved]);
        check(&set(&[("a", &[[1.0, 2.0, 3.0, 4.5]]), ("b", &[])]), &[moved]);
        check(
            &set(&[("ab", &[bbox]), ("", &[])]),
            &["train data: images: expected 2, found 2 others (by name, size or length)"],
        );
        check(
            &set(&[("a", &[bbox, bbox])]),
            &["train data: images: expected 2, found 1", "train data: boxes: expected 1, found 2"],
        );
    }

    #[test]
    fn a_file_of_another_length_is_another_image_wherever_it_lies() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str, bytes: &str| {
            let path = folder.path().join(name);
            fs::write(&path, bytes)?;
            let mut set = set(&[("a", &[])]);
            set.images[0].path = path;
            Ok::<_, std::io::Error>(SplitDigest::new(&set))
        };
        assert_eq!(at("here", "abc")?, at("there", "abd")?);
        assert_ne!(at("here", "abc")?, at("there", "ab")?);
        Ok(())
    }
}
