//! Annotated image files on disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use retinanet_anchors::ImageSize;
use retinanet_annotations::{AnnotatedImage, AnnotationSet, DataRequest, Effect, Place, Problem, Problems};

use crate::{DataError, Dataset, DecodeLimits, Sample, SampleError, decode_file, image_size};

/// Image files with annotations in any of the formats of [`retinanet_annotations`].
///
/// [`open`](Self::open) reads the annotations and the header of every image; pixels are decoded when a sample is asked
/// for. What looks wrong is in [`problems`](Self::problems) and stops nothing: files without a readable header stay in the
/// set, since scoring must count their objects, and give a [`SampleError`] each time.
///
/// A sample's boxes are those to train on: cut at the picture's border, in its displayed frame, without crowd regions,
/// which stand for many objects at once, and without boxes that have no extent. [`annotations`](Dataset::annotations) keeps
/// them all.
pub struct FileDataset {
    annotations: AnnotationSet,
    limits: DecodeLimits,
}

impl FileDataset {
    /// Opens a set, recognised by looking; `split` such as `train` or `train+val`, none for a set without splits.
    ///
    /// A stated size that differs from the file's displayed size is reported: mostly boxes drawn on a picture whose EXIF
    /// orientation was ignored. Where no size is stated, the measured one is filled in.
    ///
    /// # Errors
    /// The annotations cannot be read, or there is no such split.
    pub fn open(path: &Path, split: Option<&str>) -> Result<Self, DataError> {
        Self::open_request(&DataRequest::new([path]), split)
    }

    /// Opens a split of one or several sets, with the classes that are asked for.
    ///
    /// # Errors
    /// As [`open`](Self::open), for any of the sets; a class is asked for that no set has.
    pub fn open_request(request: &DataRequest, split: Option<&str>) -> Result<Self, DataError> {
        let sizes = Mutex::new(HashMap::new());
        let probe = |path: &Path| {
            let size = measure(path);
            sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), size.clone());
            size
        };
        let annotations = request.read(split, &probe)?;
        let probed = sizes.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Self::with_probed(annotations, &probed))
    }

    /// A set whose annotations were read before.
    #[must_use]
    pub fn new(annotations: AnnotationSet) -> Self {
        Self::with_probed(annotations, &HashMap::new())
    }

    /// Replaces the limits on the pictures that are decoded.
    #[must_use]
    pub fn with_limits(mut self, limits: DecodeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// What was left out or looks wrong, in the annotations and in the headers of the image files.
    #[must_use]
    pub fn problems(&self) -> &Problems {
        &self.annotations.problems
    }

    fn with_probed(mut annotations: AnnotationSet, probed: &HashMap<PathBuf, Result<ImageSize, String>>) -> Self {
        let found: Vec<Option<Problem>> =
            annotations.images.par_iter_mut().map(|image| check_header(image, probed.get(&image.path))).collect();
        annotations.problems.extend(found.into_iter().flatten());
        Self { annotations, limits: DecodeLimits::default() }
    }
}

fn check_header(image: &mut AnnotatedImage, probed: Option<&Result<ImageSize, String>>) -> Option<Problem> {
    let problem =
        |what| Some(Problem { path: Arc::from(image.path.as_path()), place: Place::File, what, effect: Effect::Noted });
    let measured = match probed {
        // A reader that asked for the size has told of the failure.
        Some(Err(_)) => return None,
        Some(Ok(size)) => Ok(*size),
        None => measure(&image.path),
    };
    match (measured, image.size) {
        (Err(what), _) => problem(what),
        (Ok(measured), Some(stated)) if measured != stated => {
            problem(format!("size as displayed: expected {stated} as annotated, found {measured}"))
        }
        (Ok(measured), _) => {
            image.size = Some(measured);
            None
        }
    }
}

/// The size, or the error without the file's name in front: problems name the file themselves.
fn measure(path: &Path) -> Result<ImageSize, String> {
    image_size(path).map_err(|error| {
        let text = error.to_string();
        let prefix = format!("{}: ", path.display());
        text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
    })
}

impl Dataset for FileDataset {
    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let fail = |what| SampleError { index, what };
        let Some(annotated) = self.annotations.images.get(index) else {
            let len = self.annotations.images.len();
            return Err(fail(format!("sample: index: expected below {len}, found {index}")));
        };
        let image = decode_file(&annotated.path, &self.limits).map_err(|error| fail(error.to_string()))?;
        let (mut boxes, mut classes) = (Vec::new(), Vec::new());
        for annotation in &annotated.annotations {
            let clipped = annotation.bbox().clip(image.size);
            if !annotation.is_crowd && clipped.is_finite() && clipped.area() > 0.0 {
                boxes.push(clipped);
                classes.push(annotation.class_idx);
            }
        }
        Ok(Sample { image, boxes, classes })
    }

    fn annotations(&self) -> &AnnotationSet {
        &self.annotations
    }
}
