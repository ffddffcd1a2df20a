//! What a data set is: pictures with boxes by index, and the annotations to score against.

use retinanet_anchors::BBox;
use retinanet_annotations::{AnnotationSet, Class};

use crate::{CacheStatistics, Image, SampleError};

/// Pictures with boxes, by index.
pub trait Dataset: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize {
        self.annotations().images.len()
    }

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Classes by class index.
    fn classes(&self) -> &[Class] {
        &self.annotations().classes
    }

    /// The picture and boxes at `index`, `0..len()`; the same for the same index whenever and wherever asked.
    ///
    /// # Errors
    /// The picture cannot be had; the error names its file.
    fn sample(&self, index: usize) -> Result<Sample, SampleError>;

    /// What the cache of the data set has done, all zeros where it has none.
    fn cache_statistics(&self) -> CacheStatistics {
        CacheStatistics::default()
    }

    /// All annotations as read, for scoring; image `i` of it is sample `i`.
    fn annotations(&self) -> &AnnotationSet;
}

/// A picture and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The picture.
    pub image: Image,
    /// Boxes in pixels of the picture, inside it, none of them empty; no box at all is data, too.
    pub boxes: Vec<BBox>,
    /// The class index of each box.
    pub classes: Vec<usize>,
}
