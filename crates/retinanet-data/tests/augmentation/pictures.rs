//! Pictures that show where their boxes are, and data sets of them.

use proptest::prelude::*;
use retinanet_annotations::{AnnotatedImage, AnnotationSet};
use retinanet_data::augmentation::Border;
use retinanet_data::retinanet_anchors::{BBox, ImageSize};
use retinanet_data::{Augmentation, Dataset, Image, Sample, SampleError, SampleKey};

pub(crate) const BORDER: Border = Border { min_visible: 0.3, fill: [200; 3] };

/// A picture in which each box is filled with a value of its own, from 1, on 0; the later ones over the earlier.
pub(crate) fn painted(width: usize, height: usize, boxes: &[[usize; 4]]) -> Sample {
    let mut pixels = vec![0; width * height * 3];
    for (value, &[x0, y0, x1, y1]) in boxes.iter().enumerate() {
        for y in y0..y1 {
            pixels[(y * width + x0) * 3..(y * width + x1) * 3].fill(value as u8 + 1);
        }
    }
    Sample {
        image: Image { size: ImageSize::new(width, height), pixels },
        boxes: boxes.iter().map(|b| BBox::from(b.map(|v| v as f32))).collect(),
        classes: (0..boxes.len()).collect(),
    }
}

/// Where the picture is as `is_object` says, in whole pixels.
pub(crate) fn extent_of(image: &Image, is_object: impl Fn(u8) -> bool) -> Option<[usize; 4]> {
    let mut found: Option<[usize; 4]> = None;
    for (idx, rgb) in image.pixels.as_chunks::<3>().0.iter().enumerate() {
        if is_object(rgb[0]) {
            let (x, y) = (idx % image.size.width, idx / image.size.width);
            let [x0, y0, x1, y1] = found.unwrap_or([x, y, x, y]);
            found = Some([x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1)]);
        }
    }
    found
}

/// Where a value is seen in a picture.
pub(crate) fn extent(image: &Image, value: u8) -> Option<[usize; 4]> {
    extent_of(image, |found| found == value)
}

pub(crate) fn as_box(extent: [usize; 4]) -> BBox {
    BBox::from(extent.map(|v| v as f32))
}

/// A picture with one box in it, both from a pixel on, and at times a thousand times as wide as high.
pub(crate) fn one_box() -> impl Strategy<Value = (usize, usize, [usize; 4])> {
    prop_oneof![
        6 => (1usize..40, 1usize..40),
        1 => (1usize..1000, 1usize..3),
        1 => (1usize..3, 1usize..1000),
    ]
    .prop_flat_map(|(w, h)| (Just(w), Just(h), 0..w, 0..h))
    .prop_flat_map(|(w, h, x, y)| (Just(w), Just(h), Just(x), Just(y), x + 1..=w, y + 1..=h))
    .prop_map(|(w, h, x0, y0, x1, y1)| (w, h, [x0, y0, x1, y1]))
}

/// Samples in memory; none where one cannot be read.
pub(crate) struct Samples {
    samples: Vec<Option<Sample>>,
    annotations: AnnotationSet,
}

impl Samples {
    pub(crate) fn new(samples: Vec<Option<Sample>>) -> Self {
        let image = |index: usize| AnnotatedImage {
            id: index as i64,
            path: format!("{index}.png").into(),
            file_name: format!("{index}.png"),
            size: None,
            annotations: Vec::new(),
            details: None,
        };
        let images = (0..samples.len()).map(image).collect();
        Self { samples, annotations: AnnotationSet { images, ..AnnotationSet::default() } }
    }
}

impl Dataset for Samples {
    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let unreadable = || SampleError { index, what: format!("{index}.png: expected pixels, found none") };
        self.samples[index].clone().ok_or_else(unreadable)
    }

    fn annotations(&self) -> &AnnotationSet {
        &self.annotations
    }
}

pub(crate) fn key(seed: u64, epoch: u64, index: usize) -> SampleKey {
    SampleKey { seed, epoch, index }
}

/// The sample `key.index` of a data set that can be read, changed.
pub(crate) fn apply(augmentation: &Augmentation, dataset: &dyn Dataset, key: SampleKey) -> Sample {
    let sample = dataset.sample(key.index).expect("a sample that can be read");
    augmentation.apply(sample, dataset, key, &mut Vec::new())
}

/// What must hold of every sample.
#[track_caller]
pub(crate) fn check_whole(sample: &Sample) {
    let size = sample.image.size;
    assert!(size.width > 0 && size.height > 0);
    assert_eq!(sample.image.pixels.len(), size.width * size.height * 3);
    assert_eq!(sample.boxes.len(), sample.classes.len());
    for bbox in &sample.boxes {
        assert_eq!(*bbox, bbox.clip(size), "in {size}");
        assert!(bbox.area() > 0.0, "{bbox:?}");
    }
}
