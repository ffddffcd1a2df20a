//! Pictures of squares, and a network small enough to learn them in seconds.

use retinanet::Config;
use retinanet_anchors::{BBox, ImageSize};
use retinanet_annotations::{AnnotatedImage, Annotation, AnnotationSet, Class};
use retinanet_data::{Dataset, Image, Sample, SampleError};

/// Bright squares on a dark ground, drawn in memory.
pub(crate) struct Squares {
    pub(crate) set: AnnotationSet,
}

const SIDE: usize = 64;

impl Squares {
    /// One image for each list of squares (left, top, side, class).
    pub(crate) fn new(images: &[&[(usize, usize, usize, usize)]]) -> Self {
        let annotation = |&(x, y, side, class_idx): &(usize, usize, usize, usize)| {
            Annotation::new(class_idx, [x, y, side, side].map(|v| v as f64))
        };
        let image = |(i, squares): (usize, &&[(usize, usize, usize, usize)])| AnnotatedImage {
            id: i as i64,
            path: format!("{i}").into(),
            file_name: format!("squares-{i}"),
            size: Some(ImageSize::new(SIDE, SIDE)),
            annotations: squares.iter().map(annotation).collect(),
            details: None,
        };
        let classes = ["light", "dark"]
            .iter()
            .enumerate()
            .map(|(i, name)| Class { category_id: 10 + i as i64, name: (*name).to_owned() });
        let set = AnnotationSet {
            classes: classes.collect(),
            images: images.iter().enumerate().map(image).collect(),
            ..AnnotationSet::default()
        };
        Self { set }
    }
}

impl Dataset for Squares {
    fn len(&self) -> usize {
        self.set.images.len()
    }

    fn classes(&self) -> &[Class] {
        &self.set.classes
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let annotations = &self.set.images[index].annotations;
        let mut pixels = vec![110; SIDE * SIDE * 3];
        for annotation in annotations {
            let [x, y, width, height] = annotation.xywh.map(|v| v as usize);
            for row in y..y + height {
                pixels[(row * SIDE + x) * 3..(row * SIDE + x + width) * 3].fill(if annotation.class_idx == 0 {
                    255
                } else {
                    0
                });
            }
        }
        let corners = |a: &Annotation| {
            let [x, y, w, h] = a.xywh.map(|v| v as f32);
            BBox::new(x, y, x + w, y + h)
        };
        Ok(Sample {
            image: Image { size: ImageSize::new(SIDE, SIDE), pixels },
            boxes: annotations.iter().map(corners).collect(),
            classes: annotations.iter().map(|a| a.class_idx).collect(),
        })
    }

    fn annotations(&self) -> &AnnotationSet {
        &self.set
    }
}

/// `small_r18`, made much smaller.
pub(crate) fn tiny(assignments: &[&str]) -> Config {
    let tiny = [
        "backbone.width=8",
        "backbone.norm={ group = { groups = 4, epsilon = 1e-5 } }",
        "fpn.channels=32",
        "head.channels=32",
        "head.depth=1",
        "preprocessing.min_size=64",
        "preprocessing.max_size=64",
        "train.batch=2",
        "train.reference_batch=2",
        "train.learning_rate=0.02",
        "train.optimizer={ sgd = { momentum = 0.9, weight_decay = 1e-4, norm_weight_decay = 0.0 } }",
        // The average is the weights themselves.
        "train.ema.decay=0",
        "loss.box=giou",
        "train.schedule.warmup.steps=5",
        "train.augmentation={}",
    ];
    let assignments: Vec<String> = tiny.iter().chain(assignments).map(|&a| a.to_owned()).collect();
    Config::parse(Config::preset_text("small_r18").expect("a preset"), &assignments).expect("a configuration")
}
