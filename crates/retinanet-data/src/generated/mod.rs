//! Pictures of textured shapes on cluttered ground, with exact boxes and no files.

mod ground;
mod render;
mod scene;
mod shape;

use std::path::PathBuf;

use retinanet_anchors::{BBox, ImageSize};
use retinanet_annotations::{AnnotatedImage, Annotation, AnnotationSet, Class};
use serde::{Deserialize, Serialize};

use crate::{ConfigError, Dataset, Image, Sample, SampleError};
use scene::Scene;
use shape::Shape;

/// What the generated pictures are like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratedConfig {
    /// How many pictures. Default 256.
    pub images: usize,
    /// Columns and rows of each; both within 16..=4096. Default 320x240.
    pub size: ImageSize,
    /// Everything depends on this and the picture's index alone. Default 0.
    pub seed: u64,
    /// The first this many of disc, square, triangle, ring, cross, star. Default 6.
    pub classes: usize,
    /// Most objects in a picture; each number from 1 is as likely. Default 8.
    pub max_objects: usize,
    /// Share of pictures without any object, 0..=1. Default 0.05.
    pub empty: f64,
    /// Longest side of an object's box in pixels, `[least, most]`, evenly drawn in its logarithm; at least 6 and below the
    /// shorter side of the picture. Default 16 to 144.
    pub object_size: [f64; 2],
}

impl Default for GeneratedConfig {
    fn default() -> Self {
        Self {
            images: 256,
            size: ImageSize::new(320, 240),
            seed: 0,
            classes: Shape::ALL.len(),
            max_objects: 8,
            empty: 0.05,
            object_size: [16.0, 144.0],
        }
    }
}

impl GeneratedConfig {
    /// Looks at every field.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sides = 16..=4096;
        let shorter = self.size.width.min(self.size.height) as f64;
        let [least, most] = self.object_size;
        let checks = [
            (
                sides.contains(&self.size.width) && sides.contains(&self.size.height),
                "generated.size",
                "sides within 16..=4096",
                self.size.to_string(),
            ),
            ((1..=Shape::ALL.len()).contains(&self.classes), "generated.classes", "1..=6", self.classes.to_string()),
            ((1..=1000).contains(&self.max_objects), "generated.max_objects", "1..=1000", self.max_objects.to_string()),
            ((0.0..=1.0).contains(&self.empty), "generated.empty", "0..=1", self.empty.to_string()),
            (
                6.0 <= least && least <= most && most < shorter,
                "generated.object_size",
                "[least, most], from 6 to below the shorter side",
                format!("{:?}", self.object_size),
            ),
        ];
        match checks.into_iter().find(|(good, ..)| !good) {
            None => Ok(()),
            Some((_, field, expected, found)) => Err(ConfigError { field, expected, found }),
        }
    }
}

/// Generated pictures: for tests, and to show a detector without any download.
///
/// Shapes of many sizes, turned, filled with stripes, checks, dots or grain, on ground with grain and strokes of other
/// colours. They may overlap a little; the boxes are those of the whole shapes, exact to rounding. Picture `i` is a pure
/// function of the configuration and `i`, on one platform to the bit.
///
/// ```
/// use retinanet_data::{Dataset, GeneratedConfig, GeneratedDataset};
///
/// let dataset = GeneratedDataset::new(GeneratedConfig { images: 3, classes: 2, ..GeneratedConfig::default() })?;
/// assert_eq!(dataset.classes()[1].name, "square");
/// assert_eq!(dataset.sample(2)?.image.pixels.len(), 320 * 240 * 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GeneratedDataset {
    config: GeneratedConfig,
    annotations: AnnotationSet,
}

impl GeneratedDataset {
    /// Lays out all scenes; pixels are drawn when a sample is asked for.
    ///
    /// # Errors
    /// A field is out of its range.
    pub fn new(config: GeneratedConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let classes = Shape::ALL[..config.classes].iter().enumerate();
        let classes = classes.map(|(idx, shape)| Class { category_id: idx as i64 + 1, name: shape.name().to_owned() });
        let annotations = AnnotationSet {
            classes: classes.collect(),
            images: (0..config.images).map(|i| annotate(&config, i)).collect(),
            ..AnnotationSet::default()
        };
        Ok(Self { config, annotations })
    }

    /// Object `object` of picture `index` alone, whole: white where it covers a pixel, black where it does not, gray in
    /// between. None where there is no such object.
    ///
    /// Its order is that of the sample's boxes. What becomes of a box in a transform can be held against what becomes of this.
    #[must_use]
    pub fn mask(&self, index: usize, object: usize) -> Option<Image> {
        self.annotations.images.get(index)?;
        let scene = Scene::new(&self.config, index);
        Some(render::mask(scene.objects.get(object)?, &self.config))
    }
}

fn annotate(config: &GeneratedConfig, index: usize) -> AnnotatedImage {
    let objects = Scene::new(config, index).objects;
    let annotations = objects.iter().map(|object| {
        let [x0, y0, x1, y1] = object.outline.bounds();
        let (width, height) = (x1 - x0, y1 - y0);
        Annotation::new(object.class_idx, [x0, y0, width, height])
    });
    let file_name = format!("generated-{index:06}.png");
    AnnotatedImage {
        id: index as i64 + 1,
        path: PathBuf::from(&file_name),
        file_name,
        size: Some(config.size),
        annotations: annotations.collect(),
        details: None,
    }
}

impl Dataset for GeneratedDataset {
    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let Some(annotated) = self.annotations.images.get(index) else {
            let images = self.config.images;
            return Err(SampleError { index, what: format!("sample: index: expected below {images}, found {index}") });
        };
        let scene = Scene::new(&self.config, index);
        let boxes: Vec<BBox> = annotated.annotations.iter().map(Annotation::bbox).collect();
        Ok(Sample {
            image: render::render(&scene, &self.config, index),
            boxes,
            classes: scene.objects.iter().map(|object| object.class_idx).collect(),
        })
    }

    fn annotations(&self) -> &AnnotationSet {
        &self.annotations
    }
}
